"""Opens a log together with its keys: in a file, in memory, behind a persistence module."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from statecore.errors import ForeignSchema, KeyMissing, StoreNotFound
from statecore.keys import FileKeyStore, KeyProvider, KeyRing, KeyStore, MemoryKeyStore
from statecore.recorders import LogStore, MemoryLog, open_log
from statecore.recorders.sqlite.datastore import create_datastore, require_datastore
from statecore.transparency.signers import Signer

_SQLITE: Final = "statecore.recorders.sqlite"
_LOG_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Options:
    """How to open a store; ``open`` says what each means."""

    provider: KeyProvider
    create: bool
    durability: str
    cache_mib: int
    write_seconds: float
    snapshots: bool
    clock: Callable[[], int]
    environment: Mapping[str, str]
    key_store: Path | None
    signer: Signer | None
    check_seconds: float | None
    file: Path | None = None
    archives: tuple[Path, ...] = ()


def open_memory(provider: KeyProvider) -> tuple[LogStore, KeyRing]:
    """Return a new log in memory, and its keys."""
    log = MemoryLog(secrets.token_bytes(_LOG_ID_BYTES))
    return log, KeyRing.create(MemoryKeyStore(), provider, log.log_id)


def key_store_of(path: Path) -> Path:
    """Return where the key store of a store's file lies."""
    return path.with_name(path.name + "-keys")


def open_file_log(path: Path, durability: str = "full") -> LogStore:
    """Open the log in a file, without its keys.

    Raises:
        StoreNotFound: there is none.
        Damage: the file is empty.
        ForeignSchema: it is a directory or a device.
    """
    if not _is_there(path):
        raise StoreNotFound(f"there is no store at {path}")
    require_datastore(path)
    settings = {"SQLITE_DBNAME": str(path), "SQLITE_DURABILITY": durability}
    return open_log(_SQLITE, settings, b"")


def _is_there(path: Path) -> bool:
    try:
        if path.exists() and not path.is_file():  # nor is anything to be made beside it
            raise ForeignSchema(f"{path} is not a file")
        return path.exists()
    except OSError as error:
        raise StoreNotFound(f"there can be no store at {path}: {error.strerror}") from error


def open_file(path: Path, options: Options) -> tuple[LogStore, KeyRing]:
    """Return the log in a file and its keys; made first, where the options say so.

    Raises:
        StoreNotFound, ForeignSchema, KeyMissing, WrongKey, InvalidKey: as ``statecore.open`` says.
    """
    keys_path = options.key_store or key_store_of(path)
    if not _is_there(path) and not options.create:
        raise StoreNotFound(f"there is no store at {path}")
    if options.create:
        create_datastore(path, lambda: _create_keys(path, keys_path, options.provider))
    log = open_file_log(path, options.durability)
    try:
        key_store = FileKeyStore(keys_path)
        try:
            return log, KeyRing.open(key_store, options.provider, log.log_id)
        except BaseException:
            key_store.close()
            raise
    except BaseException:
        log.close()
        raise


def _create_keys(path: Path, keys_path: Path, provider: KeyProvider) -> bytes:
    """Make the key store of a new log, and return the log's id."""
    key_store = FileKeyStore(keys_path, create=True)
    try:
        if key_store.has_streams():
            raise StoreNotFound(
                f"{path} is missing, but its key store {keys_path} is there: restore the log, or "
                "move the key store away to begin a new one"
            )
        vault = key_store.load()
        log_id = vault.log_id if vault else secrets.token_bytes(_LOG_ID_BYTES)
        if vault is None:
            KeyRing.create(key_store, provider, log_id)
        else:  # a creation that was interrupted
            KeyRing.open(key_store, provider, log_id)
        return log_id
    finally:
        key_store.close()


def open_module(module: str, options: Options) -> tuple[LogStore, KeyRing]:
    """Return the log that a persistence module holds, and its keys.

    Raises:
        KeyMissing: it is not new, and nobody says where its keys are.
    """
    log = open_log(module, options.environment, secrets.token_bytes(_LOG_ID_BYTES))
    key_store: KeyStore
    if options.key_store is None:
        if log.last_position() > 1:
            log.close()
            raise KeyMissing("say where this log's wrapped keys are, with key_store=")
        key_store = MemoryKeyStore()
    else:
        key_store = FileKeyStore(options.key_store, create=options.create)
    new = key_store.load() is None
    ring = (KeyRing.create if new else KeyRing.open)(key_store, options.provider, log.log_id)
    return log, ring
