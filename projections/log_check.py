"""The whole log hashed again, without any key, and held against what is kept of its tree.

Each finding is taken down and the check goes on from what was kept, so that one edited event is
told once, and not again by all that stands behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from statecore.codec.leaf import NO_LINK, leaf_entry
from statecore.projections.audit_tree import TILE_LEAVES
from statecore.projections.findings import Report
from statecore.recorders import KeptTree, LogRow
from statecore.transparency.merkle import Frontier, leaf_hash, root_of

_ROWS: Final = 16 * TILE_LEAVES
_VERSION_MAX: Final = (1 << 63) - 1


class LogCheck:
    """Hashes a log from its first event to its last."""

    def __init__(self, tree: KeptTree, sizes: Sequence[int], report: Report) -> None:
        """Check a log.

        Args:
            tree: the log, and what is kept of its tree.
            sizes: of the trees whose roots are wanted, the smallest first.
            report: where findings are taken down.
        """
        self._tree = tree
        self._report = report
        self._wanted = list(reversed(sizes))
        self._size = 0
        self._tiles = Frontier()  # a leaf of it is a tile of ours
        self._links: dict[bytes, bytes] = {}
        self._versions: dict[bytes, int] = {}
        self._position = 0
        self.roots: dict[int, bytes] = {}
        """The roots of the trees of the sizes wanted, where the log has as many events."""

    def run(self, on_progress: Callable[[int], None]) -> None:
        """Hash all there is."""
        full, _ = self._tree.last()
        after = 0
        while rows := self._tree.rows(after, _ROWS):
            for start in range(0, len(rows), TILE_LEAVES):
                self._take(rows[start : start + TILE_LEAVES], full)
            after = rows[-1][0]
            on_progress(self._size)
        report = self._report
        report.events, report.streams = self._size, len(self._versions)
        if full > report.events // TILE_LEAVES:
            report.find(
                "missing-events",
                f"the tree has {full * TILE_LEAVES:,} events or more, the log {report.events:,}: "
                "its end was cut off",
            )
        check_upper_levels(self._tree, report)

    def _take(self, rows: list[LogRow], full: int) -> None:
        """Hash the events of one tile, which may be the last and not full.

        An edited tile is told, and then taken as it was: what comes behind is told from it.
        """
        leaves, tile = self._hash(rows), self._tiles.size
        while self._wanted and self._wanted[-1] < self._size + len(leaves):
            wanted = self._wanted.pop()
            self.roots[wanted] = self._root_with(leaves[: wanted - self._size])
        self._size += len(leaves)
        if len(rows) < TILE_LEAVES:
            self._report.root = self._root_with(leaves)
        else:
            node = root_of(leaves)
            kept = self._tree.hashes(1, tile, 1) if tile < full else [node]
            if kept != [node]:
                self._tell_edited(tile, rows)
            self._tiles.append(kept[0] if kept else node)
            self._report.root = self._root_with([])
        if self._wanted and self._wanted[-1] == self._size:
            self.roots[self._wanted.pop()] = self._report.root

    def _root_with(self, leaves: list[bytes]) -> bytes:
        """Return the root of all full tiles so far, and some leaves behind them."""
        behind = Frontier()
        behind.extend(leaves)
        size = self._tiles.size * TILE_LEAVES + len(leaves)
        return Frontier(size, [*self._tiles.hashes, *behind.hashes]).root()

    def _hash(self, rows: list[LogRow]) -> list[bytes]:
        links, versions, leaves = self._links, self._versions, []
        expected = self._position + 1
        for position, stream, version, stored in rows:
            if position != expected:
                self._tell_gap(expected, position)
            expected = position + 1
            known = versions.get(stream)
            if version - 1 != known and (known is not None or not 0 < version < _VERSION_MAX):
                self._tell_order(stream, version, known, position)
            versions[stream] = version
            if not 0 < version < _VERSION_MAX or type(stored) is not bytes:
                continue
            entry = leaf_entry(stream, version, links.get(stream, NO_LINK), stored)
            leaf = links[stream] = leaf_hash(entry)
            leaves.append(leaf)
        self._position = rows[-1][0]
        return leaves

    def _tell_gap(self, expected: int, position: int) -> None:
        self._report.find(
            "missing-positions",
            f"no event at positions {expected:,} to {position - 1:,}: taken out of the log",
        )

    def _tell_order(self, stream: bytes, version: int, known: int | None, position: int) -> None:
        self._report.find(
            "wrong-version",
            f"stream {stream.hex()}: version {version} at position {position:,} follows "
            f"{'nothing' if known is None else f'version {known}'}: events were taken out, "
            "put in or reordered",
        )

    def _tell_edited(self, tile: int, rows: list[LogRow]) -> None:
        """Say whose events are not those that the tree was made of, and go on from the tree."""
        streams: dict[bytes, list[int]] = {}
        for _, stream, version, _ in rows:
            streams.setdefault(stream, []).append(version)
        edited = []
        for stream, versions in streams.items():
            link = self._tree.link(stream, tile + 1)
            if link is not None and link != self._links.get(stream):
                edited.append(f"{stream.hex()} versions {versions[0]} to {versions[-1]}")
                self._links[stream] = link
        where = "; ".join(edited) or "the tree's own record of it"
        self._report.find(
            "edited-events",
            f"positions {rows[0][0]:,} to {rows[-1][0]:,} are not what the tree was made of, "
            f"in {where}",
        )


def check_upper_levels(tree: KeptTree, report: Report) -> None:
    """Hold the kept nodes of the upper levels against those below."""
    level, count = 1, tree.last()[0]
    while count >= TILE_LEAVES:
        for number in range(count // TILE_LEAVES):
            below = tree.hashes(level, number * TILE_LEAVES, TILE_LEAVES)
            if tree.hashes(level + 1, number, 1) != [root_of(below)]:
                report.find(
                    "wrong-node",
                    f"node {number} at level {level + 1} of the tree is not made of those below",
                )
        level, count = level + 1, count // TILE_LEAVES
