"""The key ring of one open store: unwraps data keys, makes new ones, destroys them.

One data key for each stream (and one for the log itself) is wrapped by the key-encryption key:
sealed with XAES-256-GCM, bound to the log, the stream and its number. From a data key come, by
HKDF (RFC 5869), the key that seals, the key that makes tags, and a commitment that the log keeps,
so that no ciphertext can be opened in two ways.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import blake2b
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from statecore import xaes
from statecore.errors import DamagedRecord, InputError, KeyFailure, KeyMissing, WrongKey
from statecore.keys.backup import KeyContents
from statecore.keys.providers import KeyProvider
from statecore.keys.store import Ends, KeyStore, Vault, WrappedKey

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


class _Wrapping(NamedTuple):
    """What the key-encryption key makes: what wraps, and the value that tells a wrong one."""

    key: bytes
    check: bytes


class KeyRing:
    """Finds, makes, rewraps and destroys the data keys of one store."""

    def __init__(
        self, key_store: KeyStore, provider: KeyProvider, vault: Vault, wrapping: _Wrapping
    ) -> None:
        self.log_id = vault.log_id
        self._key_store = key_store
        self._provider = provider
        self._wrapping = wrapping
        self._renewing = threading.Lock()
        self._new: dict[tuple[bytes, int], tuple[WrappedKey, bytes]] = {}
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
        wrapping = _derive(provider.key(settings, create=True), log_id)
        vault = Vault(log_id, settings, wrapping.check)
        log_key = WrappedKey(LOG_STREAM, LOG_EPOCH, 0)
        key_store.start(vault, _wrap(wrapping, log_id, log_key, _new_secret()))
        return cls(key_store, provider, vault, wrapping)

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
        return cls(key_store, provider, vault, _unlock(vault, provider))

    def keys(self, stream: bytes) -> dict[int, DataKey | None]:
        """Return a stream's data keys by epoch, oldest first; ``None`` where one was destroyed.

        Raises:
            DamagedRecord: a wrapped key does not open; it was changed or moved.
            WrongKey: the store's key was changed, and is not to be had here.
        """
        wrapping = self._wrapping
        try:
            return self._keys(stream)
        except DamagedRecord:
            self._renew()
            if self._wrapping == wrapping:
                raise
            return self._keys(stream)

    def _keys(self, stream: bytes) -> dict[int, DataKey | None]:
        return {
            kept.epoch: None if kept.wrapped is None else self._data_key(kept, self._unwrap(kept))
            for kept in self._key_store.get(stream)
        }

    def begin(self) -> None:
        """Begin a turn: forget new keys that were not kept, since what they were for was not
        written.

        Raises:
            OutcomeUnknown: the key store failed; nothing is to be acknowledged any more.
        """
        self._new.clear()
        self._key_store.require_usable()

    def new_key(self, stream: bytes, epoch: int, since: int, expires: int | None) -> DataKey:
        """Make a data key; it counts only once ``keep_new`` has returned.

        Raises:
            WrongKey: the store's key was changed, and is not to be had here.
        """
        if not self._new:
            self._renew()  # once for all of a turn
        key = WrappedKey(stream, epoch, since, expires=expires)
        # Where it is there already, what it was for failed: it serves the next as well.
        return self._data_key(*self._new.setdefault((stream, epoch), (key, _new_secret())))

    def keep_new(self) -> None:
        """Make the new keys durable: before the events they seal, never after."""
        if self._new:
            new = list(self._new.values())
            self._new.clear()
            try:
                self._keep(new)
            except WrongKey:
                self._renew()
                self._keep(new)
            if any(key.expires is not None for key, _ in new):
                self.on_expiring()

    def _keep(self, new: list[tuple[WrappedKey, bytes]]) -> None:
        wrapping = self._wrapping
        wrapped = [_wrap(wrapping, self.log_id, key, secret) for key, secret in new]
        self._key_store.put(wrapped, wrapping.check)

    def rewrap(self, provider: KeyProvider) -> None:
        """Wrap every data key by the key of a provider, made where it does not exist; all or none.

        Until it returns the old key opens the store, from then on only the new one. Killed in
        between, it is one of the two.

        Raises:
            InputError: it is the key that the store has.
            DamagedRecord: a wrapped key does not open.
        """
        self._renew()
        settings = provider.settings()
        new = _derive(provider.key(settings, create=True), self.log_id)
        with self._renewing:
            old = self._wrapping
            if new == old:
                raise InputError("that is the key which the store has already")
            vault = Vault(self.log_id, settings, new.check, self.settled)
            self._key_store.rewrap(
                vault, old.check, lambda kept: _wrap(new, self.log_id, kept, self._unwrap(kept))
            )
            self._provider, self._wrapping = provider, new

    def kept(self) -> list[WrappedKey]:
        """Return all keys, wrapped as they are."""
        return self._key_store.all()

    def contents(self) -> KeyContents:
        """Return all keys opened, for a backup."""
        self._renew()
        keys = [
            (replace(key, wrapped=None), None if key.wrapped is None else self._unwrap(key))
            for key in self.kept()
        ]
        return KeyContents(self.log_id, keys)

    @classmethod
    def restore(cls, key_store: KeyStore, provider: KeyProvider, contents: KeyContents) -> None:
        """Fill an empty key store from a backup, wrapped by a provider's key."""
        settings, log_id = provider.settings(), contents.log_id
        wrapping = _derive(provider.key(settings, create=True), log_id)
        keys = [
            key if secret is None else _wrap(wrapping, log_id, key, secret)
            for key, secret in contents.keys
        ]
        of_log = [key for key in keys if key.stream == LOG_STREAM]
        key_store.start(Vault(log_id, settings, wrapping.check), of_log[0])
        key_store.put([key for key in keys if key.stream != LOG_STREAM], wrapping.check)

    @property
    def provider_name(self) -> str:
        """The kind of source that the store's key is from."""
        vault = self._key_store.load()
        return str(vault.settings.get("provider")) if vault else ""

    @property
    def is_kept(self) -> bool:
        """Whether the keys outlive the process."""
        return self._key_store.is_kept

    @property
    def settled(self) -> int:
        """The position in the log up to which what was erased has no keys any more."""
        vault = self._key_store.load()
        return vault.settled if vault else 0

    def destroy(self, ends: Ends, settled: int | None = None) -> None:
        """Destroy the data keys of streams up to a version of each, durably."""
        self._key_store.destroy(ends, settled)

    def has_keys(self, stream: bytes, until: int) -> bool:
        """Tell whether keys of events up to a version are there; they are not opened."""
        return any(key.wrapped and key.since <= until for key in self._key_store.get(stream))

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

    def _renew(self) -> None:
        """Take up the key that the store has by now, if it is another than before.

        Raises:
            WrongKey: it is, and the provider does not have it.
        """
        with self._renewing:
            vault = self._key_store.load()
            if vault is None or vault.check == self._wrapping.check:
                return
            try:
                self._wrapping = _unlock(vault, self._provider)
            except KeyFailure as error:
                raise WrongKey(
                    "the key of this store was changed since it was opened here; open it again, "
                    f"with a key from: {vault.settings.get('provider')}"
                ) from error

    def _unwrap(self, kept: WrappedKey) -> bytes:
        assert kept.wrapped is not None
        nonce, sealed = kept.wrapped[: xaes.NONCE_BYTES], kept.wrapped[xaes.NONCE_BYTES :]
        try:
            return xaes.open_sealed(self._wrapping.key, nonce, sealed, _bound(self.log_id, kept))
        except (xaes.InvalidTag, ValueError) as error:
            raise DamagedRecord("a wrapped data key was changed or moved") from error

    def _data_key(self, kept: WrappedKey, secret: bytes) -> DataKey:
        return DataKey(secret, _context(self.log_id, kept), kept)


