"""The header of a stored event: what stands there in the clear, to be read without any key."""

from __future__ import annotations

from typing import NamedTuple

from statecore.codec.numbers import read_number
from statecore.codec.seal import header_length
from statecore.errors import Malformed
from statecore.xaes import PREFIX_BYTES

_PREFIX_INLINE = 0x01
_TIME_BYTES = 7


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
        time = int.from_bytes(stored[at : at + _TIME_BYTES], "big")
        at += _TIME_BYTES
        if stored[0] & _PREFIX_INLINE:
            writer, at = stored[at : at + PREFIX_BYTES].hex(), at + PREFIX_BYTES
        else:
            number, at = read_number(stored, at)
            writer = str(number)
        return Header(epoch, time, writer, read_number(stored, at)[0], header_length(stored))
    except (LookupError, ValueError) as error:
        raise Malformed("the header of a stored event does not parse") from error
