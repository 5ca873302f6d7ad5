"""Where wrapped keys live: beside the log, never in it, and never in its backups.

A log without its key store can be verified but not read; destroying a row here erases what the
key made readable, wherever copies of the log may be.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import apsw
import msgpack

from statecore.database import DATABASE_ERRORS, all_or_none, connect, explain, require_schema
from statecore.errors import Damage, KeyMissing, NewerFormat, OutcomeUnknown, WrongKey
from statecore.keys.files import drop_restoring_draft
from statecore.keys.providers import Settings

FORMAT: Final = 1  # On disk. Never renumber.
_STREAM_BYTES: Final = 16
_EPOCH_MAX: Final = (1 << 32) - 1
_NUMBER_MAX: Final = (1 << 63) - 1
_WRAPPED_BYTES: Final = 24 + 32 + 16  # nonce, key, tag
_SETTLED: Final = "settled"  # the name of a setting. On disk. Never rename.


@dataclass(frozen=True, slots=True)
class Vault:
    """What a key store says of itself, in clear."""

    log_id: bytes
    settings: Settings  # of the provider of the key-encryption key
    check: bytes  # tells the right key-encryption key from a wrong one
    settled: int = 0  # the position in the log up to which what was erased has no keys here


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as it is kept: encrypted, or ``None`` where it was destroyed."""

    stream: bytes
    epoch: int
    since: int  # the first version sealed with it
    wrapped: bytes | None = None
    expires: int | None = None  # microseconds since 1970, UTC

    @property
    def is_sane(self) -> bool:
        """Whether what is said of it can be true, as far as one can tell without the key.

        A key that expires in the year 1970 can't: it is bound in the same way as one that never
        does, so that whoever writes a zero there could make a state expire.
        """
        numbers = self.epoch, self.since, 1 if self.expires is None else self.expires
        return (
            type(self.stream) is bytes
            and len(self.stream) == _STREAM_BYTES
            and all(type(number) is int for number in numbers)
            and 0 <= self.epoch <= _EPOCH_MAX
            and 0 <= self.since <= _NUMBER_MAX
            and 0 < numbers[2] <= _NUMBER_MAX
        )


Ends: TypeAlias = Mapping[bytes, int]
"""Of each stream, the version that it was erased at: keys of events up to there are to be gone."""


class KeyStore(Protocol):
    """Keeps wrapped keys. Every change is durable when the call returns, and all or none.

    Once a change failed half-way everything is refused with ``OutcomeUnknown``, until the store is
    opened anew.
    """

    is_kept: bool
    """Whether it outlives the process."""

    def require_usable(self) -> None:
        """Raise what made it unusable, if anything did."""

    def load(self) -> Vault | None:
        """Return what the store says of itself, ``None`` while it is empty."""

    def start(self, vault: Vault, log_key: WrappedKey) -> None:
        """Begin an empty store, with the log's own key."""

    def put(self, keys: Iterable[WrappedKey], check: bytes) -> None:
        """Keep these keys.

        Raises:
            WrongKey: the store's check value is another: they are wrapped by a key of the past.
        """

    def rewrap(self, vault: Vault, check: bytes, wrap: Callable[[WrappedKey], WrappedKey]) -> None:
        """Put what ``wrap`` makes of each key that is there in its place, and say so in the vault.

        Raises:
            WrongKey: as for ``put``. Nothing was changed.
        """

    def all(self) -> list[WrappedKey]:
        """Return the keys of all streams."""

    def get(self, stream: bytes) -> list[WrappedKey]:
        """Return a stream's keys, oldest first."""

    def destroy(self, ends: Ends, settled: int | None = None) -> None:
        """Destroy keys; their rows stay and say so. Note how far the log is settled, where said."""

    def expired(self, now: int) -> list[bytes]:
        """Return the streams whose keys expired and are not destroyed yet."""

    def next_expiry(self) -> int | None:
        """Return when the next key expires, ``None`` where none does."""

    def has_streams(self) -> bool:
        """Tell whether there are keys of any stream but the log's own."""

    def close(self) -> None:
        """Let go of the file."""


