"""Rows of the log in the order of their positions, in a damaged file, too.

SQLite takes it for granted that a page is in order. Where a flipped bit says otherwise, a row that
is asked for behind a position may stand before it, and who goes on from there comes by again, for
ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from statecore.errors import Damage


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
