"""Places within values: what is at a path, whether it changed, where a text is."""

from __future__ import annotations

from collections.abc import Iterator

from statecore.change import Patch
from statecore.errors import Path
from statecore.operations import Extend, Operation, Put, Splice, Steps
from statecore.packed import (
    Packed,
    is_list,
    is_map,
    join_list,
    same_packed,
    split_list,
    split_map,
    thaw,
    to_bytes,
)
from statecore.values import Value


def at_path(packed: Packed | None, path: Path) -> Packed | None:
    """Return what is at a path in a packed value; ``None`` where there is nothing."""
    for place in path:
        if packed is None:
            return None
        if isinstance(place, str) and is_map(packed):
            packed = split_map(to_bytes(packed)).get(place)
        elif isinstance(place, int) and is_list(packed):
            items = split_list(packed)
            packed = items[place] if -len(items) <= place < len(items) else None
        else:
            return None
    return packed


def same_at(before: Packed | None, after: Packed | None, path: Path) -> bool:
    """Tell whether two values hold the same at a path."""
    return same_packed(at_path(before, path), at_path(after, path))


def find_text(name: str, value: Value, text: str, path: Path = ()) -> Iterator[tuple[Path, Value]]:
    """Yield the strings in a value that hold a text, and what has it in its name, by path."""
    here = (*path, name)
    if text in name or (isinstance(value, str) and text in value):
        yield here, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from find_text(key, item, text, here)
    elif isinstance(value, list):
        for at, item in enumerate(value):
            if isinstance(item, str | dict | list):
                yield from ((_at(here, at, found), v) for found, v in find_text("", item, text))


def _at(here: Path, at: int, found: Path) -> Path:
    return (*here, at, *found[1:])


def brought_in(operation: Operation) -> Iterator[Value]:
    """Yield the values that an operation brings into a state."""
    match operation:
        case Put():
            yield operation.value
        case Extend(count, items) | Splice(_, _, count, items):
            yield thaw(join_list(count, items))
        case Patch(change):
            for name, inner in change.operations.items():
                yield from ({name: value} for value in brought_in(inner))
        case Steps(operations):
            for inner in operations:
                yield from brought_in(inner)
