"""Merkle trees over a list of leaves, as RFC 9162, section 2.1 (and RFC 6962) has them. SHA-256.

A full subtree is named by its level and its index: at level 0 stand the leaves, and the subtree
(level, index) is over the leaves from ``index << level`` to ``(index + 1) << level``. Once full, it
never changes; so a tree is kept as the hashes of its full subtrees, and every root and every proof
is made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Final, TypeAlias

from statecore.errors import InputError

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()

Node: TypeAlias = tuple[int, int]
"""A full subtree: its level and its index."""

Plan: TypeAlias = list[list[Node]]
"""For each hash of a proof the full subtrees it is made of, from left to right."""

HashAt: TypeAlias = Callable[[int, int], bytes]
"""Gives the hash of a full subtree by its level and index."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf (RFC 9162, section 2.1.1)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a subtree from those of its two halves."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: what its root, and that of every later one, needs.

    At most 64 hashes, whatever the tree's size: one for each full subtree of a leaf count that
    doubles, the largest first. ``Frontier(frontier.size, frontier.hashes)`` is the same again.
    """

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        """Take up a tree of that many leaves.

        Raises:
            InputError: these can't be the hashes of a tree of this size.
        """
        self.size = size
        """How many leaves there are."""
        self._peaks = list(hashes)
        if size < 0 or len(self._peaks) != size.bit_count():
            raise InputError(f"a tree of {size} leaves has not {len(self._peaks)} full subtrees")
        if any(len(peak) != HASH_BYTES for peak in self._peaks):
            raise InputError(f"a hash has {HASH_BYTES} bytes")

    @property
    def hashes(self) -> list[bytes]:
        """The hashes of the full subtrees, the largest, and so the leftmost, first."""
        return list(self._peaks)

    def append(self, leaf: bytes) -> None:
        """Add a leaf, given by its hash: one hash is made a leaf, over many."""
        peaks, size = self._peaks, self.size
        while size & 1:
            leaf = sha256(b"\x01" + peaks.pop() + leaf).digest()
            size >>= 1
        peaks.append(leaf)
        self.size += 1

    def extend(self, leaves: Iterable[bytes]) -> list[list[bytes]]:
        """Add leaves, given by their hashes, as ``append`` of each in turn does.

        Returns:
            The hashes of the subtrees that became full, level by level from the leaves up and each
            in order: what has to be stored. At a level, the first has the index
            ``size_before >> level``.
        """
        full = [list(leaves)]
        peaks, size = self._peaks, self.size
        added: list[bytes] = []  # the smallest first
        while row := full[-1]:
            level = len(full) - 1
            paired = [peaks.pop(), *row] if size >> level & 1 else row
            if len(paired) & 1:
                added.append(paired[-1])
            lefts, rights = paired[::2], paired[1::2]  # zip leaves out what has no right half
            full.append(
                [
                    sha256(b"\x01" + left + right).digest()
                    for left, right in zip(lefts, rights, strict=False)
                ]
            )
        peaks += reversed(added)
        self.size += len(full[0])
        return full[:-1]

    def root(self) -> bytes:
        """Return the root hash."""
        return _fold(self._peaks) if self._peaks else EMPTY_ROOT


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Return the root hash of a whole tree, given by the hashes of its leaves."""
    frontier = Frontier()
    frontier.extend(leaves)
    return frontier.root()


def covering(begin: int, end: int) -> list[Node]:
    """Return the full subtrees that leaves begin to end (exclusive) are made of, left to right.

    For the ranges that a tree is split into; ``covering(0, size)`` are those of the whole tree.
    """
    nodes = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        nodes.append((level, begin >> level))
        begin += 1 << level
    return nodes


def inclusion_plan(index: int, size: int) -> Plan:
    """Return what a proof of inclusion is made of (RFC 9162, section 2.1.3.1).

    Raises:
        InputError: there is no such leaf in a tree of this size.
    """
    if not 0 <= index < size:
        raise InputError(f"there is no leaf {index} in a tree of {size}")
    siblings = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _left_leaves(end - begin)
        if index < middle:
            siblings.append((middle, end))
            end = middle
        else:
            siblings.append((begin, middle))
            begin = middle
    return [covering(*sibling) for sibling in reversed(siblings)]


