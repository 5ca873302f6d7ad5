"""What attackers have who can write a store's files: SQLite, the format, keys of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import statecore
from statecore import Report
from statecore.projections.audit_tree import AuditTree, TreeKeeper
from statecore.projections.heads import HEAD_EVENTS
from statecore.recorders.sqlite.reading import StoreFile
from statecore.recorders.sqlite.tree import SqliteTree
from statecore.transparency.checkpoint import Checkpoint, write_checkpoint
from statecore.transparency.note import Note, sign, write_note
from statecore.transparency.signers import Ed25519Signer
from tests.conftest import KEY

AGENTS = ("one", "two", "three")
EVENTS = HEAD_EVENTS + 276
ENDS = ("", "-wal", "-keys")


def write_store(path: Path, events: int = EVENTS) -> None:
    """Write a store of three agents in turn."""
    with statecore.open(path, key=KEY, durability="relaxed") as store:
        agents = [store.manager(name) for name in AGENTS]
        for number in range(events):
            agents[number % len(agents)].set_state(f"key {number % 5}", number)


def copy_store(source: Path, target: Path) -> Path:
    """Copy a store's files as they are; return where the copy is."""
    for end in ENDS:
        file = source.with_name(source.name + end)
        if file.exists():
            shutil.copy(file, target.with_name(target.name + end))
    return target


@contextmanager
def shell(path: Path) -> Iterator[apsw.Connection]:
    """A SQLite shell, in which no constraint of the schema holds, and which leaves no trace."""
    database = apsw.Connection(str(path))
    database.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    schema = database.execute(
        "SELECT rowid, sql FROM sqlite_schema WHERE sql IS NOT NULL"
    ).fetchall()
    _rewrite(database, [(_loosened(sql), at) for at, sql in schema])
    database.close()
    database = apsw.Connection(str(path))
    try:
        yield database
    finally:
        database.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
        _rewrite(database, [(sql, at) for at, sql in schema])
        database.close()


def _loosened(sql: str) -> str:
    return sql.replace(" NOT NULL", "") if sql.startswith("CREATE TABLE") else sql


def _rewrite(database: apsw.Connection, rows: list[tuple[str, int]]) -> None:
    database.execute("PRAGMA writable_schema = ON")
    database.executemany("UPDATE sqlite_schema SET sql = ? WHERE rowid = ?", rows)
    database.execute("PRAGMA writable_schema = OFF")


def run(path: Path, *statements: str) -> None:
    """Run statements in a shell."""
    with shell(path) as database:
        for statement in statements:
            database.execute(statement)


def refit(path: Path) -> None:
    """Make what is not signed fit the events that are there now: the clever attacker."""
    run(path, "DELETE FROM tree", "DELETE FROM links")
    database = apsw.Connection(str(path))

    def ask(sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        return database.execute(sql, bindings).fetchall()

    last = ask("SELECT max(position) FROM events")[0][0]
    TreeKeeper().extend(SqliteTree(ask, database), last or 0)
    database.close()


def resign(path: Path, name: Callable[[str], str] = str) -> bytes:
    """Sign all heads anew, over what is there now, with a key of the attacker's; return one."""
    file = StoreFile(path)
    own = name(f"statecore/{file.log_id.hex()}")
    signer = Ed25519Signer(own, Ed25519PrivateKey.generate())
    tree = AuditTree(file.tree)
    sizes = sorted({*range(HEAD_EVENTS, tree.size() + 1, HEAD_EVENTS), tree.size()})
    notes = [
        write_note(sign(Note(write_checkpoint(Checkpoint(own, at, tree.root(at)))), signer))
        for at in sizes
    ]
    file.close()
    with shell(path) as database:
        database.execute("DELETE FROM heads")
        rows = zip(sizes, notes, strict=True)
        database.executemany("INSERT INTO heads VALUES (?, ?)", list(rows))
    return notes[-1]


def kinds(report: Report) -> set[str]:
    """The kinds of what was found."""
    return {finding.kind for finding in report.findings}


def head_of(path: Path) -> bytes:
    """The last signed head in a store."""
    file = StoreFile(path)
    note = file.tree.heads()[-1][1]
    file.close()
    return note


def policy_of(path: Path) -> bytes:
    """The policy that its owner gave out."""
    with statecore.open(path, key=KEY) as store:
        return store.audit_policy()
