"""Strict reading of what the audit's texts are made of, each with one spelling only.

The texts are UTF-8 without control characters, their numbers decimal without leading zeroes, their
bytes in base64 (RFC 4648, section 4).
"""

from __future__ import annotations

import base64
import re
from typing import Final

from statecore.errors import Malformed

NUMBER_MAX: Final = 2**64 - 1  # what other implementations can hold

_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")  # all below a space but the newline
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,19}")


def decode_text(data: bytes, what: str) -> str:
    """Return the text of UTF-8.

    Raises:
        Malformed: no UTF-8, or a control character other than the newline is in it.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"{what}: not UTF-8 from byte {error.start} on") from error
    check_text(text, what)
    return text


def check_text(text: str, what: str) -> None:
    """Refuse control characters other than the newline, and what UTF-8 can't hold.

    Raises:
        Malformed: there is one.
    """
    if found := _CONTROL.search(text):
        raise Malformed(f"{what}: a control character at {found.start()}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Malformed(f"{what}: not a character at {error.start}") from error


def check_line(line: str, what: str) -> None:
    """Refuse an empty line, and one that is not one line.

    Raises:
        Malformed: it can't stand in a text.
    """
    check_text(line, what)
    if not line or "\n" in line:
        raise Malformed(f"{what} must be one line that is not empty")


def check_key_name(name: str) -> None:
    """Refuse what can't be the name of a key: an empty one, or one with a space or a plus in it.

    Raises:
        Malformed: it can't be a name.
    """
    check_line(name, "name of a key")
    if "+" in name or any(character.isspace() for character in name):
        raise Malformed("name of a key: neither spaces nor plus signs can be in it")


def decode_decimal(text: str, what: str) -> int:
    """Return the number that a decimal spells, 64 bits at most.

    Raises:
        Malformed: it is none, or not spelled as it should be.
    """
    if not _DECIMAL.fullmatch(text) or int(text) > NUMBER_MAX:
        raise Malformed(f"{what}: not a decimal number of 64 bits without leading zeroes")
    return int(text)


def encode_base64(data: bytes) -> str:
    """Return the one spelling in base64."""
    return base64.b64encode(data).decode()


def decode_base64(text: str, what: str) -> bytes:
    """Return the bytes that base64 spells.

    Raises:
        Malformed: it is none, or another spelling than ``encode_base64`` gives.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Malformed(f"{what}: not base64") from error
    if encode_base64(data) != text:
        raise Malformed(f"{what}: base64 that is not spelled the one way")
    return data
