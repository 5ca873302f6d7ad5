"""What may be told of changes and events to who may not see all. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, TypeAlias

from statecore.change import Change
from statecore.events import Event

Sees: TypeAlias = Callable[[str], bool]
"""Tells whether a key may be seen."""


class Sight(Protocol):
    """Tells whether a key may be seen, or all of a state, or anything of it."""

    def __call__(self, key: str, /) -> bool:
        """Tell whether a key may be seen."""

    def is_whole(self) -> bool:
        """Tell whether each key there may be can be seen."""

    def is_any(self) -> bool:
        """Tell whether some key may be seen."""


def shown(change: Change, sees: Sees | None) -> Change:
    """Return what may be seen of a change."""
    if sees is None or all(map(sees, change.operations)):
        return change
    seen = {key: operation for key, operation in change.operations.items() if sees(key)}
    return Change(seen, change.cleared)


def told(event: Event, sees: Sight | None) -> Event | None:
    """Return what may be told of an event; ``None`` where it did nothing that may be seen.

    One that did something to all of a state, or named it, is no key's: why is told to who may see
    all of it, or a key that it set.
    """
    if sees is None:
        return event
    change = shown(event.change, sees)
    is_of_all = change.cleared or not event.change.operations
    if change is event.change and not (is_of_all and not sees.is_whole()):
        return event
    if change.operations:
        touched = {key: at for key, at in event.touched.items() if key in change.operations}
        return replace(event, change=change, touched=touched, is_filtered=True)
    if not is_of_all or not sees.is_any():
        return None
    bare = without_why(event, change)
    return event if bare == event and not change.cleared else replace(bare, is_filtered=True)


def without_why(event: Event, change: Change) -> Event:
    """Return an event with another change in place of its own, and without what it says of why."""
    return replace(event, change=change, touched={}, metadata={}, reason=None, cause=None)
