"""What operators are told: examinations, surveys, salvages and sizes, as lines and as data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from statecore.cli.render import printable, time_text
from statecore.doctor import Examination
from statecore.events import to_time
from statecore.rebuilding import Rebuilt
from statecore.salvaging import Salvaged
from statecore.sizing import KeySize, StoreSizes
from statecore.stream import MAIN
from statecore.survey import Survey

_ROWS_SHOWN: Final = 20


def examination_data(found: Examination) -> dict[str, Any]:
    """Return what the doctor found for programs."""
    return {
        "store": str(found.path),
        "events": found.events,
        "streams": found.streams,
        "last_event": _time(found.last_event),
        "diagnoses": [
            {
                "kind": each.kind,
                "severity": each.severity.name.lower(),
                "text": each.text,
                "remedy": each.remedy,
            }
            for each in found.diagnoses
        ],
        "extent": survey_data(found.survey) if found.survey else None,
        "notes": found.notes,
    }


def _time(microseconds: int) -> str | None:
    return time_text(to_time(microseconds)) if microseconds else None


def examination_lines(found: Examination) -> list[str]:
    """Return what the doctor found for people."""
    lines = []
    for each in found.diagnoses:
        lines.append(f"{each.severity.name.lower()}: {each.kind}: {printable(each.text)}")
        lines.append(f"  do: {printable(each.remedy)}")
    if found.survey:
        lines += survey_lines(found.survey)
    if not found.diagnoses:
        lines.append(f"nothing is wrong with {printable(str(found.path))}")
    lines.append(
        f"{found.events:,} events in {found.streams:,} streams; the last one of "
        f"{_time(found.last_event) or 'unknown time'}"
    )
    return lines + [f"note: {printable(note)}" for note in found.notes]


def survey_data(survey: Survey) -> dict[str, Any]:
    """Return what is intact and what is missing for programs."""
    return {
        "log": survey.log_id.hex(),
        "proven": survey.events,
        "refused": survey.refused,
        "runs": [asdict(run) for run in survey.runs],
        "losses": [
            {
                **asdict(loss),
                "after": time_text(loss.after) if loss.after else None,
                "before": time_text(loss.before) if loss.before else None,
            }
            for loss in survey.losses
        ],
        "gone": survey.gone,
        "pages_cut": survey.pages_cut,
        "agents": survey.agents,
        "notes": survey.notes,
    }


def survey_lines(survey: Survey) -> list[str]:
    """Return what is intact and what is missing for people."""
    proven = ", ".join(f"{count:,} by {proof}" for proof, count in sorted(survey.events.items()))
    lines = [f"intact: {survey.total:,} events: {proven or 'none'}"]
    if survey.refused:
        lines.append(f"refused: {survey.refused:,} records that are not what was written")
    for loss in survey.losses:
        who = survey.agents.get(loss.stream, f"stream {loss.stream}")
        span = f"version {loss.first}"
        if loss.last != loss.first:
            span = f"versions {loss.first} to {loss.last}"
        parts = [f"missing: {printable(who)} {span}"]
        if loss.positions:
            parts.append(f"positions {loss.positions[0]} to {loss.positions[1]}")
        if loss.after:
            parts.append(f"after {time_text(loss.after)}")
        if loss.before:
            parts.append(f"before {time_text(loss.before)}")
        lines.append(", ".join(parts))
    lines += [f"missing: stream {name}: its keys are there, and no event" for name in survey.gone]
    if survey.pages_cut:
        lines.append(
            f"missing: {survey.pages_cut:,} pages at the end of the file: what was on them alone "
            "is not known"
        )
    return lines + [f"note: {printable(note)}" for note in survey.notes]


def salvaged_data(done: Salvaged) -> dict[str, Any]:
    """Return what a salvage came to for programs."""
    return {
        "store": str(done.path),
        "written": done.written,
        "snapshots": done.snapshots,
        "heads": done.heads,
        "has_keys": done.has_keys,
        "has_indexes": done.has_indexes,
        **survey_data(done.survey),
        "notes": [*done.notes, *done.survey.notes],
    }


def salvaged_lines(done: Salvaged) -> list[str]:
    """Return what a salvage came to for people."""
    lines = [
        f"wrote {printable(str(done.path))}: {done.written:,} events, {done.snapshots:,} "
        f"snapshots, {done.heads:,} signed heads"
    ]
    lines += survey_lines(done.survey)
    if not done.has_indexes:
        lines.append("note: run `statecore rebuild` on it with the key before it is used")
    return lines + [f"note: {printable(note)}" for note in done.notes]


def rebuilt_lines(done: Rebuilt) -> list[str]:
    """Return what a rebuilding came to for people."""
    lines = [f"differs: {printable(each)}" for each in done.differences]
    lines += [f"left alone: {printable(each)}" for each in done.left_alone]
    ending = "replaced" if done.is_replaced else "nothing replaced"
    return [
        *lines,
        f"{done.streams:,} states, {done.rows:,} rows, {done.snapshots:,} snapshots; {ending}",
    ]


def sizes_lines(sizes: StoreSizes) -> list[str]:
    """Return what takes how many bytes for people."""
    lines = [f"{sum(sizes.tables.values()):,} bytes in tables, {sizes.free:,} free"]
    tables = sorted(sizes.tables.items(), key=lambda each: -each[1])
    lines += [f"{count:>14,}  {name}" for name, count in tables]
    for state in sizes.states[:_ROWS_SHOWN]:
        who = f"stream {state.stream}" if state.agent_id is None else state.agent_id
        if state.branch != MAIN and state.agent_id is not None:
            who += f"@{state.branch}" if state.branch else " (register)"
        archived = f" ({state.archived:,} archived)" if state.archived else ""
        lines.append(
            f"{state.bytes_in_all:>14,}  {printable(who)}: {state.events:,} events{archived} of "
            f"{state.events_bytes:,}, snapshots {state.snapshots_bytes:,}, history "
            f"{state.history_bytes:,}"
        )
    more = len(sizes.states) - _ROWS_SHOWN
    return [*lines, f"and {more:,} more"] if more > 0 else lines


def key_line(size: KeySize) -> str:
    """Return what a key takes for people."""
    return (
        f"{size.events_bytes:>14,}  {printable(size.key)}: {size.events:,} events, now "
        f"{size.now_bytes:,}"
    )
