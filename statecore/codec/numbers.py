"""Unsigned numbers in as few bytes as they need: LEB128, seven bits a byte, low bits first."""

from __future__ import annotations


def write_number(number: int) -> bytes:
    """Return the bytes of a number."""
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_number(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at an index, and the index behind it.

    Raises:
        ValueError: it has more than 63 bits.
        IndexError: the bytes end within it.
    """
    number = data[at]
    if number < 0x80:
        return number, at + 1
    if data[at + 1] < 0x80:  # nearly every number is small, and every replayed event reads some
        return number & 0x7F | data[at + 1] << 7, at + 2
    number = shift = 0
    for byte in data[at : at + 9]:
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise ValueError("a number of more than 63 bits")
