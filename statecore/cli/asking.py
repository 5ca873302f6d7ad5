"""The commands that ask: who made it so, since when is it wrong, what if not, where is it."""

from __future__ import annotations

from typing import Annotated

import typer

import statecore
from statecore.cli.access import agent_in, moment, opened, point_of
from statecore.cli.arguments import (
    Actor,
    Agent,
    AskPassphrase,
    At,
    Branch,
    InValue,
    Json,
    Key,
    Reason,
    Store,
    Until,
)
from statecore.cli.exposing import difference
from statecore.cli.failures import report
from statecore.cli.judging import judge_by
from statecore.cli.lossless import parse
from statecore.cli.outcomes import bisection_data, bisection_line, found_data, found_lines
from statecore.cli.output import echo, echo_json
from statecore.cli.places import place_in
from statecore.cli.render import diff_data, diff_lines, event_data, event_line, event_lines
from statecore.stream import MAIN
from statecore.values import Value

commands = typer.Typer()


@commands.command()
def blame(
    store: Store,
    agent: Agent,
    key: Key,
    path: InValue = None,
    at: At = None,
    branch: Branch = MAIN,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Name the event that made a value what it is.

    \b
    statecore blame trip.db trip-planner spent
    statecore blame trip.db trip-planner plan --path days.3.morning
    """
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, branch)
        point = moment(manager, at)
        event = manager.blame(key, place_in(manager, key, path, point), point)
        if event is None:
            raise statecore.NotFound(f"{agent} never had {key}")
        if as_json:
            echo_json(event_data(event))
        else:
            echo(event_lines(event, key))


@commands.command()
def bisect(
    store: Store,
    agent: Agent,
    good: Annotated[
        str,
        typer.Argument(metavar="GOOD", help="A moment when it was right.", show_default=False),
    ],
    bad: Annotated[
        str, typer.Argument(metavar="BAD", help="A later one: no more.", show_default=False)
    ],
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND", help="Judges.", show_default=False)
    ],
    keys: Annotated[
        str | None,
        typer.Option(metavar="KEY,KEY", help="All that the command looks at.", show_default=False),
    ] = None,
    branch: Branch = MAIN,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Find the event since which something is wrong.

    A command judges. It gets a state as JSON on standard input, and STATECORE_AGENT,
    STATECORE_BRANCH and STATECORE_VERSION in its environment. Its exit code is the verdict, as for
    `git bisect run`: 0 good, 125 can't be told, any other up to 127 bad. With --keys it gets these
    only, and versions between which none of them changed are one look.

    \b
    statecore bisect trip.db trip-planner 2 approved --keys phase -- grep -q rooms
    statecore bisect trip.db trip-planner 2 97 -- sh -c '! grep -q Sintra'
    """
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, branch)
        ends = point_of(manager, good), point_of(manager, bad)
        names = {"STATECORE_AGENT": agent, "STATECORE_BRANCH": branch}
        judge = judge_by(command, keys.split(",") if keys else None, names)
        found = manager.bisect(*ends, judge)
        since, until = found.first_bad - 1, found.first_bad
        event = next(iter(manager.history(since=since, until=until)))
        if as_json:
            echo_json({**bisection_data(found), "event": event_data(event)})
        else:
            echo([bisection_line(found), *event_lines(event)])


@commands.command("what-if")
def what_if(
    store: Store,
    agent: Agent,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The branch to make.", show_default=False)
    ],
    skip: Annotated[
        list[int] | None,
        typer.Option(metavar="VERSION", help="It did not happen.", show_default=False),
    ] = None,
    replace: Annotated[
        list[str] | None,
        typer.Option(metavar="VERSION=JSON", help="It set these keys instead.", show_default=False),
    ] = None,
    until: Until = None,
    actor: Actor = None,
    reason: Reason = None,
    branch: Branch = MAIN,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Make a branch on which some events did not happen.

    Or did something else. It begins before the first of them, and all that came after is done
    again. What would be different is shown.

    \b
    statecore what-if trip.db trip-planner no-boat --skip 85 --skip 86 --skip 87
    statecore what-if trip.db trip-planner cheap --replace '1={"goal": "a day in Porto"}'
    """
    replaced = _replaced(replace or [])
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, branch, actor=actor)
        point = moment(manager, until)
        made = manager.what_if(name, skip=skip or [], replace=replaced, until=point, reason=reason)
        before, after = manager.at(point), made.branch.at()
        for version, why in made.left_out.items():
            report(f"version {version} no longer fitted and is left out: {why}")
        change = difference(before, after)
        if as_json:
            left_out = {str(version): why for version, why in made.left_out.items()}
            echo_json({**diff_data(before, after, change), "left_out": left_out})
        else:
            echo(diff_lines(before, after, change))


def _replaced(given: list[str]) -> dict[int, dict[str, Value]]:
    """Return what events did instead, by version."""
    replaced = {}
    for text in given:
        version, equals, content = text.partition("=")
        if not (version.isdecimal() and equals):
            raise statecore.InputError(f"{text}: say what instead as VERSION=JSON")
        puts = parse(content)
        if not isinstance(puts, dict):
            raise statecore.InputError(f"{content}: say what instead as a map of keys")
        replaced[int(version)] = puts
    return replaced


@commands.command()
def search(
    store: Store,
    agent: Agent,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="As it is written.", show_default=False)
    ],
    history: Annotated[
        bool, typer.Option("--history", help="The events that brought it in.")
    ] = False,
    at: At = None,
    branch: Branch = MAIN,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Find a text in a state, or in all that came into it.

    \b
    statecore search trip.db trip-planner Sintra --at approved
    statecore search trip.db trip-planner "Casa do Largo" --history
    """
    if history and at is not None:
        raise statecore.InputError("--history looks at all of it, without --at")
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, branch)
        if history:
            for event in manager.search_history(text):
                if as_json:
                    echo_json(event_data(event))
                else:
                    echo([event_line(event)])
            return
        found = manager.search(text, moment(manager, at))
        if as_json:
            echo_json(*found_data(found))
        else:
            echo(found_lines(found))
