"""Branches, merges, conflicts and findings as text and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from statecore import BlockingManager, Branch, MergeResult, Moment, Rulebook, Violation
from statecore.bisection import Bisection
from statecore.cli.places import pointer
from statecore.cli.render import change_lines, printable, time_text, value_text
from statecore.errors import Path
from statecore.typed_json import to_json
from statecore.values import Unresolved, Value


def branch_line(name: str, version: int, known: Branch | None) -> str:
    """Return a branch on one line; only of ``"main"`` nothing more is known."""
    line = f"{name}  version {version}"
    if known is not None:
        who = f"  {known.actor}" if known.actor else ""
        why = f"  ({known.description})" if known.description else ""
        fork = f"{known.fork.branch} {known.fork.version}"
        line += f"  from {fork}  {time_text(known.created)}{who}{why}"
    return printable(line)


def branch_data(agent: str, name: str, version: int, known: Branch | None) -> dict[str, Any]:
    """Return a branch for JSON."""
    return {
        "agent": agent,
        "branch": name,
        "version": version,
        "fork": None if known is None else _moment_data(known.fork),
        "description": known and known.description,
        "created": None if known is None else time_text(known.created),
        "actor": known and known.actor,
    }


def rule_lines(rules: Rulebook) -> Iterator[str]:
    """Yield the rules of an agent, each on a line."""
    for pattern, recorded in rules.schemas.items():
        schema = value_text(dict(recorded.schema))
        yield f"{printable(f'schema {pattern}')} (version {recorded.version}) = {schema}"
    for pattern, names in rules.constraints.items():
        yield printable(f"constraint {pattern} = {', '.join(names)}")
    for each in rules.references:
        whose = f" of {each.agent}" if each.agent is not None else ""
        yield printable(
            f"reference {each.pattern} {pointer(each.path)} (version {each.version})"
            f" = {each.to}{whose}, on delete: {each.on_delete}"
        )


def rules_data(rules: Rulebook) -> Iterator[dict[str, Any]]:
    """Yield the rules of an agent for JSON."""
    for pattern, recorded in rules.schemas.items():
        about = {"rule": "schema", "pattern": pattern, "version": recorded.version}
        yield {**about, "schema": dict(recorded.schema)}
    for pattern, names in rules.constraints.items():
        yield {"rule": "constraint", "pattern": pattern, "names": list(names)}
    for each in rules.references:
        yield {"rule": "reference", **asdict(each), "path": list(each.path)}


def violation_data(violation: Violation) -> dict[str, Any]:
    """Return a violation for JSON."""
    return {**asdict(violation), "path": list(violation.path)}


def result_lines(result: MergeResult) -> Iterator[str]:
    """Yield what a merge or a taking back came to, or would come to."""
    if result.version is not None:
        yield f"version {result.version}"
    elif not result.change.touches_anything:
        yield "(no change)"
    yield from change_lines(result.change)
    yield from conflict_lines(result.conflicts, "in conflict: ")


def result_data(agent: BlockingManager, result: MergeResult) -> dict[str, Any]:
    """Return what a merge or a taking back came to for JSON; the version is null in a dry run."""
    return {
        "agent": agent.agent_id,
        "branch": agent.branch_name,
        "version": result.version,
        "cleared": result.change.cleared,
        "summary": {key: str(operation) for key, operation in result.change.operations.items()},
        "conflicts": list(conflicts_data(result.conflicts)),
        "bases": [_moment_data(base) for base in result.bases],
        "keys_ours": result.keys_ours,
        "keys_theirs": result.keys_theirs,
        "keys_both": list(result.keys_both),
    }


def conflict_lines(conflicts: Mapping[Path, Unresolved], lead: str = "") -> Iterator[str]:
    """Yield each conflict: where, what the sides made of it, and what they started from."""
    for (key, *path), unresolved in conflicts.items():
        yield f"{lead}{_place(key, path)}"
        for number, (term, side) in enumerate(zip(unresolved.adds, unresolved.sides, strict=True)):
            yield f"  {number}  {_side(term, side)}"
        for term, base in zip(unresolved.removes, unresolved.bases, strict=True):
            yield f"  from  {_side(term, base)}"


def conflicts_data(conflicts: Mapping[Path, Unresolved]) -> Iterator[dict[str, Any]]:
    """Yield each conflict for JSON; a side or a base without a value had none."""
    for (key, *path), unresolved in conflicts.items():
        yield {"key": key, "path": path, **to_json(unresolved)["$conflict"]}


def found_lines(found: Mapping[Path, Value]) -> Iterator[str]:
    """Yield values with the place of each."""
    for (key, *path), value in found.items():
        yield f"{_place(key, path)} = {value_text(value)}"


def found_data(found: Mapping[Path, Value]) -> Iterator[dict[str, Any]]:
    """Yield values with the place of each for JSON."""
    for (key, *path), value in found.items():
        yield {"key": key, "path": path, "value": to_json(value)}


def bisection_line(found: Bisection) -> str:
    """Return what a bisection found."""
    looks = f"after {len(found.steps)} looks"
    if found.is_certain:
        return f"version {found.first_bad} is the first bad one, {looks}"
    return (
        f"the first bad one is among versions {found.last_good + 1} to {found.first_bad}, {looks}"
    )


def verdict_word(verdict: bool | None) -> str:
    """Return a verdict in a word."""
    return "skip" if verdict is None else "good" if verdict else "bad"


def bisection_data(found: Bisection) -> dict[str, Any]:
    """Return what a bisection found for JSON."""
    return {
        "first_bad": found.first_bad,
        "last_good": found.last_good,
        "certain": found.is_certain,
        "steps": [
            {"version": version, "verdict": verdict_word(verdict)}
            for version, verdict in found.steps
        ],
    }


def _place(key: str | int, path: Path | list[str | int]) -> str:
    return printable(f"{key} {pointer(path)}".rstrip(" "))


def _moment_data(moment: Moment) -> dict[str, Any]:
    return moment._asdict()


def _side(term: bytes | None, value: Value) -> str:
    return "nothing" if term is None else value_text(value).replace("\n", "\n     ")
