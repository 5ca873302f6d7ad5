"""A store's file written anew from events that were found elsewhere: under their own numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from statecore.codec import read_epoch
from statecore.codec.cut import is_cut, read_cut
from statecore.database import DATABASE_ERRORS, connect, explain
from statecore.errors import DamagedRecord
from statecore.recorders.sqlite.archive import cut_bodies
from statecore.recorders.sqlite.evidence import Kept
from statecore.recorders.sqlite.schema import TOPIC_ID, create
from statecore.recorders.sqlite.tree import SqliteTree

_BATCH: Final = 10_000
_LOG_EPOCH: Final = 0


class NewFile:
    """A store's file that nobody else knows of yet."""

    def __init__(self, path: Path, log_id: bytes) -> None:
        """Make it, private and empty.

        Raises:
            StoreNotFound, StoreReadOnly, StoreFull: it can't be made.
        """
        self._path = path
        self._cuts: dict[int, tuple[int, int]] = {}
        self.connection = connect(path, create=True)
        try:
            create(self.connection, log_id)
        except DATABASE_ERRORS as error:
            raise explain(error, path) from error

    @property
    def tree(self) -> SqliteTree:
        """The audit tree in it, to be kept."""
        return SqliteTree(self._ask, self.connection)

    def name_streams(self, names: dict[int, bytes]) -> None:
        """Keep the names of streams; of two of the same name, one."""
        self._insert("INSERT OR IGNORE INTO streams VALUES (?, ?)", names.items())

    def name_writers(self, prefixes: dict[int, bytes]) -> None:
        """Keep the prefixes of writers."""
        self._insert("INSERT OR IGNORE INTO writers VALUES (?, ?)", prefixes.items())

    def add_events(self, events: Iterable[Kept], on_progress: Callable[[int], None]) -> int:
        """Keep events where they were; return the position of the last."""
        last = done = 0
        batch: list[tuple[Any, ...]] = []
        for kept in events:
            if is_cut(kept.state):
                self._note_cut(kept)
            batch.append((kept.position, kept.stream, kept.version, TOPIC_ID, kept.state))
            last, done = kept.position, done + 1
            if len(batch) == _BATCH:
                self._insert("INSERT INTO events VALUES (?, ?, ?, ?, ?)", batch)
                batch.clear()
                on_progress(done)
        self._insert("INSERT INTO events VALUES (?, ?, ?, ?, ?)", batch)
        on_progress(done)
        return last

    def _note_cut(self, kept: Kept) -> None:
        with suppress(DamagedRecord):
            _, said_by = self._cuts.get(kept.stream, (0, 0))
            self._cuts[kept.stream] = kept.version, max(said_by, read_cut(kept.state).event)

    def even_out(self) -> int:
        """Have every stream be as it was, where older images of events with their bodies were
        found; return how many streams have events that were archived."""
        for stream, (last, said_by) in self._cuts.items():
            cut_bodies(self.connection, stream, self._begun(stream), last + 1, said_by)
        return len(self._cuts)

    def _begun(self, stream: int) -> int:
        """Return the version that a stream begins with, or began anew with after an erasure."""
        began = 1
        for version, stored in self.events_of(stream):
            with suppress(DamagedRecord):
                if read_epoch(stored) == _LOG_EPOCH:
                    began = version + 1
        return began

    def add_snapshot(self, stream: int, version: int, stored: bytes) -> None:
        """Keep a snapshot."""
        sql = "INSERT OR IGNORE INTO snapshots(stream, version, topic, state) VALUES (?, ?, ?, ?)"
        self._insert(sql, [(stream, version, TOPIC_ID, stored)])

    def events_of(self, stream: int) -> Iterator[tuple[int, bytes]]:
        """Yield version and bytes of the events of a stream, in order."""
        sql = "SELECT version, state FROM events WHERE stream = ? ORDER BY version"
        yield from self.connection.cursor().execute(sql, (stream,))

    def begin(self) -> None:
        """Begin the one transaction that all of it is written in."""
        self.connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make it durable, and close the file."""
        try:
            self.connection.execute("COMMIT")
        except DATABASE_ERRORS as error:
            raise explain(error, self._path) from error
        self.close()

    def close(self) -> None:
        """Close the file; what was not committed is not written."""
        self.connection.close()

    def _insert(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        try:
            self.connection.executemany(sql, rows)
        except DATABASE_ERRORS as error:
            raise explain(error, self._path) from error

    def _ask(self, sql: str, bindings: tuple[Any, ...]) -> list[Any]:
        return self.connection.execute(sql, bindings).fetchall()
