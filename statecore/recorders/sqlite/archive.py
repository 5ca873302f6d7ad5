"""An archive: the sealed bodies of events in a SQLite file of its own, made once, never changed.

What is in it is sealed as it was in the store, so it may lie anywhere. Each body is told by its
stream and version, and held against the digest that stays in the store.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote

import apsw

from statecore.codec.cut import cut
from statecore.database import (
    DATABASE_ERRORS,
    connect,
    distrust,
    explain,
    explain_os,
    require_schema,
)
from statecore.errors import Damage, InputError, NotFound, WrongExpectedVersion
from statecore.keys.files import publish

FORMAT: Final = 1  # On disk. Never renumber.
ARCHIVE_SCHEMA: Final = {
    "table archive": "CREATE TABLE archive(format INTEGER NOT NULL, log BLOB NOT NULL)",
    "table bodies": (
        "CREATE TABLE bodies(stream BLOB NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL,"
        " PRIMARY KEY(stream, version))"
    ),
}
_READ_BYTES: Final = 1 << 20


class ArchiveDraft:
    """An archive that is being written, under a name of its own."""

    def __init__(self, path: Path, log_id: bytes) -> None:
        """Begin one.

        Raises:
            InputError: there is a file of that name.
            StoreNotFound, StoreReadOnly, StoreFull: it can't be made.
        """
        if path.exists():
            raise InputError(f"{path} is there already: an archive is a new file")
        self.path = path
        self._draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        self._database = connect(self._draft, create=True)
        try:
            with self._explained():
                self._database.execute("PRAGMA synchronous = FULL")
                self._database.execute("BEGIN")
                for statement in ARCHIVE_SCHEMA.values():
                    self._database.execute(statement)
                self._database.execute("INSERT INTO archive VALUES (?, ?)", (FORMAT, log_id))
        except BaseException:
            self.discard()
            raise

    def add(self, stream: bytes, bodies: Iterable[tuple[int, bytes]]) -> None:
        """Add bodies of a stream, by version."""
        rows = [(stream, version, body) for version, body in bodies]
        with self._explained():
            self._database.executemany("INSERT INTO bodies VALUES (?, ?, ?)", rows)

    def finish(self) -> Path:
        """Make it durable, still under its own name, and return that."""
        with self._explained():
            self._database.execute("COMMIT")
        self._database.close()
        return self._draft

    def publish(self) -> None:
        """Give it its name, durably.

        Raises:
            InputError: there is a file of that name by now.
        """
        try:
            if not publish(self._draft, self.path):
                raise InputError(f"{self.path} is there already: an archive is a new file")
        except OSError as error:
            raise explain_os(error, self.path, "made") from error

    def discard(self) -> None:
        """Leave nothing of the draft behind."""
        self._database.close()
        for end in ("", "-journal"):
            self._draft.with_name(self._draft.name + end).unlink(missing_ok=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except DATABASE_ERRORS as error:
            raise explain(error, self.path) from error


class ArchiveFile:
    """An archive, to be read. Safe to use from any thread."""

    def __init__(self, path: Path, log_id: bytes) -> None:
        """Open one.

        Raises:
            NotFound: there is none.
            ForeignSchema, Damage: it is no archive.
            InputError: it is another store's.
        """
        if not path.is_file():
            raise NotFound(f"there is no archive {path}")
        self.path = path
        self._lock = threading.Lock()
        # Nobody ever changes it, so nothing has to be locked, nor made beside it.
        address = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        try:
            self._database = apsw.Connection(address, flags=flags)
            distrust(self._database)
            require_schema(self._database, ARCHIVE_SCHEMA, path)
            rows = self._database.execute("SELECT format, log FROM archive").fetchall()
        except DATABASE_ERRORS as error:
            raise explain(error, path) from error
        if len(rows) != 1 or rows[0][0] != FORMAT:
            raise Damage(f"{path} is no archive that this statecore reads")
        if rows[0][1] != log_id:
            raise InputError(f"{path} is an archive of another store")

    def body(self, stream: bytes, version: int) -> bytes | None:
        """Return a body; ``None`` where it is not in here."""
        sql = "SELECT CAST(body AS BLOB) FROM bodies WHERE stream = ? AND version = ?"
        try:
            with self._lock:
                rows = self._database.execute(sql, (stream, version)).fetchall()
        except DATABASE_ERRORS as error:
            raise explain(error, self.path) from error
        return cast("bytes", rows[0][0]) if rows else None

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()


class Archives:
    """The archives at hand."""

    def __init__(self, paths: Sequence[Path], log_id: bytes) -> None:
        """Open them; raises as ``ArchiveFile`` does."""
        self._files: list[ArchiveFile] = []
        try:
            for path in paths:
                self._files.append(ArchiveFile(path, log_id))
        except BaseException:
            self.close()
            raise

    def body_of(self, stream: bytes, version: int, digest: bytes) -> bytes | None:
        """Return the sealed body of an event, from whichever has it; ``None`` where none has.

        One of another digest is returned where no other has one of this: it is not what it should
        be, or of a history that this store left behind.
        """
        other = None
        for file in self._files:
            body = file.body(stream, version)
            if body is not None and compare_digest(sha256(body).digest(), digest):
                return body
            other = other or body
        return other

    def close(self) -> None:
        """Let go of them."""
        for file in self._files:
            file.close()


def digest_of(path: Path) -> bytes:
    """Return the SHA-256 of a file."""
    digest = sha256()
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
    return digest.digest()


def require_whole(database: apsw.Connection, stream: int, first: int, horizon: int) -> None:
    """Refuse events of a stream of which one has no body.

    Raises:
        WrongExpectedVersion: one of them was archived already, or is not there.
    """
    sql = (
        "SELECT count(*) FROM events WHERE stream = ? AND version >= ? AND version < ?"
        " AND CAST(state AS BLOB) < x'80'"
    )
    if database.execute(sql, (stream, first, horizon)).get != horizon - first:
        raise WrongExpectedVersion("some of it was archived meanwhile")


def cut_bodies(
    database: apsw.Connection, stream: int, begins: int, horizon: int, event: int
) -> None:
    """Cut the bodies that are left before a version, in the transaction that is under way.

    Args:
        database: with the table of events.
        stream: its number.
        begins: the version that it begins with, which names the last event that says so.
        horizon: before which version.
        event: the version of the event that says where the bodies are.
    """
    function = cast("Callable[..., Any]", cut)
    database.create_scalar_function("statecore_cut", function, 2, deterministic=True)
    sql = (
        "UPDATE events SET state = statecore_cut(CAST(state AS BLOB), ?1) WHERE stream = ?2 AND"
        " version >= ?3 AND version < ?4 AND (version = ?3 OR CAST(state AS BLOB) < x'80')"
    )
    database.execute(sql, (event, stream, begins, horizon))
