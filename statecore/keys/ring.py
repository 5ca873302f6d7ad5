"""The key ring of one open store: unwraps data keys, makes new ones, destroys them.

One data key for each stream (and one for the log itself) is wrapped by the key-encryption key:
sealed with XAES-256-GCM, bound to the log, the stream and its number. From a data key come, by
HKDF (RFC 5869), the key that seals, the key that makes tags, and a commitment that the log keeps,
so that no ciphertext can be opened in two ways.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from statecore import xaes
from statecore.errors import DamagedRecord, KeyMissing, WrongKey
from statecore.keys.providers import KeyProvider
from statecore.keys.store import KeyStore, Vault, WrappedKey

LOG_STREAM: Final = bytes(16)  # the stream of the log itself; its key seals what outlives others
LOG_EPOCH: Final = 0
TAG_BYTES: Final = 16
_DERIVED_MAX: Final = 256


class DataKey:
    """A data key in the clear, in memory."""

    __slots__ = (
        "_ciphers",
        "_seal_key",
        "_tag_key",
        "commitment",
        "epoch",
        "expires",
        "head_seed",
        "since",
    )

    def __init__(self, secret: bytes, context: bytes, kept: WrappedKey) -> None:
        self.epoch = kept.epoch
        self.since = kept.since
        self.expires = kept.expires
        self.commitment = _expand(secret, b"statecore/1 commitment" + context)
        self._seal_key = _expand(secret, b"statecore/1 seal" + context)
        self._tag_key = _expand(secret, b"statecore/1 tag" + context)
        self._ciphers: dict[bytes, AESGCM] = {}
        # Of the log's own key only: what signs the heads of its audit tree (RFC 8032's seed).
        is_logs = kept.epoch == LOG_EPOCH
        self.head_seed = _expand(secret, b"statecore/1 head" + context) if is_logs else b""

    def cipher(self, prefix: bytes) -> AESGCM:
        """Return the AES-256-GCM of a nonce prefix; derived once, then kept."""
        cipher = self._ciphers.get(prefix)
        if cipher is None:
            if len(self._ciphers) >= _DERIVED_MAX:
                self._ciphers.clear()
            cipher = self._ciphers[prefix] = xaes.derive(self._seal_key, prefix)
        return cipher

    def tag(self, name: bytes) -> bytes:
        """Return the keyed tag that stands for a name in an index: BLAKE2b (RFC 7693), 16 bytes."""
        return blake2b(name, digest_size=TAG_BYTES, key=self._tag_key).digest()


class KeyRing:
    """Finds, makes and destroys the data keys of one store."""

    def __init__(self, key_store: KeyStore, vault: Vault, wrapping_key: bytes) -> None:
        self.log_id = vault.log_id
        self._key_store = key_store
        self._wrapping_key = wrapping_key
        self._new: list[WrappedKey] = []
        self.on_expiring: Callable[[], None] = _nothing
        """Called when a key was kept that expires."""
        log_key = self.keys(LOG_STREAM).get(LOG_EPOCH)
        if log_key is None:
            raise DamagedRecord("the log's own key is missing from the key store")
        self.log_key = log_key

    @classmethod
    def create(cls, key_store: KeyStore, provider: KeyProvider, log_id: bytes) -> KeyRing:
        """Begin an empty key store for a new log."""
        settings = provider.settings()
        wrapping_key, check = _derive(provider.key(settings, create=True), log_id)
        vault = Vault(log_id, settings, check)
        key_store.start(vault, _wrap(wrapping_key, log_id, WrappedKey(LOG_STREAM, LOG_EPOCH, 0)))
        return cls(key_store, vault, wrapping_key)

    @classmethod
    def open(cls, key_store: KeyStore, provider: KeyProvider, log_id: bytes) -> KeyRing:
        """Open the key store of a log.

        Raises:
            WrongKey: the key is another's, or the key store is another log's.
            KeyMissing: there is no key; says where it was looked for.
        """
        vault = key_store.load()
        if vault is None:
            raise KeyMissing("the key store is empty; restore it from its own backup")
        if vault.log_id != log_id:
            raise WrongKey("the key store belongs to another log; put its own beside the log")
        try:
            key = provider.key(vault.settings, create=False)
        except KeyMissing as error:
            made_with = vault.settings.get("provider")
            raise KeyMissing(f"{error}; the store was made with a key from: {made_with}") from error
        wrapping_key, check = _derive(key, log_id)
        if not hmac.compare_digest(check, vault.check):
            made_with = vault.settings.get("provider")
            raise WrongKey(f"not this store's key; it was made with a key from: {made_with}")
        return cls(key_store, vault, wrapping_key)

    def keys(self, stream: bytes) -> dict[int, DataKey | None]:
        """Return a stream's data keys by epoch, oldest first; ``None`` where one was destroyed.

        Raises:
            DamagedRecord: a wrapped key does not open; it was changed or moved.
        """
        return {
            kept.epoch: None if kept.wrapped is None else self._unwrap(kept)
            for kept in self._key_store.get(stream)
        }

    def new_key(self, stream: bytes, epoch: int, since: int, expires: int | None) -> DataKey:
        """Make a data key; it counts only once ``keep_new`` has returned."""
        for kept in self._new:
            if (kept.stream, kept.epoch) == (stream, epoch):
                return self._unwrap(kept)  # what it was for failed; it serves the next as well
        key = WrappedKey(stream, epoch, since, expires=expires)
        kept = _wrap(self._wrapping_key, self.log_id, key)
        self._new.append(kept)
        return self._unwrap(kept)

    def forget_new(self) -> None:
        """Forget new keys that were not kept: what they were for was not written."""
        self._new.clear()

    def keep_new(self) -> None:
        """Make the new keys durable: before the events they seal, never after."""
        if self._new:
            new, self._new = self._new, []
            self._key_store.put(new)
            if any(key.expires is not None for key in new):
                self.on_expiring()

    def destroy(self, stream: bytes) -> None:
        """Destroy a stream's data keys, durably."""
        self._key_store.destroy(stream)

    def expired(self, now: int) -> list[bytes]:
        """Return the streams whose time to live has ended, and whose keys are still there.

        Raises:
            DamagedRecord: a key says that it expired, but did not say so when it was wrapped.
        """
        expired = self._key_store.expired(now)
        for stream in expired:
            self.keys(stream)  # opens only what was not changed: nothing is destroyed on hearsay
        return expired

    def next_expiry(self) -> int | None:
        """Return when the next time to live ends, in microseconds since 1970, UTC."""
        return self._key_store.next_expiry()

    def close(self) -> None:
        """Let go of the key store."""
        self._key_store.close()

    def _unwrap(self, kept: WrappedKey) -> DataKey:
        assert kept.wrapped is not None
        nonce, sealed = kept.wrapped[: xaes.NONCE_BYTES], kept.wrapped[xaes.NONCE_BYTES :]
        try:
            secret = xaes.open_sealed(self._wrapping_key, nonce, sealed, _bound(self.log_id, kept))
        except (xaes.InvalidTag, ValueError) as error:
            raise DamagedRecord("a wrapped data key was changed or moved") from error
        return DataKey(secret, _context(self.log_id, kept), kept)


