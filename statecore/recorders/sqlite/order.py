"""Rows of the log in the order of their positions and of the types they should be, in any file.

SQLite takes it for granted that a page is in order. Where a flipped bit says otherwise, a row that
is asked for behind a position may stand before it, and who goes on from there comes by again, for
ever.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

from statecore.errors import Damage

Types: TypeAlias = tuple[type, ...]


def in_order(rows: Sequence[Any], after: int) -> int:
    """Return how many rows, which begin with their positions, ascend from a position on."""
    for count, row in enumerate(rows):
        if row[0] <= after:
            return count
        after = row[0]
    return len(rows)


def require_order(rows: Sequence[Any], after: int) -> None:
    """Raise ``Damage`` where rows, which begin with their positions, do not ascend from one on."""
    count = in_order(rows, after)
    if count < len(rows):
        last = rows[count - 1][0] if count else after
        raise Damage(
            f"the log is out of order: behind position {last} stands {rows[count][0]}; statecore"
            " doctor says what to do"
        )


def require_types(rows: Sequence[Any], types: Collection[Types], after: int) -> None:
    """Raise ``Damage`` where a row behind a position has columns of none of these types."""
    if not {tuple(map(type, row)) for row in rows} <= {*types}:
        raise Damage(f"an event behind position {after} has parts of another type")
