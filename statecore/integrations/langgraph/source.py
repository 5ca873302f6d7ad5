"""A database of LangGraph's SqliteSaver or AsyncSqliteSaver, read and never written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

from statecore.database import explain
from statecore.errors import ForeignSchema, StoreNotFound

_COLUMNS: Final = {
    "checkpoints": {
        "thread_id",
        "checkpoint_ns",
        "checkpoint_id",
        "parent_checkpoint_id",
        "type",
        "checkpoint",
        "metadata",
    },
    "writes": {
        "thread_id",
        "checkpoint_ns",
        "checkpoint_id",
        "task_id",
        "idx",
        "channel",
        "type",
        "value",
    },
}
_BUSY_MS: Final = 30_000
_HEADER_BYTES: Final = 20
_READS_LOG: Final = 19  # where the header says whether there is a write-ahead log
_LOGGED: Final = 2


class Row(NamedTuple):
    """A checkpoint as its row has it."""

    parent: str | None
    type: str
    checkpoint: bytes
    metadata: bytes | str | None

    @property
    def size(self) -> int:
        """How many bytes the checkpoint has."""
        return len(self.checkpoint)


class WriteRow(NamedTuple):
    """What a task wrote, as its row has it."""

    task_id: str
    path: str
    at: int
    channel: str
    type: str
    value: bytes


class Source:
    """The database as it was when it was first read; whoever goes on writing to it is not seen."""

    def __init__(self, path: Path, connection: apsw.Connection, *, has_paths: bool) -> None:
        """Read an open database; see ``source``."""
        self.path = path
        self._connection = connection
        self._task_path = "task_path" if has_paths else "''"

    def size(self) -> tuple[int, int]:
        """Return how many checkpoints there are, and how many bytes they have together."""
        rows = self._connection.execute(
            "SELECT count(*), coalesce(sum(length(checkpoint)), 0) FROM checkpoints"
        )
        count, size = rows.get
        return count, size

    def is_encrypted(self) -> bool:
        """Tell whether any checkpoint was encrypted by LangGraph's ``EncryptedSerializer``."""
        rows = "SELECT 1 FROM checkpoints WHERE instr(type, '+') LIMIT 1"
        return self._connection.execute(rows).get is not None

    def orphans(self) -> int:
        """Count the writes of checkpoints that are not there, which no saver shows."""
        rows = self._connection.execute(
            "SELECT count(*) FROM writes AS w WHERE NOT EXISTS (SELECT 1 FROM checkpoints AS c"
            " WHERE c.thread_id = w.thread_id AND c.checkpoint_ns = w.checkpoint_ns"
            " AND c.checkpoint_id = w.checkpoint_id)"
        )
        return int(rows.get)

    def threads(self) -> Iterator[str]:
        """Yield the threads; only one at a time is in memory."""
        first = "SELECT min(thread_id) FROM checkpoints"
        thread_id = self._connection.execute(first).get
        while thread_id is not None:
            yield thread_id
            following = f"{first} WHERE thread_id > ?"
            thread_id = self._connection.execute(following, (thread_id,)).get

    def places(self, thread_id: str) -> Iterator[tuple[str, str]]:
        """Yield the namespace and id of each checkpoint of a thread, the least id first."""
        yield from self._connection.execute(
            "SELECT checkpoint_ns, checkpoint_id FROM checkpoints WHERE thread_id = ?"
            " ORDER BY checkpoint_id, checkpoint_ns",
            (thread_id,),
        )

    def count(self, thread_id: str) -> int:
        """Return how many checkpoints a thread has."""
        rows = self._connection.execute(
            "SELECT count(*) FROM checkpoints WHERE thread_id = ?", (thread_id,)
        )
        return int(rows.get)

    def parent(self, thread_id: str, namespace: str, checkpoint_id: str) -> str | None:
        """Return the parent of a checkpoint; ``None`` where there is none."""
        parent: str | None = self._connection.execute(
            "SELECT parent_checkpoint_id FROM checkpoints"
            " WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?",
            (thread_id, namespace, checkpoint_id),
        ).get
        return parent

    def row(self, thread_id: str, namespace: str, checkpoint_id: str) -> Row | None:
        """Return the row of a checkpoint; ``None`` where there is none."""
        rows = self._connection.execute(
            "SELECT parent_checkpoint_id, type, checkpoint, metadata FROM checkpoints"
            " WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?",
            (thread_id, namespace, checkpoint_id),
        )
        for parent, kind, checkpoint, metadata in rows:
            return Row(parent or None, kind or "", _bytes(checkpoint), metadata)
        return None

    def writes(self, thread_id: str, namespace: str, checkpoint_id: str) -> list[WriteRow]:
        """Return what tasks wrote since a checkpoint."""
        rows = self._connection.execute(
            f"SELECT task_id, {self._task_path}, idx, channel, type, value FROM writes"  # noqa: S608
            " WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?",
            (thread_id, namespace, checkpoint_id),
        )
        return [
            WriteRow(task_id, path, at, channel, kind or "", _bytes(value))
            for task_id, path, at, channel, kind, value in rows
        ]


@contextmanager
def source(path: Path) -> Iterator[Source]:
    """Open a database to read it, as it is now.

    Raises:
        StoreNotFound: there is no file.
        ForeignSchema: it is no database, or not one of LangGraph's.
        Damage: SQLite can't read it, then or later.
    """
    if not path.exists():
        raise StoreNotFound(f"there is no database at {path}")
    if not path.is_file():
        raise ForeignSchema(f"{path} is not a file")
    try:
        connection = apsw.Connection(
            f"{path.absolute().as_uri()}?{_mode(path)}",
            flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
        )
        try:
            yield _checked(connection, path)
        finally:
            connection.close(True)
    except apsw.Error as error:
        raise explain(error, path) from error


def _checked(connection: apsw.Connection, path: Path) -> Source:
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0)
    connection.set_busy_timeout(_BUSY_MS)
    connection.execute("BEGIN")  # from its first answer on, all answers are of one moment
    columns = _columns(connection)
    for table, needed in _COLUMNS.items():
        if not needed <= columns[table]:
            raise ForeignSchema(f"{path} has no table {table} as LangGraph's SqliteSaver makes it")
    return Source(path, connection, has_paths="task_path" in columns["writes"])


def _columns(connection: apsw.Connection) -> dict[str, set[str]]:
    return {
        table: {
            name
            for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
        }
        for table in _COLUMNS
    }


def _mode(path: Path) -> str:
    """Return how to open a database so that nothing is made beside it.

    One that has a log, though none is there, is held by nobody: read so, it stays alone. Whatever
    else may be written to while we read.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError as error:
        raise ForeignSchema(f"{path} can't be read: {error.strerror}") from error
    is_logged = len(header) == _HEADER_BYTES and header[_READS_LOG] == _LOGGED
    log = path.with_name(path.name + "-wal")
    return "mode=ro&immutable=1" if is_logged and not log.exists() else "mode=ro"


def _bytes(stored: Any) -> bytes:
    """Return what a column of bytes holds; old versions wrote text."""
    return stored.encode() if isinstance(stored, str) else stored or b""
