"""One SQLite file, open: the writer's connection, the readers' connections, and the turn."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import apsw

from statecore.database import DATABASE_ERRORS, connect, explain, require_schema
from statecore.errors import (
    Damage,
    OutcomeUnknown,
    StatecoreError,
    StoreBusy,
    StoreClosed,
    StoreForked,
    StoreNotFound,
    StoreUnsupported,
)
from statecore.recorders.sqlite.filesystem import require_safe
from statecore.recorders.sqlite.schema import SCHEMA, TREE_SCHEMA, add_tree, create, read_log_id
from statecore.recorders.sqlite.ticket import Ticket
from statecore.recorders.watch import Watch

_SYNCHRONOUS: Final = {"full": "FULL", "relaxed": "NORMAL"}
_POLL_SECONDS: Final = 0.01
_SWITCH_SECONDS: Final = 30.0

_open_stores: weakref.WeakSet[Datastore]
_left_open: list[Datastore] = []


def create_datastore(path: Path, new_log_id: Callable[[], bytes]) -> None:
    """Make the file of a new log, unless it is there; of several processes one makes it.

    Args:
        path: the file; its directory must be there.
        new_log_id: called, if the log is new, before anything is written.
    """
    if not path.parent.is_dir():
        raise StoreNotFound(f"there is no directory {path.parent}")
    with _alone(path):
        if _is_made(path):
            return
        require_safe(path)
        log_id = new_log_id()
        database = connect(path, create=True)
        try:
            create(database, log_id)  # one transaction: an empty file is no log yet
        except DATABASE_ERRORS as error:
            raise explain(error, path) from error
        finally:
            database.close()


def require_datastore(path: Path) -> None:
    """Refuse a file that has no log in it; where one is just being made, wait.

    Raises:
        Damage: it is empty.
    """
    if path.stat().st_size > 0 and not _journal_of(path).exists():
        return  # as mostly: whoever makes it has a journal until it is made
    with _alone(path):
        if not _is_made(path):
            raise Damage(
                f"{path} is empty: no log was made in it yet, or all of it was cut off; restore "
                "the newest backup, or let a first write make a new one"
            )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the store's ticket: nobody else makes the log meanwhile."""
    ticket = Ticket(_lock_path(path))
    ticket.acquire()
    try:
        yield
    finally:
        ticket.close()


def _is_made(path: Path) -> bool:
    if not path.exists() or path.stat().st_size == 0:
        return False
    if _journal_of(path).exists():
        _take_back_creation(path)
    return path.stat().st_size > 0


def _journal_of(path: Path) -> Path:
    return path.with_name(path.name + "-journal")


def _take_back_creation(path: Path) -> None:
    """Have SQLite roll back the one transaction that makes a log, if it was killed within it."""
    database = connect(path)
    try:
        database.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except DATABASE_ERRORS as error:
        raise explain(error, path) from error
    finally:
        database.close()


def _require_no_inheritance(path: Path) -> None:
    """Refuse a file that was open when this process was forked.

    SQLite remembers the parent's locks as its own, for the file and not for the connection. It
    would take none in the child, the parent would be the last to close, take the write-ahead log
    away, and with it what the child was told is durable.
    """
    if any(os.path.samestat(store.identity, path.stat()) for store in _left_open):
        raise StoreForked(
            f"{path} was open when this process was forked; fork before it is opened, or start "
            "processes with spawn"
        )


def _switch_to_wal(connection: apsw.Connection) -> str:
    """Have SQLite keep a write-ahead log, and return what it keeps.

    In a new file that is a change, and here SQLite itself does not wait for others who are looking
    at the file, as they do when several open it at once.
    """
    until = time.monotonic() + _SWITCH_SECONDS
    while True:
        try:
            return cast("str", connection.execute("PRAGMA journal_mode = WAL").get)
        except apsw.BusyError:
            if time.monotonic() > until:
                raise
            time.sleep(_POLL_SECONDS)


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + "-lock")


