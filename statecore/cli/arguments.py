"""The arguments and options that commands have in common."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from statecore.errors import InputError


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


def require_paths(command: Any) -> Any:
    """Have a command, or all those of a group, refuse paths that can't be any; return it."""
    for each in getattr(command, "commands", {}).values():
        require_paths(each)
    for parameter in command.params:
        if parameter.type.name == "path":
            parameter.callback = _possible
    return command


def _possible(_context: Any, _parameter: Any, value: Any) -> Any:
    """Return the path that was typed, or the paths, each with a name of its own."""
    if value is None:
        return None
    return possible(value) if isinstance(value, str | Path) else [possible(each) for each in value]


def possible(typed: str | Path) -> Path:
    """Return the path that was typed, with a name: of ``.``, that of the folder it is.

    Raises:
        InputError: there is nothing, or nothing that could be a file's name.
    """
    if not str(typed):
        raise InputError("an empty path names nothing")
    path = Path(typed)
    whole = path.absolute()
    try:
        str(whole).encode()
    except UnicodeEncodeError as error:  # SQLite takes no others
        raise InputError(f"the name of {whole} is not UTF-8") from error
    if not whole.name:
        raise InputError(f"{path} can't be a file")
    return path if path.name else whole
