"""Peers that keep a state in a table: a history table in SQLite, and doltlite."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import apsw
import msgpack

from benchmarks.peers.contender import Cant, Contender, Pairs, bytes_in, load, titled

# doltlite takes the place of SQLite in Python's own sqlite3, and has to be there before it. Our
# own SQLite, in apsw, stays what it is.
doltlite: Any = None if "_sqlite3" in sys.modules else load("doltlite")

_OF_APPLICATIONS: Final = "a table has one line of history; branches are left to the application"


class TemporalTable(Contender):
    """A history table in SQLite, in WAL mode.

    For a state it visits each key's last row: of the ways tried (grouping, a join with the groups,
    a window) the fastest.
    """

    name = "temporal table"

    def __init__(self, folder: Path, pairs: Pairs) -> None:
        self._folder = folder
        self._database = apsw.Connection(str(folder / "history.db"))
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(
            "CREATE TABLE history(key TEXT, version INTEGER, value BLOB,"
            " PRIMARY KEY(key, version)) WITHOUT ROWID;"
            "CREATE INDEX by_version ON history(version);"
            "CREATE TABLE keys(key TEXT PRIMARY KEY) WITHOUT ROWID"
        )
        with self._database:
            for version, (key, value) in enumerate(pairs, 1):
                row = (key, version, msgpack.packb(value))
                self._database.execute("INSERT INTO history VALUES (?, ?, ?)", row)
                self._database.execute("INSERT OR IGNORE INTO keys VALUES (?)", (key,))
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def value(self, key: str, version: int) -> Any:
        sql = (
            "SELECT value FROM history WHERE key = ? AND version <= ? ORDER BY version DESC LIMIT 1"
        )
        for (packed,) in self._database.execute(sql, (key, version)):
            return msgpack.unpackb(packed)
        return None

    def state(self, version: int) -> dict[str, Any]:
        sql = (
            "SELECT key, (SELECT value FROM history WHERE key = keys.key AND version <= ?"
            " ORDER BY version DESC LIMIT 1) AS value FROM keys"
        )
        rows: list[Any] = self._database.execute(sql, (version,)).fetchall()
        return {key: packed for key, packed in rows if packed is not None}

    def values(self, version: int) -> dict[str, Any]:
        return {key: msgpack.unpackb(packed) for key, packed in self.state(version).items()}

    def diff(self, before: int, after: int) -> dict[str, Any]:
        sql = "SELECT key, value FROM history WHERE version > ? AND version <= ? ORDER BY version"
        rows: list[Any] = self._database.execute(sql, (before, after)).fetchall()
        return dict(rows)

    def history(self, key: str) -> list[int]:
        sql = "SELECT version, value FROM history WHERE key = ? ORDER BY version"
        rows: list[Any] = self._database.execute(sql, (key,)).fetchall()
        return [version for version, _ in rows]

    def fork(self, name: str, version: int | None = None) -> Any:
        raise Cant(_OF_APPLICATIONS)

    def merge(self, ours: Any, theirs: Any) -> Any:
        raise Cant(_OF_APPLICATIONS)

    def size_bytes(self) -> int:
        return bytes_in(self._folder)


class Doltlite(Contender):
    """SQLite over prolly trees: a commit per set, collected and compacted before it is asked."""

    name = titled("doltlite")
    _PUT: Final = "INSERT INTO state VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"

    def __init__(self, folder: Path, pairs: Pairs) -> None:
        import sqlite3

        self._refusal = sqlite3.OperationalError
        self._folder = folder
        self._database = sqlite3.connect(folder / "dolt.db", isolation_level=None)
        self._ask("CREATE TABLE state(key TEXT PRIMARY KEY, value BLOB)")
        self._branch = "main"
        self._ask("SELECT dolt_commit('-A', '-m', 'begin')")
        self._commits = [self._ask("SELECT dolt_hashof('HEAD')")[0][0]]
        self._commits += [self._set(key, value) for key, value in pairs]
        self._versions = {commit: version for version, commit in enumerate(self._commits)}
        self._ask("SELECT dolt_gc()")

    def _ask(self, sql: str, *bindings: Any) -> list[Any]:
        return self._database.execute(sql, bindings).fetchall()

    def _set(self, key: str, value: Any) -> str:
        self._ask(self._PUT, key, msgpack.packb(value))
        return str(self._ask("SELECT dolt_commit('-A', '-m', 'set')")[0][0])

    def _go_to(self, branch: str) -> None:
        if branch != self._branch:
            self._ask("SELECT dolt_checkout(?)", branch)
            self._branch = branch

    def value(self, key: str, version: int) -> Any:
        sql = "SELECT value FROM dolt_at_state(?) WHERE key = ?"
        rows = self._ask(sql, self._commits[version], key)
        return msgpack.unpackb(rows[0][0]) if rows else None

    def state(self, version: int) -> dict[str, Any]:
        return dict(self._ask("SELECT key, value FROM dolt_at_state(?)", self._commits[version]))

    def values(self, version: int) -> dict[str, Any]:
        return {key: msgpack.unpackb(packed) for key, packed in self.state(version).items()}

    def diff(self, before: int, after: int) -> dict[str, Any]:
        sql = "SELECT to_key, to_value FROM dolt_diff_state(?, ?)"
        return dict(self._ask(sql, self._commits[before], self._commits[after]))

    def history(self, key: str) -> list[int]:
        rows = self._ask("SELECT commit_hash, value FROM dolt_history_state WHERE key = ?", key)
        values = sorted((self._versions[commit], packed) for commit, packed in rows)
        pairs = zip(values, [(0, None), *values], strict=False)
        return [version for (version, packed), (_, before) in pairs if packed != before]

    def fork(self, name: str, version: int | None = None) -> str:
        self._ask(
            "SELECT dolt_branch(?, ?)", name, self._commits[-1 if version is None else version]
        )
        return name

    def read(self, branch: str, key: str) -> Any:
        self._go_to(branch)
        return msgpack.unpackb(self._ask("SELECT value FROM state WHERE key = ?", key)[0][0])

    def write(self, branch: str, key: str, value: Any) -> None:
        self._go_to(branch)
        self._set(key, value)

    def prepare(self, ours: str) -> None:
        self._go_to(ours)

    def rehearse(self, ours: str, theirs: str) -> Any:
        raise Cant("it has no way to try a merge")

    def merge(self, ours: str, theirs: str) -> None:
        """Merge as far as it goes: conflicts last as long as the transaction, and no commit."""
        self._ask("BEGIN")
        try:
            self._ask("SELECT dolt_merge(?)", theirs)
        except self._refusal:
            if not self._ask("SELECT * FROM dolt_conflicts"):
                raise

    def lost(self, ours: str, side: Mapping[str, Any]) -> set[str]:
        rows = self._ask("SELECT our_key, our_value, their_value FROM dolt_conflicts_state")
        both = {key: values for key, *values in rows}
        gone = super().lost(ours, side)
        return {key for key in gone if msgpack.packb(side[key]) not in both.get(key, ())}

    def end_merge(self) -> None:
        self._ask("ROLLBACK")

    def size_bytes(self) -> int:
        return bytes_in(self._folder)
