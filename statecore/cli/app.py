"""The command line: all commands, and what they have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from statecore.cli import (
    asking,
    auditing,
    branching,
    importing,
    operating,
    reading,
    ruling,
    writing,
)
from statecore.cli import demo as demonstration
from statecore.cli.arguments import AskPassphrase, Json
from statecore.cli.failures import EXIT_CODES, Commands
from statecore.cli.output import echo_json
from statecore.cli.screen import Screen
from statecore.cli.tour import tell

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
    """Look at and change the recorded states of AI agents, at any moment, on any branch.

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
    Write, and only if nobody else did; take it back:
      statecore set trip.db trip-planner budget '{"$decimal": "1900.00"}'
      statecore set trip.db trip-planner note '"call home"' --expected-version 99
      statecore undo trip.db trip-planner
    Try another future, and bring it home:
      statecore branch trip.db trip-planner sail --describe "by boat"
      statecore set trip.db trip-planner goal '"a week at sea"' --branch sail
      statecore diff trip.db trip-planner --against sail
      statecore merge trip.db trip-planner sail
    Who made it so, and since when?
      statecore blame trip.db trip-planner goal
      statecore bisect trip.db trip-planner 2 approved --keys phase -- grep -q rooms
    Record what values must be; hold the state to it:
      statecore schema set trip.db trip-planner budget budget.json
      statecore schema check trip.db trip-planner
    Prove that nothing was edited, removed or reordered:
      statecore verify trip.db
      statecore audit policy trip.db > trip.policy
      statecore anchor trip.db elsewhere/trip.head
      statecore verify trip.db --policy trip.policy --anchor elsewhere/trip.head
    Find what is wrong, and save what is intact:
      statecore doctor trip.db
      statecore salvage trip.db saved.db

    Values are JSON. What JSON has no word for is written {"$decimal": "0.10"}, {"$datetime":
    "2026-03-02T09:30:00Z"}, {"$uuid": ...}, {"$bytes": base64}, {"$float": "nan"}, a map that
    looks like one of these {"$map": {...}}, and a value in conflict {"$conflict": {...}}. A point
    is a version if it is a number, a time if it is ISO 8601 with a zone, and else a tag. The key
    is looked for in STATECORE_KEY, then in the user's key file.
    """


@app.command(rich_help_panel="To begin")
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
            echo_json(run.data())
        else:
            tell(run, Screen())


for title, room in (
    ("To look", reading),
    ("To write and take back", writing),
    ("To branch and merge", branching),
    ("To ask", asking),
    ("To prove", auditing),
    ("To tend", operating),
):
    for command in room.commands.registered_commands:
        command.rich_help_panel = title
    app.add_typer(room.commands)
app.add_typer(auditing.audit_commands, name="audit", rich_help_panel="To prove")
app.add_typer(importing.commands, name="import", rich_help_panel="To bring in")
app.add_typer(ruling.commands, name="schema", rich_help_panel="To hold to rules")
