"""Putting a key store back beside its log, from its own backup."""

from __future__ import annotations

from pathlib import Path

from statecore.codec import Sealer
from statecore.database import explain_os
from statecore.erasure import ended
from statecore.errors import (
    Archived,
    DamagedRecord,
    Erased,
    InputError,
    StoreNotFound,
    Unproven,
    WrongKey,
)
from statecore.keys import DataKey, FileKeyStore, KeyProvider, KeyRing
from statecore.keys.backup import KeyContents, open_contents
from statecore.keys.files import drop_restoring_draft, publish, restoring_draft
from statecore.keys.ring import LOG_STREAM, log_key_of, opened
from statecore.opening import log_signer, provider_from
from statecore.recorders import LogStore
from statecore.recorders.port import row_of
from statecore.transparency.note import parse_note, verify
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
        WrongKey: the backup is another log's, or not opened by what was given; or nothing in the
            log shows that its keys are the log's, which whoever knows a recipient could have made.
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
        log_key = log_key_of(contents)
        erased = ended(log, log_key)
        # An event that the log's own key opens is proof as well.
        if not erased and not _is_signed(log, log_key) and not _opens_any(log, contents):
            raise WrongKey(
                "nothing in the log shows that the key backup is of its keys: it signed no head "
                "and opens no event; find the one that was made of this log"
            )
        contents = contents.without(erased)
    finally:
        log.close()
    _put_back(key_store_of(path), provider, contents)
    return sum(secret is not None for _, secret in contents.keys)


def _is_signed(log: LogStore, log_key: DataKey) -> bool:
    """Tell whether the last head of a log was signed by a key.

    Whoever knows an age recipient can encrypt to it: that a backup opens, says nothing of whose
    it is.
    """
    last = log.tree.last_head() if log.tree else None
    if last is None:
        return False
    try:
        verify(parse_note(last[1]), [log_signer(log.log_id, log_key).verifier])
    except (InputError, Unproven):
        return False
    return True


def _opens_any(log: LogStore, contents: KeyContents) -> bool:
    """Tell whether any event opens with the keys of a backup: with the first of each, one will."""
    return any(_opens(log, stream, key) for stream, key in opened(contents) if stream != LOG_STREAM)


def _opens(log: LogStore, stream: bytes, key: DataKey) -> bool:
    try:
        stored = row_of(log, stream, key.since)[2]
        Sealer(log.log_id, stream, {key.epoch: key}, log.prefix_of).open(key.since, stored)
    except (DamagedRecord, Erased, Archived):
        return False
    return True


def _put_back(path: Path, provider: KeyProvider, contents: KeyContents) -> None:
    """Make the key store under another name first: what a kill leaves of it is no key store."""
    draft = restoring_draft(path)
    try:
        drop_restoring_draft(path)
        key_store = FileKeyStore(draft, create=True)
        try:
            KeyRing.restore(key_store, provider, contents)
        finally:
            key_store.close()
        if not publish(draft, path):
            raise InputError(f"somebody else made the key store {path} meanwhile")
    except OSError as error:
        raise explain_os(error, path, "restored") from error
