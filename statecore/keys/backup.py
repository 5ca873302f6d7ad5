"""A backup of a key store: all data keys, encrypted to a passphrase or to age recipients.

It does not depend on the key-encryption key, so it opens after that was changed, and after it was
lost. Whoever can open it can read all of the log that its keys were there for.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgpack

from statecore import age, xaes
from statecore.errors import DamagedRecord, InputError, NewerFormat, WrongKey
from statecore.keys.providers import Passphrase
from statecore.keys.store import Ends, WrappedKey

_MAGIC: Final = b"statecore key backup 1\n"  # On disk. Never change; another format is another.
_KIND: Final = b"statecore key backup "
FORMAT: Final = 1  # of what is inside. On disk. Never renumber.
_SETTINGS_BYTES: Final = 2  # that say how long the settings are


@dataclass(frozen=True, slots=True)
class KeyContents:
    """What a key store holds, opened."""

    log_id: bytes
    keys: Sequence[tuple[WrappedKey, bytes | None]]
    """Each key with its secret; ``None`` where it was destroyed."""

    def without(self, ends: Ends) -> KeyContents:
        """Return the contents without the secrets of what was erased since."""
        kept = [
            (key, None if key.since <= ends.get(key.stream, -1) else secret)
            for key, secret in self.keys
        ]
        return KeyContents(self.log_id, kept)


def seal_contents(
    contents: KeyContents, passphrase: str | None, recipients: Sequence[str]
) -> bytes:
    """Return a backup, encrypted to a passphrase or to age recipients.

    Raises:
        InputError: neither was given, or both.
        InvalidKey: what was given is no recipient.
    """
    if bool(passphrase) == bool(recipients):
        raise InputError("a key backup needs a passphrase, or age recipients, and not both")
    packed = _pack(contents)
    if not passphrase:
        return age.encrypt(packed, recipients)
    settings = Passphrase(passphrase).settings()
    said: bytes = msgpack.packb(settings)
    head = _MAGIC + len(said).to_bytes(_SETTINGS_BYTES, "big") + said
    nonce = secrets.token_bytes(xaes.NONCE_BYTES)
    key = Passphrase(passphrase).key(settings, create=False)
    return head + nonce + xaes.seal(key, nonce, packed, head)


def open_contents(sealed: bytes, passphrase: str | None, identity: str | None) -> KeyContents:
    """Return what a backup holds.

    Raises:
        InputError: it is opened by a passphrase, or by an age identity, and that was not given.
        WrongKey: it is another passphrase's, or another's.
        DamagedRecord, NewerFormat: it is none, or a newer statecore's.
    """
    if sealed.startswith(age.MAGIC):
        if identity is None:
            raise InputError("this key backup is opened with an age identity")
        return _unpack(age.decrypt(sealed, identity))
    if not sealed.startswith(_MAGIC):
        if sealed.startswith(_KIND):
            raise NewerFormat("a newer statecore made this key backup: upgrade")
        raise DamagedRecord("this is no key backup")
    if passphrase is None:
        raise InputError("this key backup is opened with a passphrase")
    try:
        start = len(_MAGIC) + _SETTINGS_BYTES
        end = start + int.from_bytes(sealed[len(_MAGIC) : start], "big")
        settings = msgpack.unpackb(sealed[start:end])
        key = Passphrase(passphrase).key(settings, create=False)
        nonce = sealed[end : end + xaes.NONCE_BYTES]
        packed = xaes.open_sealed(key, nonce, sealed[end + xaes.NONCE_BYTES :], sealed[:end])
    except xaes.InvalidTag as error:
        raise WrongKey("the passphrase is not this key backup's, or it was changed") from error
    except (msgpack.UnpackException, ValueError, AttributeError) as error:
        raise DamagedRecord("this key backup does not parse") from error
    return _unpack(packed)


def _pack(contents: KeyContents) -> bytes:
    rows = [
        [key.stream, key.epoch, key.since, secret, key.expires] for key, secret in contents.keys
    ]
    return msgpack.packb([FORMAT, contents.log_id, rows])  # type: ignore[no-any-return]


def _unpack(packed: bytes) -> KeyContents:
    try:
        number, log_id, rows = msgpack.unpackb(packed)
        if number != FORMAT:
            raise NewerFormat(f"the key backup has format {number}; this statecore reads {FORMAT}")
        if type(log_id) is not bytes:
            raise ValueError("no log")
        return KeyContents(log_id, [_read(*row) for row in rows])
    except (msgpack.UnpackException, ValueError, TypeError) as error:
        raise DamagedRecord("this key backup does not parse") from error


def _read(
    stream: bytes, epoch: int, since: int, secret: bytes | None, expires: int | None
) -> tuple[WrappedKey, bytes | None]:
    key = WrappedKey(stream, epoch, since, expires=expires)
    is_secret = type(secret) is bytes and len(secret) == xaes.KEY_BYTES
    if not key.is_sane or not (secret is None or is_secret):
        raise ValueError("no key")
    return key, secret
