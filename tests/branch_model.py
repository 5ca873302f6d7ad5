"""A plain model of branches: every version of every branch in full, and the laws of a merge.

It does not know how to merge. It knows which events are in the past of which, and from that which
keys a side touched, what both have in common and what a counter must come to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Set
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias, TypeVar

from statecore import Event, EventType, Moment, Unresolved
from statecore.errors import Path
from statecore.operations import Add
from statecore.values import pack_exposed, same

State: TypeAlias = dict[str, Any]
"""All keys and values, conflicts exposed."""

Seen = TypeVar("Seen", bound=Hashable)

COUNTER = "n"  # a key that is only ever added to
MISSING = object()

_NO_ACTS = (EventType.TAGGED, EventType.UNDONE, EventType.REDONE)


@dataclass(frozen=True, eq=False)
class Version:
    """A version of a branch, as it has to be for ever."""

    moment: Moment
    event: Event | None  # that led to it
    state: State
    tags: dict[str, int | None]
    touched: frozenset[str]  # keys; a clear touches those there were
    seen: frozenset[Moment]  # all that is in its past, and itself

    @property
    def number(self) -> int:
        return self.moment.version

    @property
    def cleared(self) -> bool:
        return self.event is not None and self.event.change.cleared

    @property
    def by(self) -> str | None:
        return self.event.actor if self.event else None

    @property
    def type(self) -> EventType | None:
        return self.event.type if self.event else None

    @property
    def takes_back(self) -> tuple[int, ...]:
        return self.event.takes_back if self.event else ()


class Model:
    """The branches of one agent."""

    def __init__(self) -> None:
        beginning = Moment("main", 0, 0)
        start = Version(beginning, None, {}, {}, frozenset(), frozenset([beginning]))
        self.branches = {"main": [start]}
        self.versions = {beginning: start}
        self.added: dict[Moment, Any] = {}  # to the counter, by its events
        self.spoilt: set[Moment] = set()  # events that did something else to the counter
        self.ruled: set[str] = set()  # keys that there is a strategy for

    def head(self, name: str) -> Version:
        return self.branches[name][-1]

    def take_in(self, name: str, version: Version, *, is_merge: bool) -> None:
        self.branches[name].append(version)
        self.versions[version.moment] = version
        if version.event is not None and not is_merge:  # what a merge brings in is counted already
            operation = version.event.change.operations.get(COUNTER)
            if isinstance(operation, Add) and not version.cleared:
                self.added[version.moment] = operation.amounts[0]
            elif operation is not None or version.cleared:
                self.spoilt.add(version.moment)

    def undoable(self, name: str, actor: str) -> Version | None:
        """The last act of an actor that is not undone."""
        versions = self.branches[name]
        undone: set[int] = set()
        for version in versions:
            if version.type == EventType.UNDONE:
                undone.update(version.takes_back)
            elif version.type == EventType.REDONE:
                undone.difference_update(*(versions[at].takes_back for at in version.takes_back))
        acts = [at for at in versions if at.by == actor and at.type not in _NO_ACTS]
        return next((act for act in reversed(acts) if act.number not in undone), None)

    def bases(self, one: Version, other: Version) -> set[Moment]:
        """What both have in common that is not in the past of something else they have."""
        return newest(one.seen & other.seen, lambda moment: self.versions[moment].seen)

    def touched_since(self, side: Version, other: Version) -> set[str]:
        """The keys that the events of a side touched that the other has not seen."""
        events = side.seen - other.seen
        return {key for moment in events for key in self.versions[moment].touched}

    def count(self, version: Version) -> int | None:
        """What the counter must be; ``None`` where something else than additions happened to it."""
        if version.seen & self.spoilt:
            return None
        return sum(amount for moment, amount in self.added.items() if moment in version.seen)


def newest(shared: Set[Seen], seen: Callable[[Seen], Set[Seen]]) -> set[Seen]:
    """Those of some commits that are in the past of none of the others."""
    return set(shared - {past for commit in shared for past in seen(commit) if past != commit})


# The laws of a merge


def check_merge(
    model: Model, ours: Version, theirs: Version, after: State, conflicts: dict[Path, Unresolved]
) -> None:
    """A merge touches nothing that nobody touched, loses nothing, and says what it can't decide."""
    mine, others = model.touched_since(ours, theirs), model.touched_since(theirs, ours)
    for key in {*ours.state, *theirs.state, *after}:
        now, my, their = (get(state, key) for state in (after, ours.state, theirs.state))
        if key not in others:
            assert alike(now, my), f"{key!r}: they did nothing to it"
        if key not in mine:
            assert alike(now, their), f"{key!r}: only they did something to it"
    bases = model.bases(ours, theirs)
    if len(bases) == 1:
        base = model.versions[next(iter(bases))]
        for key in mine & others - model.ruled:
            base_value, my, their = (get(at.state, key) for at in (base, ours, theirs))
            check_value(base_value, my, their, get(after, key))
        for path, conflict in conflicts.items():
            if path[0] not in model.ruled:
                check_terms(path, conflict, base, ours, theirs)


