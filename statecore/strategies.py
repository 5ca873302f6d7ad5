"""Strategies: ways to bring together what two sides made of a value, chosen by pattern of key.

Each takes the packed base and both sides, and is undecided about values that it is not made for;
then the structural rule counts, and in the end the conflict.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, TypeAlias

from statecore.conflict import is_unresolved
from statecore.errors import InputError, OperationMismatch
from statecore.merging import NO_RULES, UNDECIDED, Side, Strategy, Undecided, merge_value
from statecore.operations import Add, put_or_remove
from statecore.packed import (
    Packed,
    is_list,
    is_map,
    join_list,
    lay_open,
    same_packed,
    split_list,
    thaw,
    to_bytes,
)
from statecore.values import Value, pack

Chosen: TypeAlias = Packed | Undecided | None


def conflict(base: Packed | None, ours: Side, theirs: Side) -> Chosen:
    """Leave it to the structural rule."""
    return UNDECIDED


def ours(base: Packed | None, ours: Side, theirs: Side) -> Chosen:
    """Take our side's."""
    return ours.value


def theirs(base: Packed | None, ours: Side, theirs: Side) -> Chosen:
    """Take their side's."""
    return theirs.value


def latest(base: Packed | None, ours: Side, theirs: Side) -> Chosen:
    """Take what was changed last; of two at the same time, by the event with the higher id."""
    return ours.value if ours.when >= theirs.when else theirs.value


def largest(base: Packed | None, ours: Side, theirs: Side) -> Chosen:
    """Take the larger of two numbers, texts or times."""
    return _extreme(ours, theirs, max)


def smallest(base: Packed | None, ours: Side, theirs: Side) -> Chosen:
    """Take the smaller of two numbers, texts or times."""
    return _extreme(ours, theirs, min)


def _extreme(ours: Side, theirs: Side, choose: Callable[..., Any]) -> Chosen:
    values = _whole(ours.value, theirs.value)
    if values is None or len({type(value) for value in values}) > 1:
        return UNDECIDED
    if isinstance(values[0], bool | None) or any(map(_is_nan, values)):
        return UNDECIDED
    # The bytes decide between values that compare equal, as 0.0 and -0.0: whichever side is ours.
    sides = (to_bytes(side) for side in (ours.value, theirs.value) if side is not None)
    chosen: bytes = choose(zip(values, sides, strict=True))[1]
    return chosen


def _is_nan(value: Value) -> bool:
    if isinstance(value, Decimal):
        return value.is_nan()
    return isinstance(value, float) and math.isnan(value)


def _is_finite(value: Value) -> bool:
    return value.is_finite() if isinstance(value, Decimal) else True


def summed(base: Packed | None, ours: Side, theirs: Side) -> Chosen:
    """Add up what both sides added, however they did it; exactly, but for floats."""
    values = _whole(ours.value, theirs.value, *(() if base is None else (base,)))
    if values is None or len({type(value) for value in values}) > 1:
        return UNDECIDED
    mine, others, before = (*values, type(values[0])())[:3]
    if isinstance(mine, float):
        return pack(before + ((mine - before) + (others - before)))
    if type(mine) not in (int, Decimal) or not all(map(_is_finite, values)):
        return UNDECIDED
    minus = before.copy_negate() if isinstance(before, Decimal) else -before
    try:
        return Add((others, minus)).apply(ours.value)
    except OperationMismatch:  # of too many digits
        return UNDECIDED


def union(base: Packed | None, ours: Side, theirs: Side) -> Chosen:
    """Treat lists as sets: what either side added is in, what either took out is not."""
    lists = _lists(base, ours, theirs)
    if lists is None:
        return UNDECIDED
    before, mine, others = (list(dict.fromkeys(items)) for items in lists)
    kept = [item for item in before if item in mine and item in others]
    added = sorted({*mine, *others} - {*before})
    return join_list(len(kept) + len(added), b"".join([*kept, *added]))


