"""The command that moves old history to an archive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import statecore
from statecore.cli.access import agent_in, opened, point_of
from statecore.cli.arguments import Actor, Agent, AskPassphrase, Json, Reason, Store
from statecore.cli.output import echo, echo_json
from statecore.cli.render import printable
from statecore.stream import MAIN

commands = typer.Typer()


@commands.command()
def archive(
    store: Store,
    agent: Agent,
    before: Annotated[
        str,
        typer.Option(metavar="POINT", help="A version, a time or a tag.", show_default=False),
    ],
    to: Annotated[Path, typer.Option(metavar="FILE", help="A new file.", show_default=False)],
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
    statecore archive trip.db trip-planner --before 2026-01-01T00:00:00Z --to 2025.archive
    statecore compact trip.db
    STATECORE_ARCHIVES=2025.archive statecore log trip.db trip-planner
    """
    with opened(store, passphrase=passphrase) as there:
        moment = point_of(agent_in(there, agent, MAIN), before)
        done = there.archive(agent, before=moment, to=to, actor=actor, reason=reason)
    if as_json:
        echo_json(_data(done))
    else:
        echo([printable(f"{done.events:,} events of {done.agent_id} are in {done.path}")])
        echo([f"the first version here is {done.horizon}, and version {done.version} says so"])


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
