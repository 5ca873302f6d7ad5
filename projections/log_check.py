"""The whole log hashed again, without any key, and held against what is kept of its tree.

Each finding is taken down and the check goes on from what was kept, so that one edited event is
told once, and not again by all that stands behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Final

from statecore.codec.cut import is_cut
from statecore.codec.leaf import NO_LINK, chained_leaf
from statecore.errors import InputError
from statecore.projections.audit_tree import TILE_LEAVES, AuditTree
from statecore.projections.findings import Report
from statecore.recorders import KeptTree, LogRow
from statecore.transparency.merkle import Frontier, root_of

_ROWS: Final = 16 * TILE_LEAVES


class _Chain:
    """One stream, as far as it was hashed."""

    __slots__ = ("kept", "link", "links", "version")

    def __init__(self, version: int) -> None:
        self.version = version
        self.link = NO_LINK
        self.links = sha256()  # over what is to be kept of it
        self.kept = 0  # how many those are


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
        self._nodes: list[bytes] = []
        self._chains: dict[bytes, _Chain] = {}
        self._position = 0
        self.roots: dict[int, bytes] = {}
        """The roots of the trees of the sizes wanted, where the log has as many events."""

    def run(self, on_progress: Callable[[int], None]) -> None:
        """Hash all there is."""
        report, after = self._report, 0
        full, _ = self._tree.last()
        report.root = self._root_with([])
        while self._wanted and self._wanted[-1] <= 0:
            self.roots[self._wanted.pop()] = report.root
        while rows := self._tree.rows(after, _ROWS):
            for start in range(0, len(rows), TILE_LEAVES):
                self._take(rows[start : start + TILE_LEAVES], full)
            after = rows[-1][0]
            on_progress(self._size)
        report.events, report.streams = self._size, len(self._chains)
        if full > report.events // TILE_LEAVES:
            report.find(
                "missing-events",
                f"the tree has {full * TILE_LEAVES:,} events or more, the log {report.events:,}: "
                "its end was cut off",
            )
        if report.archived:
            report.notes.append(
                f"{report.archived:,} events are archived: proved by their digests, and read with "
                "their archives alone"
            )
        check_nodes(self._tree, self._nodes[:full], report)
        self._check_links()

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
            if tile < full:
                node = self._hold_against_kept(tile, rows, node)
                self._chain_links(tile, rows)
            self._tiles.append(node)
            self._nodes.append(node)
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
        if rows[-1][0] - self._position != len(rows):
            self._look_for_gaps([self._position, *(row[0] for row in rows)])
        self._position = rows[-1][0]
        chains, leaves = self._chains, []
        for position, stream, version, stored in rows:
            chain = chains.get(stream)
            if chain is None:  # a fork begins behind its parent's versions
                chain = chains[stream] = _Chain(version - 1)
            if version != chain.version + 1:
                self._tell_order(stream, version, chain.version, position)
            chain.version = version
            self._report.archived += is_cut(stored)
            leaf = chain.link = chained_leaf(stream, version, chain.link, stored)
            leaves.append(leaf)
        return leaves

    def _look_for_gaps(self, positions: list[int]) -> None:
        for before, after in pairwise(positions):
            if after != before + 1 and self._tree.missing(before, after):
                self._report.find(
                    "missing-positions",
                    f"no event at positions {before + 1:,} to {after - 1:,}: taken out of the log",
                )

    def _tell_order(self, stream: bytes, version: int, known: int, position: int) -> None:
        self._report.find(
            "wrong-version",
            f"stream {stream.hex()}: version {version} at position {position:,} follows version "
            f"{known}: events were taken out, put in or reordered",
        )

    def _hold_against_kept(self, tile: int, rows: list[LogRow], node: bytes) -> bytes:
        """Return the node of a tile as it was kept, and tell of one that is another."""
        upto = self._tree.upto(tile)
        if (kept := self._tree.hashes(1, tile, 1)) != [node]:
            self._tell_edited(tile, rows)
        elif upto != rows[-1][0]:
            self._report.find(
                "wrong-node",
                f"node {tile:,} of the tree ends at position {upto:,}, not {rows[-1][0]:,}",
            )
        return kept[0] if kept else node

    def _tell_edited(self, tile: int, rows: list[LogRow]) -> None:
        """Say whose events are not those that the tree was made of, and go on from the tree."""
        streams: dict[bytes, list[int]] = {}
        for _, stream, version, _ in rows:
            streams.setdefault(stream, []).append(version)
        edited = []
        for stream, versions in streams.items():
            link = self._tree.link(stream, tile + 1)
            if link is not None and link != self._chains[stream].link:
                edited.append(f"{stream.hex()} versions {versions[0]} to {versions[-1]}")
                self._chains[stream].link = link
        where = "; ".join(edited) or "the tree's own record of it"
        self._report.find(
            "edited-events",
            f"positions {rows[0][0]:,} to {rows[-1][0]:,} are not what the tree was made of, "
            f"in {where}",
        )

    def _chain_links(self, tile: int, rows: list[LogRow]) -> None:
        """Take down which links are to be kept of a tile."""
        chains, number = self._chains, tile.to_bytes(8, "big")
        for stream in {row[1] for row in rows}:
            chain = chains[stream]
            chain.links.update(number + chain.link)
            chain.kept += 1

    def _check_links(self) -> None:
        """Hold the links that are kept against those that came of the events."""
        for stream, chain in self._chains.items():
            kept, links = sha256(), self._tree.links(stream)
            for tile, link in links:
                kept.update(tile.to_bytes(8, "big", signed=True) + link)
            if len(links) != chain.kept or kept.digest() != chain.links.digest():
                self._report.find(
                    "wrong-links",
                    f"stream {stream.hex()}: what is kept of its leaf hashes is not what its "
                    "events have; proofs of them would not hold",
                )


def check_nodes(tree: KeptTree, nodes: list[bytes], report: Report) -> None:
    """Hold the kept nodes of the upper levels against those below, of which each tile has one."""
    level, count = 1, len(nodes)
    while len(nodes) >= TILE_LEAVES:
        level += 1
        whole = len(nodes) // TILE_LEAVES * TILE_LEAVES
        nodes = [root_of(nodes[at : at + TILE_LEAVES]) for at in range(0, whole, TILE_LEAVES)]
        count += len(nodes)
        for number, node in enumerate(nodes):
            if tree.hashes(level, number, 1) != [node]:
                report.find(
                    "wrong-node",
                    f"node {number} at level {level} of the tree is not made of those below",
                )
    if tree.nodes() != count:
        report.find("wrong-node", f"the tree has {tree.nodes():,} nodes, and should have {count:,}")


def kept_roots(tree: AuditTree, sizes: Sequence[int], report: Report) -> dict[int, bytes]:
    """Return the roots at some sizes from what is kept of the tree; no event is read before."""
    tiles, _ = tree.kept.last()
    report.events = tree.size()
    roots: dict[int, bytes] = {}
    nodes = tree.kept.hashes(1, 0, tiles) if tiles <= tree.kept.nodes() else []
    if len(nodes) < tiles:
        report.find("wrong-node", f"the tree has {len(nodes):,} of its {tiles:,} nodes")
        return roots
    check_nodes(tree.kept, nodes, report)
    try:
        for size in (*sizes, report.events):
            if size <= report.events:
                roots[size] = tree.root(size)
    except InputError as error:
        report.find("wrong-node", f"the tree does not tell its root: {error}")
    return roots
