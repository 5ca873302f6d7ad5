"""Items of a LangGraph store, as they lie in a state, and the questions one asks of them.

Pure. An item is one key of the state (``langgraph_keys``). What lies there is a map: the item's own
value, when it was made and last put, and where they apply the time it lives and its vectors. So
whatever happens to an item at once, it is never half of one put and half of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any, Final, TypeAlias, TypeVar

from langgraph.store.base import (
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchItem,
    SearchOp,
)

from statecore.errors import InputError, UnsupportedValue
from statecore.events import to_time
from statecore.integrations.langgraph.keys import (
    Place,
    by_namespace,
    key_of,
    keys_below,
    place_of,
)
from statecore.integrations.langgraph.vectors import best_scores
from statecore.operations import Put
from statecore.packed import Packed, join_map, thaw
from statecore.state import Cell
from statecore.values import Value, pack

# On disk. Never rename.
VALUE: Final = "value"
CREATED: Final = "created"  # microseconds since 1970, UTC, as all times here
UPDATED: Final = "updated"
TTL: Final = "ttl"  # minutes
EXPIRES: Final = "expires"
VECTORS: Final = "vectors"  # by the field each stands for

_MINUTE: Final = 60_000_000  # microseconds
_TTL_MINUTES_MAX: Final = 60 * 24 * 365_000
# An access is recorded if it moves the end by more than this part of the time to live: else each
# read would be an event.
_NOTICEABLE: Final = 0.01

_MANY: Final = 1_000  # looking through them takes a few milliseconds

Fields: TypeAlias = Mapping[str, Value]
"""An item, as it lies in the state."""

_Listed = TypeVar("_Listed")


def put(op: PutOp, now: int, old: Packed | None, vectors: Mapping[str, bytes] | None) -> Put:
    """Return the operation that puts an item in place of an older one, or of none.

    Raises:
        UnsupportedValue, LimitExceeded: the value can't be recorded; names the place in it.
        InputError: the time to live makes no sense.
    """
    if not isinstance(op.value, Mapping):
        raise UnsupportedValue((op.key,), f"an item is a map, not {type(op.value).__name__}")
    before = None if old is None else live_fields(old, now)
    fields: dict[str, Value] = {CREATED: before[CREATED] if before else now, UPDATED: now}
    if op.ttl is not None:
        fields |= {TTL: op.ttl, EXPIRES: now + _life(op.ttl)}
    if vectors:
        fields[VECTORS] = dict(vectors)
    packed = {name: pack(value) for name, value in fields.items()}
    return Put(join_map({VALUE: pack(dict(op.value), (op.key,)), **packed}))


def _life(minutes: float) -> int:
    """Return a time to live in microseconds."""
    if not isinstance(minutes, int | float) or not 0 < minutes <= _TTL_MINUTES_MAX:
        raise InputError(f"a ttl is a positive number of minutes, not {minutes!r}")
    return int(minutes * _MINUTE)


def fields_of(packed: Packed) -> Fields:
    """Return an item's fields."""
    fields: Any = thaw(packed)
    return fields  # type: ignore[no-any-return]


def live_fields(packed: Packed, now: int) -> Fields | None:
    """Return an item's fields; ``None`` where its time is over."""
    fields = fields_of(packed)
    return None if is_over(fields, now) else fields


def is_over(fields: Fields, now: int) -> bool:
    """Tell whether an item's time to live has ended."""
    return bool(fields.get(EXPIRES, now + 1) <= now)


def prolonged(fields: Fields, now: int) -> int | None:
    """Return when an item ends that is accessed now; ``None`` where that need not be recorded."""
    if EXPIRES not in fields:
        return None
    life = _life(fields[TTL])
    end = now + life
    return end if end - fields[EXPIRES] > life * _NOTICEABLE else None


