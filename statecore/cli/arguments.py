"""The arguments and options that commands have in common."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class OnConflict(StrEnum):
    """What to do with what can't be reconciled."""

    RECORD = "record"
    RAISE = "raise"
    OURS = "ours"
    THEIRS = "theirs"


Store = Annotated[
    Path, typer.Argument(metavar="STORE", help="The store's file.", show_default=False)
]
Agent = Annotated[str, typer.Argument(metavar="AGENT", help="Whose state.", show_default=False)]
Key = Annotated[str, typer.Argument(metavar="KEY", help="A key of it.", show_default=False)]
Source = Annotated[
    str, typer.Argument(metavar="SOURCE", help="The branch it comes from.", show_default=False)
]

At = Annotated[
    str | None,
    typer.Option(metavar="POINT", help="A version, a time or a tag.", show_default=False),
]
Since = Annotated[
    str | None, typer.Option(metavar="POINT", help="Only what came after.", show_default=False)
]
Until = Annotated[
    str | None, typer.Option(metavar="POINT", help="Only what came up to.", show_default=False)
]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many.", show_default=False)]
InValue = Annotated[
    str | None,
    typer.Option(
        "--path",
        metavar="PATH",
        help="A place in its value: days.3.morning, or /days/3/morning.",
        show_default=False,
    ),
]

Branch = Annotated[str, typer.Option(help="The branch.")]
Into = Annotated[str, typer.Option(metavar="BRANCH", help="The branch it goes to.")]
Actor = Annotated[str | None, typer.Option(help="Who does it.", show_default=False)]
Reason = Annotated[str | None, typer.Option(help="Why.", show_default=False)]
Settle = Annotated[
    OnConflict,
    typer.Option(help="Where both changed the same: keep both, refuse it all, or take a side."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would come of it.")]

AskPassphrase = Annotated[
    bool, typer.Option("--passphrase", help="Ask for it, or take STATECORE_PASSPHRASE.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON, one line for each event or answer.")]
