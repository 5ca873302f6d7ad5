"""One SQLite file, open: the writer's connection, the readers' connections, and the turn."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import apsw

from statecore.database import connect, explain, require_schema
from statecore.errors import (
    Damage,
    ForeignSchema,
    NewerFormat,
    OutcomeUnknown,
    StatecoreError,
    StoreBusy,
    StoreClosed,
    StoreForked,
    StoreNotFound,
    StoreUnsupported,
)
from statecore.recorders.sqlite.filesystem import require_safe
from statecore.recorders.sqlite.schema import FORMAT, SCHEMA, create
from statecore.recorders.sqlite.ticket import Ticket
from statecore.recorders.watch import Watch

_SYNCHRONOUS: Final = {"full": "FULL", "relaxed": "NORMAL"}
_POLL_SECONDS: Final = 0.01

_open_stores: weakref.WeakSet[Datastore]
_left_open: list[Datastore] = []


class Datastore:
    """A store's SQLite file. Safe to use from any thread; not across a fork."""

    def __init__(
        self, path: Path, *, log_id: bytes | None = None, durability: str = "full"
    ) -> None:
        """Open a file, or make it where a log id is given and there is none.

        Raises:
            StoreNotFound: there is no file, and no log id to make one with.
            StoreUnsupported, StoreReadOnly, ForeignSchema, NewerFormat, Damage: as named.
        """
        if not path.parent.is_dir():
            raise StoreNotFound(f"there is no directory {path.parent}")
        if log_id is None and not path.exists():
            raise StoreNotFound(f"there is no store at {path}")
        require_safe(path)
        self.path = path
        self.ticket = Ticket(path.with_name(path.name + "-lock"))
        self.watch = Watch(self.ticket.counter, _POLL_SECONDS)
        self._synchronous = _SYNCHRONOUS[durability]
        self._unusable: StatecoreError | None = None
        self._turn = threading.Lock()
        self._readers: list[apsw.Connection] = []
        try:
            self.log_id = self._open(log_id)
        except BaseException:
            self.ticket.close()
            raise
        self._inode = path.stat().st_ino
        _open_stores.add(self)

    def _open(self, log_id: bytes | None) -> bytes:
        self.ticket.acquire()  # two processes may be making the same store
        try:
            self._writer = connect(self.path, create=log_id is not None)
            try:
                if log_id and not self._writer.execute("SELECT count(*) FROM sqlite_schema").get:
                    self._configure(self._writer)
                    create(self._writer, log_id)
                require_schema(self._writer, SCHEMA, self.path)
                self._configure(self._writer)
                return self._read_log_id()
            except BaseException:
                self._writer.close()
                raise
        except apsw.Error as error:
            raise explain(error, self.path) from error
        finally:
            self.ticket.release()

    def _configure(self, connection: apsw.Connection) -> None:
        mode = connection.execute("PRAGMA journal_mode = WAL").get
        if mode != "wal":
            raise StoreUnsupported(f"{self.path}: SQLite keeps no write-ahead log here, but {mode}")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")

    def _read_log_id(self) -> bytes:
        rows = self._writer.execute("SELECT format, id FROM log").fetchall()
        if len(rows) != 1:
            raise ForeignSchema(f"{self.path} does not say which log it is")
        number, log_id = rows[0]
        if number != FORMAT:
            raise NewerFormat(f"{self.path} has format {number}; this statecore reads {FORMAT}")
        return cast("bytes", log_id)

    def all(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        """Return all rows of a query, from the last commit; never waits for a writer."""
        if self._unusable is not None:
            raise self._unusable
        try:
            connection = self._readers.pop()
        except IndexError:
            connection = self._new_reader()
        try:
            return connection.execute(sql, bindings).fetchall()
        except apsw.Error as error:
            raise explain(error, self.path) from error
        finally:
            self._readers.append(connection)

    def _new_reader(self) -> apsw.Connection:
        connection = connect(self.path)
        connection.execute("PRAGMA query_only = ON")
        return connection

    @contextmanager
    def turn(self, *, wait: bool = True) -> Iterator[apsw.Connection]:
        """Be the only writer; leaving without ``commit`` writes nothing.

        Raises:
            StoreBusy: another process has the turn, and ``wait`` is false.
        """
        if not self._turn.acquire(blocking=wait):
            raise StoreBusy(f"another thread writes {self.path}")
        try:
            if self._unusable is not None:
                raise self._unusable
            if not self.ticket.acquire(wait=wait):
                raise StoreBusy(f"another process writes {self.path}")
            try:
                with self._transaction() as writer:
                    yield writer
            finally:
                self.ticket.release()
        finally:
            self._turn.release()

    @contextmanager
    def _transaction(self) -> Iterator[apsw.Connection]:
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
            finally:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
        except apsw.Error as error:
            raise explain(error, self.path) from error

    def commit(self) -> None:
        """Make the turn's writes durable, then tell all who listen.

        Raises:
            StoreFull: nothing was written.
            OutcomeUnknown: the disk failed; the store takes no more writes.
        """
        self.ticket.begin_commit()
        try:
            self._writer.execute("COMMIT")
        except (apsw.FullError, apsw.BusyError):
            raise  # certainly not written
        except apsw.Error as error:
            self._unusable = OutcomeUnknown(
                f"{self.path}: the commit failed ({error}) and may or may not be stored; reopen "
                "the store, then retry with the same event id"
            )
            raise self._unusable from error
        finally:
            self.ticket.end_commit()
        self._require_same_file()
        self.watch.notify_all()

    def _require_same_file(self) -> None:
        """Notice a file that was moved away or replaced: what was committed is not in its place."""
        try:
            inode = self.path.stat().st_ino
        except OSError:
            inode = 0
        if inode != self._inode:
            self._unusable = Damage(f"{self.path} was replaced or removed while it was open")
            raise self._unusable

    def close(self) -> None:
        """Close every connection; the last one to close folds the write-ahead log into the file."""
        with self._turn:
            if isinstance(self._unusable, StoreClosed | StoreForked):
                return
            self._unusable = StoreClosed(f"{self.path} was closed")
            while self._readers:
                self._readers.pop().close()
            self._writer.close()
        self.watch.close()
        self.ticket.close()
        _open_stores.discard(self)

    def abandon(self) -> None:
        """Be unusable, without closing anything: what is open belongs to the parent process."""
        self._unusable = StoreForked(f"{self.path} was opened before a fork; open it again")
        _left_open.append(self)


_open_stores = weakref.WeakSet()


def _after_fork() -> None:
    # Closing an inherited connection would drop the parent's locks (sqlite.org/howtocorrupt.html,
    # section 2.7), so they are kept, open and unusable, until the child ends.
    for store in list(_open_stores):
        store.abandon()


os.register_at_fork(after_in_child=_after_fork)
