"""The command that moves old history to an archive."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

import statecore
from statecore.cli.access import agent_in, opened, point_of, time_or_version
from statecore.cli.arguments import Actor, AskPassphrase, Json, Reason, Store
from statecore.cli.output import echo, echo_json
from statecore.cli.render import printable
from statecore.stream import MAIN

commands = typer.Typer()


@commands.command()
def archive(
    store: Store,
    before: Annotated[
        str,
        typer.Option(metavar="POINT", help="A version, a time or a tag.", show_default=False),
    ],
    to: Annotated[
        Path,
        typer.Option(metavar="FILE", help="A new file; a folder for --all.", show_default=False),
    ],
    agent: Annotated[
        str | None, typer.Argument(metavar="AGENT", help="Whose state.", show_default=False)
    ] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Of all agents, before a time.")] = False,
    actor: Actor = None,
    reason: Reason = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Move an agent's history before a moment to a file of its own.

    The state at that moment and all after it stay, and so do the proofs of every event. What is in
    the file is sealed as before. To read it, name it, or several, in STATECORE_ARCHIVES; keep it
    for as long as the history is to be read. Then compact gives the space back.

    \b
    statecore archive trip.db trip-planner --before approved --to march.archive
    statecore archive trip.db --all --before 2026-03-02T09:30:00Z --to .
    statecore compact trip.db
    STATECORE_ARCHIVES=march.archive statecore show trip.db trip-planner --at 40
    """
    if everybody == (agent is not None):
        raise statecore.InputError("say whose history, or --all")
    with opened(store, passphrase=passphrase) as there:
        if agent is not None:
            moment = point_of(agent_in(there, agent, MAIN), before)
            done = [there.archive(agent, before=moment, to=to, actor=actor, reason=reason)]
        else:
            time = time_or_version(before)
            if not isinstance(time, datetime):
                raise statecore.InputError("what is one moment of all agents is a time")
            done = there.archive_all(before=time, to=to, actor=actor, reason=reason)
    if as_json:
        echo_json(*map(_data, done))
        return
    for each in done:
        echo([printable(f"{each.events:,} events of {each.agent_id} are in {each.path}")])
        echo([f"  its first version here is {each.horizon}; version {each.version} says so"])
    if not done:
        echo(["there is nothing before that time"])


def _data(done: statecore.Archiving) -> dict[str, Any]:
    return {
        "agent": done.agent_id,
        "file": str(done.path),
        "events": done.events,
        "bytes": done.bytes,
        "first": done.first,
        "horizon": done.horizon,
        "version": done.version,
    }
