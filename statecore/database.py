"""SQLite opened so that it is safe, private and hard to trick; its errors in our words."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from statecore.errors import (
    Damage,
    ForeignSchema,
    InputError,
    StatecoreError,
    StoreBusy,
    StoreFailure,
    StoreFull,
    StoreNotFound,
    StoreReadOnly,
    StoreUnsupported,
)

# 3.51.3 repairs a bug of the write-ahead log that can lose committed transactions:
# https://sqlite.org/wal.html#walresetbug
_VERSION_MIN: Final = (3, 51, 3)
BUSY_MS: Final = 30_000
_STATEMENTS_CACHED: Final = 64
_CACHE_KIB: Final = 16 * 1024  # a connection; the inner pages of a store of many gigabytes
_PRIVATE: Final = 0o600

DATABASE_ERRORS: Final = (apsw.Error, UnicodeDecodeError)
"""What a query may raise; the latter where what a damaged file calls text is none."""


def connect(path: Path, *, create: bool = False) -> apsw.Connection:
    """Open a database file; make it first, readable by its owner only, where ``create`` says so.

    Raises:
        StoreUnsupported: this SQLite is known to lose data.
        InputError: the file's name is not UTF-8.
        StoreNotFound: there is no file.
        StoreReadOnly: the file or its directory can't be written.
        Damage: the file is no database.
    """
    require_sqlite()
    _require_text(path)
    if create:
        _create_private(path)
    try:
        connection = apsw.Connection(
            str(path),
            flags=apsw.SQLITE_OPEN_READWRITE,
            statementcachesize=_STATEMENTS_CACHED,
        )
        connection.set_busy_timeout(BUSY_MS)
        distrust(connection)
    except DATABASE_ERRORS as error:
        raise explain(error, path) from error
    return connection


def require_sqlite() -> None:
    """Refuse a SQLite that is known to lose data.

    Raises:
        StoreUnsupported: names the version needed.
    """
    version = apsw.sqlite_lib_version()
    if tuple(map(int, version.split("."))) < _VERSION_MIN:
        raise StoreUnsupported(f"SQLite {version} can lose committed data; apsw>=3.51.3 is needed")


def _require_text(path: Path) -> None:
    """Refuse a name that is bytes and no text, which SQLite is not told of."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{str(path)!r} can't be opened: its name is not UTF-8") from error


def _create_private(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _PRIVATE))
    except FileExistsError:
        return
    except FileNotFoundError as error:
        raise StoreNotFound(f"there is no directory {path.parent}") from error
    except OSError as error:
        raise explain_os(error, path, "made") from error


def distrust(connection: apsw.Connection) -> None:
    """Let nothing that is stored in the file run: no trigger, no view, no function in a schema.

    https://sqlite.org/security.html, "Untrusted SQLite Database Files".
    """
    for option, value in (
        (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),
        (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
        (apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0),
        (apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0),
    ):
        connection.config(option, value)
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")


@contextmanager
def all_or_none(connection: apsw.Connection) -> Iterator[None]:
    """Do what the block does in one transaction.

    After some errors, such as of a full disk, SQLite has rolled back already, and doing so again
    would be an error that hides the first.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def require_schema(
    connection: apsw.Connection,
    schema: dict[str, str],
    path: Path,
    *,
    later: dict[str, str] | None = None,
) -> bool:
    """Refuse a database that holds anything but these tables and indexes, to the letter.

    Args:
        connection: to the database.
        schema: what must be there.
        path: of the database.
        later: what came to be made later, and need not be there.

    Returns:
        Whether all of it is there.

    Raises:
        ForeignSchema: something is missing, altered or planted; names it.
    """
    later = later or {}
    rows = connection.execute(
        "SELECT CAST(type || ' ' || name AS BLOB), CAST(sql AS BLOB) FROM sqlite_schema"
        " WHERE sql IS NOT NULL"
    )
    found = {_text(what): _text(sql) for what, sql in rows}
    if not found.keys() & schema.keys():
        raise ForeignSchema(f"{path} is a database, but not one that statecore made")
    for what in sorted(found.keys() | schema.keys()):
        expected = schema.get(what) or later.get(what)
        if expected is None:
            raise ForeignSchema(f"{path} holds a {what} that statecore never made")
        if found.get(what) != expected:
            state = "lacks the" if what not in found else "has an altered"
            raise ForeignSchema(f"{path} {state} {what}; it is not a statecore store, or damaged")
    return later.keys() <= found.keys()


def _text(stored: object) -> str:
    """Read text that may be anything."""
    return stored.decode(errors="replace") if isinstance(stored, bytes) else ""


def explain(error: apsw.Error | UnicodeDecodeError, path: Path) -> StatecoreError:
    """Return the error of ours that says what the caller can do."""
    match error:
        case UnicodeDecodeError():
            return Damage(f"{path} holds text that is none")
        case apsw.BusyError() | apsw.LockedError():
            return StoreBusy(f"another process holds {path}")
        case apsw.FullError():
            return StoreFull(f"no space left to write {path}")
        case apsw.IOError() if getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE:
            return StoreFull(f"no space left to write {path}: its shared memory can't grow")
        case apsw.ReadOnlyError() | apsw.PermissionsError() | apsw.AuthError():
            return StoreReadOnly(f"{path} can't be written: {error}")
        case apsw.CantOpenError():
            return _explain_closed(path)
        case apsw.NotADBError():
            return ForeignSchema(f"{path} is not a SQLite database")
        case apsw.CorruptError():
            return Damage(f"{path} is damaged: {error}")
    return StoreFailure(f"{path}: {error}")


def explain_os(error: OSError, path: Path, done: str) -> StatecoreError:
    """Return the error of ours for one of the operating system."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"no space left to write {path}")
    if error.errno == errno.EIO:
        return StoreFailure(f"{path} can't be {done}: {error.strerror}")
    return StoreReadOnly(f"{path} can't be {done}: {error.strerror}")


def _explain_closed(path: Path) -> StatecoreError:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return StoreNotFound(f"there is no store at {path}")
    except OSError as error:
        return StoreFailure(f"{path} can't be opened: {error.strerror}")
    if not stat.S_ISREG(mode):
        return ForeignSchema(f"{path} is not a file")
    return StoreReadOnly(f"{path} or its directory {path.parent} can't be written")
