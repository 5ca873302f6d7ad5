"""Posting lists of the key history: which versions touched a key, in rows of up to 64.

A row holds the first version and the distances between the following ones, each packed by
msgpack: a key touched often costs a byte or two an event, where a row of its own costs fifteen.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Final, TypeAlias

import msgpack

from statecore.errors import Damage
from statecore.packed import join_list

_VERSIONS_MAX: Final = 64


Postings: TypeAlias = tuple[int, int, int, bytes]
"""One row: first version, last version, how many in all, and the distances between them."""


def read_postings(first: int, count: int, distances: bytes) -> Postings:
    """Return the postings of a stored row."""
    return first, versions(first, count, distances)[-1], count, distances


def add_posting(postings: Postings | None, version: int) -> Postings:
    """Return the postings with one more version; new ones where there are none, or full ones."""
    if postings is None or postings[2] >= _VERSIONS_MAX:
        return version, version, 1, b""
    first, last, count, distances = postings
    distance = version - last
    if distance == 0:
        return postings
    if distance < 0:
        raise Damage(f"the key history is damaged: it knows of version {last} before it is there")
    packed = bytes((distance,)) if distance < 0x80 else msgpack.packb(distance)
    return first, version, count + 1, distances + packed


def versions(first: int, count: int, distances: bytes) -> list[int]:
    """Return the versions of a stored row, oldest first.

    Raises:
        Damage: it is no such row.
    """
    try:
        found = msgpack.unpackb(join_list(count - 1, distances))
        return list(accumulate(found, initial=first + 0))  # no text, where that stands alone
    except (msgpack.UnpackException, ValueError, TypeError, OverflowError) as error:
        raise Damage(f"the key history is damaged: a row of it does not parse ({error})") from error