def _derive(key: bytes, log_id: bytes) -> tuple[bytes, bytes]:
    """Return the key that wraps data keys, and the value that tells a wrong key."""
    derived = HKDF(SHA256(), 64, salt=log_id, info=b"statecore/1 key encryption").derive(key)
    return derived[:32], derived[32:]


def _wrap(wrapping_key: bytes, log_id: bytes, key: WrappedKey) -> WrappedKey:
    """Return the key with a new secret in it."""
    nonce, secret = secrets.token_bytes(xaes.NONCE_BYTES), secrets.token_bytes(xaes.KEY_BYTES)
    sealed = xaes.seal(wrapping_key, nonce, secret, _bound(log_id, key))
    return replace(key, wrapped=nonce + sealed)


def _context(log_id: bytes, key: WrappedKey) -> bytes:
    """Return which key it is."""
    return log_id + key.stream + key.epoch.to_bytes(4, "big")


def _bound(log_id: bytes, key: WrappedKey) -> bytes:
    """Return all that is said of a key, so that none of it can be changed unseen."""
    since, expires = key.since.to_bytes(8, "big"), (key.expires or 0).to_bytes(8, "big")
    return _context(log_id, key) + since + expires


def _expand(secret: bytes, info: bytes) -> bytes:
    return HKDFExpand(SHA256(), 32, info=info).derive(secret)


def _nothing() -> None:
    """Do nothing."""
