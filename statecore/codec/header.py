"""The header of a stored event: what stands there in the clear, to be read without any key."""

from __future__ import annotations

from typing import Final, NamedTuple

from statecore.codec.numbers import read_number
from statecore.errors import Malformed
from statecore.xaes import PREFIX_BYTES

# The first byte: archived << 7 | format << 4 | method << 2 | flags. On disk. Never renumber.
ARCHIVED: Final = 0x80
PREFIX_INLINE: Final = 0x01
COMMITMENT: Final = 0x02

TIME_BYTES: Final = 7
RANDOM_BYTES: Final = 6
COMMITMENT_BYTES: Final = 32


class Header(NamedTuple):
    """What a stored event says of itself to everybody; its seal vouches for it (format, 3)."""

    epoch: int
    """The number of the data key that sealed it; 0 is the log's own."""
    time: int
    """Microseconds since 1970, UTC."""
    writer: str
    """Which opening of the store wrote it: a number of the log's, or a prefix in hexadecimal."""
    sequence: int
    """How many events this writer had sealed, this one included."""
    size_bytes: int
    """Of the header."""


def read_header(stored: bytes) -> Header:
    """Return the header of a stored event. That the event opens is not said by this.

    Raises:
        Malformed: it has none that parses.
    """
    try:
        epoch, at = read_number(stored, 1)
        time = int.from_bytes(stored[at : at + TIME_BYTES], "big")
        at += TIME_BYTES
        if stored[0] & PREFIX_INLINE:
            writer, at = stored[at : at + PREFIX_BYTES].hex(), at + PREFIX_BYTES
        else:
            number, at = read_number(stored, at)
            writer = str(number)
        return Header(epoch, time, writer, read_number(stored, at)[0], header_length(stored))
    except (LookupError, ValueError) as error:
        raise Malformed("the header of a stored event does not parse") from error


def header_length(stored: bytes) -> int:
    """Return how many bytes of a stored event are header; all, where it does not parse as one."""
    try:
        at = 9 if stored[1] < 0x80 else read_number(stored, 1)[1] + TIME_BYTES
        if stored[0] & PREFIX_INLINE:
            at += PREFIX_BYTES
        else:
            at = at + 1 if stored[at] < 0x80 else read_number(stored, at)[1]
        while stored[at] >= 0x80:
            at += 1
    except (LookupError, ValueError):
        return len(stored)
    at += 1 + RANDOM_BYTES
    if stored[0] & COMMITMENT:
        at += COMMITMENT_BYTES
    size = len(stored)
    return min(size, at)
