"""Which of some events the audit tree speaks for, and which it speaks against, without any key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from statecore.codec.leaf import NO_LINK, leaf_entry
from statecore.errors import InputError
from statecore.projections.audit_tree import TILE_LEAVES
from statecore.recorders.sqlite.evidence import Evidence, Kept
from statecore.transparency.checkpoint import parse_checkpoint
from statecore.transparency.merkle import Frontier, leaf_hash, root_of
from statecore.transparency.note import parse_note


@dataclass(slots=True)
class TreeEvidence:
    """The positions of events that the tree proves, and of those that it refutes."""

    proven: list[int] = field(default_factory=list)
    refuted: list[int] = field(default_factory=list)
    heads: list[tuple[int, bytes]] = field(default_factory=list)
    """The signed heads that hold of the events that are there."""


class _Chain:
    """The leaf hashes of streams, as far as they are known."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._links: dict[int, tuple[int, bytes]] = {}  # by stream: of which version, its hash

    def leaf(self, kept: Kept, tile: int) -> bytes:
        """Return the leaf hash of an event, from what is known of the one before."""
        version, link = self._links.get(kept.stream, (0, NO_LINK))
        if version != kept.version - 1:
            link = self._evidence.link_before(kept.stream, tile) or NO_LINK
        leaf = leaf_hash(leaf_entry(kept.name, kept.version, link, kept.state))
        self._links[kept.stream] = (kept.version, leaf)
        return leaf

    def settle(self, kept: Kept, leaf: bytes) -> None:
        """Go on from what the tree says."""
        self._links[kept.stream] = (kept.version, leaf)


def ask_tree(evidence: Evidence) -> TreeEvidence:
    """Hold the chosen events against what was found of the tree, from the first tile on."""
    answer, chain = TreeEvidence(), _Chain(evidence)
    tiles, whole = evidence.tiles(), Frontier()
    known_heads = _roots(evidence.heads())
    before = tile = 0
    is_whole = True
    while tile in tiles:
        node, upto = tiles[tile]
        rows = list(evidence.chosen(before, upto))
        leaves = [chain.leaf(row, tile) for row in rows]
        holds = len(rows) == TILE_LEAVES and root_of(leaves) == node
        if holds:
            answer.proven += [row.position for row in rows]
        else:
            is_whole = False
            _ask_streams(evidence, tile, rows, leaves, chain, answer)
        whole.append(node)
        if is_whole:
            _take_head(known_heads, whole, [], answer)
        before, tile = upto, tile + 1
    rows = list(islice(evidence.chosen(before), TILE_LEAVES))
    leaves = [chain.leaf(row, tile) for row in rows]
    if is_whole:
        _take_tail(known_heads, whole, rows, leaves, answer)
    return answer


def _ask_streams(
    evidence: Evidence,
    tile: int,
    rows: Sequence[Kept],
    leaves: Sequence[bytes],
    chain: _Chain,
    answer: TreeEvidence,
) -> None:
    """Ask for each stream alone, in a tile that is not whole: a leaf proves all before it."""
    last = {row.stream: (row, leaf) for row, leaf in zip(rows, leaves, strict=True)}
    for stream, (row, leaf) in last.items():
        link = evidence.link(stream, tile)
        positions = _run_before(row, rows)
        if link == leaf:
            answer.proven += positions
        elif link is not None:
            if len(rows) == TILE_LEAVES:
                answer.refuted += positions
            chain.settle(row, link)


def _run_before(last: Kept, rows: Sequence[Kept]) -> list[int]:
    """Return the positions of an event and of those that lead to it without a gap."""
    positions, version = [], last.version
    for row in reversed(rows):
        if row.stream == last.stream:
            if row.version != version:
                break
            positions.append(row.position)
            version -= 1
    return positions


def _roots(heads: Sequence[tuple[int, bytes]]) -> dict[int, tuple[bytes, bytes]]:
    """Return root and note of the heads that parse, by size."""
    roots = {}
    for size, note in heads:
        try:
            said = parse_checkpoint(parse_note(note).text)
        except InputError:
            continue
        if said.size == size:
            roots[size] = said.root, note
    return roots


def _take_head(
    heads: Mapping[int, tuple[bytes, bytes]],
    whole: Frontier,
    behind: Sequence[bytes],
    answer: TreeEvidence,
) -> bool:
    """Take the head of all full tiles and some leaves behind them, if there is one that holds."""
    size = whole.size * TILE_LEAVES + len(behind)
    if size not in heads:
        return False
    tail = Frontier()
    tail.extend(list(behind))
    root = Frontier(size, [*whole.hashes, *tail.hashes]).root()
    if heads[size][0] != root:
        return False
    answer.heads.append((size, heads[size][1]))
    return True


def _take_tail(
    heads: Mapping[int, tuple[bytes, bytes]],
    whole: Frontier,
    rows: Sequence[Kept],
    leaves: Sequence[bytes],
    answer: TreeEvidence,
) -> None:
    """Ask the last heads for what is behind the last full tile."""
    for size in sorted(heads):
        count = size - whole.size * TILE_LEAVES
        if 0 < count <= min(len(leaves), TILE_LEAVES - 1) and _take_head(
            heads, whole, leaves[:count], answer
        ):
            answer.proven += [row.position for row in rows[:count]]
