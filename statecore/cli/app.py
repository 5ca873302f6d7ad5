"""The commands of ``statecore``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

import statecore
from statecore.cli import demo as demonstration
from statecore.cli import render
from statecore.cli.access import agent_in, moment, opened
from statecore.cli.failures import EXIT_CODES, Commands, report
from statecore.cli.lossless import parse, to_json
from statecore.cli.screen import Screen
from statecore.cli.tour import tell

_ABSENT = object()

Store = Annotated[
    Path, typer.Argument(metavar="STORE", help="The store's file.", show_default=False)
]
Agent = Annotated[str, typer.Argument(metavar="AGENT", help="Whose state.", show_default=False)]
Key = Annotated[str, typer.Argument(metavar="KEY", help="A key of it.", show_default=False)]
At = Annotated[
    str | None,
    typer.Option(metavar="POINT", help="A version, a time or a tag.", show_default=False),
]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many.", show_default=False)]
Branch = Annotated[str, typer.Option(help="The branch.")]
AskPassphrase = Annotated[
    bool, typer.Option("--passphrase", help="Ask for it, or take STATECORE_PASSPHRASE.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON, one line for each event or answer.")]


app = typer.Typer(
    name="statecore",
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,  # its tracebacks show local variables, keys among them
    epilog=EXIT_CODES,
)


@app.callback()
def about() -> None:
    """Look at the recorded states of AI agents, now and at any time before.

    \b
    Take the tour, and keep the store it makes:
      statecore demo trip.db
    What happened, newest first, in the whole store and to one key:
      statecore log trip.db --limit 10
      statecore history trip.db trip-planner spent
    The state now, at a version, at a time, at a tag:
      statecore show trip.db trip-planner
      statecore show trip.db trip-planner --at 40
      statecore get trip.db trip-planner plan --at 2026-03-02T09:30:00Z
      statecore diff trip.db trip-planner approved
    Write, and only if nobody else did:
      statecore set trip.db trip-planner budget '{"$decimal": "1900.00"}'
      statecore set trip.db trip-planner note '"call home"' --expected-version 98

    Values are JSON. What JSON has no word for is written {"$decimal": "0.10"}, {"$datetime":
    "2026-03-02T09:30:00Z"}, {"$uuid": ...}, {"$bytes": base64}, {"$float": "nan"}, and a map that
    looks like one of these {"$map": {...}}. A point is a version if it is a number, a time if it
    is ISO 8601 with a zone, and else a tag. The key is looked for in STATECORE_KEY, then in the
    user's key file.
    """


@app.command()
def demo(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="PATH", help="Keep the store here.", show_default=False),
    ] = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Watch a mistake be found by travelling through time.

    Agents plan a trip, one of them slips, and the past tells which one, when and why. The run is
    recorded for real, in a store of its own: a temporary one, or a new one at PATH.
    """
    with demonstration.place(path, passphrase=passphrase) as place:
        run = demonstration.run(place)
        if as_json:
            typer.echo(render.json_line(run.data()))
        else:
            tell(run, Screen())


@app.command()
def log(
    store: Store,
    agent: Annotated[str | None, typer.Option(help="Only this agent.", show_default=False)] = None,
    limit: Limit = None,
    branch: Branch = "main",
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Say what happened, newest first, in the whole store.

    A line says the position in the log, the time, the agent and its version, who, what and why.
    """
    with opened(store, passphrase=passphrase) as there:
        if agent is not None:
            events = iter(agent_in(there, agent, branch).history(newest_first=True))
        else:
            events = _everything(there, branch)
        for event in islice(events, limit):
            typer.echo(
                render.json_line(render.event_data(event)) if as_json else render.event_line(event)
            )


def _everything(store: statecore.BlockingStore, branch: str) -> Iterator[statecore.Event]:
    """Yield the events of all agents, newest first."""
    histories: list[statecore.StateHistory] = []
    for birth in store.agents():
        if birth.branch != branch:
            continue
        try:
            histories.append(store.manager(birth.agent_id).history(newest_first=True))
        except statecore.Erased:
            report(f"{birth.agent_id} has ended and is left out")
    return merge(*histories, key=lambda event: event.position, reverse=True)


@app.command()
def show(
    store: Store,
    agent: Agent,
    at: At = None,
    branch: Branch = "main",
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Show the whole state of an agent, now or at a moment."""
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, branch)
        state = manager.at(moment(manager, at))
        if as_json:
            typer.echo(render.json_line(render.state_data(state)))
        else:
            _echo(render.state_lines(state))


