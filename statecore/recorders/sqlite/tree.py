"""The audit tree's nodes, links and heads in a store's file: caches of the log, all but the heads.

One row for each full tile of 256 leaves, one for each 256 of those, and so on: 32 bytes for 256
events. Leaf hashes are not kept, but made again of the events; for that, `links` has the last leaf
of each stream in each tile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import apsw

from statecore.recorders.port import LogRow
from statecore.recorders.sqlite.schema import TOPIC_ID

Ask: TypeAlias = Callable[[str, tuple[Any, ...]], list[Any]]

_ROWS: Final = (
    "SELECT position, CAST(name AS BLOB), version, CAST(state AS BLOB) FROM events"
    " JOIN streams ON streams.id = stream"
    " WHERE position > ? AND topic = ? ORDER BY position LIMIT ?"
)
_LAST: Final = "SELECT number + 1, upto FROM tree WHERE level = 1 ORDER BY number DESC LIMIT 1"
_HASHES: Final = (
    "SELECT CAST(hash AS BLOB) FROM tree WHERE level = ? AND number >= ? ORDER BY number LIMIT ?"
)
_UPTO: Final = "SELECT upto FROM tree WHERE level = 1 AND number = ?"
_LINK: Final = (
    "SELECT CAST(hash AS BLOB) FROM links WHERE tile < ? AND stream ="
    " (SELECT id FROM streams WHERE name = ?) ORDER BY tile DESC LIMIT 1"
)
_KEEP: Final = "INSERT OR REPLACE INTO tree VALUES (?, ?, ?, ?)"
_KEEP_LINK: Final = "INSERT OR REPLACE INTO links SELECT id, ?, ? FROM streams WHERE name = ?"
_KEEP_HEAD: Final = "INSERT OR REPLACE INTO heads VALUES (?, ?)"
_HEADS: Final = "SELECT size, CAST(note AS BLOB) FROM heads WHERE size >= ? ORDER BY size"


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

    def rows(self, after: int, limit: int) -> list[LogRow]:
        return self._ask(_ROWS, (after, TOPIC_ID, limit))

    def last(self) -> tuple[int, int]:
        rows = self._ask(_LAST, ())
        return (rows[0][0], rows[0][1]) if rows else (0, 0)

    def hashes(self, level: int, first: int, count: int) -> list[bytes]:
        return [each for (each,) in self._ask(_HASHES, (level, first, count))]

    def upto(self, tile: int) -> int:
        rows = self._ask(_UPTO, (tile,)) if tile >= 0 else []
        return rows[0][0] if rows else 0

    def link(self, stream: bytes, tile: int) -> bytes | None:
        rows = self._ask(_LINK, (tile, stream))
        return rows[0][0] if rows else None

    def keep(self, level: int, number: int, node: bytes, upto: int) -> None:
        self._write(_KEEP, [(level, number, node, upto)])

    def keep_links(self, tile: int, links: dict[bytes, bytes]) -> None:
        self._write(_KEEP_LINK, [(tile, link, stream) for stream, link in links.items()])

    def heads(self, since: int = 0) -> list[tuple[int, bytes]]:
        return self._ask(_HEADS, (since,))

    def last_head(self) -> tuple[int, bytes] | None:
        sql = "SELECT size, CAST(note AS BLOB) FROM heads ORDER BY size DESC LIMIT 1"
        rows = self._ask(sql, ())
        return rows[0] if rows else None

    def keep_head(self, size: int, note: bytes) -> None:
        self._write(_KEEP_HEAD, [(size, note)])

    def drop_head(self, size: int) -> None:
        self._write("DELETE FROM heads WHERE size = ?", [(size,)])

    def _write(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        assert self._writer is not None, "written to within a turn only"
        self._writer.executemany(sql, rows)
