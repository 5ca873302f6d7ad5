"""The Merkle tree of an exported audit record in Python alone, as RFC 9162, 2.1, has it.

It is put into the script that goes with the record, as ``ed25519.py`` is.
"""

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Peak = tuple[int, bytes]  # height and hash of a full subtree


def node_of(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def grow(peaks: "list[Peak]", leaf: bytes) -> None:
    """Add a leaf to the full subtrees of a tree, as [height, hash], the largest first."""
    height = 0
    while peaks and peaks[-1][0] == height:
        leaf = node_of(peaks.pop()[1], leaf)
        height += 1
    peaks.append((height, leaf))


def root_of(peaks: "list[Peak]") -> bytes:
    """Return the root of the tree that has these full subtrees."""
    if not peaks:
        return sha256(b"").digest()
    root = peaks[-1][1]
    for _, peak in reversed(peaks[:-1]):
        root = node_of(peak, root)
    return root


def over(hashes: "list[bytes]") -> bytes:
    """Return the root over 256 hashes."""
    while len(hashes) > 1:
        hashes = [node_of(hashes[at], hashes[at + 1]) for at in range(0, len(hashes), 2)]
    return hashes[0]


def root_by_proof(leaf: bytes, index: int, size: int, hashes: "list[bytes]") -> bytes:
    """Return the root that a proof of inclusion leads to (2.1.3.2); none where it fits no tree."""
    if index >= size:
        return b""
    number, last, root = index, size - 1, leaf
    for each in hashes:
        if last == 0:
            return b""  # too long
        if number & 1 or number == last:
            root = node_of(each, root)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            root = node_of(root, each)
        number, last = number >> 1, last >> 1
    return b"" if last else root  # too short
