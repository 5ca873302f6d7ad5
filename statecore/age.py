"""age files (version 1, c2sp.org/age): encrypted to X25519 recipients, read with an identity.

The cipher is that of ``pyrage`` (the Rust implementation, ``rage``), behind the extra ``age``.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from typing import Any, BinaryIO, Final

from statecore.errors import DamagedRecord, InputError, InvalidKey, LimitExceeded, WrongKey

MAGIC: Final = b"age-encryption.org/"
HEADER_BYTES_MAX: Final = 65_536
LINES_MAX: Final = 1_300  # of a header: the library reads it from its beginning again for each line
RECIPIENTS_MAX: Final = 600  # with two lines each, of some 100 bytes: such a header holds them
_END: Final = re.compile(rb"\n---[^\n]*\n")  # of the header; no other line of it begins so


def encrypt(plain: bytes, recipients: Iterable[str]) -> bytes:
    """Return bytes as an age file that any of the recipients (``age1...``) can read.

    Raises:
        InvalidKey: one is no recipient.
        LimitExceeded: there are over 600.
        InputError: there is none, or ``pyrage`` is not installed.
    """
    age = _library()
    return bytes(age.encrypt(plain, _recipients(age, recipients)))


def encrypt_stream(source: BinaryIO, target: BinaryIO, recipients: Iterable[str]) -> None:
    """Write what a stream holds to another as an age file, piece by piece; raises as ``encrypt``.

    What was written means nothing until this returned.
    """
    age = _library()
    age.encrypt_io(source, target, _recipients(age, recipients))


def decrypt(sealed: bytes, identity: str) -> bytes:
    """Return what an age file holds; raises as ``decrypt_stream``."""
    target = io.BytesIO()
    decrypt_stream(io.BytesIO(sealed), target, identity)
    return target.getvalue()


def decrypt_stream(source: BinaryIO, target: BinaryIO, identity: str) -> None:
    """Write what an age file holds to another stream, piece by piece.

    Each piece is authenticated before it is written, but that the end is the end only when this
    returned: keep nothing of it before.

    Args:
        source: the file, as bytes and not as armored text.
        target: where to.
        identity: ``AGE-SECRET-KEY-1...``, or the text of an identity file.

    Raises:
        InvalidKey: the identity is none.
        WrongKey: the file is to others.
        DamagedRecord: it is no age file, or was changed.
        LimitExceeded: its header is for more than some 600 recipients: 64 KiB, or 1,300 lines.
    """
    age = _library()
    known = _identities(age, identity)
    begun = _begin(source)
    try:
        age.decrypt_io(_Resumed(begun, source), target, known)
    except (age.DecryptError, OSError) as error:
        if getattr(error, "errno", None):
            raise  # of the streams, not of what is in them
        raise _explain(error) from error


def _begin(source: BinaryIO) -> bytes:
    """Read the header of an age file, with what comes along; refuse one that takes long."""
    begun = bytearray()
    while len(begun) < HEADER_BYTES_MAX and not _END.search(begun):
        piece = source.read(HEADER_BYTES_MAX - len(begun))
        if not piece:
            break
        begun += piece
    if not begun.startswith(MAGIC):  # armored text is none: its header could not be measured
        raise DamagedRecord("this does not begin as an age file does")
    end = _END.search(begun)
    what, size = "the header of the age file", end.end() if end else len(begun)
    if size >= HEADER_BYTES_MAX:
        raise LimitExceeded(what, size, HEADER_BYTES_MAX - 1, "bytes")
    if begun.count(b"\n", 0, size) > LINES_MAX:
        raise LimitExceeded(what, begun.count(b"\n", 0, size), LINES_MAX, "lines")
    return bytes(begun)


class _Resumed(io.RawIOBase):
    """A stream of which the beginning was read already."""

    def __init__(self, begun: bytes, source: BinaryIO) -> None:
        self._begun = io.BytesIO(begun)
        self._source = source

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._begun.read(size) or self._source.read(size)


def _recipients(age: Any, texts: Iterable[str]) -> list[Any]:
    texts = list(texts)
    if not texts:
        raise InputError("say to whom, with at least one recipient: age1...")
    if len(texts) > RECIPIENTS_MAX:  # for more, it could be written and not be read again
        raise LimitExceeded("the age file", len(texts), RECIPIENTS_MAX, "recipients")
    try:
        return [age.x25519.Recipient.from_str(text.strip()) for text in texts]
    except age.RecipientError as error:
        raise InvalidKey("what was given is no age recipient: those begin with age1") from error


def _identities(age: Any, text: str) -> list[Any]:
    lines = [line.strip() for line in text.splitlines()]
    try:
        known = [
            age.x25519.Identity.from_str(line)
            for line in lines
            if line and not line.startswith("#")
        ]
    except age.IdentityError:  # which may quote what was given: nothing of it goes on
        raise InvalidKey(
            "what was given is no age identity: those begin with AGE-SECRET-KEY-1"
        ) from None
    if not known:
        raise InvalidKey("what was given holds no age identity")
    return known


def _explain(error: Exception) -> WrongKey | DamagedRecord:
    if "No matching keys" in str(error):
        return WrongKey("the age file is not to the holder of this identity")
    return DamagedRecord(f"the age file does not open: {error}")


def _library() -> Any:
    try:
        import pyrage
    except ImportError as error:
        raise InputError('age files need: pip install "statecore[age]"') from error
    return pyrage
