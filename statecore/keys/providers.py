"""Providers of the key-encryption key: a key file, the environment, a passphrase, given bytes.

The key-encryption key is 32 random bytes. It encrypts nothing but data keys, and never lies beside
the store. Written down it is ``statecore-key-1:`` and the key in base64url.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from statecore.errors import InvalidKey, KeyMissing
from statecore.keys.files import write_private
from statecore.xaes import KEY_BYTES

ENVIRONMENT_VARIABLE: Final = "STATECORE_KEY"
_KEY_FILE_VARIABLE: Final = "STATECORE_KEY_FILE"
_LABEL: Final = "statecore-key-1:"

# RFC 9106, section 4, second recommended option: 64 MiB, for when memory is shared.
_ARGON2ID: Final = {"iterations": 3, "lanes": 4, "memory_kib": 64 * 1024}
_ARGON2ID_MAX: Final = {"iterations": 64, "lanes": 64, "memory_kib": 4 * 1024 * 1024}
_ABSURD: Final = "the key store asks for an absurd passphrase derivation"

Settings: TypeAlias = dict[str, Any]
"""What a provider needs to find the same key again, kept in clear in the key store."""


class KeyProvider(Protocol):
    """Gives the key-encryption key."""

    def settings(self) -> Settings:
        """Return the settings for a new store; ``provider`` names the kind."""

    def key(self, settings: Settings, *, create: bool) -> bytes:
        """Return the 32 bytes for a store made with these settings.

        Args:
            create: make the key if there is none yet; only ever so for a new store, since for an
                old one a new key could only be the wrong one.

        Raises:
            KeyMissing: there is no key.
            InvalidKey: there is something, but not a key.
        """


def new_key() -> str:
    """Return a new random key, written down."""
    return write_key(secrets.token_bytes(KEY_BYTES))


def write_key(key: bytes) -> str:
    """Write a key down."""
    return _LABEL + base64.urlsafe_b64encode(key).decode().rstrip("=")


def read_key(text: str, source: str) -> bytes:
    """Read a key that was written down; 64 hexadecimal digits are read too.

    Raises:
        InvalidKey: the text is no key. The message never holds the text.
    """
    lines = [line.strip() for line in text.splitlines()]
    body = "".join(line for line in lines if not line.startswith("#")).removeprefix(_LABEL)
    try:
        if len(body) == 2 * KEY_BYTES:
            return bytes.fromhex(body)
        key = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        raise InvalidKey(
            f"{source} does not hold a key: expected {_LABEL} and {KEY_BYTES} bytes in base64url; "
            "statecore.new_key() makes one"
        )
    return key


def provider_of(key: bytes | str | KeyProvider) -> KeyProvider:
    """Return a provider of a key, given as 32 bytes, written down, or as a provider."""
    return GivenKey(key) if isinstance(key, bytes | str) else key


def default_key_file() -> Path:
    """Return where the user's key file lies: in the user's data directory."""
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Application Support"
    else:  # https://specifications.freedesktop.org/basedir-spec/
        root = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(root) / "statecore" / "key"


def default_provider() -> KeyProvider:
    """Return the environment's key where it is set, the key file that the environment names, or
    the user's."""
    if ENVIRONMENT_VARIABLE in os.environ:
        return KeyInEnvironment()
    path = os.environ.get(_KEY_FILE_VARIABLE)
    return KeyFile(Path(path)) if path else KeyFile()


@dataclass(frozen=True, slots=True)
class KeyInEnvironment:
    """The key is the value of an environment variable, ``STATECORE_KEY`` by default."""

    variable: str = ENVIRONMENT_VARIABLE

    def settings(self) -> Settings:
        return {"provider": "environment", "variable": self.variable}

    def key(self, settings: Settings, *, create: bool) -> bytes:
        text = os.environ.get(self.variable)
        if text is None:
            raise KeyMissing(f"the environment variable {self.variable} is not set")
        return read_key(text, f"the environment variable {self.variable}")


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The key is in a file that only its owner can read, made on first use."""

    path: Path = field(default_factory=default_key_file)

    def settings(self) -> Settings:
        return {"provider": "key file"}

    def key(self, settings: Settings, *, create: bool) -> bytes:
        if create and not self.path.exists():
            self._create()
        try:
            mode = self.path.stat().st_mode
            text = self.path.read_text()
        except FileNotFoundError as error:
            raise KeyMissing(f"there is no key file at {self.path}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidKey(f"the key file {self.path} can't be read: {error}") from error
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InvalidKey(f"others can read the key file: chmod 600 {self.path}")
        return read_key(text, f"the key file {self.path}")

    def _create(self) -> None:
        """Make the file; of two processes that try at once, one wins."""
        text = (
            f"# The key of this user's statecore stores. Back it up; never share it.\n{new_key()}\n"
        )
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self.path, text.encode())
        except OSError as error:
            raise KeyMissing(f"the key file {self.path} can't be made: {error}") from error


@dataclass(frozen=True, slots=True)
class Passphrase:
    """The key is derived from a passphrase with Argon2id (RFC 9106)."""

    text: str = field(repr=False)

    def settings(self) -> Settings:
        if not self.text:
            raise InvalidKey("a passphrase has at least one character")
        return {"provider": "passphrase", "salt": secrets.token_bytes(16), **_ARGON2ID}

    def key(self, settings: Settings, *, create: bool) -> bytes:
        if settings.get("provider") != "passphrase":
            raise InvalidKey(f"the store's key is in the {settings.get('provider')}, no passphrase")
        # The settings lie in clear beside the store: whoever can write them must not be able to
        # make us fill the memory.
        if type(settings.get("salt")) is not bytes or not all(
            0 < _number(settings.get(name)) <= most for name, most in _ARGON2ID_MAX.items()
        ):
            raise InvalidKey(_ABSURD)
        try:
            text = self.text.encode()
        except UnicodeEncodeError as error:
            raise InvalidKey("the passphrase is no text: it has half of a character") from error
        try:
            derivation = Argon2id(
                salt=settings["salt"],
                length=KEY_BYTES,
                iterations=settings["iterations"],
                lanes=settings["lanes"],
                memory_cost=settings["memory_kib"],
            )
        except ValueError as error:  # a salt of three bytes, more lanes than memory
            raise InvalidKey(_ABSURD) from error
        return derivation.derive(text)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


@dataclass(frozen=True, slots=True)
class GivenKey:
    """The key is given as bytes, or written down."""

    given: bytes | str = field(repr=False)

    def settings(self) -> Settings:
        return {"provider": "program"}

    def key(self, settings: Settings, *, create: bool) -> bytes:
        if isinstance(self.given, str):
            return read_key(self.given, "the key given")
        if len(self.given) != KEY_BYTES:
            raise InvalidKey(f"a key is {KEY_BYTES} bytes, not {len(self.given)}")
        return self.given