def item_of(place: Place, fields: Fields) -> Item:
    """Return an item as LangGraph has it."""
    namespace, key = place
    created, updated = to_time(fields[CREATED]), to_time(fields[UPDATED])
    return Item(
        value=fields[VALUE], key=key, namespace=namespace, created_at=created, updated_at=updated
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """An item that a search found."""

    state_key: str
    version: int  # that last touched it
    fields: Fields

    @property
    def rank(self) -> tuple[int, int, str]:
        """What puts the item that was put last first."""
        return -self.fields[UPDATED], -self.version, self.state_key

    def as_result(self, score: float | None) -> SearchItem:
        namespace, key = place_of(self.state_key)
        return SearchItem(
            namespace=namespace,
            key=key,
            value=self.fields[VALUE],
            created_at=to_time(self.fields[CREATED]),
            updated_at=to_time(self.fields[UPDATED]),
            score=score,
        )


class Items:
    """The items of a state, as of a time, in microseconds since 1970, UTC."""

    def __init__(
        self, cells: Mapping[str, Cell], keys: Callable[[], Sequence[str]], now: int
    ) -> None:
        """Take the cells of a state, what gives its keys in order, and the time."""
        self._cells = cells
        self._keys = keys
        self.now = now
        self.accessed: set[str] = set()
        """The keys of the state whose items live longer for having been asked for."""

    @property
    def are_many(self) -> bool:
        """Whether looking through all of them takes a while."""
        return len(self._cells) > _MANY

    def get(self, op: GetOp) -> Item | None:
        """Return an item, if it is there."""
        state_key = key_of(op.namespace, op.key)
        cell = self._cells.get(state_key)
        fields = None if cell is None else live_fields(cell[1], self.now)
        if fields is None:
            return None
        self._note_access(state_key, fields, refresh=op.refresh_ttl)
        return item_of((op.namespace, op.key), fields)

    def search(self, op: SearchOp, query: bytes | None) -> list[SearchItem]:
        """Return the items in a namespace or below it that pass a filter.

        Those nearest to the query's vector come first, then, or without one, those put last.
        """
        found = [each for each in self._below(op.namespace_prefix) if _passes(each.fields, op)]
        found.sort(key=lambda each: each.rank)
        scores: list[float | None] = [None] * len(found)
        if query is not None:
            scores = best_scores(query, [each.fields.get(VECTORS, {}) for each in found])
        order = sorted(range(len(found)), key=lambda at: _nearest_first(scores[at]))
        shown = _page(order, op)
        for at in shown:
            self._note_access(found[at].state_key, found[at].fields, refresh=op.refresh_ttl)
        return [found[at].as_result(scores[at]) for at in shown]

    def list_namespaces(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        """Return the namespaces with items, in order, that meet all conditions; cut to a depth."""
        matching = {
            namespace[: op.max_depth]
            for namespace, keys in by_namespace(self._keys())
            if all(_matches(namespace, condition) for condition in op.match_conditions or ())
            and any(self._live_fields(state_key) for state_key in keys)
        }
        return _page(sorted(matching), op)

    def expired(self) -> Iterator[str]:
        """Yield the keys of the state whose items' time is over."""
        for state_key in keys_below(self._keys(), ()):
            if self._live_fields(state_key) is None:
                yield state_key

    def change_of(self, state_key: str, op: PutOp, vectors: Mapping[str, bytes] | None) -> Put:
        """Return the operation that puts an item; raises as ``put`` does."""
        cell = self._cells.get(state_key)
        return put(op, self.now, None if cell is None else cell[1], vectors)

    def __contains__(self, state_key: str) -> bool:
        return state_key in self._cells

    def _below(self, prefix: tuple[str, ...]) -> Iterator[_Found]:
        for state_key in keys_below(self._keys(), prefix):
            fields = self._live_fields(state_key)
            if fields is not None:
                yield _Found(state_key, self._cells[state_key][0], fields)

    def _live_fields(self, state_key: str) -> Fields | None:
        return live_fields(self._cells[state_key][1], self.now)

    def _note_access(self, state_key: str, fields: Fields, *, refresh: bool) -> None:
        if refresh and prolonged(fields, self.now) is not None:
            self.accessed.add(state_key)


def _nearest_first(score: float | None) -> tuple[bool, float]:
    return score is None, -(score or 0.0)


def _page(found: list[_Listed], op: SearchOp | ListNamespacesOp) -> list[_Listed]:
    if op.offset < 0 or op.limit < 0:
        raise InputError("limit and offset are not negative")
    return found[op.offset : op.offset + op.limit]


def _matches(namespace: tuple[str, ...], condition: MatchCondition) -> bool:
    """Tell whether a namespace begins, or ends, as a condition says."""
    kind, path = condition
    if kind not in {"prefix", "suffix"}:
        raise InputError(f"a condition is on the prefix or the suffix, not the {kind!r}")
    if len(path) > len(namespace):
        return False
    part = namespace[: len(path)] if kind == "prefix" else namespace[len(namespace) - len(path) :]
    return all(wanted in {"*", label} for wanted, label in zip(path, part, strict=True))


def _passes(fields: Fields, op: SearchOp) -> bool:
    value = fields[VALUE]
    return all(_fits(value.get(name), wanted) for name, wanted in (op.filter or {}).items())


def _fits(value: Value, wanted: Value) -> bool:
    """Tell whether a value is what a filter wants: maps field by field, lists item by item."""
    if isinstance(wanted, dict):
        if any(name.startswith("$") for name in wanted):
            return all(_compare(value, name, other) for name, other in wanted.items())
        return isinstance(value, dict) and all(
            _fits(value.get(name), other) for name, other in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        return (
            isinstance(value, list) and len(value) == len(wanted) and all(map(_fits, value, wanted))
        )
    return bool(value == wanted)


_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "$gt": gt,
    "$gte": ge,
    "$lt": lt,
    "$lte": le,
}


def _compare(value: Value, operator: str, other: Value) -> bool:
    """Tell whether a comparison holds; one of order never does between what has none."""
    if operator == "$eq":
        return bool(value == other)
    if operator == "$ne":
        return bool(value != other)
    if operator not in _ORDERS:
        raise InputError(f"a filter knows $eq, $ne, {', '.join(_ORDERS)}, not {operator!r}")
    try:
        return _ORDERS[operator](value, other)
    except TypeError:
        return False
