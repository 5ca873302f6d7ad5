"""References: values that name other keys, where they are found, and how they are taken back. Pure.

A path leads into a value field by field; where a list is in its way, it leads into each item. At
its end stands the name of a key, a list of names, or ``None`` for no reference.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from statecore.errors import Path
from statecore.values import Value

OnDelete: TypeAlias = Literal["refuse", "clear", "keep"]
"""What becomes of a deletion of a key that is referred to: it is refused; the references to it are
cleared by the same event; or they are kept, and lead nowhere."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Keys of one pattern refer to keys of another."""

    pattern: str
    path: Path
    to: str  # the pattern of the keys referred to
    on_delete: OnDelete
    agent: str | None = None  # whose keys, where they are another agent's
    version: int = 0

    def __str__(self) -> str:
        whose = f" of {self.agent!r}" if self.agent is not None else ""
        return f"reference to {self.to!r}{whose}, version {self.version}"


def names_in(value: Value, path: Path, here: Path = ()) -> Iterator[tuple[Path, Value]]:
    """Yield what stands at the end of a path in a value, with the exact place of each."""
    if isinstance(value, list) and not (path and isinstance(path[0], int)):
        for at, item in enumerate(value):
            yield from names_in(item, path, (*here, at))
    elif not path:
        if value is not None:
            yield here, value
    elif (inner := _inside(value, path[0])) is not None:
        yield from names_in(inner, path[1:], (*here, path[0]))


def without(value: Value, path: Path, gone: Collection[str]) -> Value:
    """Return a value without the references to some keys: ``None`` in place of a name.

    In a list of names, what is left are the others.
    """
    if isinstance(value, list) and not (path and isinstance(path[0], int)):
        items = [without(item, path, gone) for item in value]
        if path:
            return items
        return [
            new for old, new in zip(value, items, strict=True) if new is not None or old is None
        ]
    if not path:
        return None if isinstance(value, str) and value in gone else value
    inner = _inside(value, path[0])
    if inner is None:
        return value
    copy = value.copy()
    copy[path[0]] = without(inner, path[1:], gone)
    return copy


def _inside(value: Value, place: str | int) -> Value:
    if isinstance(value, dict):
        return value.get(place)
    if isinstance(value, list) and isinstance(place, int):
        return value[place] if -len(value) <= place < len(value) else None
    return None
