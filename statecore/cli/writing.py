"""The commands that write: set a key, and take back what was done."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

import statecore
from statecore.cli.access import agent_in, moment, opened, point_of
from statecore.cli.arguments import (
    Actor,
    Agent,
    AskPassphrase,
    Branch,
    DryRun,
    Json,
    Key,
    OnConflict,
    Reason,
    Settle,
    Since,
    Store,
    Until,
)
from statecore.cli.lossless import parse
from statecore.cli.outcomes import result_data, result_lines
from statecore.cli.output import echo, echo_json
from statecore.stream import MAIN
from statecore.typed_json import loads
from statecore.values import Value

commands = typer.Typer()

By = Annotated[
    str | None,
    typer.Option(help="Whose; by default the actor's, or anybody's.", show_default=False),
]


@commands.command("set", context_settings={"ignore_unknown_options": True})  # -5 is a value
def set_(
    store: Store,
    agent: Agent,
    key: Key,
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help="JSON; - is standard input.", show_default=False)
    ],
    actor: Actor = None,
    reason: Reason = None,
    expected_version: Annotated[
        int | None,
        typer.Option(min=0, help="Only if it did not change since.", show_default=False),
    ] = None,
    create: Annotated[
        bool, typer.Option("--create", help="Make the store or the agent, if need be.")
    ] = False,
    branch: Branch = MAIN,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Set a key, and print the version this made.

    \b
    statecore set trip.db trip-planner goal '"a week in Portugal"' --actor ada
    statecore set trip.db trip-planner plan - < plan.json
    """
    content = value_from(value)
    with opened(store, passphrase=passphrase, create=create) as there:
        manager = agent_in(there, agent, branch, create=create)
        version = manager.set_state(
            key, content, actor=actor, reason=reason, expected_version=expected_version
        )
        if as_json:
            echo_json({"agent": agent, "branch": branch, "key": key, "version": version})
        else:
            echo([f"version {version}"])


def value_from(text: str) -> Value:
    """Return the value that was typed, or comes by standard input."""
    return parse(text_from(text))


def text_from(text: str) -> str:
    """Return the text that was typed, or comes by standard input."""
    if text != "-":
        return text
    if sys.stdin is None:  # it was closed
        raise statecore.InputError("there is no standard input")
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise statecore.InputError("standard input is not UTF-8") from error


def json_in(file: str) -> Value:
    """Return the JSON of a file, or of standard input.

    Raises:
        NotFound: there is no such file.
        InputError: it is a folder, or holds no JSON.
    """
    try:
        return loads(text_from(file) if file == "-" else Path(file).read_text("utf-8"))
    except FileNotFoundError as error:
        raise statecore.NotFound(f"there is no file {file}") from error
    except IsADirectoryError as error:
        raise statecore.InputError(f"{file} is a folder, not a file") from error
    except statecore.InputError:
        raise
    except ValueError as error:
        raise statecore.InputError(f"{file} is not JSON ({error})") from error


@commands.command()
def revert(
    store: Store,
    agent: Agent,
    version: Annotated[
        int | None, typer.Argument(metavar="VERSION", help="Of one event.", show_default=False)
    ] = None,
    since: Since = None,
    until: Until = None,
    by: Annotated[str | None, typer.Option(help="Only of this actor.", show_default=False)] = None,
    on_conflict: Settle = OnConflict.RECORD,
    dry_run: DryRun = False,
    actor: Actor = None,
    reason: Reason = None,
    branch: Branch = MAIN,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Take back what events did, by one new event.

    One event, those of a range, those of an actor. What others built on the same values since is
    kept, or becomes a conflict.

    \b
    statecore revert trip.db trip-planner 87 --dry-run
    statecore revert trip.db trip-planner --since approved --by booker --reason "call it off"
    """
    if version is not None and (since, until, by) != (None, None, None):
        raise statecore.InputError("say a version, or a range and whose, not both")
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, branch, actor=actor)
        result = manager.revert(
            version,
            since=moment(manager, since),
            until=moment(manager, until),
            by=by,
            on_conflict=on_conflict.value,
            dry_run=dry_run,
            reason=reason,
        )
        tell(manager, result, as_json=as_json)


@commands.command()
def restore(
    store: Store,
    agent: Agent,
    at: Annotated[
        str, typer.Option(metavar="POINT", help="A version, a time or a tag.", show_default=False)
    ],
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Only this key; may be given again.", show_default=False),
    ] = None,
    actor: Actor = None,
    reason: Reason = None,
    branch: Branch = MAIN,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Make a state, or only some keys, what it was at a moment.

    It is one new event; history is not rewritten.

    \b
    statecore restore trip.db trip-planner --at approved --reason "start booking anew"
    statecore restore trip.db trip-planner --at approved --key budget
    """
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, branch, actor=actor)
        result = manager.restore(point_of(manager, at), keys=key, reason=reason)
        tell(manager, result, as_json=as_json)


@commands.command()
def undo(
    store: Store,
    agent: Agent,
    by: By = None,
    actor: Actor = None,
    reason: Reason = None,
    branch: Branch = MAIN,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Take back the last act that was not undone before.

    What came after it stays.

    \b
    statecore undo trip.db trip-planner
    statecore undo trip.db trip-planner --by booker
    """
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, branch)
        result = manager.undo(by, **_options(actor, reason))
        tell(manager, _done(result, "undo"), as_json=as_json)


@commands.command()
def redo(
    store: Store,
    agent: Agent,
    by: By = None,
    actor: Actor = None,
    reason: Reason = None,
    branch: Branch = MAIN,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Take back the last undo, unless its actor acted anew since.

    \b
    statecore redo trip.db trip-planner --by booker
    """
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, branch)
        result = manager.redo(by, **_options(actor, reason))
        tell(manager, _done(result, "redo"), as_json=as_json)


def _options(actor: str | None, reason: str | None) -> statecore.WriteOptions:
    """Return who and why; where nobody is named, it is whose act it was."""
    return {"reason": reason} if actor is None else {"reason": reason, "actor": actor}


def _done(result: statecore.MergeResult | None, what: str) -> statecore.MergeResult:
    if result is None:
        raise statecore.NotFound(f"there is nothing to {what}")
    return result


def tell(
    agent: statecore.BlockingManager,
    result: statecore.MergeResult,
    *,
    as_json: bool,
) -> None:
    """Say what a merge or a taking back came to."""
    if as_json:
        echo_json(result_data(agent, result))
    else:
        echo(result_lines(result))
