"""A key store copied through SQLite, without a change to the one it is copied from."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import apsw

from statecore.database import DATABASE_ERRORS, connect, explain


def copy_database(source: Path, target: Path) -> None:
    """Copy a database that is not written to meanwhile, to a new file that only its owner reads.

    Raises:
        Damage, StoreFull, StoreReadOnly: as named; the target may be there, and is to be removed.
    """
    try:
        uri = f"file:{quote(str(source.absolute()))}?mode=ro"
        origin = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    except DATABASE_ERRORS as error:
        raise explain(error, source) from error
    copy = connect(target, create=True)
    try:
        if origin.execute("PRAGMA integrity_check(1)").get != "ok":
            raise explain(apsw.CorruptError("its pages are"), source)
        with copy.backup("main", origin, "main") as copying:
            copying.step()
    except DATABASE_ERRORS as error:
        raise explain(error, source) from error
    finally:
        copy.close()
        origin.close()


def streams_with_keys(path: Path) -> list[bytes]:
    """Return the pseudonyms of all streams that a key store has keys of."""
    database = connect(path)
    try:
        rows = database.execute("SELECT DISTINCT stream FROM keys WHERE epoch > 0").fetchall()
        return [stream for (stream,) in rows if type(stream) is bytes]
    except DATABASE_ERRORS as error:
        raise explain(error, path) from error
    finally:
        database.close()


__all__ = ["copy_database", "streams_with_keys"]