def append(base: Packed | None, ours: Side, theirs: Side) -> Chosen:
    """Append what both sides appended, the earlier side's first."""
    lists = _lists(base, ours, theirs)
    if lists is None:
        return UNDECIDED
    before, mine, others = lists
    if mine[: len(before)] != before or others[: len(before)] != before:
        return UNDECIDED
    tails = [(ours.when, mine[len(before) :]), (theirs.when, others[len(before) :])]
    merged = [*before, *(item for _, tail in sorted(tails) for item in tail)]
    return join_list(len(merged), b"".join(merged))


def text(base: Packed | None, ours: Side, theirs: Side) -> Chosen:
    """Merge texts line by line; undecided where both sides changed the same lines.

    Needs the package ``merge3``: ``pip install "statecore[text]"``.
    """
    values = _whole(base, ours.value, theirs.value)
    if values is None or not all(isinstance(value, str) for value in values):
        return UNDECIDED
    try:
        from merge3 import Merge3
    except ImportError as error:
        raise InputError('the strategy "text" needs: pip install "statecore[text]"') from error
    before, mine, others = (str(value).splitlines(keepends=True) for value in values)
    groups = list(Merge3(before, mine, others).merge_groups())
    if any(group[0] == "conflict" for group in groups):
        return UNDECIDED
    return pack("".join(line for group in groups for line in group[1]))


def objects(field: str = "id") -> Strategy:
    """Return the strategy for lists of maps that are told apart by a field."""

    def merge(base: Packed | None, ours: Side, theirs: Side) -> Chosen:
        lists = _lists(base, ours, theirs)
        known = [_by_id(items, field) for items in lists or ()]
        if not known or None in known:
            return UNDECIDED
        before, mine, others = (each or {} for each in known)
        new = sorted((mine.keys() | others.keys()) - before.keys())
        merged: list[Packed] = []
        for name in [*before, *new]:
            start = before.get(name)
            mine_of, others_of = _side(start, mine.get(name)), _side(start, others.get(name))
            item = merge_value(start, mine_of, others_of, (field, name), NO_RULES)
            if item is not None:
                merged.append(item)
        return join_list(len(merged), b"".join(map(to_bytes, merged)))

    return merge


def _side(before: Packed | None, after: Packed | None) -> Side:
    return Side(after, None if same_packed(before, after) else put_or_remove(after))


def _by_id(items: list[bytes], field: str) -> dict[str, bytes] | None:
    found: dict[str, bytes] = {}
    for packed in items:
        item = lay_open(packed)
        if not isinstance(item, dict) or field not in item:
            return None
        name = repr(item[field])
        if name in found:
            return None
        found[name] = packed
    return found


def by_function(function: Callable[[Value, Value, Value], Value]) -> Strategy:
    """Return the strategy of a function of base, ours and theirs; its result is recorded."""

    def merge(base: Packed | None, ours: Side, theirs: Side) -> Chosen:
        values = (None if p is None else thaw(p) for p in (base, ours.value, theirs.value))
        return pack(function(*values))

    return merge


def _whole(*packed: Packed | None) -> list[Any] | None:
    """Return the values, if all are there, and each without parts and not in conflict."""
    if any(p is None or is_list(p) or is_map(p) or is_unresolved(p) for p in packed):
        return None
    return [thaw(p) for p in packed if p is not None]


def _lists(base: Packed | None, ours: Side, theirs: Side) -> list[list[bytes]] | None:
    """Return the packed items of base, ours and theirs; a missing base has none."""
    packed = (join_list(0, b"") if base is None else base, ours.value, theirs.value)
    if any(each is None or not is_list(each) for each in packed):
        return None
    return [split_list(each) for each in packed if each is not None]


STRATEGIES: Final[dict[str, Strategy]] = {
    "append": append,
    "conflict": conflict,
    "latest": latest,
    "max": largest,
    "min": smallest,
    "objects": objects(),
    "ours": ours,
    "sum": summed,
    "text": text,
    "theirs": theirs,
    "union": union,
}


def named(name: str) -> Strategy:
    """Return the strategy of a name; ``objects:field`` names the field that tells objects apart.

    Raises:
        InputError: there is no such strategy; names those that are.
    """
    kind, _, field = name.partition(":")
    if kind == "objects" and field:
        return objects(field)
    strategy = STRATEGIES.get(name)
    if strategy is None:
        raise InputError(f"strategies are {', '.join(sorted(STRATEGIES))}, not {name!r}")
    return strategy
