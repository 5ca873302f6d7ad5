"""The rows of the key history and of the ids of one stream: as they are, and as they should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apsw

from statecore.recorders.port import Indexes

_TOUCHES = "SELECT CAST(tag AS BLOB), first, count, CAST(distances AS BLOB) FROM touches"


def read_indexes(ask: Callable[[str, tuple[Any, ...]], list[Any]], stream: int) -> Indexes:
    """Return the rows of a stream's indexes, by a connection's answers."""
    rows = ask(f"{_TOUCHES} WHERE stream = ?", (stream,))
    ids = ask("SELECT CAST(tag AS BLOB), version FROM ids WHERE stream = ?", (stream,))
    return Indexes({(tag, first): (count, told) for tag, first, count, told in rows}, dict(ids))


def write_indexes(connection: apsw.Connection, stream: int, made: Indexes, since: int = 0) -> None:
    """Put the rows of a stream's indexes in place of those that are there, in a transaction.

    Those before a version stay: of what was erased, where tags stand for nothing any more.
    """
    connection.execute("DELETE FROM touches WHERE stream = ? AND first >= ?", (stream, since))
    connection.execute("DELETE FROM ids WHERE stream = ? AND version >= ?", (stream, since))
    touches = [(stream, *place, *row) for place, row in made.touches.items()]
    connection.executemany("INSERT OR REPLACE INTO touches VALUES (?, ?, ?, ?, ?)", touches)
    ids = [(stream, tag, version) for tag, version in made.ids.items()]
    connection.executemany("INSERT OR REPLACE INTO ids VALUES (?, ?, ?)", ids)
