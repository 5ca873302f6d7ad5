"""A new store's files put in their places: whole, durably, and never over what is there."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from typing import Final

from statecore.backup.destination import sync_folder
from statecore.database import DATABASE_ERRORS, connect, explain, explain_os
from statecore.errors import InputError, KeyMissing

_KEYS: Final = "-keys"
_BESIDE: Final = ("", "-wal", "-shm", "-journal", "-lock", _KEYS, f"{_KEYS}-journal")


def require_new(path: Path) -> None:
    """Refuse a path where anything of a store is.

    Raises:
        InputError: names what is there, or the directory that is not.
    """
    if not path.parent.is_dir():
        raise InputError(f"there is no directory {path.parent}")
    for end in _BESIDE:
        beside = path.with_name(path.name + end)
        if not end.startswith(("-lock", _KEYS)) and beside.exists():
            raise InputError(f"{beside} is there: a store is only restored to a new path")


def keys_beside(path: Path, draft: Path, given: str | Path | None) -> Path:
    """Return the key store of a draft: a copy of the one given, or else what the new store has."""
    keys = path.with_name(path.name + _KEYS)
    if given is None:
        return keys
    source = Path(given).expanduser()
    if keys.exists():
        raise InputError(f"there is a key store {keys} already")
    copy = draft.with_name(draft.name + _KEYS)
    _copy_database(source, copy)
    return copy


def _copy_database(source: Path, target: Path) -> None:
    if not source.is_file():
        raise KeyMissing(f"there is no key store {source}")
    try:
        database, copy = connect(source), connect(target, create=True)
        try:
            with copy.backup("main", database, "main") as copying:
                copying.step()
        finally:
            copy.close()
            database.close()
        _sync(target)
    except DATABASE_ERRORS as error:
        raise explain(error, target) from error


@contextmanager
def draft_beside(path: Path) -> Iterator[Path]:
    """Give a name beside the new store's; nothing of it is left behind."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise explain_os(error, path.parent, "read") from error
    try:
        _clear_away(path, folder)
        draft = path.with_name(f".{path.name}.draft-{secrets.token_hex(8)}")
        try:
            yield draft
        finally:
            for end in _BESIDE:
                draft.with_name(draft.name + end).unlink(missing_ok=True)
    finally:
        os.close(folder)


def _clear_away(path: Path, folder: int) -> None:
    """Remove earlier drafts of a store, over which somebody was killed; lock their folder.

    All who have a draft in it share that lock, and lose it with their process, however that ends.
    So what is there while nobody has the lock is nobody's.
    """
    ours = f"{re.escape(f'.{path.name}.draft-')}[0-9a-f]{{16}}({'|'.join(_BESIDE)})"
    with suppress(OSError):  # somebody has it, or there are no such locks here
        flock(folder, LOCK_EX | LOCK_NB)
        for each in path.parent.iterdir():
            if re.fullmatch(ours, each.name):
                each.unlink(missing_ok=True)
    with suppress(OSError):
        flock(folder, LOCK_SH)


def put_in_place(draft: Path, path: Path) -> None:
    """Give the files their names, durably, unless somebody else did meanwhile; the keys first."""
    with ExitStack() as undo:
        for end in (_KEYS, ""):
            source, target = draft.with_name(draft.name + end), path.with_name(path.name + end)
            if not source.exists():
                continue
            _sync(source)
            try:
                target.hardlink_to(source)
                undo.callback(target.unlink)
                source.unlink()
                sync_folder(path.parent)
            except FileExistsError as error:
                text = f"{target} is there: a store is only restored to a new path"
                raise InputError(text) from error
            except OSError as error:
                raise explain_os(error, target, "made") from error
        undo.pop_all()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise explain_os(error, path, "written") from error
    finally:
        os.close(descriptor)
