"""Putting a key store back beside its log, from its own backup."""

from __future__ import annotations

from pathlib import Path

from statecore.database import explain_os
from statecore.erasure import ended
from statecore.errors import InputError, StoreNotFound, WrongKey
from statecore.keys import FileKeyStore, KeyProvider, KeyRing
from statecore.keys.backup import KeyContents, open_contents
from statecore.keys.files import publish
from statecore.keys.ring import log_key_of
from statecore.opening import provider_from
from statecore.unlocking import key_store_of, open_file_log


def restore_keys(
    source: str | Path,
    location: str | Path,
    *,
    backup_passphrase: str | None = None,
    identity: str | None = None,
    key: bytes | str | KeyProvider | None = None,
    passphrase: str | None = None,
) -> int:
    """Put the key store of a SQLite file back from a backup; return how many keys it has.

    What the log says was erased since the backup stays erased: its keys are left out. What was
    begun since can't be read, until a newer backup is found. All or none, durable, and never over
    a key store that is there.

    Args:
        source: what ``store.keys.backup`` wrote.
        location: the store's file; nobody may have it open.
        backup_passphrase: opens the backup, if that was encrypted to one.
        identity: opens it, if that was encrypted to age recipients: the text of an identity file.
        key: the store's key from now on; see ``open``.
        passphrase: the same.

    Raises:
        InputError: there is a key store already, or the backup is opened by the other.
        StoreNotFound: there is no log, or no backup.
        WrongKey: the backup is another log's, or not opened by what was given.
        DamagedRecord, NewerFormat: it is no backup, or a newer statecore's.
    """
    provider = provider_from(key, passphrase)
    path = Path(location).expanduser()
    if key_store_of(path).exists():
        raise InputError(f"there is a key store {key_store_of(path)}: move it away first")
    try:
        sealed = Path(source).read_bytes()
    except OSError as error:
        raise StoreNotFound(f"the key backup {source} can't be read: {error.strerror}") from error
    log = open_file_log(path)
    try:
        contents = open_contents(sealed, backup_passphrase, identity)
        if log.log_id != contents.log_id:
            raise WrongKey("the key backup belongs to another log; find the one of this log")
        contents = contents.without(ended(log, log_key_of(contents)))
    finally:
        log.close()
    _put_back(key_store_of(path), provider, contents)
    return sum(secret is not None for _, secret in contents.keys)


def _put_back(path: Path, provider: KeyProvider, contents: KeyContents) -> None:
    """Make the key store under another name first: what a kill leaves of it is no key store."""
    draft = path.with_name(f"{path.name}.restoring")
    try:
        for left in (draft, draft.with_name(f"{draft.name}-journal")):
            left.unlink(missing_ok=True)
        key_store = FileKeyStore(draft, create=True)
        try:
            KeyRing.restore(key_store, provider, contents)
        finally:
            key_store.close()
        if not publish(draft, path):
            raise InputError(f"somebody else made the key store {path} meanwhile")
    except OSError as error:
        raise explain_os(error, path, "restored") from error