class Datastore:
    """A store's SQLite file. Safe to use from any thread; not across a fork."""

    def __init__(self, path: Path, *, durability: str = "full") -> None:
        """Open a file that ``create_datastore`` made.

        Raises:
            StoreNotFound, StoreUnsupported, StoreReadOnly, ForeignSchema, NewerFormat, Damage:
            as named.
            StoreForked: this process is the child of one that had the file open.
        """
        if not path.exists():
            raise StoreNotFound(f"there is no store at {path}")
        require_safe(path)
        _require_no_inheritance(path)
        self.path = path
        self.ticket = Ticket(_lock_path(path))
        self.watch = Watch(self.ticket.counter, _POLL_SECONDS)
        self._synchronous = _SYNCHRONOUS[durability]
        self._unusable: StatecoreError | None = None
        self._turn = threading.RLock()
        self._held = 0
        self._own_commits = 0
        self._readers: list[apsw.Connection] = []
        self._name = str(path)
        self.identity = path.stat()
        self._inode = self.identity.st_ino
        try:
            self._writer = self._connect_writer()
        except BaseException:
            self.ticket.close()
            raise
        _open_stores.add(self)

    def _connect_writer(self) -> apsw.Connection:
        writer = connect(self.path)
        try:
            is_whole = require_schema(writer, SCHEMA, self.path, later=TREE_SCHEMA)
            self.log_id = read_log_id(writer, self.path)
            self._configure(writer)
            if not is_whole:
                add_tree(writer)
        except DATABASE_ERRORS as error:
            writer.close()
            raise explain(error, self.path) from error
        except BaseException:
            writer.close()
            raise
        return writer

    def _configure(self, connection: apsw.Connection) -> None:
        mode = _switch_to_wal(connection)
        if mode != "wal":
            raise StoreUnsupported(f"{self.path}: SQLite keeps no write-ahead log here, but {mode}")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")

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
        except DATABASE_ERRORS as error:
            raise explain(error, self.path) from error
        finally:
            self._readers.append(connection)

    def _new_reader(self) -> apsw.Connection:
        connection = connect(self.path)
        connection.execute("PRAGMA query_only = ON")
        return connection

    def acquire(self, *, wait: bool = True) -> None:
        """Take the ticket, for one or more turns; others queue behind it until ``release``.

        Raises:
            StoreBusy: somebody else has it, and ``wait`` is false.
        """
        if not self._turn.acquire(blocking=wait):
            raise StoreBusy(f"another thread writes {self.path}")
        try:
            if self._unusable is not None:
                raise self._unusable
            if self._held == 0 and not self.ticket.acquire(wait=wait):
                raise StoreBusy(f"another process writes {self.path}")
            self._held += 1
        except BaseException:
            self._turn.release()
            raise

    def release(self) -> None:
        """Give the ticket back."""
        self._held -= 1
        if self._held == 0:
            self.ticket.release()
        self._turn.release()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the ticket over several turns."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def begin(self, *, wait: bool = True) -> apsw.Connection:
        """Begin a turn: one transaction of the only writer, until ``end``."""
        self.acquire(wait=wait)
        try:
            self._writer.execute("BEGIN IMMEDIATE")
        except BaseException as error:
            self.release()
            if isinstance(error, DATABASE_ERRORS):
                raise explain(error, self.path) from error
            raise
        return self._writer

    def end(self) -> None:
        """End a turn; what was not committed is not written."""
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        finally:
            self.release()

    @contextmanager
    def turn(self) -> Iterator[apsw.Connection]:
        """Be the only writer, in one transaction; leaving without ``commit`` writes nothing."""
        writer = self.begin()
        try:
            yield writer
        except DATABASE_ERRORS as error:
            raise explain(error, self.path) from error
        finally:
            self.end()

    def freshness(self) -> int:
        """Return a number that others' commits change, and one's own do not; -1 when in doubt."""
        if self._unusable is not None:
            raise self._unusable
        counter = self.ticket.counter()
        return -1 if counter & 1 else counter - 2 * self._own_commits

    def commit(self, *, is_own: bool = True) -> None:
        """Make the turn's writes durable.

        Args:
            is_own: whether all that is known here of the file stays true. Otherwise it is looked at
                anew, as after a commit of somebody else.

        Raises:
            StoreFull: nothing was written.
            OutcomeUnknown: the disk failed; the store takes no more writes.
        """
        counter = self.ticket.begin_commit()
        self._own_commits += is_own
        try:
            self._writer.execute("COMMIT")
        except (apsw.FullError, apsw.BusyError):
            raise  # certainly not written
        except DATABASE_ERRORS as error:
            self._unusable = OutcomeUnknown(
                f"{self.path}: the commit failed ({error}) and may or may not be stored; reopen "
                "the store, then retry with the same event id"
            )
            raise self._unusable from error
        finally:
            self.ticket.end_commit(counter)
        self._require_same_file()

    def vacuum(self) -> None:
        """Write the file anew, without what is not used, while the ticket is held.

        SQLite does it in one transaction, through the write-ahead log: killed at any moment, the
        file is as it was or as it is to be, and it stays the same file for all who have it open.

        Raises:
            StoreFull: there is no space for a second copy; nothing was changed.
        """
        try:
            self._writer.execute("VACUUM")
            # What others still read stays in the write-ahead log until a later commit.
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except DATABASE_ERRORS as error:
            raise explain(error, self.path) from error

    def _require_same_file(self) -> None:
        """Notice a file that was moved away or replaced: what was committed is not in its place."""
        try:
            inode = os.stat(self._name).st_ino  # noqa: PTH116 - after every commit: half the time
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
        self._unusable = StoreForked(f"{self.path} was opened before a fork")
        _left_open.append(self)


_open_stores = weakref.WeakSet()


def is_open_here(path: Path) -> bool:
    """Tell whether this process has a store's file open."""
    return any(store.path.absolute() == path.absolute() for store in list(_open_stores))


def _after_fork() -> None:
    # Closing an inherited connection would drop the parent's locks (sqlite.org/howtocorrupt.html,
    # section 2.7), so they are kept, open and unusable, until the child ends.
    for store in list(_open_stores):
        store.abandon()


os.register_at_fork(after_in_child=_after_fork)
