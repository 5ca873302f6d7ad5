"""A store's file, opened to be looked at: no key, no turn, nothing written to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import apsw

from statecore.database import distrust, explain, require_schema, require_sqlite
from statecore.errors import Damage, ForeignSchema, NewerFormat, StoreNotFound
from statecore.recorders.sqlite.schema import FORMAT, SCHEMA, TREE_SCHEMA
from statecore.recorders.sqlite.tree import SqliteTree

_COMPLAINTS_MAX: Final = 20


class StoreFile:
    """One moment of a store's file: all that is read is as of when it was opened.

    A write-ahead log beside it is read with it. The file may be on a medium that can't be written,
    and others may write to it meanwhile.
    """

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            StoreNotFound, ForeignSchema, NewerFormat, Damage: as named.
        """
        if not path.is_file():
            raise StoreNotFound(f"there is no store at {path}")
        require_sqlite()
        self.path = path
        try:
            self._connection = self._connect()
        except apsw.Error as error:
            raise explain(error, path) from error
        try:
            has_tree = require_schema(self._connection, SCHEMA, path, later=TREE_SCHEMA)
            self.log_id = self._read_log_id()
        except BaseException as error:
            self._connection.close()
            if isinstance(error, apsw.Error):
                raise explain(error, path) from error
            raise
        self.tree = SqliteTree(self.all if has_tree else self._without_tree)

    def _connect(self) -> apsw.Connection:
        """Connect; where no write-ahead log can be made beside it, there is none to be read."""
        log = self.path.with_name(self.path.name + "-wal")
        has_log = log.exists() and log.stat().st_size > 0
        address = f"file:{quote(str(self.path.absolute()))}?mode=ro"
        for uri in (address, address + "&immutable=1"):
            connection = apsw.Connection(
                uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
            )
            try:
                distrust(connection)
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            except (apsw.CantOpenError, apsw.ReadOnlyError):
                connection.close()
                if has_log:
                    raise
            else:
                return connection
        raise Damage(f"{self.path} can't be read")

    def _read_log_id(self) -> bytes:
        rows = self._connection.execute("SELECT format, id FROM log").fetchall()
        if len(rows) != 1 or type(rows[0][1]) is not bytes:
            raise ForeignSchema(f"{self.path} does not say which log it is")
        if rows[0][0] != FORMAT:
            raise NewerFormat(f"{self.path} has format {rows[0][0]}; this statecore reads {FORMAT}")
        log_id: bytes = rows[0][1]
        return log_id

    def complaints(self) -> list[str]:
        """Return what SQLite's own check says of the file's pages and indexes; the first few."""
        rows = self.all(f"PRAGMA integrity_check({_COMPLAINTS_MAX})")
        return [str(text) for (text,) in rows if text != "ok"]

    def all(self, sql: str, bindings: Sequence[Any] = ()) -> list[Any]:
        """Return all rows of a query."""
        try:
            return self._connection.execute(sql, bindings).fetchall()
        except apsw.Error as error:
            raise explain(error, self.path) from error
        except UnicodeDecodeError as error:
            raise Damage(f"{self.path} holds text that is none") from error

    def copy_to(self, target: Path) -> None:
        """Copy all of it, as of the moment it was opened, to an empty file.

        Raises:
            StoreFull, StoreReadOnly: as named; the target is worth nothing.
        """
        copy = apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            with copy.backup("main", self._connection, "main") as copying:
                copying.step()
        except apsw.Error as error:
            raise explain(error, target) from error
        finally:
            copy.close()

    def _without_tree(self, sql: str, bindings: Sequence[Any] = ()) -> list[Any]:
        """Answer for a store that was made before there was a tree: it has the events alone."""
        return self.all(sql, bindings) if " events" in sql else []

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
