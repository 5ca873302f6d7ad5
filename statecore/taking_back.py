"""Taking back what events did, and doing again what events of another branch did.

To take back an event is to merge its inverse with all that happened since: what others built on
the same value meanwhile is kept, or becomes a conflict. Only keys that the event touched are
looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

from statecore.change import EMPTY, Change, PackedState, Patch, compose
from statecore.codec import Record
from statecore.codec.record import CLEARED, TAKES_BACK
from statecore.codec.wire import read_change
from statecore.conflict import find_unresolved
from statecore.errors import OperationMismatch
from statecore.events import EventType
from statecore.merging import Merged, Rules, merge3
from statecore.operations import REMOVE, Add, Extend, Operation, put_or_remove
from statecore.packed import Packed, same_packed
from statecore.state import Root
from statecore.stream import KeyHistory, Stream
from statecore.timeline import Timeline
from statecore.values import pack

_COMPOSED_MAX: Final = 1_000  # operations on one key; beyond, only what they led to counts
_NO_ACTS: Final = (
    EventType.TAGGED,
    EventType.ERASED,
    EventType.REKEYED,
    EventType.ARCHIVED,
)


def change_of(record: Record) -> Change:
    """Return what an event did."""
    return read_change(record.operations, cleared=CLEARED in record.extras)


class Past:
    """What happened to the keys of a stream up to a root."""

    def __init__(self, timeline: Timeline, history: KeyHistory, stream: Stream, root: Root) -> None:
        self._timeline = timeline
        self._history = history
        self._stream = stream
        self._root = root

    def take_back(self, versions: Iterable[int], rules: Rules) -> Merged:
        """Return the change that takes back the effect of these events, the newest first."""
        done = EMPTY
        for version in sorted(versions, reverse=True):
            change = change_of(self.record(version))
            keys = self._keys(change, self, version - 1)
            since = {key: op for key in keys if (op := self._since(key, version)) is not None}
            before, base = self.values(keys, version - 1), self.values(keys, version)
            ours = _effect(Change(since).then(_only(done, keys)), base)
            inverse = {
                key: _inverse(operation, before.get(key), ours.operations.get(key))
                for key, operation in _operations(change, keys)
            }
            done = done.then(merge3(base, ours, Change(inverse), rules).change)
        return self._outcome(done)

    def do_again(self, other: Past, versions: Iterable[int], rules: Rules) -> Merged:
        """Return the change that does here what these events did on another branch.

        What builds on a value, an addition or items for a list, builds on ours.
        """
        done = EMPTY
        for version in versions:
            change = change_of(other.record(version))
            keys = self._keys(change, other, version - 1)
            before = other.values(keys, version - 1)
            mine = _only(done, keys).apply(self.values(keys, self._root.version))
            theirs = dict(_operations(change, keys))
            again = {key: op for key, op in theirs.items() if _can_build(op, mine.get(key))}
            rest = Change({key: op for key, op in theirs.items() if key not in again})
            ours = Change({k: put_or_remove(mine.get(k)) for k in keys if _differ(before, mine, k)})
            merged = merge3(before, ours, rest, rules).change
            done = done.then(Change({**merged.operations, **again}))
        return self._outcome(done)

    def back_to(self, version: int, keys: Collection[str] | None) -> Change:
        """Return the change that makes some keys, or all of them, what they were at a version."""
        if keys is None:
            return self._timeline.change_between(self._stream, self._root.version, version)
        then, now = self.values(keys, version), self.values(keys, self._root.version)
        return Change({k: put_or_remove(then.get(k)) for k in keys if _differ(now, then, k)})

    def record(self, version: int) -> Record:
        """Return one record."""
        return self._timeline.record(self._stream, version)

    def values(self, keys: Iterable[str], version: int) -> dict[str, Packed]:
        """Return the values of keys at a version."""
        found = {key: self._timeline.value_at(self._stream, key, version) for key in keys}
        return {key: packed for key, packed in found.items() if packed is not None}

    def all_keys(self, version: int) -> set[str]:
        """Return every key at a version."""
        return set(self._timeline.root_at(self._stream, version).cells)

    def _keys(self, change: Change, past: Past, before: int) -> set[str]:
        """Return the keys a change touches, a clear touching all there were."""
        return {*change.operations, *(past.all_keys(before) if change.cleared else ())}

    def _since(self, key: str, version: int) -> Operation | None:
        """Return what was done to a key after a version, ``None`` for nothing."""
        now = self._root.version
        touched = self._history.touched(self._stream, key, version, now)
        cleared = self._history.cleared(self._stream, version, now)
        if not touched and not cleared:
            return None
        if cleared or len(touched) > _COMPOSED_MAX:
            cell = self._root.cells.get(key)
            return put_or_remove(cell[1] if cell else None)
        steps = (change_of(self.record(at)).operations[key] for at in touched)
        return compose(Change({key: step}) for step in steps).operations[key]

    def _outcome(self, done: Change) -> Merged:
        """Return the change, and what in its result is in conflict."""
        now = self.values(done.operations, self._root.version)
        after = done.apply(now)
        conflicts = {
            path: unresolved
            for key, packed in after.items()
            for path, unresolved in find_unresolved(packed, (key,))
        }
        needed = {
            key: op
            for key, op in done.operations.items()
            if not same_packed(now.get(key), after.get(key))
        }
        return Merged(Change(needed), conflicts, tuple({str(path[0]) for path in conflicts}))


def last_act(
    records: Iterable[Record],
    actor: str | None,
    actor_of: Callable[[int], str | None],
    *,
    undone: bool,
) -> int:
    """Return the last event of an actor to undo, or, where ``undone``, the last undoing; or 0.

    Args:
        records: those of the stream, newest first.
        actor: whose; anybody's where ``None``.
        actor_of: tells who did an event.
        undone: look for an undoing that can be redone: none can once the actor acted anew.
    """
    dead: set[int] = set()
    for record in records:
        kind = record.type
        if record.version in dead or kind in _NO_ACTS:
            continue
        is_undoing = kind in (EventType.UNDONE, EventType.REDONE)
        if is_undoing:
            dead.update(record.extras.get(TAKES_BACK, ()))
        takes_back = record.extras.get(TAKES_BACK, ())
        whose = actor_of(takes_back[0]) if kind == EventType.UNDONE and takes_back else record.actor
        if actor is not None and whose != actor:
            continue
        if undone and (kind == EventType.UNDONE or not is_undoing):
            return record.version if kind == EventType.UNDONE else 0
        if not undone and not is_undoing:
            return record.version
    return 0


def _inverse(operation: Operation, before: Packed | None, since: Operation | None) -> Operation:
    """Return what takes an operation back, so that it fits what was done to the same value since.

    Where others built on what an operation began, only its own part goes: not the whole value.
    """
    if isinstance(operation, Add) and operation.exact and isinstance(since, Add):
        return Add(tuple(-amount for amount in operation.amounts))
    if before is None and since is not None:
        if isinstance(operation, Extend):
            return operation.invert(pack([]))
        if isinstance(operation, Patch):
            return operation.invert(pack({}))
    return operation.invert(before)


def _effect(change: Change, base: PackedState) -> Change:
    """Return the change without what leads back to where it began."""
    after = change.apply(base)
    return _only(change, [key for key in change.operations if _differ(base, after, key)])


def _only(change: Change, keys: Collection[str]) -> Change:
    return Change({key: op for key, op in change.operations.items() if key in keys})


def _operations(change: Change, keys: Iterable[str]) -> Iterator[tuple[str, Operation]]:
    """Yield what a change does to each of these keys, a clear spelled out."""
    for key in keys:
        operation = change.operations.get(key, REMOVE)
        yield key, put_or_remove(operation.apply(None)) if change.cleared else operation


def _can_build(operation: Operation, value: Packed | None) -> bool:
    """Tell whether an operation builds on whatever the value is, and can."""
    if not isinstance(operation, Add | Extend):
        return False
    try:
        operation.apply(value)
    except OperationMismatch:
        return False
    return True


def _differ(before: PackedState, after: PackedState, key: str) -> bool:
    return not same_packed(before.get(key), after.get(key))
