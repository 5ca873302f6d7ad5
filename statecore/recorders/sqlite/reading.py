"""A store's file, opened to be looked at: no key, no turn, nothing written to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import apsw

from statecore.database import (
    BUSY_MS,
    DATABASE_ERRORS,
    distrust,
    explain,
    require_schema,
    require_sqlite,
)
from statecore.errors import Damage, ForeignSchema, StoreNotFound, StoreReadOnly
from statecore.recorders.port import Indexes, LogRow, Turn
from statecore.recorders.sqlite.indexing import read_indexes
from statecore.recorders.sqlite.log import SqliteReader
from statecore.recorders.sqlite.schema import SCHEMA, TOPIC_ID, TREE_SCHEMA, read_log_id
from statecore.recorders.sqlite.tree import SqliteTree

_COMPLAINTS_MAX: Final = 20

# What every row of ours is like. SQLite itself lets any column hold anything.
_SOUND: Final = {
    "events": (
        "position > 0 AND typeof(stream) = 'integer' AND typeof(version) = 'integer'"
        " AND typeof(topic) = 'integer' AND typeof(state) = 'blob'"
        f" AND (topic <> {TOPIC_ID} OR version > 0)"
    ),
    "streams": (
        "(typeof(name) = 'blob' AND length(name) = 16) OR NOT EXISTS"
        f" (SELECT 1 FROM events WHERE stream = streams.id AND topic = {TOPIC_ID})"
    ),
    "writers": "typeof(prefix) = 'blob' AND length(prefix) = 12",
    "heads": "typeof(note) = 'blob' AND size >= 0",
    "tree": (
        "typeof(level) = 'integer' AND typeof(number) = 'integer' AND typeof(upto) = 'integer'"
        " AND typeof(hash) = 'blob' AND length(hash) = 32"
    ),
    "links": (
        "typeof(tile) = 'integer' AND typeof(hash) = 'blob' AND length(hash) = 32"
        " AND EXISTS (SELECT 1 FROM streams WHERE id = stream)"
    ),
}
_MIXED: Final = (
    f"SELECT count(*) FROM events AS its WHERE topic <> {TOPIC_ID} AND EXISTS"
    f" (SELECT 1 FROM events WHERE stream = its.stream AND topic = {TOPIC_ID})"
)


class StoreFile:
    """One moment of a store's file: all that is read is as of when it was opened.

    A write-ahead log beside it is read with it. The file may be on a medium that can't be written,
    and others may write to it meanwhile.
    """

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            StoreNotFound, ForeignSchema, NewerFormat, Damage: as named.
        """
        if not path.exists():
            raise StoreNotFound(f"there is no store at {path}")
        if not path.is_file():
            raise ForeignSchema(f"{path} is not a file")
        require_sqlite()
        self.path = path
        try:
            self._connection = self._connect()
        except DATABASE_ERRORS as error:
            raise explain(error, path) from error
        try:
            self._has_tree = require_schema(self._connection, SCHEMA, path, later=TREE_SCHEMA)
            self.log_id = read_log_id(self._connection, path)
        except BaseException as error:
            self._connection.close()
            if isinstance(error, DATABASE_ERRORS):
                raise explain(error, path) from error
            raise
        self.tree = SqliteTree(self.all if self._has_tree else self._without_tree)

    def _connect(self) -> apsw.Connection:
        """Connect; where no write-ahead log can be made beside it, there is none to be read."""
        log = self.path.with_name(self.path.name + "-wal")
        has_log = log.exists() and log.stat().st_size > 0
        address = f"file:{quote(str(self.path.absolute()))}?mode=ro"
        for uri in (address, address + "&immutable=1"):
            connection = apsw.Connection(
                uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
            )
            try:
                connection.set_busy_timeout(BUSY_MS)  # the last one to close holds all others up
                distrust(connection)
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            except (apsw.CantOpenError, apsw.ReadOnlyError):
                connection.close()
                if has_log:
                    raise
            else:
                return connection
        raise Damage(f"{self.path} can't be read")

    def complaints(self) -> list[str]:
        """Return what SQLite's own check says of the file's pages and indexes; the first few."""
        rows = self.all(f"PRAGMA integrity_check({_COMPLAINTS_MAX})")
        return [str(text) for (text,) in rows if text != "ok"]

    def oddities(self) -> list[str]:
        """Return which tables hold rows that no statecore writes, of types or sizes of their own.

        A mix of applications in one stream is odd, too: the engine would read all of it.
        """
        odd = []
        for table, sound in _SOUND.items():
            if table in ("tree", "links", "heads") and not self._has_tree:
                continue
            number = self.all(f"SELECT count(*) FROM {table} WHERE ({sound}) IS NOT TRUE")[0][0]
            if number:
                odd.append(f"{number:,} rows of {table} are not of the types they should be")
        mixed = self.all(_MIXED)[0][0]
        if mixed:
            odd.append(f"{mixed:,} events in streams of ours say that they are another's")
        return odd

    def all(self, sql: str, bindings: Sequence[Any] = ()) -> list[Any]:
        """Return all rows of a query."""
        try:
            return self._connection.execute(sql, bindings).fetchall()
        except DATABASE_ERRORS as error:
            raise explain(error, self.path) from error

    def copy_to(self, target: Path) -> None:
        """Copy all of it, as of the moment it was opened, to an empty file.

        Raises:
            StoreFull, StoreReadOnly: as named; the target is worth nothing.
        """
        copy = apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            with copy.backup("main", self._connection, "main") as copying:
                copying.step()
        except DATABASE_ERRORS as error:
            raise explain(error, target) from error
        finally:
            copy.close()

    def _without_tree(self, sql: str, bindings: Sequence[Any] = ()) -> list[Any]:
        """Answer for a store that was made before there was a tree: it has the events alone."""
        is_tree = any(f" FROM {table} " in f"{sql} " for table in ("tree", "links", "heads"))
        return [(0,)] if "count(*) FROM tree" in sql else [] if is_tree else self.all(sql, bindings)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


class FileLog(SqliteReader):
    """The log in such a file, for whoever has the key: reads as the engine does, writes nothing."""

    def __init__(self, file: StoreFile) -> None:
        super().__init__(file.log_id, file.all)
        self.tree = file.tree
        self._path = file.path

    @property
    def upkeep(self) -> None:
        return None

    def read_log(self, after: int, limit: int) -> list[LogRow]:
        return self.tree.rows(after, limit)

    def indexes(self, stream: bytes) -> Indexes:
        """Return the rows of a stream's indexes, as they are."""
        return read_indexes(self._all, self._stream_id(stream))

    def freshness(self) -> int:
        return 0  # one moment of it is all there is

    def hold(self) -> AbstractContextManager[None]:
        return nullcontext()

    def turn(self, *, wait: bool = True) -> Turn:
        raise StoreReadOnly(f"{self._path} was opened to be looked at")

    def subscribe(self, notify: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def size_bytes(self) -> dict[str, int]:
        return {self._path.name: self._path.stat().st_size}

    def close(self) -> None:
        """Nothing to let go of: the file is its opener's."""
