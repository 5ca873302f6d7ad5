"""Providers whose key other programs keep: the system's keyring, key management services."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from statecore.errors import InputError, InvalidKey, KeyMissing
from statecore.keys.providers import Settings, new_key, read_key
from statecore.xaes import KEY_BYTES

_PURPOSE: Final = "statecore/1 key encryption"  # In what services sealed. Never change.


@dataclass(frozen=True, slots=True)
class KeyInKeyring:
    """The key is in the keyring of the operating system, made on first use.

    That is the Keychain of macOS, the Credential Locker of Windows, the Secret Service of a Linux
    desktop, or whatever else ``keyring`` is set up with. Needs the extra ``keyring``.
    """

    name: str = "default"
    service: str = "statecore"

    def settings(self) -> Settings:
        return {"provider": "keyring", "service": self.service, "name": self.name}

    def key(self, settings: Settings, *, create: bool) -> bytes:
        where = f"the keyring's entry {self.name!r} of {self.service!r}"
        keyring = _keyring()
        try:
            text = keyring.get_password(self.service, self.name)
            if text is None and create:
                keyring.set_password(self.service, self.name, new_key())
                # Read back: of two processes that made it at once, the later one's counts.
                text = keyring.get_password(self.service, self.name)
        except keyring.errors.KeyringError as error:
            raise KeyMissing(f"{where} can't be had: {error or type(error).__name__}") from error
        if text is None:
            raise KeyMissing(f"{where} is not there")
        return read_key(text, where)


def _keyring() -> Any:
    try:
        import keyring
        import keyring.errors
    except ImportError as error:
        raise InputError('the keyring needs: pip install "statecore[keyring]"') from error
    return keyring


class KeyService(Protocol):
    """A key management service that seals small secrets under a key which never leaves it.

    What it is asked for is what such services have in common (AWS KMS ``Encrypt`` and ``Decrypt``,
    Google Cloud KMS, the transit engine of Vault): a few lines with the client of yours.
    """

    def encrypt(self, data_key: bytes, context: Mapping[str, str]) -> bytes:
        """Return 32 bytes sealed, bound to a context (additional authenticated data)."""

    def decrypt(self, sealed: bytes, context: Mapping[str, str]) -> bytes:
        """Return what was sealed; raise if it, or its context, is another."""


@dataclass(frozen=True, slots=True)
class KeyFromService:
    """The key is sealed by a key management service and lies, so sealed, in the key store.

    Opening the store asks the service once. Changing the key (``store.keys.rotate``) to the same
    service makes and seals a new one, which other processes find by themselves.
    """

    service: KeyService
    context: Mapping[str, str] = field(default_factory=dict)
    """What else the service is to bind the key to, such as a tenant."""

    def settings(self) -> Settings:
        sealed = self.service.encrypt(secrets.token_bytes(KEY_BYTES), self._context())
        return {"provider": "kms", "wrapped": sealed}

    def key(self, settings: Settings, *, create: bool) -> bytes:
        sealed = settings.get("wrapped")
        if settings.get("provider") != "kms" or type(sealed) is not bytes:
            raise InvalidKey(f"the store's key is from: {settings.get('provider')}, not a service")
        try:
            key = self.service.decrypt(sealed, self._context())
        except Exception as error:  # whatever its client raises
            why = type(error).__name__  # what it says is its own, and may say too much
            raise KeyMissing(f"the key management service does not give the key ({why})") from error
        if type(key) is not bytes or len(key) != KEY_BYTES:
            raise InvalidKey("what the key management service gave is no key")
        return key

    def _context(self) -> dict[str, str]:
        return {"purpose": _PURPOSE, **self.context}
