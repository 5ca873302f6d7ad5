"""The commands that look: what happened, what is, what was."""

from __future__ import annotations

from heapq import merge
from itertools import islice
from typing import Annotated, Any

import typer

import statecore
from statecore.cli import render
from statecore.cli.access import agent_in, moment, opened
from statecore.cli.arguments import (
    Agent,
    AskPassphrase,
    At,
    Branch,
    Json,
    Key,
    Limit,
    Since,
    Store,
    Until,
)
from statecore.cli.exposing import difference, exposed_at
from statecore.cli.failures import report
from statecore.cli.output import echo, echo_json
from statecore.conflict import find_unresolved
from statecore.packed import thaw
from statecore.stream import MAIN
from statecore.typed_json import freeze, to_json
from statecore.values import Value

commands = typer.Typer()

_ABSENT = object()


@commands.command()
def log(
    store: Store,
    agent: Annotated[str | None, typer.Option(help="Only this agent.", show_default=False)] = None,
    limit: Limit = None,
    branch: Annotated[
        str | None, typer.Option(help="Only this branch.", show_default=False)
    ] = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Say what happened, newest first, in the whole store.

    A line says the position in the log, the time, the agent, its branch where that is not main, and
    its version, who, what and why.

    \b
    statecore log trip.db --limit 10
    statecore log trip.db --branch sail
    """
    with opened(store, passphrase=passphrase) as there:
        if agent is not None:
            manager = agent_in(there, agent, branch or MAIN)
            histories = _histories(manager, branch)
        else:
            histories = _everything(there, branch)
        for event in islice(merge(*histories, key=_position, reverse=True), limit):
            if as_json:
                echo_json(render.event_data(event))
            else:
                echo([render.event_line(event)])


def _everything(store: statecore.BlockingStore, branch: str | None) -> list[statecore.StateHistory]:
    """Return the histories of all agents, but those that have ended."""
    histories: list[statecore.StateHistory] = []
    for birth in store.agents():
        try:
            histories += _histories(store.manager(birth.agent_id), branch)
        except statecore.Erased:
            report(f"{birth.agent_id} has ended and is left out")
    if not histories and branch is not None:
        raise statecore.BranchNotFound(f"no agent has a branch {branch}")
    return histories


def _histories(
    agent: statecore.BlockingManager, branch: str | None
) -> list[statecore.StateHistory]:
    """Return the histories of an agent's branches, what they share only once; or of one branch."""
    main = agent.branch(MAIN)
    histories = [main.history(newest_first=True)] if branch in (None, MAIN) else []
    for known in agent.branches():
        if branch in (None, known.name):
            fork = agent.branch(known.name, create=False)
            histories.append(fork.history(since=known.fork.version, newest_first=True))
    return histories


def _position(event: statecore.Event) -> int:
    return event.position


@commands.command()
def show(
    store: Store,
    agent: Agent,
    at: At = None,
    branch: Branch = MAIN,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Show the whole state of an agent, now or at a moment.

    \b
    statecore show trip.db trip-planner --at approved
    statecore show trip.db trip-planner --branch sail
    """
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, branch)
        state = manager.at(moment(manager, at))
        if as_json:
            echo_json(render.state_data(state))
        else:
            echo(render.state_lines(state))
            for key in sorted({str(path[0]) for path in state.conflicts}):
                _report_conflict(key)


@commands.command()
def get(
    store: Store,
    agent: Agent,
    key: Key,
    at: At = None,
    branch: Branch = MAIN,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Print a key's value, now or at a moment, as `set` takes it.

    Of a value in conflict this is the provisional one; as JSON it is the conflict.

    \b
    statecore get trip.db trip-planner plan --at approved
    statecore get trip.db trip-planner goal --branch sail
    """
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, branch)
        value = exposed_at(manager, key, moment(manager, at), _ABSENT)
        if value is _ABSENT:
            when = "" if at is None else f" at {at}"
            raise statecore.NotFound(f"{agent} has no key {key}{when}")
        if as_json:
            echo_json(to_json(value))
        else:
            echo([render.value_text(_provisional(key, value))])


def _provisional(key: str, value: Value) -> Value:
    """Return what stands for a value until its conflicts are decided, and say so."""
    packed = freeze(value)
    if not any(find_unresolved(packed)):
        return value
    _report_conflict(key)
    return thaw(packed)


def _report_conflict(key: str) -> None:
    report(f"{key} is in conflict, and this is provisional: see `statecore conflicts`")


@commands.command()
def diff(
    store: Store,
    agent: Agent,
    start: Annotated[
        str | None,
        typer.Argument(metavar="FROM", help="A version, a time or a tag.", show_default=False),
    ] = None,
    end: Annotated[
        str | None, typer.Argument(metavar="TO", help="Another; or now.", show_default=False)
    ] = None,
    branch: Branch = MAIN,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="BRANCH", help="The branch that TO is of, if another.", show_default=False
        ),
    ] = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Show what leads from one moment or branch to another.

    Forwards or backwards.

    \b
    statecore diff trip.db trip-planner approved
    statecore diff trip.db trip-planner 40 12
    statecore diff trip.db trip-planner --against sail
    """
    if start is None and against is None:
        raise statecore.InputError("say from which moment, or against which branch")
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, branch)
        other = manager if against is None else agent_in(there, agent, against)
        before, after = manager.at(moment(manager, start)), other.at(moment(other, end))
        if against is None:
            change = manager.diff(before.version, after.version)
        else:
            change = difference(before, after)
        if as_json:
            echo_json(render.diff_data(before, after, change))
        else:
            echo(render.diff_lines(before, after, change))


@commands.command()
def history(
    store: Store,
    agent: Agent,
    key: Annotated[
        str | None, typer.Argument(metavar="KEY", help="Only this key.", show_default=False)
    ] = None,
    actor: Annotated[str | None, typer.Option(help="Only of this one.", show_default=False)] = None,
    since: Since = None,
    until: Until = None,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="Forwards.")] = False,
    limit: Limit = None,
    branch: Branch = MAIN,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Tell who changed a state or a key, when, how and why.

    Newest first. As JSON, the history of a key has its value after each event.

    \b
    statecore history trip.db trip-planner spent --since approved
    statecore history trip.db trip-planner --actor ada --limit 3
    """
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, branch)
        events = manager.history(
            key,
            actor=actor,
            since=moment(manager, since),
            until=moment(manager, until),
            newest_first=not oldest_first,
        )
        for event in islice(events, limit):
            if as_json:
                echo_json(render.event_data(event) | _value_after(manager, key, event))
            else:
                echo(render.event_lines(event, key))


def _value_after(
    agent: statecore.BlockingManager, key: str | None, event: statecore.Event
) -> dict[str, Any]:
    """Return the value of the key after an event; nothing where no key is meant, or is there."""
    value = _ABSENT if key is None else exposed_at(agent, key, event.version, _ABSENT)
    return {} if value is _ABSENT else {"value": to_json(value)}


@commands.command()
def stats(store: Store, passphrase: AskPassphrase = False, as_json: Json = False) -> None:
    """Count what there is in a store, and name its agents."""
    with opened(store, passphrase=passphrase) as there:
        counted = there.statistics()
        agents = [
            {"agent": birth.agent_id, "branch": birth.branch, "kind": str(birth.kind)}
            for birth in there.agents()
        ]
    if as_json:
        echo_json(render.statistics_data(counted, agents))
    else:
        echo(render.statistics_lines(counted, agents))