def log_key_of(contents: KeyContents) -> DataKey:
    """Return the log's own key.

    Raises:
        DamagedRecord: it is not among the contents.
    """
    for stream, key in opened(contents):
        if (stream, key.epoch) == (LOG_STREAM, LOG_EPOCH):
            return key
    raise DamagedRecord("the key backup lacks the log's own key")


def opened(contents: KeyContents) -> Iterator[tuple[bytes, DataKey]]:
    """Return the data keys of a backup that were not destroyed, each with its stream."""
    for key, secret in contents.keys:
        if secret is not None:
            yield key.stream, DataKey(secret, _context(contents.log_id, key), key)


def _unlock(vault: Vault, provider: KeyProvider) -> _Wrapping:
    """Return what a provider's key makes, if it is the key of a key store."""
    made_with = vault.settings.get("provider")
    try:
        key = provider.key(vault.settings, create=False)
    except KeyMissing as error:
        raise KeyMissing(f"{error}; the store was made with a key from: {made_with}") from error
    wrapping = _derive(key, vault.log_id)
    if not hmac.compare_digest(wrapping.check, vault.check):
        raise WrongKey(f"not this store's key; it was made with a key from: {made_with}")
    return wrapping


def _derive(key: bytes, log_id: bytes) -> _Wrapping:
    derived = HKDF(SHA256(), 64, salt=log_id, info=b"statecore/1 key encryption").derive(key)
    return _Wrapping(derived[:32], derived[32:])


def _new_secret() -> bytes:
    return secrets.token_bytes(xaes.KEY_BYTES)


def _wrap(wrapping: _Wrapping, log_id: bytes, key: WrappedKey, secret: bytes) -> WrappedKey:
    """Return the key with a secret wrapped in it."""
    nonce = secrets.token_bytes(xaes.NONCE_BYTES)
    return replace(key, wrapped=nonce + xaes.seal(wrapping.key, nonce, secret, _bound(log_id, key)))


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