def check_value(base: Any, ours: Any, theirs: Any, after: Any) -> None:
    """Values without parts, that no addition explains: one side changed it, or it is a conflict."""
    sides = (base, ours, theirs)
    if all(type(value) is dict for value in sides):
        assert type(after) is dict
        for key in {*base, *ours, *theirs, *after}:
            check_value(*(get(value, key) for value in (*sides, after)))
    if any(type(value) in (list, dict, int, float, Decimal, Unresolved) for value in sides):
        return
    if alike(ours, theirs) or alike(base, theirs):
        assert alike(after, ours)
    elif alike(base, ours):
        assert alike(after, theirs)
    else:
        assert type(after) is Unresolved


def check_terms(
    path: Path, conflict: Unresolved, base: Version, ours: Version, theirs: Version
) -> None:
    """A conflict is ours, and theirs, less the base: nothing more, nothing less."""
    if not all(isinstance(step, str) for step in path):
        return  # a conflict that was moved with the list it is in
    sides = [at_path(version.state, path) for version in (ours, theirs, base)]
    if type(sides[0]) is Unresolved and alike(sides[0], sides[1]):
        sides = [sides[0]]
    total: Counter[bytes | None] = Counter()
    for side, sign in zip(sides, (1, 1, -1), strict=False):
        adds, removes = terms(side)
        for term in adds:
            total[term] += sign
        for term in removes:
            total[term] -= sign
    assert Counter(conflict.adds) == +total
    assert Counter(conflict.removes) == -total


def terms(value: Any) -> tuple[Iterable[bytes | None], Iterable[bytes | None]]:
    if type(value) is Unresolved:
        return value.adds, value.removes
    return [None if value is MISSING else pack_exposed(in_order(value))], []


def in_order(value: Any) -> Any:
    """The value with the keys of its maps in order."""
    if isinstance(value, dict):
        return {key: in_order(value[key]) for key in sorted(value)}
    return [in_order(item) for item in value] if isinstance(value, list) else value


# Looking into states


def built_on(value: Any, more: Any) -> Any:
    """What extending a list, patching a map or adding to a number comes to."""
    value = type(more)() if value is MISSING else value
    if type(value) is not type(more):
        raise TypeError
    return {**value, **more} if isinstance(value, dict) else value + more


def get(state: State, key: str) -> Any:
    return state.get(key, MISSING)


def alike(one: Any, other: Any) -> bool:
    return one is other or same(one, other)


def at_path(state: Any, path: Path) -> Any:
    """What is at a path; ``MISSING`` where nothing is."""
    for step in path:
        if isinstance(state, dict) and isinstance(step, str):
            state = state.get(step, MISSING)
        else:
            state = state[step] if isinstance(state, list) and isinstance(step, int) else MISSING
    return state


def put_at(state: Any, path: Path, value: Any) -> Any:
    """The state with another value at a path, or without it where the value is ``MISSING``."""
    if not path:
        return value
    step, *rest = path
    inside = put_at(state[step], tuple(rest), value) if rest else value
    if isinstance(state, list):
        assert isinstance(step, int)
        return [*state[:step], *([] if inside is MISSING else [inside]), *state[step + 1 :]]
    if inside is MISSING:
        return {key: item for key, item in state.items() if key != step}
    return {**state, step: inside}


def find_conflicts(value: Any, path: Path = ()) -> dict[Path, Unresolved]:
    """The conflicts in a value, by path."""
    if type(value) is Unresolved:
        return {path: value}
    places: Iterable[tuple[str | int, Any]] = []
    if isinstance(value, dict | list):
        places = value.items() if isinstance(value, dict) else enumerate(value)
    return {at: found for k, v in places for at, found in find_conflicts(v, (*path, k)).items()}
