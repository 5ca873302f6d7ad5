"""Where branches come from: what two states have in common, and what each did since.

A state's past is a version vector: of each branch, up to which version it has taken in. Branches
are linear, so what two states share is the smaller of each; the newest moments of that are the
bases of a merge. After a criss-cross of merges there is more than one, and they are merged into a
virtual base, as git's recursive strategy does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import NamedTuple

from statecore.change import Change, PackedState, compose
from statecore.codec.record import CLEARED, PAST
from statecore.codec.wire import read_change
from statecore.diff import diff
from statecore.errors import OperationMismatch
from statecore.events import Moment, Past, join, meet
from statecore.merging import merge3
from statecore.operations import Add, Operation
from statecore.packed import Packed, lay_open, same_packed
from statecore.state import Root, values_of
from statecore.stream import Stream, StreamName
from statecore.streams import Streams
from statecore.timeline import Timeline


class Fork(NamedTuple):
    """What two states started from, and what was done since on either side."""

    bases: tuple[Moment, ...]
    state: PackedState
    ours: Change
    theirs: Change


class _Side(NamedTuple):
    """A state to merge: of a stream, or one that only came of merging the bases of a merge."""

    past: Past
    values: Callable[[], PackedState]  # made only where they are asked for
    stream: Stream | None = None
    version: int = 0


def past_of(stream: Stream, root: Root) -> Past:
    """Return all that a state has taken in, its own branch included."""
    return join(root.past, {moment_of(stream, root).line: root.version})


def moment_of(stream: Stream, root: Root) -> Moment:
    """Return which moment a state is: of a parent's, where a fork has no event of its own yet."""
    return Moment(*stream.owner(root.version).name[1:], root.version)


class Ancestry:
    """Answers what branches of one agent have in common."""

    def __init__(self, streams: Streams, timeline: Timeline, agent_id: str) -> None:
        self._streams = streams
        self._timeline = timeline
        self._agent_id = agent_id

    def fork(self, ours: tuple[Stream, Root], theirs: tuple[Stream, Root]) -> Fork:
        """Return what two states of the agent have in common, and what either did since."""
        return self._fork(_side(*ours), _side(*theirs))

    def _fork(self, *sides: _Side) -> Fork:
        shared = meet(*(side.past for side in sides))
        bases = self._newest(shared)
        state = self._state_of(bases)
        if len(bases) > 1:
            for side in sides:
                state = self._settled(state, side, shared)
        ours, theirs = (self._change_since(bases, state, side, shared) for side in sides)
        return Fork(bases, state, ours, theirs)

    def _open(self, moment: Moment) -> Stream:
        stream = self._streams.open(StreamName(self._agent_id, *moment.line))
        self._streams.refresh(stream)
        return stream

    def _root(self, moment: Moment) -> Root:
        return self._timeline.root_at(self._open(moment), moment.version)

    def _newest(self, shared: Past) -> tuple[Moment, ...]:
        """Return the moments of a past that no other moment of it has taken in."""
        found: dict[Moment, Past] = {}
        for (branch, generation), version in sorted(shared.items()):
            moment = Moment(branch, generation, version)
            owner = self._open(moment).owner(version)
            own = Moment(*owner.name[1:], version)
            found[own] = past_of(owner, self._root(own))
        return tuple(
            moment
            for moment in found
            if not any(
                other != moment and past.get(moment.line, 0) >= moment.version
                for other, past in found.items()
            )
        )

    def _state_of(self, bases: tuple[Moment, ...]) -> PackedState:
        """Return the state of the base, merged from several where there are several."""
        if not bases:
            return {}
        first, *others = (_side(self._open(base), self._root(base)) for base in bases)
        state = first.values()
        for other in others:
            # What the next has in common with all those before, not only with the first.
            fork = self._fork(first, other)
            state = merge3(fork.state, fork.ours, fork.theirs).change.apply(state)
            first = _Side(join(first.past, other.past), partial(dict, state))
        return state

    def _settled(self, state: PackedState, side: _Side, shared: Past) -> PackedState:
        """Return a virtual base in which each key that a side left alone is as that side has it.

        How bases were merged before, by strategies or by hand, can only be guessed from them; a
        side that has not touched a key since knows it.
        """
        if side.stream is None:
            return state
        settled, values = dict(state), side.values()
        for key in diff(state, values).operations:
            if not self._touched(key, side.past, shared):
                settled.pop(key, None)
                if key in values:
                    settled[key] = values[key]
        return settled

    def _touched(self, key: str, past: Past, shared: Past) -> bool:
        """Tell whether an event of one past that is not in the other touched a key."""
        history = self._streams.aids.history
        for stream, after, version in self._lines(past, shared):
            if history.touched(stream, key, after, version):
                return True
            if history.cleared(stream, after, version):
                return True
        return False

    def _lines(self, past: Past, shared: Past) -> Iterator[tuple[Stream, int, int]]:
        """Yield the branches of one past, from and to the versions that are not in the other."""
        for (branch, generation), version in past.items():
            moment = Moment(branch, generation, version)
            stream = self._open(moment)
            after = max(shared.get(moment.line, 0), stream.fork if stream.parent else 0)
            yield stream, after, version

    def _change_since(
        self, bases: tuple[Moment, ...], state: PackedState, side: _Side, shared: Past
    ) -> Change:
        """Return what a side did since the base: as it was done, or what differs from it."""
        if side.stream and len(bases) == 1 and _is_on(side.stream, bases[0]):
            records = self._timeline.records(side.stream, bases[0].version, side.version)
            return compose(
                read_change(record.operations, cleared=CLEARED in record.extras)
                for record in records
            )
        return self._with_sums(diff(state, side.values()), state, side.past, shared)

    def _with_sums(self, differs: Change, state: PackedState, past: Past, shared: Past) -> Change:
        """Say of numbers what was added to them, where additions are all that happened to them."""
        operations: dict[str, Operation] = dict(differs.operations)
        for key, operation in differs.operations.items():
            if _is_number(operation.apply(state.get(key))):
                added = self._sum(key, past, shared)
                if added is not None and _explains(added, state.get(key), operation):
                    operations[key] = added
        return Change(operations)

    def _sum(self, key: str, past: Past, shared: Past) -> Add | None:
        """Return what the events of one past that are not in the other added to a key.

        ``None`` where they did anything else to it. Merges are passed over: what they took in is
        counted where it was first done.
        """
        added: Add | None = None
        for stream, after, version in self._lines(past, shared):
            for at in self._streams.aids.history.touched(stream, key, after, version):
                record = self._timeline.record(stream, at)
                if PAST in record.extras:
                    continue
                done = read_change(record.operations, cleared=False).operations[key]
                if not isinstance(done, Add) or not done.exact:
                    return None
                added = done if added is None else added.merge(done)  # type: ignore[assignment]
        return added


def _side(stream: Stream, root: Root) -> _Side:
    return _Side(past_of(stream, root), partial(values_of, root), stream, root.version)


def _is_number(packed: Packed | None) -> bool:
    return packed is not None and type(lay_open(packed)) in (int, Decimal)


def _is_on(stream: Stream, base: Moment) -> bool:
    """Tell whether a moment is on a stream's own line, its parents' included."""
    return stream.owner(base.version).name[1:] == base.line


def _explains(added: Add, before: object, operation: Operation) -> bool:
    try:
        return same_packed(added.apply(before), operation.apply(before))  # type: ignore[arg-type]
    except OperationMismatch:
        return False