def consistency_plan(old_size: int, new_size: int) -> Plan:
    """Return what a proof of consistency is made of (RFC 9162, section 2.1.4.1).

    Raises:
        InputError: the older tree is empty, or larger than the newer one.
    """
    if not 0 < old_size <= new_size:
        raise InputError(f"no proof leads from a tree of {old_size} leaves to one of {new_size}")
    ranges = []
    begin, end = 0, new_size
    while end != old_size:
        middle = begin + _left_leaves(end - begin)
        if old_size <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((begin, middle))
            begin = middle
    if begin:  # else it is the whole older tree, whose root the verifier has
        ranges.append((begin, end))
    return [covering(*each) for each in reversed(ranges)]


def prove(plan: Plan, hash_at: HashAt) -> list[bytes]:
    """Return the proof that a plan tells how to make, in the order it is verified."""
    return [_fold([hash_at(level, index) for level, index in nodes]) for nodes in plan]


def prove_inclusion(index: int, size: int, hash_at: HashAt) -> list[bytes]:
    """Return the proof that a tree of a size has the leaf of this index, from the leaf upwards.

    Raises:
        InputError: there is no such leaf in a tree of this size.
    """
    return prove(inclusion_plan(index, size), hash_at)


def prove_consistency(old_size: int, new_size: int, hash_at: HashAt) -> list[bytes]:
    """Return the proof that the older tree is what the newer one begins with.

    Raises:
        InputError: the older tree is empty, or larger than the newer one.
    """
    return prove(consistency_plan(old_size, new_size), hash_at)


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Tell whether the tree of this size and root has the leaf hash at this index.

    RFC 9162, section 2.1.3.2. Whatever is malformed proves nothing.
    """
    if not 0 <= index < size or not _are_hashes(leaf, root, *proof):
        return False
    first, last = index, size - 1
    for sibling in proof:
        if not last:
            return False
        if first & 1 or first == last:
            leaf = node_hash(sibling, leaf)
            first, last = _rise(first, last)
        else:
            leaf = node_hash(leaf, sibling)
        first, last = first >> 1, last >> 1
    return not last and leaf == root


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Tell whether the newer tree begins with the older one.

    RFC 9162, section 2.1.4.2. Whatever is malformed proves nothing; nor does an empty older tree,
    which every tree begins with.
    """
    if not 0 < old_size <= new_size or not _are_hashes(old_root, new_root, *proof):
        return False
    if old_size == new_size:
        return not proof and old_root == new_root
    if not proof:
        return False
    # An older tree that is a full subtree of the newer one is not repeated in the proof.
    path = [old_root, *proof] if old_size.bit_count() == 1 else list(proof)
    first, last = old_size - 1, new_size - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    old = new = path[0]
    for each in path[1:]:
        if not last:
            return False
        if first & 1 or first == last:
            old, new = node_hash(each, old), node_hash(each, new)
            first, last = _rise(first, last)
        else:
            new = node_hash(new, each)
        first, last = first >> 1, last >> 1
    return not last and old == old_root and new == new_root


def _left_leaves(count: int) -> int:
    """Return how many of so many leaves stand left: the largest power of two below it."""
    return 1 << (count - 1).bit_length() - 1


def _fold(hashes: Sequence[bytes]) -> bytes:
    """Return the hash over full subtrees that grow smaller from left to right."""
    folded = hashes[-1]
    for left in reversed(hashes[:-1]):
        folded = sha256(b"\x01" + left + folded).digest()
    return folded


def _rise(first: int, last: int) -> tuple[int, int]:
    """Skip the levels where the right edge has no left sibling."""
    while first and not first & 1:
        first, last = first >> 1, last >> 1
    return first, last


def _are_hashes(*hashes: bytes) -> bool:
    return all(len(each) == HASH_BYTES for each in hashes)
