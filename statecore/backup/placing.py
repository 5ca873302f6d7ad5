"""A new store's files put in their places: whole, durably, and never over what is there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from statecore.backup.destination import sync_folder
from statecore.database import DATABASE_ERRORS, connect, explain, explain_os
from statecore.errors import InputError, KeyMissing

_BESIDE: Final = ("", "-wal", "-shm", "-journal", "-lock")


def require_new(path: Path) -> None:
    """Refuse a path where anything of a store is.

    Raises:
        InputError: names what is there, or the directory that is not.
    """
    if not path.parent.is_dir():
        raise InputError(f"there is no directory {path.parent}")
    for end in _BESIDE:
        beside = path.with_name(path.name + end)
        if end != "-lock" and beside.exists():
            raise InputError(f"{beside} is there: a store is only restored to a new path")


@contextmanager
def keys_beside(path: Path, given: str | Path | None) -> Iterator[Path]:
    """Copy a key store to where the new store's is looked for; take it away if that fails."""
    keys = path.with_name(path.name + "-keys")
    if given is None:
        yield keys
        return
    source = Path(given).expanduser()
    if keys.exists():
        raise InputError(f"there is a key store {keys} already")
    _copy_database(source, keys)
    try:
        yield keys
    except BaseException:
        keys.unlink(missing_ok=True)
        raise


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
    draft = path.with_name(f".{path.name}.restoring-{secrets.token_hex(8)}")
    try:
        yield draft
    finally:
        for end in _BESIDE:
            draft.with_name(draft.name + end).unlink(missing_ok=True)


def put_in_place(draft: Path, path: Path) -> None:
    """Give the file its name, durably, unless somebody else did meanwhile."""
    _sync(draft)
    try:
        path.hardlink_to(draft)
        draft.unlink()
        sync_folder(path.parent)
    except FileExistsError as error:
        raise InputError(f"{path} is there: a store is only restored to a new path") from error
    except OSError as error:
        raise explain_os(error, path, "made") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise explain_os(error, path, "written") from error
    finally:
        os.close(descriptor)
