"""The difference of two states: the change that leads from one to the other.

Large values are not compared in full where something cheaper shows the difference: the same
object is the same value, and a list that grew is recognised by its packed prefix.
"""

from __future__ import annotations

from statecore.change import Change, PackedState, Patch
from statecore.operations import REMOVE, Extend, Operation, Put, Splice
from statecore.packed import (
    Packed,
    Rope,
    is_list,
    is_map,
    list_items,
    same_packed,
    split_list,
    split_map,
    to_bytes,
)


def diff(before: PackedState, after: PackedState) -> Change:
    """Return the change that leads from one state to the other.

    Lists that grew become ``Extend``, other lists ``Splice`` and maps ``Patch`` where that is
    smaller than the new value.
    """
    operations: dict[str, Operation] = {key: REMOVE for key in before if key not in after}
    for key, new in after.items():
        old = before.get(key)
        if old is new:
            continue
        if old is None:
            operations[key] = Put(new)
        elif not same_packed(old, new):
            operations[key] = difference(old, new)
    return Change(operations)


def difference(old: Packed, new: Packed) -> Operation:
    """Return the operation that leads from one value to another."""
    if is_list(old) and is_list(new):
        return grown(old, new) or _list_difference(old, new)
    if isinstance(old, bytes) and isinstance(new, bytes) and is_map(old) and is_map(new):
        patch = Patch(diff(split_map(old), split_map(new)))
        return patch if _weight(patch.change) < len(new) else Put(new)
    return Put(new)


def grown(old: Packed, new: Packed) -> Extend | None:
    """Return what was appended, where the new list is the old one with items behind it.

    Packed items delimit themselves, so bytes that begin with all the old items are exactly those
    items and then others. Ropes that share their chunks need not be compared at all.
    """
    if isinstance(old, Rope) and isinstance(new, Rope):
        tail = new.grown_from(old)
        if tail is not None:
            return Extend(new.count - old.count, tail)
    had, start = list_items(old)
    has, items = list_items(new)
    if has > had and items.startswith(start):
        return Extend(has - had, items[len(start) :])
    return None


def _list_difference(old: Packed, new: Packed) -> Operation:
    mine, theirs = split_list(old), split_list(new)
    shorter = min(len(mine), len(theirs))
    head = _common(mine, theirs, shorter)
    tail = _common(mine[::-1], theirs[::-1], shorter - head)
    middle = theirs[head : len(theirs) - tail]
    splice = Splice(head, len(mine) - head - tail, len(middle), b"".join(middle))
    return splice if len(splice.items) < len(new) else Put(to_bytes(new))


def _common(left: list[bytes], right: list[bytes], limit: int) -> int:
    """Count the leading items that are the same."""
    for at in range(limit):
        if left[at] != right[at]:
            return at
    return limit


def _weight(change: Change) -> int:
    """Estimate the bytes a change takes."""
    return sum(len(key) + _operation_weight(op) for key, op in change.operations.items())


def _operation_weight(operation: Operation) -> int:
    if isinstance(operation, Put):
        return len(operation.packed)
    if isinstance(operation, Extend | Splice):
        return len(operation.items)
    return _weight(operation.change) if isinstance(operation, Patch) else 1
