"""The log in one SQLite file: compact tables, everything of a turn in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Self, TypeAlias, cast

import apsw

from statecore.database import DATABASE_ERRORS, explain
from statecore.errors import Damage
from statecore.recorders.port import EVERYTHING, KeptTree, LogRow, Row, last_of
from statecore.recorders.sqlite.archive import cut_bodies, require_whole
from statecore.recorders.sqlite.datastore import Datastore
from statecore.recorders.sqlite.order import require_order, require_types
from statecore.recorders.sqlite.schema import TOPIC_ID
from statecore.recorders.sqlite.touches import Postings, add_posting, read_postings, versions
from statecore.recorders.sqlite.tree import SqliteTree
from statecore.recorders.sqlite.upkeep import SqliteUpkeep

_READ: Final = (
    "SELECT version, position, CAST(state AS BLOB) FROM events"
    " WHERE stream = ? AND version > ? AND version <= ? ORDER BY version"
)
_HEAD: Final = "SELECT version FROM events WHERE stream = ? ORDER BY version DESC LIMIT 1"
_READ_LOG: Final = (
    "SELECT position, name, version, state FROM events JOIN streams ON streams.id = stream"
    " WHERE position > ? AND topic = ? ORDER BY position LIMIT ?"
)
_TYPES: Final = ((int, bytes, int, bytes),)
POSTINGS: Final = (
    "SELECT first, count, distances FROM touches WHERE stream = ? AND tag = ? AND first <= ?"
    " ORDER BY first DESC LIMIT 1"
)
_POSTINGS_BETWEEN: Final = (
    "SELECT first, count, distances FROM touches WHERE stream = ?1 AND tag = ?2 AND first <= ?4"
    " AND first >= coalesce((SELECT max(first) FROM touches"
    " WHERE stream = ?1 AND tag = ?2 AND first <= ?3), 0) ORDER BY first"
)
KEEP_POSTINGS: Final = (
    "INSERT INTO touches VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
    " SET count = excluded.count, distances = excluded.distances"
)
_SNAPSHOT: Final = (
    "SELECT version, CAST(state AS BLOB) FROM snapshots WHERE stream = ? AND version <= ?"
    " ORDER BY version DESC LIMIT 1"
)
_NEW_EVENT: Final = "INSERT INTO events(stream, version, topic, state) VALUES (?, ?, ?, ?)"
_STREAM_ID: Final = "SELECT id FROM streams WHERE name = ?"
_NEW_STREAM: Final = "INSERT INTO streams(name) VALUES (?) RETURNING id"
Key: TypeAlias = tuple[int, bytes]
"""A key of a state: the number of its stream, and its tag."""

_CACHED_MAX: Final = 100_000


class SqliteReader:
    """The half of a log in a SQLite file that reads it."""

    def __init__(self, log_id: bytes, ask: Callable[..., list[Any]]) -> None:
        self.log_id = log_id
        self._ask = ask
        # What never changes once it is there, so that knowing it twice is harmless.
        self.stream_ids: dict[bytes, int] = {}
        self.prefixes: dict[int, bytes] = {}
        self.tree = SqliteTree(ask)
        self.on_commit: Callable[[KeptTree, int], None] | None = None

    @property
    def history(self) -> Self:
        return self

    def prefix_of(self, number: int) -> bytes | None:
        prefix = self.prefixes.get(number)
        if prefix is None:
            rows = self._all("SELECT prefix FROM writers WHERE id = ?", (number,))
            if not rows:
                return None
            prefix = self.prefixes[number] = rows[0][0]
        return prefix

    def version(self, stream: bytes) -> int:
        rows = self._all(_HEAD, (self._stream_id(stream),))
        head = rows[0][0] if rows else 0
        if type(head) is not int:
            raise Damage(f"the last version of stream {stream.hex()} is no number")
        return head

    def last_position(self) -> int:
        return self._all("SELECT max(position) FROM events")[0][0] or 0

    def read(
        self,
        stream: bytes,
        after: int,
        until: int = EVERYTHING,
        limit: int = -1,
        *,
        back: bool = False,
    ) -> list[Row]:
        sql = _READ + (" DESC LIMIT ?" if back else " LIMIT ?")
        return self._all(sql, (self._stream_id(stream), after, until, limit))

    def read_log(self, after: int, limit: int) -> list[LogRow]:
        rows = self._all(_READ_LOG, (after, TOPIC_ID, limit))
        require_order(rows, after)
        require_types(rows, _TYPES, after)
        return rows

    def streams(self) -> list[bytes]:
        rows = self._all("SELECT name FROM streams WHERE typeof(name) = 'blob' ORDER BY id")
        return [name for (name,) in rows]

    def touched(self, stream: bytes, tag: bytes, after: int, until: int) -> list[int]:
        rows = self._all(_POSTINGS_BETWEEN, (self._stream_id(stream), tag, after + 1, until))
        return [at for row in rows for at in versions(*row) if after < at <= until]

    def last_touched(self, stream: bytes, tag: bytes, at: int) -> tuple[int, int]:
        rows = self._all(POSTINGS, (self._stream_id(stream), tag, at))
        return last_of(versions(*rows[0]), at) if rows else (0, at)

    def find_id(self, stream: bytes, id_tag: bytes) -> int:
        sql = "SELECT version FROM ids WHERE stream = ? AND tag = ?"
        rows = self._all(sql, (self._stream_id(stream), id_tag))
        return rows[0][0] if rows else 0

    def snapshot(self, stream: bytes, until: int) -> tuple[int, bytes] | None:
        rows = self._all(_SNAPSHOT, (self._stream_id(stream), until))
        return rows[0] if rows else None

    def _stream_id(self, stream: bytes) -> int:
        """Return the number of a stream, 0 of one that is not there."""
        number = self.stream_ids.get(stream)
        if number is None:
            rows = self._all(_STREAM_ID, (stream,))
            if not rows:
                return 0
            number = self.stream_ids[stream] = rows[0][0]
        return number

    def _all(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        return self._ask(sql, bindings)


class SqliteLog(SqliteReader):
    """A log in a SQLite file, native: what the port asks for, in as few bytes and steps."""

    def __init__(self, datastore: Datastore) -> None:
        super().__init__(datastore.log_id, datastore.all)
        self._datastore = datastore
        # The last postings of keys, valid for as long as nobody else writes.
        self.postings: dict[Key, Postings] = {}
        self._postings_freshness = -1

    @property
    def upkeep(self) -> SqliteUpkeep:
        return SqliteUpkeep(self._datastore)

    def hold(self) -> AbstractContextManager[None]:
        return self._datastore.hold()

    def turn(self, *, wait: bool = True) -> SqliteTurn:
        return SqliteTurn(self, self._datastore, wait=wait)

    def prepare_turn(self, freshness: int) -> None:
        """Forget what somebody else may have changed, and what there is too much of."""
        if freshness != self._postings_freshness or len(self.postings) > _CACHED_MAX:
            self.postings.clear()
        if len(self.stream_ids) > _CACHED_MAX:
            self.stream_ids.clear()
        self._postings_freshness = freshness

    def freshness(self) -> int:
        return self._datastore.freshness()

    def subscribe(self, notify: Callable[[], None]) -> Callable[[], None]:
        return self._datastore.watch.subscribe(notify)

    def size_bytes(self) -> dict[str, int]:
        path = self._datastore.path
        files = [path, *(path.with_name(path.name + end) for end in ("-wal", "-keys"))]
        return {file.name: file.stat().st_size for file in files if file.exists()}

    def close(self) -> None:
        self._datastore.close()


class SqliteTurn:
    """One transaction. Rows are collected, and written table by table when it commits."""

    _writer: apsw.Connection
    freshness: int

    def __init__(self, log: SqliteLog, datastore: Datastore, *, wait: bool) -> None:
        self._log = log
        self._datastore = datastore
        self._wait = wait
        self._events: list[tuple[int, int, int, bytes]] = []
        self._ids: list[tuple[int, bytes, int]] = []
        self._written: set[bytes] = set()
        self._stream_ids: dict[bytes, int] = {}
        self._postings: dict[Key, Postings] = {}
        self._full: list[tuple[Key, Postings]] = []
        self._registered = 0  # the number of a writer
        self._committed = False

    def __enter__(self) -> SqliteTurn:
        self._writer = self._datastore.begin(wait=self._wait)
        self.freshness = self._datastore.freshness()
        self._log.prepare_turn(self.freshness)
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        self._datastore.end()
        if self._committed:
            self._datastore.watch.notify_all()
        elif self._registered:
            del self._log.prefixes[self._registered]  # the number will be somebody else's
        if isinstance(error, DATABASE_ERRORS):
            raise explain(error, self._datastore.path) from error

    def append(
        self,
        stream: bytes,
        version: int,
        stored: bytes,
        tags: Sequence[bytes],
        id_tag: bytes | None,
    ) -> None:
        try:
            number = self._stream(stream)
            for tag in tags:
                self._touch((number, tag), version)
        except DATABASE_ERRORS as error:
            raise explain(error, self._datastore.path) from error
        self._written.add(stream)
        self._events.append((number, version, TOPIC_ID, stored))
        if id_tag is not None:
            self._ids.append((number, id_tag, version))

    def register_writer(self, prefix: bytes) -> int:
        sql = "INSERT INTO writers(prefix) VALUES (?) RETURNING id"
        self._registered = cast("int", self._writer.execute(sql, (prefix,)).get)
        self._log.prefixes[self._registered] = prefix
        return self._registered

    def keep_snapshot(self, stream: bytes, version: int, stored: bytes) -> None:
        row = (self._stream(stream), version, TOPIC_ID, stored)
        sql = "INSERT INTO snapshots(stream, version, topic, state) VALUES (?, ?, ?, ?)"
        self._writer.execute(sql + " ON CONFLICT DO NOTHING", row)

    def drop_derived(self, stream: bytes) -> None:
        number = self._stream(stream)
        for table in ("snapshots", "touches", "ids"):
            self._writer.execute(f"DELETE FROM {table} WHERE stream = ?", (number,))
        for postings in (self._postings, self._log.postings):
            for key in [key for key in postings if key[0] == number]:
                del postings[key]

    def cut(self, stream: bytes, begins: int, span: tuple[int, int], event: int) -> None:
        number = self._stream(stream)
        try:
            require_whole(self._writer, number, *span)
            cut_bodies(self._writer, number, begins, span[1], event)
            sql = "DELETE FROM snapshots WHERE stream = ? AND version < ?"
            self._writer.execute(sql, (number, span[1]))
        except DATABASE_ERRORS as error:
            raise explain(error, self._datastore.path) from error

    def commit(self) -> set[bytes]:
        try:
            self._write()
        except apsw.ConstraintError:
            return set()  # somebody wrote unseen: another version is at the end of a stream
        self._datastore.commit()
        self._committed = True
        self._log.stream_ids |= self._stream_ids
        self._log.postings |= self._postings
        return self._written

    def _write(self) -> None:
        self._writer.executemany(_NEW_EVENT, self._events)
        last = self._writer.last_insert_rowid()
        if self._postings:
            rows = [*self._full, *self._postings.items()]
            kept = [(*key, row[0], row[2], row[3]) for key, row in rows]
            self._writer.executemany(KEEP_POSTINGS, kept)
        if self._ids:
            self._writer.executemany("INSERT INTO ids VALUES (?, ?, ?)", self._ids)
        if self._log.on_commit is not None and self._events:
            self._log.on_commit(self.tree, last)

    @property
    def tree(self) -> SqliteTree:
        """The audit tree, to be kept in this turn."""
        return SqliteTree(self._ask, self._writer)

    def _ask(self, sql: str, bindings: tuple[Any, ...]) -> list[Any]:
        return self._writer.execute(sql, bindings).fetchall()

    def _stream(self, stream: bytes) -> int:
        number = self._log.stream_ids.get(stream) or self._stream_ids.get(stream)
        if number is None:
            found = self._writer.execute(_STREAM_ID, (stream,)).get
            found = found or self._writer.execute(_NEW_STREAM, (stream,)).get
            number = self._stream_ids[stream] = cast("int", found)
        return number

    def _touch(self, key: Key, version: int) -> None:
        known = self._postings.get(key) or self._log.postings.get(key) or self._load(key)
        postings = self._postings[key] = add_posting(known, version)
        if known is not None and postings[0] != known[0]:
            self._full.append((key, known))  # perhaps written before; once more does no harm

    def _load(self, key: Key) -> Postings | None:
        rows: list[Any] = self._writer.execute(POSTINGS, (*key, EVERYTHING)).fetchall()
        return read_postings(*rows[0]) if rows else None
