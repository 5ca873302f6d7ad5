"""Three-way merging: what two sides made of a common base, brought together key by key.

``merge3`` is the one primitive behind merge, revert, cherry-pick, undo and rebase. It looks at
what was *done* where that is known, not only at where it led: two additions of 1 are 2, though
both sides hold the same number. What it can't reconcile it keeps, as a conflict value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, NamedTuple, TypeAlias

from statecore.change import Change, PackedState, Patch
from statecore.conflict import find_unresolved, sum_terms
from statecore.diff import difference
from statecore.errors import OperationMismatch, Path
from statecore.operations import REMOVE, Add, Extend, Operation, Put, put_or_remove
from statecore.packed import (
    Packed,
    is_list,
    is_map,
    join_list,
    join_map,
    same_packed,
    split_list,
    split_map,
    thaw,
    to_bytes,
)
from statecore.values import Unresolved, pack


class Side(NamedTuple):
    """What one side made of a value."""

    value: Packed | None
    operation: Operation | None  # what was done to the base's; ``None``: nothing was
    when: tuple[int, str] = (0, "")  # when it was last done, and by which event


class Undecided:
    """What a strategy returns that does not fit the values it meets."""


UNDECIDED: Final = Undecided()

Strategy: TypeAlias = Callable[[Packed | None, Side, Side], Packed | Undecided | None]
"""Brings together what both sides changed: from base, ours and theirs."""

Settle: TypeAlias = Callable[[Path, Packed | None, Packed | None, Packed | None], Packed | None]
"""Makes a value of what can't be reconciled: from path, base, ours and theirs."""


def keep_both(
    _: Path, base: Packed | None, ours: Packed | None, theirs: Packed | None
) -> Packed | None:
    """Return the conflict of both sides."""
    return sum_terms((ours, theirs), (base,))


@dataclass(frozen=True, slots=True)
class Rules:
    """How to bring values together: strategies by pattern of key, the first that fits counts."""

    strategies: tuple[tuple[str, Strategy], ...] = ()
    settle: Settle = keep_both

    def strategy(self, key: str) -> Strategy | None:
        """Return the strategy for a key, where there is one."""
        return next((way for pattern, way in self.strategies if fnmatchcase(key, pattern)), None)


