"""Where wrapped keys live: beside the log, never in it, and never in its backups.

A log without its key store can be verified but not read; destroying a row here erases what the
key made readable, wherever copies of the log may be.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import apsw
import msgpack

from statecore.database import all_or_none, connect, explain, require_schema
from statecore.errors import Damage, KeyMissing, NewerFormat
from statecore.keys.providers import Settings

FORMAT: Final = 1  # On disk. Never renumber.
_EPOCH_MAX: Final = (1 << 32) - 1
_WRAPPED_BYTES: Final = 24 + 32 + 16  # nonce, key, tag


@dataclass(frozen=True, slots=True)
class Vault:
    """What a key store says of itself, in clear."""

    log_id: bytes
    settings: Settings  # of the provider of the key-encryption key
    check: bytes  # tells the right key-encryption key from a wrong one


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as it is kept: encrypted, or ``None`` where it was destroyed."""

    stream: bytes
    epoch: int
    since: int  # the first version sealed with it
    wrapped: bytes | None = None
    expires: int | None = None  # microseconds since 1970, UTC


class KeyStore(Protocol):
    """Keeps wrapped keys. Every change is durable when the call returns."""

    def load(self) -> Vault | None:
        """Return what the store says of itself, ``None`` while it is empty."""

    def start(self, vault: Vault, log_key: WrappedKey) -> None:
        """Begin an empty store, with the log's own key; all or none."""

    def put(self, keys: Iterable[WrappedKey]) -> None:
        """Keep these keys, all or none."""

    def get(self, stream: bytes) -> list[WrappedKey]:
        """Return a stream's keys, oldest first."""

    def destroy(self, stream: bytes) -> None:
        """Destroy a stream's keys; their rows stay and say so."""

    def expired(self, now: int) -> list[bytes]:
        """Return the streams whose keys expired and are not destroyed yet."""

    def next_expiry(self) -> int | None:
        """Return when the next key expires, ``None`` where none does."""

    def has_streams(self) -> bool:
        """Tell whether there are keys of any stream but the log's own."""

    def close(self) -> None:
        """Let go of the file."""


class MemoryKeyStore:
    """Keys that never touch a disk."""

    def __init__(self) -> None:
        self._vault: Vault | None = None
        self._keys: dict[bytes, list[WrappedKey]] = {}

    def load(self) -> Vault | None:
        return self._vault

    def start(self, vault: Vault, log_key: WrappedKey) -> None:
        self.put([log_key])
        self._vault = vault

    def put(self, keys: Iterable[WrappedKey]) -> None:
        for key in keys:
            self._keys.setdefault(key.stream, []).append(key)

    def get(self, stream: bytes) -> list[WrappedKey]:
        return list(self._keys.get(stream, ()))

    def destroy(self, stream: bytes) -> None:
        self._keys[stream] = [replace(key, wrapped=None) for key in self.get(stream)]

    def expired(self, now: int) -> list[bytes]:
        return [
            stream
            for stream, keys in self._keys.items()
            if any(key.wrapped and key.expires is not None and key.expires <= now for key in keys)
        ]

    def next_expiry(self) -> int | None:
        kept = [key for keys in self._keys.values() for key in keys if key.wrapped]
        return min((key.expires for key in kept if key.expires is not None), default=None)

    def has_streams(self) -> bool:
        return len(self._keys) > 1

    def close(self) -> None:
        """Nothing to let go of."""


_SCHEMA: Final = {
    "table vault": (
        "CREATE TABLE vault(format INTEGER, log_id BLOB, settings BLOB, check_value BLOB)"
    ),
    "table keys": (
        "CREATE TABLE keys(stream BLOB, epoch INTEGER, since INTEGER, wrapped BLOB,"
        " expires INTEGER, PRIMARY KEY(stream, epoch)) WITHOUT ROWID"
    ),
    "index keys_expiring": (
        "CREATE INDEX keys_expiring ON keys(expires)"
        " WHERE expires IS NOT NULL AND wrapped IS NOT NULL"
    ),
}


_SELECT: Final = (
    "SELECT stream, epoch, since, wrapped, expires FROM keys WHERE stream = ? ORDER BY epoch"
)


_NEW_VAULT: Final = "INSERT INTO vault VALUES (?, ?, ?, ?)"
_NEW_KEY: Final = "INSERT INTO keys VALUES (?, ?, ?, ?, ?)"


def _row(key: WrappedKey) -> tuple[Any, ...]:
    return key.stream, key.epoch, key.since, key.wrapped, key.expires


