"""Which module has which command: it is imported when that is called, all of them for the help.

To look at one key should not take as long as to import what the tour is shown with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple

import typer

from statecore.cli.arguments import require_paths


class Room(NamedTuple):
    """A module with a ``commands``, a Typer: single commands by their names, or one group."""

    module: str
    names: tuple[str, ...] | str
    panel: str


ROOMS: Final = (
    Room("touring", ("demo",), "To begin"),
    Room("reading", ("log", "show", "get", "diff", "history", "stats"), "To look"),
    Room("writing", ("set", "revert", "restore", "undo", "redo"), "To write and take back"),
    Room(
        "branching",
        ("branch", "merge", "cherry-pick", "rebase", "conflicts", "resolve", "strategy"),
        "To branch and merge",
    ),
    Room("asking", ("blame", "bisect", "what-if", "search"), "To ask"),
    Room("auditing", ("verify", "anchor", "audit"), "To prove"),
    Room("backing_up", "backup", "To keep a copy"),
    Room("importing", "import", "To bring in"),
    Room("operating", ("doctor", "salvage", "check", "rebuild", "size", "compact"), "To tend"),
    Room("tending", ("metrics", "review", "upgrade"), "To tend"),
    Room("archiving", ("archive",), "To tend"),
    Room("permitting", "access", "To hold to rules"),
    Room("ruling", "schema", "To hold to rules"),
    Room("keeping", "keys", "To keep the keys"),
)

_BY_NAME: Final = {
    name: room
    for room in ROOMS
    for name in ((room.names,) if isinstance(room.names, str) else room.names)
}


def panels() -> Iterator[tuple[str, list[str]]]:
    """Yield each panel of the help with the names in it."""
    for title in dict.fromkeys(room.panel for room in ROOMS):
        yield title, [name for name, room in _BY_NAME.items() if room.panel == title]


class Catalog(Mapping[str, Any]):
    """All commands by their names, as the help has them in order."""

    def __getitem__(self, name: str) -> Any:
        """Return a command, its module imported."""
        room = _BY_NAME[name]
        commands = import_module(f"statecore.cli.{room.module}").commands
        whole = typer.Typer(rich_markup_mode=None)
        whole.add_typer(commands, name=room.names if isinstance(room.names, str) else None)
        return require_paths(typer.main.get_group(whole).commands[name])

    def __iter__(self) -> Iterator[str]:
        return iter(_BY_NAME)

    def __len__(self) -> int:
        return len(_BY_NAME)
