"""Warm roots and values: what was needed once and is cheap to keep, within a number of bytes."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from typing import Final

from statecore.packed import Packed
from statecore.state import Root

_INTERVALS_MAX: Final = 256  # of one key
_VERSIONS_APART: Final = 16  # roots are kept so far from each other, mostly
_EXPANDED: Final = 4  # what a stored event takes unpacked, times its bytes
_NODE_BYTES: Final = 1024  # of the persistent map, that replacing one value makes anew


class WarmRoots:
    """Roots of past versions, those used longest ago are let go first.

    Roots share what did not change, so what one weighs by itself can only be estimated: as much as
    so many events like its last one bring along, or all of it.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._roots: OrderedDict[tuple[bytes, int], tuple[Root, int]] = OrderedDict()
        self._versions: dict[bytes, list[int]] = {}
        self._lock = threading.Lock()

    def nearest(self, stream_id: bytes, version: int) -> Root | None:
        """Return the latest warm root up to a version."""
        with self._lock:
            versions = self._versions.get(stream_id, [])
            at = bisect_right(versions, version)
            if not at:
                return None
            key = (stream_id, versions[at - 1])
            self._roots.move_to_end(key)
            return self._roots[key][0]

    def keep(self, stream_id: bytes, root: Root) -> None:
        """Keep a root warm."""
        with self._lock:
            key = (stream_id, root.version)
            if key not in self._roots:
                versions = self._versions.setdefault(stream_id, [])
                versions.insert(bisect_right(versions, root.version), root.version)
                weight = _weight(root)
                self._roots[key] = root, weight
                self._bytes += weight
            while self._bytes > self._bytes_max and len(self._roots) > 1:
                (stream, version), (_, weight) = self._roots.popitem(last=False)
                self._versions[stream].remove(version)
                self._bytes -= weight

    def forget(self, stream_id: bytes) -> None:
        """Forget a stream, whose data key was destroyed."""
        with self._lock:
            for version in self._versions.pop(stream_id, []):
                self._bytes -= self._roots.pop((stream_id, version))[1]


def _weight(root: Root) -> int:
    whole = root.weight + _NODE_BYTES * len(root.cells)
    if root.last is None:
        return whole
    return min(whole, (_NODE_BYTES + _EXPANDED * len(root.last.stored)) * _VERSIONS_APART)


class WarmValues:
    """Values of keys over intervals of versions, within a number of bytes."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._keys: OrderedDict[tuple[bytes, str], _Intervals] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, stream_id: bytes, key: str, version: int) -> tuple[bool, Packed | None]:
        """Return whether the value at a version is known, and the value."""
        intervals = self._keys.get((stream_id, key))
        return intervals.find(version) if intervals else (False, None)

    def keep(
        self, stream_id: bytes, key: str, interval: tuple[int, int], packed: Packed | None
    ) -> None:
        """Remember a value from one version to another, both inclusive."""
        with self._lock:
            intervals = self._keys.setdefault((stream_id, key), _Intervals())
            self._keys.move_to_end((stream_id, key))
            self._bytes += intervals.add(interval, packed)
            while self._bytes > self._bytes_max and len(self._keys) > 1:
                _, dropped = self._keys.popitem(last=False)
                self._bytes -= dropped.weight

    def forget(self, stream_id: bytes) -> None:
        """Forget a stream, whose data key was destroyed."""
        with self._lock:
            for key in [key for key in self._keys if key[0] == stream_id]:
                self._bytes -= self._keys.pop(key).weight


class _Intervals:
    """Values of one key. Replaced as a whole, so that readers need no lock."""

    def __init__(self) -> None:
        self.weight = 0
        self._known: tuple[list[int], list[int], list[Packed | None]] = ([], [], [])

    def find(self, version: int) -> tuple[bool, Packed | None]:
        starts, ends, values = self._known
        at = bisect_right(starts, version) - 1
        return (True, values[at]) if at >= 0 and version <= ends[at] else (False, None)

    def add(self, interval: tuple[int, int], packed: Packed | None) -> int:
        """Remember an interval; return by how much the weight grew."""
        before = self.weight
        starts, ends, values = ([*known] for known in self._known)
        if len(starts) >= _INTERVALS_MAX:
            starts, ends, values, self.weight = [], [], [], 0
        start, end = interval
        at = bisect_right(starts, start)
        if at and starts[at - 1] == start:
            ends[at - 1] = max(ends[at - 1], end)
        else:
            starts.insert(at, start)
            ends.insert(at, end)
            values.insert(at, packed)
            self.weight += 100 + (len(packed) if packed is not None else 0)
        self._known = starts, ends, values
        return self.weight - before
