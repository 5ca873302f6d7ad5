"""The rows of the key history and of the ids: read, compared with what they should be, replaced."""

from __future__ import annotations

from typing import Any, Protocol

import apsw

from statecore.recorders.sqlite.touches import Postings


class Indexed(Protocol):
    """What the indexes of one stream are to hold."""

    touches: dict[bytes, list[Postings]]
    ids: dict[bytes, int]


def write_indexes(connection: apsw.Connection, stream: int, made: Indexed) -> None:
    """Put the rows of a stream's indexes in place of all that are there, within a transaction."""
    connection.execute("DELETE FROM touches WHERE stream = ?", (stream,))
    connection.execute("DELETE FROM ids WHERE stream = ?", (stream,))
    touches = [
        (stream, tag, first, count, distances)
        for tag, postings in made.touches.items()
        for first, _, count, distances in postings
    ]
    connection.executemany("INSERT INTO touches VALUES (?, ?, ?, ?, ?)", touches)
    ids = [(stream, tag, version) for tag, version in made.ids.items()]
    connection.executemany("INSERT INTO ids VALUES (?, ?, ?)", ids)


def read_indexes(
    connection: apsw.Connection, stream: int
) -> tuple[dict[tuple[bytes, int], tuple[int, bytes]], dict[bytes, int]]:
    """Return the rows of a stream's indexes: count and distances by tag and first version; and
    the versions of ids by tag."""
    sql = "SELECT CAST(tag AS BLOB), first, count, CAST(distances AS BLOB) FROM touches"
    rows: list[Any] = connection.execute(f"{sql} WHERE stream = ?", (stream,)).fetchall()
    touches = {(tag, first): (count, distances) for tag, first, count, distances in rows}
    sql = "SELECT CAST(tag AS BLOB), version FROM ids WHERE stream = ?"
    ids: list[Any] = connection.execute(sql, (stream,)).fetchall()
    return touches, dict(ids)
