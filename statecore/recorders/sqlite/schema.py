"""The tables of a store. On disk: a change of any of these is a new format."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import apsw

from statecore.database import all_or_none
from statecore.errors import Damage, ForeignSchema, NewerFormat

FORMAT: Final = 1
TOPIC: Final = "statecore"  # what our events say where an eventsourcing recorder asks for a topic
TOPIC_ID: Final = 1
_LOG_ID_BYTES: Final = 16

SCHEMA: Final = {
    "table log": "CREATE TABLE log(format INTEGER NOT NULL, id BLOB NOT NULL)",
    # A stream's name is 16 bytes that tell nothing; recorders of other applications use any text.
    "table streams": "CREATE TABLE streams(id INTEGER PRIMARY KEY, name NOT NULL UNIQUE)",
    "table topics": "CREATE TABLE topics(id INTEGER PRIMARY KEY, topic TEXT NOT NULL UNIQUE)",
    "table writers": "CREATE TABLE writers(id INTEGER PRIMARY KEY, prefix BLOB NOT NULL UNIQUE)",
    "table events": (
        "CREATE TABLE events(position INTEGER PRIMARY KEY, stream INTEGER NOT NULL,"
        " version INTEGER NOT NULL, topic INTEGER NOT NULL, state BLOB NOT NULL)"
    ),
    "index events_of_stream": "CREATE UNIQUE INDEX events_of_stream ON events(stream, version)",
    # The key history as posting lists: a row holds up to 64 versions that touched one key.
    "table touches": (
        "CREATE TABLE touches(stream INTEGER NOT NULL, tag BLOB NOT NULL, first INTEGER NOT NULL,"
        " count INTEGER NOT NULL, distances BLOB NOT NULL, PRIMARY KEY(stream, tag, first))"
        " WITHOUT ROWID"
    ),
    "table ids": (
        "CREATE TABLE ids(stream INTEGER NOT NULL, tag BLOB NOT NULL, version INTEGER NOT NULL,"
        " PRIMARY KEY(stream, tag)) WITHOUT ROWID"
    ),
    "table snapshots": (
        "CREATE TABLE snapshots(id INTEGER PRIMARY KEY, stream INTEGER NOT NULL,"
        " version INTEGER NOT NULL, topic INTEGER NOT NULL, state BLOB NOT NULL)"
    ),
    "index snapshots_of_stream": (
        "CREATE UNIQUE INDEX snapshots_of_stream ON snapshots(stream, version)"
    ),
    "table tracking": (
        "CREATE TABLE tracking(application TEXT PRIMARY KEY, notification INTEGER NOT NULL)"
        " WITHOUT ROWID"
    ),
}

# The audit tree (statecore/recorders/sqlite/tree.py). All but the heads can be made again.
TREE_SCHEMA: Final = {
    "table tree": (
        "CREATE TABLE tree(level INTEGER NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL,"
        " upto INTEGER NOT NULL, PRIMARY KEY(level, number)) WITHOUT ROWID"
    ),
    "table links": (
        "CREATE TABLE links(stream INTEGER NOT NULL, tile INTEGER NOT NULL, hash BLOB NOT NULL,"
        " PRIMARY KEY(stream, tile)) WITHOUT ROWID"
    ),
    "table heads": "CREATE TABLE heads(size INTEGER PRIMARY KEY, note BLOB NOT NULL)",
}


def create(database: apsw.Connection, log_id: bytes) -> None:
    """Make the tables of a new log, all or none."""
    with all_or_none(database):
        for statement in (SCHEMA | TREE_SCHEMA).values():
            database.execute(statement)
        database.execute("INSERT INTO log VALUES (?, ?)", (FORMAT, log_id))
        database.execute("INSERT INTO topics VALUES (?, ?)", (TOPIC_ID, TOPIC))


def add_tree(database: apsw.Connection) -> None:
    """Make the tables of the audit tree in a log that was made without, all or none."""
    with all_or_none(database):
        for what, statement in TREE_SCHEMA.items():
            name = what.partition(" ")[2]
            sql = "SELECT 1 FROM sqlite_schema WHERE name = ?"
            if not database.execute(sql, (name,)).fetchall():
                database.execute(statement)


def read_log_id(database: apsw.Connection, path: Path) -> bytes:
    """Return which log a file holds.

    Raises:
        ForeignSchema, NewerFormat, Damage: it holds none; one of a newer format; a damaged one.
    """
    # Of whatever type a damaged file says that it is: text that is none could not be read at all.
    rows = database.execute("SELECT format, CAST(id AS BLOB) FROM log").fetchall()
    if len(rows) != 1:
        raise ForeignSchema(f"{path} does not say which log it is")
    number, log_id = rows[0]
    if number != FORMAT:
        raise NewerFormat(f"{path} has format {number}; this statecore reads {FORMAT}")
    if not isinstance(log_id, bytes) or len(log_id) != _LOG_ID_BYTES:
        raise Damage(f"{path} does not say which log it is: `statecore doctor` tells more")
    return log_id
