"""Posting lists of the key history: which versions touched a key, in rows of up to 64.

A row holds the first version and the distances between the following ones, each packed by
msgpack: a key touched often costs a byte or two an event, where a row of its own costs fifteen.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import msgpack

from statecore.packed import join_list

_VERSIONS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Postings:
    """One row: the versions from ``first`` to ``last`` that touched a key."""

    first: int
    last: int
    count: int
    distances: bytes

    @classmethod
    def read(cls, first: int, count: int, distances: bytes) -> Postings:
        """Return the postings of a stored row."""
        return cls(first, versions(first, count, distances)[-1], count, distances)

    def followed_by(self, version: int) -> Postings:
        """Return the postings with one more version; new ones where these are full."""
        if version == self.last:
            return self
        if self.count >= _VERSIONS_MAX:
            return first_posting(version)
        distances = self.distances + msgpack.packb(version - self.last)
        return Postings(self.first, version, self.count + 1, distances)


def first_posting(version: int) -> Postings:
    """Return postings of one version."""
    return Postings(version, version, 1, b"")


def versions(first: int, count: int, distances: bytes) -> list[int]:
    """Return the versions of a stored row, oldest first."""
    return list(accumulate(msgpack.unpackb(join_list(count - 1, distances)), initial=first))
