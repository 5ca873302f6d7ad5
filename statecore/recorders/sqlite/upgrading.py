"""What a store's file made by an older statecore lacks, step by step, and adding it.

Events are never rewritten (docs/format.md, section 11), so a step makes tables that are caches, or
fills them. Opening a store does the same; here it can be looked at, and rehearsed, before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw

from statecore.database import DATABASE_ERRORS, connect, explain
from statecore.recorders.sqlite.filesystem import require_safe
from statecore.recorders.sqlite.reading import StoreFile
from statecore.recorders.sqlite.schema import TREE_SCHEMA, add_tree
from statecore.recorders.sqlite.ticket import Ticket


@dataclass(frozen=True, slots=True)
class Step:
    """One step to the newest format."""

    name: str
    text: str
    is_due: Callable[[StoreFile], bool]
    take: Callable[[apsw.Connection], None]


def _lacks_tree(file: StoreFile) -> bool:
    rows = file.all("SELECT type || ' ' || name FROM sqlite_schema")
    return not TREE_SCHEMA.keys() <= {what for (what,) in rows}


# In the order in which they are taken. A step stays for as long as there may be a store without it.
STEPS: Final = (
    Step(
        "audit-tree",
        "add the tables of the audit tree; the next write fills them from the events",
        _lacks_tree,
        add_tree,
    ),
)


def due(file: StoreFile) -> list[Step]:
    """Return the steps that a file needs, in order."""
    return [step for step in STEPS if step.is_due(file)]


def take(path: Path, steps: list[Step]) -> None:
    """Take steps, each all or none, while no other process writes.

    Raises:
        StoreReadOnly, StoreFull, StoreBusy, Damage: what was not taken yet is not.
    """
    require_safe(path)
    ticket = Ticket(path.with_name(path.name + "-lock"))
    ticket.acquire()
    try:
        database = connect(path)
        try:
            database.execute("PRAGMA journal_mode = WAL").fetchall()
            database.execute("PRAGMA synchronous = FULL")
            for step in steps:
                step.take(database)
        except DATABASE_ERRORS as error:
            raise explain(error, path) from error
        finally:
            database.close()
    finally:
        ticket.close()
