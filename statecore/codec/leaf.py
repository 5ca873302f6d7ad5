"""What the audit tree knows of a stored event: its header in the clear, and digests.

    1 · stream 16 · version 8 · link 32 · digest of the body 32 · header

The link is the leaf hash of the stream's event before, zeros for the first in the log: one leaf
that is proved proves all before it in its stream. The body is told by its SHA-256 alone, so that a
leaf can be verified without any key, and also once the body was erased or archived.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final, NamedTuple

from statecore.codec.cut import header_and_digest
from statecore.codec.header import ARCHIVED, header_length
from statecore.errors import Malformed

LEAF_FORMAT: Final = b"\x01"  # On disk. Never renumber.
NO_LINK: Final = bytes(32)
_HASHED: Final = b"\x00" + LEAF_FORMAT  # what the hash of a leaf, in RFC 9162, begins with
_STREAM_AT: Final = 1
_VERSION_AT: Final = 17
_LINK_AT: Final = 25
_DIGEST_AT: Final = 57
_HEADER_AT: Final = 89


class Leaf(NamedTuple):
    """An entry of the audit tree, taken apart."""

    stream: bytes
    version: int
    link: bytes
    digest: bytes
    header: bytes


def leaf_entry(stream: bytes, version: int, link: bytes, stored: bytes) -> bytes:
    """Return the entry of a stored event, whatever its bytes are.

    Args:
        stream: its 16 bytes.
        version: of the event.
        link: the leaf hash of the stream's event before.
        stored: the event.
    """
    header, digest = header_and_digest(stored)
    return b"".join((LEAF_FORMAT, stream, version.to_bytes(8, "big"), link, digest, header))


def chained_leaf(stream: bytes, version: int, link: bytes, stored: bytes) -> bytes:
    """Return the leaf hash of an entry: what ``leaf_hash(leaf_entry(...))`` does, for very many."""
    at = header_length(stored)
    if at and stored[0] >= ARCHIVED:
        header, digest = header_and_digest(stored)
    else:
        header, digest = stored[:at], sha256(stored[at:]).digest()
    said = _HASHED + stream + version.to_bytes(8, "big") + link + digest + header
    return sha256(said).digest()


def read_entry(entry: bytes) -> Leaf:
    """Return what an entry says.

    Raises:
        Malformed: it is none.
    """
    if len(entry) <= _HEADER_AT or entry[:_STREAM_AT] != LEAF_FORMAT:
        raise Malformed("a leaf that is none of this format")
    return Leaf(
        entry[_STREAM_AT:_VERSION_AT],
        int.from_bytes(entry[_VERSION_AT:_LINK_AT], "big"),
        entry[_LINK_AT:_DIGEST_AT],
        entry[_DIGEST_AT:_HEADER_AT],
        entry[_HEADER_AT:],
    )
