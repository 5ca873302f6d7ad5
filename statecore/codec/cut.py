"""A stored event whose sealed body was archived: its header, and a digest in the body's place.

    header with its archived bit set · SHA-256 of the body 32 · version of an event n

The event of that version says where the body is. The leaf of the audit tree is over the header and
the digest of the body, so it is the same whether the body is there or not.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Final, NamedTuple

from statecore.codec.header import ARCHIVED, header_length
from statecore.codec.numbers import read_number, write_number
from statecore.errors import DamagedRecord

DIGEST_BYTES: Final = 32


class Cut(NamedTuple):
    """What is left of an event whose body was archived."""

    header: bytes
    """As it was before."""
    digest: bytes
    """SHA-256 of the body."""
    event: int
    """The version of an event of the stream that says where the body is."""


def is_cut(stored: bytes) -> bool:
    """Tell whether the body of a stored event was archived."""
    return bool(stored) and stored[0] >= ARCHIVED


def cut(stored: bytes, event: int) -> bytes:
    """Return a stored event without its body, which an event says where it is.

    Of one without a body already, only the event is replaced.

    Raises:
        DamagedRecord: it is no stored event.
    """
    header, digest = header_and_digest(stored)
    if not header or header[0] >= ARCHIVED or len(header) == len(stored):
        raise DamagedRecord("a stored event has no header")
    return bytes((header[0] | ARCHIVED,)) + header[1:] + digest + write_number(event)


def header_and_digest(stored: bytes) -> tuple[bytes, bytes]:
    """Return the header of a stored event, as it was sealed, and the SHA-256 of its body.

    What has the archived bit and not the form of it is taken as it is, as any odd bytes are.
    """
    if is_cut(stored):
        try:
            header, digest, _ = read_cut(stored)
        except DamagedRecord:
            pass  # told by whoever finds that its leaf is another
        else:
            return header, digest
    at = header_length(stored)
    return stored[:at], sha256(stored[at:]).digest()


def read_cut(stored: bytes) -> Cut:
    """Return what is left of an event.

    Raises:
        DamagedRecord: it has not the form of one whose body was archived.
    """
    at = header_length(stored)
    end = at + DIGEST_BYTES
    try:
        event, size = read_number(stored, end)
    except (LookupError, ValueError) as error:
        raise DamagedRecord("what is left of an archived event does not parse") from error
    if not is_cut(stored) or size != len(stored):
        raise DamagedRecord("what is left of an archived event does not parse")
    return Cut(bytes((stored[0] & ~ARCHIVED,)) + stored[1:at], stored[at:end], event)


def mend(version: int, stored: bytes, body: bytes) -> bytes:
    """Return the stored event as it was, given its body.

    Raises:
        DamagedRecord: the body is not the one that was archived.
    """
    left = read_cut(stored)
    if not hmac.compare_digest(sha256(body).digest(), left.digest):
        raise DamagedRecord(f"version {version}: its body in the archive is not what was archived")
    return left.header + body
