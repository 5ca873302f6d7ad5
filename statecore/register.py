"""The register of an agent: its branches by name, and the rules its states are held to.

It is a state like any other, in a stream of its own, so that who made a branch or a rule, when and
why is history, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from statecore.errors import InputError
from statecore.events import Event, Moment
from statecore.stream import MAIN
from statecore.values import check_key

REGISTER: Final = ""  # the branch that no user's branch can be
STRATEGIES: Final = "strategies"
RESOLUTION: Final = "resolution/"
RULES: Final = "rules"  # how many changes there were of what stands under these:
SCHEMA: Final = "schema/"
CONSTRAINT: Final = "constraint/"
REFERENCE: Final = "reference/"
_BRANCH: Final = "branch/"


@dataclass(frozen=True, slots=True)
class Branch:
    """What is known of a branch."""

    name: str
    fork: Moment  # where it began
    generation: int  # how many of its name there were before
    description: str | None
    created: datetime
    actor: str | None  # who made it


def branch_key(name: str) -> str:
    """Return the register's key for a branch.

    Raises:
        InputError: no branch can have this name.
    """
    check_key(name)
    if not name or name == MAIN:
        raise InputError(f"a branch beside {MAIN!r} needs a name of its own, not {name!r}")
    return _BRANCH + name


def branch_names(keys: Iterable[str]) -> list[str]:
    """Return the names that the register's keys tell of."""
    return [key.removeprefix(_BRANCH) for key in keys if key.startswith(_BRANCH)]


def entry(fork: Moment, generation: int, description: str | None) -> dict[str, Any]:
    """Return the register's entry for a branch."""
    return {"fork": list(fork), "generation": generation, "description": description}


def fork_of(entry: dict[str, Any]) -> Moment:
    """Return where the branch of an entry began."""
    return Moment(*entry["fork"])


def is_open(entry: dict[str, Any] | None) -> bool:
    """Tell whether there is an entry, of a branch that was not deleted."""
    return entry is not None and not entry.get("deleted")


def describe(name: str, entry: dict[str, Any], event: Event) -> Branch:
    """Return what an entry, and the event that made it, tell of a branch."""
    return Branch(
        name, fork_of(entry), entry["generation"], entry["description"], event.time, event.actor
    )