@app.command()
def get(
    store: Store,
    agent: Agent,
    key: Key,
    at: At = None,
    branch: Branch = "main",
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Print the value of a key, now or at a moment, as `set` takes it."""
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, branch)
        point = moment(manager, at)
        version = manager.version() if point is None else point
        value = manager.value_at(key, version, _ABSENT)
        if value is _ABSENT:
            when = "" if at is None else f" at {at}"
            raise statecore.NotFound(f"{agent} has no key {key}{when}")
        typer.echo(render.json_line(to_json(value)) if as_json else render.value_text(value))


@app.command("set", context_settings={"ignore_unknown_options": True})  # -5 is a value
def set_(
    store: Store,
    agent: Agent,
    key: Key,
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help="JSON; - is standard input.", show_default=False)
    ],
    actor: Annotated[str | None, typer.Option(help="Who does it.", show_default=False)] = None,
    reason: Annotated[str | None, typer.Option(help="Why.", show_default=False)] = None,
    expected_version: Annotated[
        int | None,
        typer.Option(min=0, help="Only if it did not change since.", show_default=False),
    ] = None,
    create: Annotated[
        bool, typer.Option("--create", help="Make the store or the agent, if need be.")
    ] = False,
    branch: Branch = "main",
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Set a key, and print the version this made.

    \b
    statecore set trip.db trip-planner goal '"a week in Portugal"' --actor ada
    statecore set trip.db trip-planner plan - < plan.json
    """
    content = parse(_standard_input() if value == "-" else value)
    with opened(store, passphrase=passphrase, create=create) as there:
        manager = agent_in(there, agent, branch, create=create)
        version = manager.set_state(
            key, content, actor=actor, reason=reason, expected_version=expected_version
        )
        made = {"agent": agent, "branch": branch, "key": key, "version": version}
        typer.echo(render.json_line(made) if as_json else f"version {version}")


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise statecore.InputError("standard input is not UTF-8") from error


@app.command()
def diff(
    store: Store,
    agent: Agent,
    start: Annotated[
        str, typer.Argument(metavar="FROM", help="A version, a time or a tag.", show_default=False)
    ],
    end: Annotated[
        str | None, typer.Argument(metavar="TO", help="Another; or now.", show_default=False)
    ] = None,
    branch: Branch = "main",
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Show what leads from one moment to another, forwards or backwards."""
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, branch)
        before, after = manager.at(moment(manager, start)), manager.at(moment(manager, end))
        change = manager.diff(before.version, after.version)
        if as_json:
            typer.echo(render.json_line(render.diff_data(before, after, change)))
        else:
            _echo(render.diff_lines(before, after, change))


@app.command()
def history(
    store: Store,
    agent: Agent,
    key: Annotated[
        str | None, typer.Argument(metavar="KEY", help="Only this key.", show_default=False)
    ] = None,
    actor: Annotated[str | None, typer.Option(help="Only of this one.", show_default=False)] = None,
    since: Annotated[
        str | None, typer.Option(metavar="POINT", help="Only what came after.", show_default=False)
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="POINT", help="Only what came up to.", show_default=False)
    ] = None,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="Forwards.")] = False,
    limit: Limit = None,
    branch: Branch = "main",
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Tell who changed a state or a key, when, how and why.

    Newest first. As JSON, the history of a key has its value after each event.
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
                typer.echo(
                    render.json_line(render.event_data(event) | _value_after(manager, key, event))
                )
            else:
                _echo(render.event_lines(event, key))


def _value_after(
    agent: statecore.BlockingManager, key: str | None, event: statecore.Event
) -> dict[str, Any]:
    """Return the value of the key after an event; nothing where no key is meant, or is there."""
    value = _ABSENT if key is None else agent.value_at(key, event.version, _ABSENT)
    return {} if value is _ABSENT else {"value": to_json(value)}


@app.command()
def stats(store: Store, passphrase: AskPassphrase = False, as_json: Json = False) -> None:
    """Count what there is in a store, and name its agents."""
    with opened(store, passphrase=passphrase) as there:
        counted = there.statistics()
        agents = [
            {"agent": birth.agent_id, "branch": birth.branch, "kind": str(birth.kind)}
            for birth in there.agents()
        ]
    if as_json:
        typer.echo(render.json_line(render.statistics_data(counted, agents)))
    else:
        _echo(render.statistics_lines(counted, agents))


def _echo(lines: Iterator[str]) -> None:
    for line in lines:
        typer.echo(line)
