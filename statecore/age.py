"""age files (version 1, c2sp.org/age): encrypted to X25519 recipients, read with an identity.

The cipher is that of ``pyrage`` (the Rust implementation, ``rage``), behind the extra ``age``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, BinaryIO, Final

from statecore.errors import DamagedRecord, InputError, InvalidKey, WrongKey

MAGIC: Final = b"age-encryption.org/"


def encrypt(plain: bytes, recipients: Iterable[str]) -> bytes:
    """Return bytes as an age file that any of the recipients (``age1...``) can read.

    Raises:
        InvalidKey: one is no recipient.
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
    """Return what an age file holds.

    Args:
        sealed: the file.
        identity: ``AGE-SECRET-KEY-1...``, or the text of an identity file.

    Raises:
        InvalidKey: the identity is none.
        WrongKey: the file is to others.
        DamagedRecord: it is no age file, or was changed.
    """
    age = _library()
    known = _identities(age, identity)
    try:
        return bytes(age.decrypt(sealed, known))
    except age.DecryptError as error:
        raise _explain(error) from error


def decrypt_stream(source: BinaryIO, target: BinaryIO, identity: str) -> None:
    """Write what an age file holds to another stream, piece by piece; raises as ``decrypt``.

    Each piece is authenticated before it is written, but that the end is the end only when this
    returned: keep nothing of it before.
    """
    age = _library()
    known = _identities(age, identity)
    try:
        age.decrypt_io(source, target, known)
    except (age.DecryptError, OSError) as error:
        if getattr(error, "errno", None):
            raise  # of the streams, not of what is in them
        raise _explain(error) from error


def _recipients(age: Any, texts: Iterable[str]) -> list[Any]:
    texts = list(texts)
    if not texts:
        raise InputError("say to whom, with at least one recipient: age1...")
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