_CHANGED: Final = "the store's key is another by now"


class MemoryKeyStore:
    """Keys that never touch a disk."""

    is_kept = False

    def __init__(self) -> None:
        self._vault: Vault | None = None
        self._keys: dict[bytes, list[WrappedKey]] = {}

    def load(self) -> Vault | None:
        return self._vault

    def require_usable(self) -> None:
        """Nothing makes it unusable."""

    def start(self, vault: Vault, log_key: WrappedKey) -> None:
        self._vault = vault
        self.put([log_key], vault.check)

    def put(self, keys: Iterable[WrappedKey], check: bytes) -> None:
        self._require(check)
        for key in keys:
            self._keys.setdefault(key.stream, []).append(key)

    def rewrap(self, vault: Vault, check: bytes, wrap: Callable[[WrappedKey], WrappedKey]) -> None:
        self._require(check)
        new = {
            stream: [wrap(key) if key.wrapped else key for key in keys]
            for stream, keys in self._keys.items()
        }
        self._vault, self._keys = vault, new

    def _require(self, check: bytes) -> None:
        if self._vault is None or self._vault.check != check:
            raise WrongKey(_CHANGED)

    def all(self) -> list[WrappedKey]:
        return [key for keys in self._keys.values() for key in keys]

    def get(self, stream: bytes) -> list[WrappedKey]:
        return list(self._keys.get(stream, ()))

    def destroy(self, ends: Ends, settled: int | None = None) -> None:
        for stream, end in ends.items():
            self._keys[stream] = [
                replace(key, wrapped=None) if key.since <= end else key for key in self.get(stream)
            ]

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


_SELECT: Final = "SELECT stream, epoch, since, wrapped, expires FROM keys"
_OF_STREAM: Final = f"{_SELECT} WHERE stream = ? ORDER BY epoch"
_DESTROY: Final = "UPDATE keys SET wrapped = NULL WHERE stream = ? AND since <= ?"
_REPLACE: Final = "UPDATE keys SET wrapped = ? WHERE stream = ? AND epoch = ?"


_NEW_VAULT: Final = "INSERT INTO vault VALUES (?, ?, ?, ?)"
_NEW_KEY: Final = "INSERT INTO keys VALUES (?, ?, ?, ?, ?)"


def _row(key: WrappedKey) -> tuple[Any, ...]:
    return key.stream, key.epoch, key.since, key.wrapped, key.expires


