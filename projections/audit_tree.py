"""The audit tree: a Merkle tree (RFC 9162) over the whole log, one leaf for each event, in order.

A store that keeps it beside the log has the roots of full tiles of 256 leaves, written in the
turn that fills one; everything else is made again of the events: leaf hashes, the tiles' insides,
and what is behind the last full tile. Elsewhere the same is kept in memory, and caught up with
before each question.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Final

from statecore.codec.leaf import NO_LINK, chained_leaf, leaf_entry
from statecore.errors import DamagedRecord, InputError
from statecore.recorders import KeptTree, Links, LogRow, LogStore, Nodes
from statecore.transparency.merkle import Frontier, covering, leaf_hash, root_of

TILE_LEAVES: Final = 256
_LEVELS: Final = 8  # of the tree in a tile
_TILES_AT_ONCE: Final = 16
_LINKS_MAX: Final = 100_000
_TILES_CACHED: Final = 64
_ABOVE_CACHED: Final = 16_384


class TreeKeeper:
    """Keeps the nodes of full tiles, within the turns that fill them."""

    def __init__(self, on_tile: Callable[[KeptTree, int], None] | None = None) -> None:
        """Keep a tree.

        Args:
            on_tile: called, within the turn, with how many tiles are full, after each.
        """
        self._on_tile = on_tile
        self._upto = self._last = 0  # as last seen; others may have gone on since
        self._newest = [b""]  # the node of the last full tile, which the links are of
        self._links: dict[bytes, bytes] = {}

    def extend(self, tree: KeptTree, last: int) -> None:
        """Keep what became full up to a position."""
        if last <= self._last:
            self._upto = 0  # a turn was not written after all, nor what we kept in it
        self._last = last
        if last - self._upto < TILE_LEAVES:
            return  # positions never grow slower than leaves
        tiles, upto = tree.last()
        if tree.hashes(1, tiles - 1, 1) != self._newest or len(self._links) > _LINKS_MAX:
            self._links.clear()  # others went on, or what we kept was not written after all
        there = at_once = TILE_LEAVES * _TILES_AT_ONCE
        while there == at_once:
            rows = tree.rows(upto, at_once)
            there = len(rows)
            for start in range(0, there - TILE_LEAVES + 1, TILE_LEAVES):
                tile = rows[start : start + TILE_LEAVES]
                self._keep(tree, tiles, tile)
                tiles, upto = tiles + 1, tile[-1][0]
        self._upto = upto

    def forget(self) -> None:
        """Forget what somebody else may have made again."""
        self._links.clear()

    def _keep(self, tree: KeptTree, number: int, rows: Sequence[LogRow]) -> None:
        leaves = link_up(rows, self._links, tree, number)
        ends = {stream: self._links[stream] for _, stream, _, _ in rows}
        tree.keep_links(number, ends)
        level, node, upto = 1, root_of(leaves), rows[-1][0]
        tree.keep(level, number, node, upto)
        self._newest, tiles = [node], number + 1
        while tiles % TILE_LEAVES == 0:
            tiles //= TILE_LEAVES
            below = tree.hashes(level, (tiles - 1) * TILE_LEAVES, TILE_LEAVES)
            level += 1
            tree.keep(level, tiles - 1, root_of(below), upto)
        if self._on_tile is not None:
            self._on_tile(tree, number + 1)


def link_up(
    rows: Sequence[LogRow], links: dict[bytes, bytes], tree: KeptTree, tile: int
) -> list[bytes]:
    """Return the leaf hashes of events in a row, within one tile.

    Args:
        rows: the events.
        links: the last leaf hash of each stream, as far as known; brought up to date.
        tree: knows those of streams that are not there, as of the tile's beginning.
        tile: which tile.
    """
    leaves = []
    if unknown := {row[1] for row in rows} - links.keys():
        links.update(tree.links_before(tile, unknown))
    for _, stream, version, stored in rows:
        leaf = chained_leaf(stream, version, links.get(stream, NO_LINK), stored)
        links[stream] = leaf
        leaves.append(leaf)
    return leaves


class AuditTree:
    """Answers questions of the tree, of which a part is kept. Safe to use from any thread."""

    def __init__(self, tree: KeptTree) -> None:
        """Ask what is kept of a tree, and its events."""
        self.kept = tree
        self._tiles: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()
        self._above: dict[tuple[int, int], bytes] = {}
        self._recent: tuple[int, list[LogRow]] = (-1, [])
        self._lock = threading.Lock()

    def size(self) -> int:
        """Return how many leaves there are now."""
        tiles, upto = self.kept.last()
        return tiles * TILE_LEAVES + len(self.kept.rows(upto, TILE_LEAVES))

    def is_kept_up(self) -> bool:
        """Tell whether all full tiles are kept: not in a log that was made without a tree."""
        _, upto = self.kept.last()
        return len(self.kept.rows(upto, TILE_LEAVES)) < TILE_LEAVES

    def root(self, size: int) -> bytes:
        """Return the root of the tree of the first so many leaves."""
        nodes = [self.hash_at(*node) for node in covering(0, size)]
        return Frontier(size, nodes).root()

    def hash_at(self, level: int, index: int) -> bytes:
        """Return the hash of a full subtree, by its level and its index there.

        Raises:
            InputError: there is none.
        """
        known = self._above.get((level, index))
        if known is not None:
            return known
        row, height = divmod(level, _LEVELS)
        first, count = index << height, 1 << height
        number, begin = divmod(first, TILE_LEAVES)
        hashes = self._hashes(row, number, begin + count)[begin : begin + count]
        if len(hashes) < count:
            raise InputError(f"the tree has no full subtree {index} at level {level}")
        node = root_of(hashes)
        if row:  # what is above the tiles of leaves is in many proofs
            if len(self._above) >= _ABOVE_CACHED:
                self._above.clear()
            self._above[level, index] = node
        return node

    def _hashes(self, row: int, number: int, until: int) -> list[bytes]:
        """Return the hashes in a tile, so many at least, if there are; what is there never changes,
        so it is kept also of a tile that is not full."""
        with self._lock:
            known = self._tiles.get((row, number), [])
            if len(known) >= until:
                self._tiles.move_to_end((row, number))
                return known
        if row:
            hashes = self.kept.hashes(row, number * TILE_LEAVES, TILE_LEAVES)
        else:
            hashes = link_up(self.rows(number), {}, self.kept, number)
        with self._lock:
            self._tiles[row, number] = hashes
            while len(self._tiles) > _TILES_CACHED:
                self._tiles.popitem(last=False)
        return hashes

    def rows(self, tile: int) -> list[LogRow]:
        """Return the events under a tile of leaves, as many as there are."""
        known, rows = self._recent
        if known == tile:
            return rows
        tiles, _ = self.kept.last()
        rows = self.kept.rows(self.kept.upto(tile - 1), TILE_LEAVES) if tile <= tiles else []
        if len(rows) == TILE_LEAVES:  # a proof asks for those of one tile several times
            self._recent = tile, rows
        return rows

    def entries(self, tile: int) -> list[bytes]:
        """Return the entries under a tile of leaves, as many as there are."""
        rows, entries = self.rows(tile), []
        links = self.kept.links_before(tile, {row[1] for row in rows})
        for _, stream, version, stored in rows:
            entry = leaf_entry(stream, version, links.get(stream, NO_LINK), stored)
            links[stream] = leaf_hash(entry)
            entries.append(entry)
        return entries

    def entry(self, index: int) -> bytes:
        """Return the entry of a leaf.

        Raises:
            InputError: there is none.
        """
        tile, place = divmod(index, TILE_LEAVES)
        rows = self.rows(tile)[: place + 1]
        if place >= len(rows):
            raise InputError(f"the tree has no leaf {index}")
        _, stream, version, stored = rows[place]
        before = [at for at, row in enumerate(rows[:place]) if row[1] == stream]
        if before:
            link = self._hashes(0, tile, place)[before[-1]]
        else:
            link = self.kept.link(stream, tile) or NO_LINK
        return leaf_entry(stream, version, link, stored)

    def index_of(self, position: int) -> int:
        """Return the index of the leaf of the event at a position.

        Raises:
            InputError: there is no event.
        """
        tiles, _ = self.kept.last()
        # A leaf has no greater index than its position says, and mostly that one or one close by.
        ends, last = _Ends(self.kept, tiles), max(0, min(tiles, (position - 1) // TILE_LEAVES))
        first, step = last, 1
        while first > 0 and ends[first - 1] >= position:
            first, last, step = max(0, first - step), first - 1, 2 * step
        tile = bisect_right(ends, position - 1, first, last)
        for at, row in enumerate(self.rows(tile)):
            if row[0] == position:
                return tile * TILE_LEAVES + at
        raise InputError(f"there is no event at position {position}")


class _Ends(Sequence[int]):
    """The position of the last leaf of each full tile, read as they are asked for."""

    def __init__(self, tree: KeptTree, tiles: int) -> None:
        self._tree = tree
        self._tiles = tiles

    def __len__(self) -> int:
        return self._tiles

    def __getitem__(self, tile: int) -> int:  # type: ignore[override]  # bisect takes no slices
        return self._tree.upto(tile)


class MemoryTree:
    """What is kept of the tree, in memory, over a log that keeps nothing of it."""

    def __init__(self, log: LogStore) -> None:
        self._log = log
        self._keeper = TreeKeeper()
        self._lock = threading.Lock()
        self._nodes: dict[int, list[bytes]] = {}
        self._upto: list[int] = []
        self._links: dict[bytes, list[tuple[int, bytes]]] = {}
        self._heads: dict[int, bytes] = {}

    def rows(self, after: int, limit: int) -> list[LogRow]:
        return self._log.read_log(after, limit)

    def missing(self, after: int, before: int) -> int:
        return 0  # not every persistence module numbers without gaps

    def catch_up(self) -> None:
        """Keep what became full since."""
        with self._lock:
            self._keeper.extend(self, self._log.last_position())

    def last(self) -> tuple[int, int]:
        return len(self._upto), self._upto[-1] if self._upto else 0

    def hashes(self, level: int, first: int, count: int) -> list[bytes]:
        return self._nodes.get(level, [])[first : first + count]

    def nodes(self) -> int:
        return sum(map(len, self._nodes.values()))

    def upto(self, tile: int) -> int:
        return self._upto[tile] if 0 <= tile < len(self._upto) else 0

    def link(self, stream: bytes, tile: int) -> bytes | None:
        links = self._links.get(stream, [])
        at = bisect_right(links, (tile, b""))
        return links[at - 1][1] if at else None

    def links_before(self, tile: int, streams: Collection[bytes]) -> dict[bytes, bytes]:
        known = {stream: self.link(stream, tile) for stream in streams}
        return {stream: link for stream, link in known.items() if link is not None}

    def links(self, stream: bytes) -> list[tuple[int, bytes]]:
        return self._links.get(stream, [])

    def keep(self, level: int, number: int, node: bytes, upto: int) -> None:
        nodes = self._nodes.setdefault(level, [])
        if number != len(nodes):
            raise DamagedRecord(f"the tree has {len(nodes)} nodes at level {level}, not {number}")
        nodes.append(node)
        if level == 1:
            self._upto.append(upto)

    def keep_links(self, tile: int, links: dict[bytes, bytes]) -> None:
        for stream, link in links.items():
            self._links.setdefault(stream, []).append((tile, link))

    def kept(self) -> tuple[Nodes, Links]:
        """Return all of it, as a log that keeps a tree would."""
        last = {level: TILE_LEAVES ** (level - 1) for level in self._nodes}
        nodes = {
            (level, number): (node, self._upto[(number + 1) * last[level] - 1])
            for level, nodes in self._nodes.items()
            for number, node in enumerate(nodes)
        }
        links = {
            (stream, tile): link for stream, links in self._links.items() for tile, link in links
        }
        return nodes, links

    def heads(self, since: int = 0) -> list[tuple[int, bytes]]:
        return sorted(head for head in self._heads.items() if head[0] >= since)

    def last_head(self) -> tuple[int, bytes] | None:
        return max(self._heads.items(), default=None)

    def keep_head(self, size: int, note: bytes) -> None:
        self._heads[size] = note

    def drop_head(self, size: int) -> None:
        self._heads.pop(size, None)
