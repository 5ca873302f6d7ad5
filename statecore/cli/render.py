"""Events, values and changes as text and as JSON. Pure.

Text from a store may hold anything, escape sequences too, so nothing of it reaches a terminal as
it is: what a terminal would act upon is spelled out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from statecore import AgentState, AuditEntry, Change, Event, EventType, StoreStatistics
from statecore.cli.exposing import exposed
from statecore.register import REGISTER
from statecore.stream import MAIN
from statecore.typed_json import to_json

_WIDTH: Final = 96
_GLANCE_WIDTH: Final = 90

# The control characters, line separators and overrides of the direction of writing (Unicode UAX 9).
_NO_CONTROLS_IN_JSON: Final = r"\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_ACTS_ON_TERMINAL: Final = re.compile(rf"[\x00-\x1f{_NO_CONTROLS_IN_JSON}]")
_ACTS_WITHIN_JSON: Final = re.compile(rf"[{_NO_CONTROLS_IN_JSON}]")


def printable(text: str) -> str:
    """Return a text on one line, with what a terminal would act upon spelled out."""
    return _ACTS_ON_TERMINAL.sub(lambda found: repr(found[0])[1:-1], text)


def shortened(text: str) -> str:
    """Return a text, cut to what can be taken in at a glance."""
    return text if len(text) <= _GLANCE_WIDTH else text[: _GLANCE_WIDTH - 3] + "..."


def value_text(value: Any) -> str:
    """Return a value as JSON for people: what fits on a line is on a line."""
    text = _laid_out(to_json(value), "")
    return _ACTS_WITHIN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _laid_out(data: Any, indent: str) -> str:
    line = json.dumps(data, ensure_ascii=False)
    if len(indent) + len(line) <= _WIDTH or not data or not isinstance(data, dict | list):
        return line
    deeper = indent + "  "
    if isinstance(data, list):
        parts = [_laid_out(item, deeper) for item in data]
    else:
        names = (json.dumps(key, ensure_ascii=False) for key in data)
        items = (_laid_out(item, deeper) for item in data.values())
        parts = [f"{name}: {item}" for name, item in zip(names, items, strict=True)]
    inside = ",\n".join(f"{deeper}{part}" for part in parts)
    return f"{line[0]}\n{inside}\n{indent}{line[-1]}"


def json_line(data: Any) -> str:
    """Return JSON for programs: one line of nothing but ASCII."""
    return json.dumps(data)


def time_text(moment: datetime) -> str:
    """Return a time in full, so that it names the same moment when given back."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def size_text(size: int) -> str:
    """Return a size that can be compared at a glance."""
    return f"{size / 1024:,.1f} KiB"