class FileKeyStore:
    """Keys in a small SQLite file of their own.

    It uses a rollback journal, not a write-ahead log, and overwrites what it deletes: a destroyed
    key is gone from the file when the call returns.
    """

    is_kept = True

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if not create and not path.exists():
            raise KeyMissing(f"the key store {path} is missing; restore it from its own backup")
        if not create:
            with suppress(OSError):  # where nothing can be written, it was not left there now
                drop_restoring_draft(path)
        self._path = path
        self._lock = threading.Lock()  # a connection serves one thread at a time
        self._failed: OutcomeUnknown | None = None
        self._database = connect(path, create=create)
        try:
            self._prepare(create=create)
        except DATABASE_ERRORS as error:
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

    def require_usable(self) -> None:
        if self._failed is not None:
            raise self._failed

    def load(self) -> Vault | None:
        row = self._all("SELECT format, log_id, settings, check_value FROM vault")
        if not row:
            return None
        number, log_id, packed, check = row[0]
        if type(number) is int and number > FORMAT:
            raise NewerFormat(f"{self._path} has format {number}; this statecore reads {FORMAT}")
        try:
            settings = msgpack.unpackb(packed)
            settled = settings.pop(_SETTLED, 0)
        except (msgpack.UnpackException, ValueError, TypeError, AttributeError) as error:
            raise self._damage("does not parse") from error
        kinds = type(number), type(log_id), type(settings), type(check), type(settled)
        if number != FORMAT or kinds != (int, bytes, dict, bytes, int):
            raise self._damage("does not say what it is")
        return Vault(log_id, settings, check, settled)

    def start(self, vault: Vault, log_key: WrappedKey) -> None:
        with self._writing() as database:
            row = (FORMAT, vault.log_id, _pack_settings(vault), vault.check)
            database.execute(_NEW_VAULT, row)
            database.execute(_NEW_KEY, _row(log_key))

    def put(self, keys: Iterable[WrappedKey], check: bytes) -> None:
        with self._writing(check) as database:
            database.executemany(_NEW_KEY, map(_row, keys))

    def rewrap(self, vault: Vault, check: bytes, wrap: Callable[[WrappedKey], WrappedKey]) -> None:
        with self._writing(check) as database:
            kept = [self._read(*row) for row in database.execute(_SELECT)]
            new = [wrap(key) for key in kept if key.wrapped is not None]
            rows = [(key.wrapped, key.stream, key.epoch) for key in new]
            database.executemany(_REPLACE, rows)
            said = (_pack_settings(vault), vault.check)
            database.execute("UPDATE vault SET settings = ?, check_value = ?", said)

    def all(self) -> list[WrappedKey]:
        return [self._read(*row) for row in self._all(_SELECT)]

    def get(self, stream: bytes) -> list[WrappedKey]:
        return [self._read(*row) for row in self._all(_OF_STREAM, (stream,))]

    def _read(
        self, stream: bytes, epoch: int, since: int, wrapped: bytes | None, expires: int | None
    ) -> WrappedKey:
        """Return the key of a row, once it is known to be one."""
        key = WrappedKey(stream, epoch, since, wrapped, expires)
        if not key.is_sane:
            raise self._damage("holds a key with absurd numbers")
        if wrapped is not None and (type(wrapped) is not bytes or len(wrapped) < _WRAPPED_BYTES):
            raise self._damage("holds a key that is none")
        return key

    def _damage(self, what: str) -> Damage:
        return Damage(f"the key store {self._path} {what}; restore it from its own backup")

    def destroy(self, ends: Ends, settled: int | None = None) -> None:
        with self._writing() as database:
            database.executemany(_DESTROY, ends.items())
            if settled is not None:
                packed = database.execute("SELECT settings FROM vault").get
                settings = {**msgpack.unpackb(packed), _SETTLED: settled}
                database.execute("UPDATE vault SET settings = ?", (msgpack.packb(settings),))

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
                self.require_usable()
                return self._database.execute(sql, bindings).fetchall()
        except DATABASE_ERRORS as error:
            raise explain(error, self._path) from error

    @contextmanager
    def _writing(self, check: bytes | None = None) -> Iterator[apsw.Connection]:
        """Write in one transaction, under the key-encryption key of a check value where given."""
        try:
            with self._lock:
                self.require_usable()
                with all_or_none(self._database):
                    if check is not None and check != self._check():
                        raise WrongKey(_CHANGED)
                    yield self._database
        except apsw.IOError as error:
            # After a failed sync the system may take for written what is not: what a later one
            # says is worth nothing (Rebello et al., "Can applications recover from fsync
            # failures?", ATC 2020), until the file is opened and looked at anew.
            self._failed = OutcomeUnknown(
                f"{self._path}: the disk failed ({error}), and what is kept there is not known; "
                "reopen the store, then retry with the same event id"
            )
            raise self._failed from error
        except DATABASE_ERRORS as error:
            raise explain(error, self._path) from error

    def _check(self) -> object:
        return self._database.execute("SELECT check_value FROM vault").get


def _pack_settings(vault: Vault) -> bytes:
    settled = {_SETTLED: vault.settled} if vault.settled else {}
    return msgpack.packb({**vault.settings, **settled})  # type: ignore[no-any-return]
