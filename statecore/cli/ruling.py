"""The commands of rules: record what values must be, list it, hold a state to it."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

import statecore
from statecore.cli.access import agent_in, moment, opened
from statecore.cli.arguments import (
    Actor,
    Agent,
    AskPassphrase,
    At,
    Branch,
    Json,
    Reason,
    Store,
)
from statecore.cli.failures import EXIT_INVALID
from statecore.cli.outcomes import rule_lines, rules_data, violation_data
from statecore.cli.output import echo, echo_json
from statecore.cli.render import printable
from statecore.cli.writing import json_in
from statecore.stream import MAIN

commands: Final = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Pattern = Annotated[
    str, typer.Argument(metavar="PATTERN", help="Of keys: user/*.", show_default=False)
]


@commands.callback()
def about() -> None:
    """Record what values must be, and hold a state to it.

    A JSON Schema for a pattern of keys holds on all branches, for every writer, from then on.

    \b
    statecore schema set trip.db trip-planner budget budget.json --reason "no more surprises"
    statecore schema list trip.db trip-planner
    statecore schema check trip.db trip-planner
    statecore schema remove trip.db trip-planner budget
    """


@commands.command("set")
def set_(
    store: Store,
    agent: Agent,
    pattern: Pattern,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="A JSON Schema; - is standard input.", show_default=False
        ),
    ],
    actor: Actor = None,
    reason: Reason = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Record a schema for the keys of a pattern.

    Writes that don't fit are refused from now on; `check` finds values that don't fit already.

    \b
    statecore schema set trip.db trip-planner budget budget.json
    """
    schema = _schema_in(file)
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, MAIN, actor=actor)
        _tell(manager, pattern, manager.set_schema(pattern, schema, reason=reason), as_json=as_json)


@commands.command("list")
def list_(
    store: Store,
    agent: Agent,
    at: At = None,
    branch: Branch = MAIN,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """List the rules: schemas, constraints by name, references.

    With --at, those that held when the branch was at that moment.

    \b
    statecore schema list trip.db trip-planner --at 40
    """
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, branch)
        rules = manager.rules(moment(manager, at))
        if as_json:
            echo_json(*rules_data(rules))
        else:
            echo(list(rule_lines(rules)) or ["(no rules)"])


@commands.command()
def remove(
    store: Store,
    agent: Agent,
    pattern: Pattern,
    actor: Actor = None,
    reason: Reason = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Take the schema of a pattern back; `list --at` still shows that it held.

    \b
    statecore schema remove trip.db trip-planner budget
    """
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, MAIN, actor=actor)
        if pattern not in manager.schemas():
            raise statecore.NotFound(f"{agent} has no schema for {pattern}")
        _tell(manager, pattern, manager.set_schema(pattern, None, reason=reason), as_json=as_json)


@commands.command()
def check(
    store: Store,
    agent: Agent,
    branch: Branch = MAIN,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """List all that violates the rules in a state; then the exit code is 7.

    Values in conflict are exempt until they are resolved. Functions are known to the programs
    that gave them only.

    \b
    statecore schema check trip.db trip-planner
    """
    with opened(store, passphrase=passphrase) as there:
        found = agent_in(there, agent, branch).check()
    if as_json:
        echo_json(*map(violation_data, found))
    else:
        echo([printable(str(each)) for each in found] or ["(no violations)"])
    if found:
        raise typer.Exit(EXIT_INVALID)


def _schema_in(file: str) -> dict[str, Any]:
    schema = json_in(file)
    if not isinstance(schema, dict):
        raise statecore.InputError(f"{file}: a schema is a map")
    return schema


def _tell(agent: statecore.BlockingManager, pattern: str, version: int, *, as_json: bool) -> None:
    if as_json:
        echo_json({"agent": agent.agent_id, "pattern": pattern, "rules": version})
    else:
        echo([f"rules version {version}"])