class FileKeyStore:
    """Keys in a small SQLite file of their own.

    It uses a rollback journal, not a write-ahead log, and overwrites what it deletes: a destroyed
    key is gone from the file when the call returns.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if not create and not path.exists():
            raise KeyMissing(f"the key store {path} is missing; restore it from its own backup")
        self._path = path
        self._lock = threading.Lock()  # a connection serves one thread at a time
        self._database = connect(path, create=create)
        try:
            self._prepare(create=create)
        except apsw.Error as error:
            raise explain(error, path) from error

    def _prepare(self, *, create: bool) -> None:
        database = self._database
        for pragma in ("journal_mode = DELETE", "synchronous = EXTRA", "secure_delete = ON"):
            database.execute(f"PRAGMA {pragma}")
        empty = database.execute("SELECT count(*) FROM sqlite_schema").get == 0
        if create and empty:
            with all_or_none(database):
                for statement in _SCHEMA.values():
                    database.execute(statement)
        require_schema(database, _SCHEMA, self._path)

    def load(self) -> Vault | None:
        row = self._all("SELECT format, log_id, settings, check_value FROM vault")
        if not row:
            return None
        number, log_id, settings, check = row[0]
        if type(number) is int and number > FORMAT:
            raise NewerFormat(f"{self._path} has format {number}; this statecore reads {FORMAT}")
        try:
            vault = Vault(log_id, msgpack.unpackb(settings), check)
        except (msgpack.UnpackException, ValueError, TypeError) as error:
            raise self._damage("does not parse") from error
        kinds = type(number), type(log_id), type(vault.settings), type(check)
        if number != FORMAT or kinds != (int, bytes, dict, bytes):
            raise self._damage("does not say what it is")
        return vault

    def start(self, vault: Vault, log_key: WrappedKey) -> None:
        row = (FORMAT, vault.log_id, msgpack.packb(vault.settings), vault.check)
        self._write((_NEW_VAULT, [row]), (_NEW_KEY, [_row(log_key)]))

    def put(self, keys: Iterable[WrappedKey]) -> None:
        self._write((_NEW_KEY, [_row(key) for key in keys]))

    def get(self, stream: bytes) -> list[WrappedKey]:
        return [self._read(*row) for row in self._all(_SELECT, (stream,))]

    def _read(
        self, stream: bytes, epoch: int, since: int, wrapped: bytes | None, expires: int | None
    ) -> WrappedKey:
        """Return the key of a row, once it is known to be one."""
        numbers = (epoch, since, 0 if expires is None else expires)
        if not all(type(number) is int and number >= 0 for number in numbers) or epoch > _EPOCH_MAX:
            raise self._damage("holds a key with absurd numbers")
        if wrapped is not None and (type(wrapped) is not bytes or len(wrapped) < _WRAPPED_BYTES):
            raise self._damage("holds a key that is none")
        return WrappedKey(stream, epoch, since, wrapped, expires)

    def _damage(self, what: str) -> Damage:
        return Damage(f"the key store {self._path} {what}; restore it from its own backup")

    def destroy(self, stream: bytes) -> None:
        self._write(("UPDATE keys SET wrapped = NULL WHERE stream = ?", [(stream,)]))

    def expired(self, now: int) -> list[bytes]:
        sql = "SELECT DISTINCT stream FROM keys WHERE expires <= ? AND wrapped IS NOT NULL"
        return [stream for (stream,) in self._all(sql, (now,))]

    def next_expiry(self) -> int | None:
        sql = "SELECT min(expires) FROM keys WHERE expires IS NOT NULL AND wrapped IS NOT NULL"
        expires = self._all(sql)[0][0]
        if expires is not None and type(expires) is not int:
            raise self._damage("holds a key with absurd numbers")
        return expires

    def has_streams(self) -> bool:
        return bool(self._all("SELECT 1 FROM keys WHERE epoch > 0 LIMIT 1"))

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _all(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        try:
            with self._lock:
                return self._database.execute(sql, bindings).fetchall()
        except apsw.Error as error:
            raise explain(error, self._path) from error

    def _write(self, *work: tuple[str, list[tuple[Any, ...]]]) -> None:
        """Run statements, each for its rows, all or none."""
        try:
            with self._lock, all_or_none(self._database):
                for sql, rows in work:
                    self._database.executemany(sql, rows)
        except apsw.Error as error:
            raise explain(error, self._path) from error
