"""The command line as a whole: what its help teaches."""

from __future__ import annotations

from typing import Annotated

import typer

from statecore.cli.failures import EXIT_CODES, Commands
from statecore.cli.output import echo

app = typer.Typer(
    name="statecore",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,  # its tracebacks show local variables, keys among them
    epilog=EXIT_CODES,
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata  # slow to import, and needed only here

        try:
            number = metadata.version("statecore")
        except metadata.PackageNotFoundError:
            number = "(not installed)"
        echo([f"statecore {number}"])
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_tell_version, help="Say which it is."),
    ] = False,
) -> None:
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
    Say who may do what, and ask for it; act as somebody with STATECORE_PRINCIPAL=ada:
      statecore access set trip.db policy.json --as ada
      statecore access check trip.db bob write trip-planner budget --as ada
    Prove that nothing was edited, removed or reordered:
      statecore verify trip.db
      statecore anchor trip.db trip.head
      statecore verify trip.db --anchor trip.head
    Tell an auditor who did what, and have them verify it without any of this:
      statecore audit list trip.db --actor booker --key spent
      statecore audit export trip.db record --agent trip-planner
    Keep a copy elsewhere, as agents go on writing; restore it at any moment:
      statecore backup run trip.db trip.backup
      statecore backup restore trip.backup restored.db --keys trip.db-keys
    See that all keys are there, and whose:
      statecore keys check trip.db
      statecore keys list trip.db
    Find what is wrong, and save what is intact:
      statecore doctor trip.db
      statecore salvage trip.db saved.db

    Values are JSON. What JSON has no word for is written {"$decimal": "0.10"}, {"$datetime":
    "2026-03-02T09:30:00Z"}, {"$uuid": ...}, {"$bytes": base64}, {"$float": "nan"}, a map that
    looks like one of these {"$map": {...}}, and a value in conflict {"$conflict": {...}}. A point
    is a version if it is a number, a time if it is ISO 8601 with a zone, and else a tag. The key
    is looked for in STATECORE_KEY, then in the user's key file.
    """
