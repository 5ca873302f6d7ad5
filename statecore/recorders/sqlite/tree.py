"""The audit tree's nodes, links and heads in a store's file: caches of the log, all but the heads.

One row for each full tile of 256 leaves, one for each 256 of those, and so on: 32 bytes for 256
events. Leaf hashes are not kept, but made again of the events; for that, `links` has the last leaf
of each stream in each tile.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any, Final, TypeAlias

import apsw

from statecore.recorders.port import LogRow
from statecore.recorders.sqlite.order import in_order
from statecore.recorders.sqlite.schema import TOPIC_ID

Ask: TypeAlias = Callable[[str, tuple[Any, ...]], list[Any]]

# What is not of the type it should be is passed over, as if it were not there: a file may have been
# written to by anybody, and verification tells of it (reading.py). SQLite believes its schema and
# takes ``IS NOT NULL`` of such a column for true, so types are asked for.
_SOUND: Final = (
    " WHERE position > ? AND topic = ? AND version > 0 AND typeof(version) = 'integer'"
    " AND typeof(state) <> 'null'"
)
_ROWS: Final = (
    f"SELECT position, stream, version, CAST(state AS BLOB) FROM events{_SOUND}"
    " ORDER BY position LIMIT ?"
)
_NAMED: Final = "typeof(name) = 'blob' AND length(name) = 16"
_NAME: Final = f"SELECT name FROM streams WHERE id = ? AND {_NAMED}"
_ROWS_NAMED: Final = (
    "SELECT position, name, version, CAST(state AS BLOB) FROM events"
    f" JOIN streams ON streams.id = stream{_SOUND} AND {_NAMED} ORDER BY position LIMIT ?"
)
_OTHERS: Final = (
    "SELECT count(*) FROM events AS its WHERE position > ?1 AND position < ?2 AND topic <> ?3"
    " AND NOT EXISTS(SELECT 1 FROM events WHERE stream = its.stream AND topic = ?3)"
)
_TILES_MAX: Final = 1 << 48
_LAST: Final = (
    "SELECT number + 1, upto FROM tree WHERE level = 1 AND typeof(number) = 'integer'"
    f" AND number BETWEEN 0 AND {_TILES_MAX} AND typeof(upto) = 'integer'"
    " ORDER BY number DESC LIMIT 1"
)
_HASHES: Final = (
    "SELECT CAST(hash AS BLOB) FROM tree WHERE level = ? AND number >= ? AND number < ?"
    " AND length(CAST(hash AS BLOB)) = 32 ORDER BY number"
)
_UPTO: Final = "SELECT upto FROM tree WHERE level = 1 AND number = ? AND typeof(upto) = 'integer'"
_LINK: Final = (
    "SELECT CAST(hash AS BLOB) FROM links WHERE tile < ? AND stream ="
    " (SELECT id FROM streams WHERE name = ?) AND length(CAST(hash AS BLOB)) = 32"
    " ORDER BY tile DESC LIMIT 1"
)
_LINKS_BEFORE: Final = (
    "SELECT name, (SELECT CAST(hash AS BLOB) FROM links WHERE stream = streams.id AND tile < ?1"
    " AND length(CAST(hash AS BLOB)) = 32 ORDER BY tile DESC LIMIT 1) FROM streams"
    " WHERE name IN (SELECT unhex(value) FROM json_each(?2))"
)
_LINKS: Final = (
    "SELECT tile, CAST(hash AS BLOB) FROM links WHERE stream ="
    " (SELECT id FROM streams WHERE name = ?) AND typeof(tile) = 'integer'"
    " AND length(CAST(hash AS BLOB)) = 32 ORDER BY tile"
)
_KEEP: Final = "INSERT OR REPLACE INTO tree VALUES (?, ?, ?, ?)"
_KEEP_LINK: Final = "INSERT OR REPLACE INTO links SELECT id, ?, ? FROM streams WHERE name = ?"
_KEEP_HEAD: Final = "INSERT OR REPLACE INTO heads VALUES (?, ?)"
_SIZED: Final = "SELECT size, CAST(note AS BLOB) FROM heads WHERE typeof(note) <> 'null'"
_HEADS: Final = f"{_SIZED} AND size >= ? ORDER BY size"
_LAST_HEAD: Final = f"{_SIZED} ORDER BY size DESC LIMIT 1"


class SqliteTree:
    """The kept part of the audit tree, as ``KeptTree`` says; writes count within a turn only."""

    def __init__(self, ask: Ask, writer: apsw.Connection | None = None) -> None:
        """Ask a connection.

        Args:
            ask: gives all rows of a statement.
            writer: the connection of a turn, to keep anything.
        """
        self._ask = ask
        self._writer = writer
        self._names: dict[int, Any] = {}  # of streams, by number

    def rows(self, after: int, limit: int) -> list[LogRow]:
        rows = self._rows(after, limit)
        return rows[: in_order(rows, after)]

    def _rows(self, after: int, limit: int) -> list[LogRow]:
        if self._writer is not None:  # a few tiles, by which to ask for names would not pay
            return self._ask(_ROWS_NAMED, (after, TOPIC_ID, limit))
        rows = self._ask(_ROWS, (after, TOPIC_ID, limit))
        names = self._names  # asked for once each: a join would look for one with every row
        numbers = {row[1] for row in rows}
        for number in numbers - names.keys():
            found = self._ask(_NAME, (number,))
            names[number] = found[0][0] if found else None
        if any(names[number] is None for number in numbers):
            return self._ask(_ROWS_NAMED, (after, TOPIC_ID, limit))
        return [(at, names[number], version, stored) for at, number, version, stored in rows]

    def missing(self, after: int, before: int) -> int:
        others: int = self._ask(_OTHERS, (after, before, TOPIC_ID))[0][0]
        return before - after - 1 - others

    def last(self) -> tuple[int, int]:
        rows = self._ask(_LAST, ())
        return (rows[0][0], rows[0][1]) if rows else (0, 0)

    def hashes(self, level: int, first: int, count: int) -> list[bytes]:
        return [each for (each,) in self._ask(_HASHES, (level, first, first + count))]

    def nodes(self) -> int:
        return self._ask("SELECT count(*) FROM tree", ())[0][0]  # type: ignore[no-any-return]

    def upto(self, tile: int) -> int:
        rows = self._ask(_UPTO, (tile,)) if tile >= 0 else []
        return rows[0][0] if rows else 0

    def link(self, stream: bytes, tile: int) -> bytes | None:
        rows = self._ask(_LINK, (tile, stream))
        return rows[0][0] if rows else None

    def links_before(self, tile: int, streams: Collection[bytes]) -> dict[bytes, bytes]:
        named = json.dumps([stream.hex() for stream in streams])
        found = self._ask(_LINKS_BEFORE, (tile, named)) if streams else []
        return {stream: link for stream, link in found if link is not None}

    def links(self, stream: bytes) -> list[tuple[int, bytes]]:
        return self._ask(_LINKS, (stream,))

    def keep(self, level: int, number: int, node: bytes, upto: int) -> None:
        self._write(_KEEP, [(level, number, node, upto)])

    def keep_links(self, tile: int, links: dict[bytes, bytes]) -> None:
        self._write(_KEEP_LINK, [(tile, link, stream) for stream, link in links.items()])

    def heads(self, since: int = 0) -> list[tuple[int, bytes]]:
        return self._ask(_HEADS, (since,))

    def last_head(self) -> tuple[int, bytes] | None:
        rows = self._ask(_LAST_HEAD, ())
        return rows[0] if rows else None

    def keep_head(self, size: int, note: bytes) -> None:
        self._write(_KEEP_HEAD, [(size, note)])

    def drop_head(self, size: int) -> None:
        self._write("DELETE FROM heads WHERE size = ?", [(size,)])

    def _write(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        assert self._writer is not None, "written to within a turn only"
        self._writer.executemany(sql, rows)