NO_RULES: Final = Rules()


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge comes to: a change of our side, and what of it is in conflict."""

    change: Change
    conflicts: Mapping[Path, Unresolved] = field(default_factory=dict)
    both: tuple[str, ...] = ()  # keys that both sides changed


When: TypeAlias = Callable[[str], tuple[int, str]]


def merge3(
    base: PackedState,
    ours: Change,
    theirs: Change,
    rules: Rules = NO_RULES,
    when: tuple[When, When] | None = None,
) -> Merged:
    """Return what brings their change of a base to our side.

    Args:
        base: what both sides started from, at least of each key that either changed.
        ours: what we did.
        theirs: what they did.
        rules: how to bring together what both did.
        when: tells of each side when a key was last changed, for strategies that ask.
    """
    mine = done_to(base, ours)
    operations: dict[str, Operation] = {}
    conflicts: dict[Path, Unresolved] = {}
    both: list[str] = []
    for key, their_operation in done_to(base, theirs).items():
        before = base.get(key)
        my_operation = mine.get(key)
        if my_operation is not None:
            both.append(key)
        asks = when if my_operation is not None and rules.strategy(key) else None
        sides = [
            Side(
                operation.apply(before) if operation else before,
                operation,
                asks[at](key) if asks and operation else (0, ""),
            )
            for at, operation in enumerate((my_operation, their_operation))
        ]
        value = merge_value(before, sides[0], sides[1], (key,), rules)
        step = _step(sides[0], sides[1], value)
        if step is not None:
            operations[key] = step
        if my_operation is not None and value is not None:
            conflicts.update(find_unresolved(value, (key,)))
    return Merged(Change(operations), conflicts, tuple(both))


def done_to(base: PackedState, change: Change) -> dict[str, Operation]:
    """Return what a change does to each key, a clear spelled out."""
    if not change.cleared:
        return dict(change.operations)
    done: dict[str, Operation] = dict.fromkeys(base, REMOVE)
    return done | {key: put_or_remove(op.apply(None)) for key, op in change.operations.items()}


def merge_value(
    base: Packed | None, ours: Side, theirs: Side, path: Path, rules: Rules
) -> Packed | None:
    """Return what comes of a value that both sides may have changed."""
    if theirs.operation is None:
        return ours.value
    if ours.operation is None:
        return theirs.value
    strategy = rules.strategy(str(path[0])) if len(path) == 1 else None
    if strategy is not None:
        decided = strategy(base, ours, theirs)
        if not isinstance(decided, Undecided):
            return decided
    decided = _merge_sums(base, ours, theirs)
    if isinstance(decided, Undecided):
        decided = _merge_maps(base, ours, theirs, path, rules)
    if isinstance(decided, Undecided):
        decided = _merge_same(base, ours, theirs)
    if isinstance(decided, Undecided):
        decided = _merge_lists(base, ours, theirs)
    if isinstance(decided, Undecided):
        decided = rules.settle(path, base, ours.value, theirs.value)
    return decided


def _merge_sums(base: Packed | None, ours: Side, theirs: Side) -> Packed | Undecided:
    """Add what both sides added; of floats in one order, whichever side is ours."""
    mine, others = ours.operation, theirs.operation
    if not isinstance(mine, Add) or not isinstance(others, Add):
        return UNDECIDED
    if type(mine.amounts[0]) is not type(others.amounts[0]) or ours.value is None:
        return UNDECIDED
    if mine.exact:
        return others.apply(ours.value)
    amounts = [float(amount) for amount in (*mine.amounts, *others.amounts)]
    before = 0.0 if base is None else thaw(base)
    return pack(math.fsum([before, *amounts])) if isinstance(before, float) else UNDECIDED


def _merge_maps(
    base: Packed | None, ours: Side, theirs: Side, path: Path, rules: Rules
) -> Packed | Undecided:
    """Bring maps together field by field, those both made anew only if both built them up."""
    if base is None and not all(isinstance(side.operation, Patch) for side in (ours, theirs)):
        return UNDECIDED
    before = {} if base is None else _fields(base)
    mine, others = _fields(ours.value), _fields(theirs.value)
    if before is None or mine is None or others is None:
        return UNDECIDED
    fields: dict[str, Packed] = {}
    for name in [*before, *sorted((mine.keys() | others.keys()) - before.keys())]:
        value = merge_value(
            before.get(name),
            Side(mine.get(name), _field_operation(ours, name, before.get(name), mine)),
            Side(others.get(name), _field_operation(theirs, name, before.get(name), others)),
            (*path, name),
            rules,
        )
        if value is not None:
            fields[name] = value
    return join_map(fields)


def _fields(packed: Packed | None) -> Mapping[str, Packed] | None:
    return split_map(packed) if isinstance(packed, bytes) and is_map(packed) else None


def _field_operation(
    side: Side, name: str, before: Packed | None, after: Mapping[str, Packed]
) -> Operation | None:
    """Return what a side did to a field: as it was done, or what differs."""
    if isinstance(side.operation, Patch) and not side.operation.change.cleared:
        return side.operation.change.operations.get(name)
    value = after.get(name)
    return None if same_packed(before, value) else put_or_remove(value)


def _merge_same(base: Packed | None, ours: Side, theirs: Side) -> Packed | Undecided | None:
    """Take what one side left as it was from the other, and what both agree on from either."""
    builds_on = isinstance(ours.operation, Extend | Add) and isinstance(
        theirs.operation, Extend | Add
    )
    if not builds_on and same_packed(ours.value, theirs.value):
        return ours.value
    if same_packed(base, ours.value):
        return theirs.value
    if same_packed(base, theirs.value):
        return ours.value
    return UNDECIDED


def _merge_lists(base: Packed | None, ours: Side, theirs: Side) -> Packed | Undecided:
    """Do both sides' changes of a list that don't meet; at the same place, neither comes first."""
    if base is None or ours.value is None or theirs.value is None:
        return UNDECIDED
    if not (is_list(base) and is_list(ours.value) and is_list(theirs.value)):
        return UNDECIDED
    items = split_list(base)
    first, second = sorted(
        (_hunk(items, split_list(ours.value)), _hunk(items, split_list(theirs.value)))
    )
    if first.end > second.start or first[:2] == second[:2]:
        return UNDECIDED
    merged = [
        *items[: first.start],
        *first.items,
        *items[first.end : second.start],
        *second.items,
        *items[second.end :],
    ]
    return join_list(len(merged), b"".join(merged))


class _Hunk(NamedTuple):
    """Items put in place of those of the base from start to end."""

    start: int
    end: int
    items: list[bytes]


def _hunk(before: list[bytes], after: list[bytes]) -> _Hunk:
    shorter = min(len(before), len(after))
    head = 0
    while head < shorter and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < shorter - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    return _Hunk(head, len(before) - tail, after[head : len(after) - tail])


def _step(ours: Side, theirs: Side, value: Packed | None) -> Operation | None:
    """Return what leads from our value to the merged one, as it was done where that still fits."""
    if same_packed(ours.value, value):
        return None
    if ours.operation is None or isinstance(theirs.operation, Add):
        done = theirs.operation
        if done is not None and _leads(done, ours.value, value):
            return done
    if ours.value is None or value is None:
        return put_or_remove(value)
    return difference(ours.value, value) if _is_plain(value) else Put(to_bytes(value))


def _leads(operation: Operation, before: Packed | None, after: Packed | None) -> bool:
    try:
        return same_packed(operation.apply(before), after)
    except OperationMismatch:
        return False


def _is_plain(value: Packed) -> bool:
    return next(find_unresolved(value), None) is None
