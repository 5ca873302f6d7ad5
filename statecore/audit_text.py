"""Entries of the audit record as data, for JSON and for tables. Pure.

What can't be told is ``None``, never left out: each entry has the same fields.
"""

from __future__ import annotations

import json
from typing import Any, Final

from statecore.audit_record import AuditEntry
from statecore.interchange import change_to_data
from statecore.typed_json import to_json

COLUMNS: Final = (
    "position", "index", "time", "agent", "branch", "version", "actor", "type", "keys", "cleared",
    "is_filtered", "reason", "cause", "id", "standing", "trouble", "stream", "writer", "sequence",
    "size_bytes", "change",
)  # fmt: skip
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")  # what spreadsheets take for more than text


def entry_data(entry: AuditEntry, *, changes: bool = False) -> dict[str, Any]:
    """Return an entry for JSON.

    Args:
        changes: with the change itself, every value in full, in the form that keeps its type
            (``statecore/interchange.py``).
    """
    event = entry.event
    data: dict[str, Any] = {
        "position": entry.position,
        "index": entry.index,
        "time": None if entry.time is None else entry.time.isoformat().replace("+00:00", "Z"),
        "agent": entry.agent_id,
        "branch": entry.branch,
        "version": entry.version,
        "actor": event and event.actor,
        "type": event and event.type.name.lower(),
        "keys": None if event is None else list(event.change.operations),
        "cleared": None if event is None else event.change.cleared,
        "is_filtered": None if event is None else event.is_filtered,
        "reason": event and event.reason,
        "cause": event and event.cause,
        "id": event and event.id,
        "standing": entry.standing.value,
        "trouble": entry.trouble,
        "stream": entry.stream.hex(),
        "writer": entry.writer,
        "sequence": entry.sequence,
        "size_bytes": entry.size_bytes,
    }
    if changes:
        data["change"] = None if event is None else _change_data(entry)
    return data


def _change_data(entry: AuditEntry) -> dict[str, Any]:
    """Return all that an event did, and came from."""
    event = entry.event
    assert event is not None, "asked of what is open"
    data: dict[str, Any] = to_json(change_to_data(event.change))
    data["touched"] = dict(event.touched)
    data["metadata"] = {key: to_json(value) for key, value in event.metadata.items()}
    if event.tag is not None:
        data["tag"] = {"name": event.tag[0], "version": event.tag[1]}
    if event.parents:
        data["parents"] = [parent._asdict() for parent in event.parents]
    if event.takes_back:
        data["takes_back"] = list(event.takes_back)
    return data


def entry_row(entry: AuditEntry, *, changes: bool = False) -> list[str]:
    """Return an entry for a table, in the order of ``COLUMNS``, the change only if asked for.

    What is no text is JSON. A text that a spreadsheet would take for a formula has an apostrophe
    before it.
    """
    data = entry_data(entry, changes=changes)
    return [_cell(data[name]) for name in COLUMNS if name in data]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return json.dumps(value)
    return f"'{value}" if value.startswith(_FORMULA) else value
