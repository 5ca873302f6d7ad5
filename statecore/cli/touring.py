"""The command that shows what this is: the tour."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from statecore.cli import demo as demonstration
from statecore.cli.arguments import AskPassphrase, Json
from statecore.cli.output import echo_json
from statecore.cli.screen import Screen
from statecore.cli.tour import tell

commands = typer.Typer()


@commands.command()
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

    \b
    statecore demo
    statecore demo tour.db
    """
    with demonstration.place(path, passphrase=passphrase) as place:
        run = demonstration.run(place)
        if as_json:
            echo_json(run.data())
        else:
            tell(run, Screen())