def table_lines(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield two columns, the second one aligned to the right."""
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for left, right in rows:
        yield f"{left:<{widths[0]}}  {right:>{widths[1]}}"


def state_lines(state: AgentState) -> Iterator[str]:
    """Yield a whole state: where it stands, who made it so, and each key."""
    yield printable(_heading(state))
    for key, value in state.items():
        yield f"{printable(key)} = {value_text(value)}"
    if not state:
        yield "(empty)"


def state_data(state: AgentState) -> dict[str, Any]:
    """Return a whole state for JSON."""
    event = state.event
    return {
        "agent": state.id,
        "branch": state.branch,
        "version": state.version,
        "time": time_text(event.time) if event else None,
        "actor": event.actor if event else None,
        "reason": event.reason if event else None,
        "state": {key: to_json(value) for key, value in exposed(state).items()},
    }


def event_line(event: Event) -> str:
    """Return an event on one line."""
    what = shortened("; ".join(_what(event)))
    who = f"{event.actor}: " if event.actor else ""
    why = f"  ({event.reason})" if event.reason else ""
    where = f"{_whose(event.agent_id, event.branch)} {event.version}"
    return printable(f"{event.position:>6}  {time_text(event.time)}  {where}  {who}{what}{why}")


def event_lines(event: Event, key: str | None = None) -> Iterator[str]:
    """Yield an event: who, when and why, then each operation, or only what was done to a key."""
    who = f"  {event.actor}" if event.actor else ""
    why = f"  ({event.reason})" if event.reason else ""
    yield printable(f"{event.version}  {time_text(event.time)}{who}{why}")
    yield from (f"  {printable(shortened(line))}" for line in _beside(event))
    yield from change_lines(_narrowed(event.change, key))


def entry_lines(entry: AuditEntry, *, changes: bool) -> Iterator[str]:
    """Yield an entry of the audit record: one line, then what changed, where that is asked for."""
    event, size = entry.event, f"{entry.size_bytes} bytes"
    time = time_text(entry.time) if entry.time else "(no time)"
    agent, branch = entry.agent_id, entry.branch
    whose = f"stream {entry.stream.hex()}" if agent is None else _whose(agent, branch or MAIN)
    if agent == "":
        whose = f"(the store's {branch})"
    elif branch == REGISTER and agent is not None:
        whose = f"{agent} (register)"
    what = f"{entry.standing}, {size}" if event is None else "; ".join(_summary(event))
    who = f"{event.actor}: " if event is not None and event.actor else ""
    why = f"  ({event.reason})" if event is not None and event.reason else ""
    wrote = f"  [writer {entry.writer}" + (f", id {event.id}]" if event else "]")
    trouble = f": {entry.trouble}" if entry.trouble else ""
    head = f"{entry.position:>6}  {time}  {whose} {entry.version}  "
    yield printable(f"{head}{who}{what}{trouble}{why}{wrote}")
    if changes and event is not None:
        yield from change_lines(event.change)


def _summary(event: Event) -> list[str]:
    """Say what happened, without the values, and what caused it."""
    keys = list(event.change.operations)
    changed = [f"changed {', '.join(keys)}"] if keys else []
    cleared = ["cleared"] if event.change.cleared else []
    caused = [f"caused by {event.cause}"] if event.cause else []
    hidden = ["changed what may not be seen"] if event.is_filtered else []
    return [*_beside(event), *cleared, *changed, *hidden, *caused] or ["changed nothing"]


def event_data(event: Event) -> dict[str, Any]:
    """Return an event for JSON; its summary is for people, and shortens long values."""
    data = {
        "agent": event.agent_id,
        "branch": event.branch,
        "version": event.version,
        "position": event.position,
        "id": event.id,
        "type": event.type.name.lower(),
        "time": time_text(event.time),
        "actor": event.actor,
        "reason": event.reason,
        "cause": event.cause,
        "cleared": event.change.cleared,
        "summary": {key: str(operation) for key, operation in event.change.operations.items()},
        "metadata": {key: to_json(value) for key, value in event.metadata.items()},
    }
    if event.tag is not None:
        data["tag"] = {"name": event.tag[0], "version": event.tag[1]}
    if event.parents:
        data["parents"] = [parent._asdict() for parent in event.parents]
    if event.takes_back:
        data["takes_back"] = list(event.takes_back)
    return data


def change_lines(change: Change) -> Iterator[str]:
    """Yield a line for each operation of a change."""
    for line in change.lines("  "):
        yield printable(line)


def _narrowed(change: Change, key: str | None) -> Change:
    """Return what a change does to one key, where one is meant."""
    kept = {name: did for name, did in change.operations.items() if key in (None, name)}
    return Change(kept, change.cleared)


def diff_lines(before: AgentState, after: AgentState, change: Change) -> Iterator[str]:
    """Yield what leads from one state to another."""
    there = "" if after.branch == before.branch else f"{after.branch} "
    whose = _whose(before.id, before.branch)
    yield printable(f"{whose} from version {before.version} to {there}{after.version}")
    yield from change_lines(change) if change.touches_anything else ["  (no change)"]


def diff_data(before: AgentState, after: AgentState, change: Change) -> dict[str, Any]:
    """Return what leads from one state to another for JSON: each key's value before and after."""
    keys = {*change.operations, *(before if change.cleared else ())}
    sides = exposed(before), exposed(after)
    return {
        "agent": before.id,
        "branch": before.branch,
        "from": before.version,
        "to_branch": after.branch,
        "to": after.version,
        "keys": {key: _sides(key, *sides) for key in sorted(keys)},
    }


def statistics_lines(counted: StoreStatistics, agents: list[dict[str, str]]) -> Iterator[str]:
    """Yield how much there is in a store, and whose states these are."""
    rows = [("events", f"{counted.events:,}"), ("states", f"{len(agents):,}")]
    rows += [(name, size_text(size)) for name, size in counted.files_bytes.items()]
    rows.append(("in all", size_text(counted.bytes_in_all)))
    if counted.events:
        rows.append(("for each event", f"{counted.bytes_in_all / counted.events:,.0f} bytes"))
    yield from table_lines([(printable(left), right) for left, right in rows])
    for agent in agents:
        yield printable("agent {agent}  {branch}  {kind}".format(**agent))


def statistics_data(counted: StoreStatistics, agents: list[dict[str, str]]) -> dict[str, Any]:
    """Return how much there is in a store for JSON."""
    return {
        "events": counted.events,
        "files_bytes": counted.files_bytes,
        "bytes_in_all": counted.bytes_in_all,
        "agents": agents,
    }


def _sides(key: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return both values of a key; a side that lacks the key is left out."""
    sides = {"before": before, "after": after}
    return {side: to_json(state[key]) for side, state in sides.items() if key in state}


def _heading(state: AgentState) -> str:
    event, whose = state.event, _whose(state.id, state.branch)
    if event is None:
        return f"{whose}  version 0"
    who = f"  {event.actor}" if event.actor else ""
    why = f"  ({event.reason})" if event.reason else ""
    return f"{whose}  version {state.version}  {time_text(event.time)}{who}{why}"


def _whose(agent_id: str, branch: str) -> str:
    return agent_id if branch == MAIN else f"{agent_id} {branch}"


def _what(event: Event) -> list[str]:
    """Say what happened."""
    cleared = ["cleared"] if event.change.cleared else []
    done = (f"{key} {what}" for key, what in event.change.operations.items())
    return [*_beside(event), *cleared, *done]


def _beside(event: Event) -> list[str]:
    """Say what happened beside operations on keys, and where these come from."""
    if event.tag is not None:
        name, version = event.tag
        return [f"tag {name} given up" if version is None else f"tag {name} = version {version}"]
    if event.type == EventType.CHANGED:
        return []
    origins = [f"{parent.branch} {parent.version}" for parent in event.parents]
    origins += map(str, event.takes_back)
    return [f"{event.type.name.lower()} {', '.join(origins)}".rstrip()]
