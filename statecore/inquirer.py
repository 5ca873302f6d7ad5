"""The questions one asks of a history: who changed this, since when is it wrong, what if not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, Self, TypeVar, Unpack

from statecore.agent_state import AgentState
from statecore.appends import Source, WriteOptions
from statecore.bisection import Bisection, Look, bisect
from statecore.change import Change, as_change
from statecore.cursor import Cursor
from statecore.diff import diff
from statecore.engine import Engine
from statecore.errors import (
    AccessDenied,
    BranchExists,
    DamagedRecord,
    InputError,
    OperationMismatch,
    Path,
)
from statecore.events import Event, EventType
from statecore.moments import Point
from statecore.packed import Packed, thaw
from statecore.paths import brought_in, find_text, same_at
from statecore.policy import Permission
from statecore.register import branch_key, entry, is_open
from statecore.resolver import StateResolver
from statecore.sight import Sees, shown
from statecore.state import Root, values_of
from statecore.stream import Stream, StreamName
from statecore.taking_back import change_of
from statecore.values import Value

_NEARBY: Final = 4096  # versions: a key that is touched often is touched within so many
_UNSEEN: Final = "it does not fit, and why may not be seen"
_NOTHING: Final[Mapping[int, Change | Mapping[str, Value]]] = {}


_Manager = TypeVar("_Manager")


@dataclass(frozen=True, slots=True)
class WhatIf(Generic[_Manager]):
    """A branch on which some events did not happen, or others did."""

    branch: _Manager
    left_out: Mapping[int, str]
    """The versions of events that no longer fitted, and why."""


class StateInquirer(StateResolver):
    """The part of ``StateManager`` that asks."""

    async def blame(
        self, key: str, path: Path = (), at: Point | None = None, *, follow: bool = False
    ) -> Event | None:
        """Return the event that made a key, or what is at a path in its value, what it is.

        ``None`` where it never was there.

        Args:
            key: the key.
            path: the path within its value.
            at: at which moment; now where left out.
            follow: where a merge, a pick or a restore took it over as it was, return the event
                that made it so where it came from.

        Raises:
            Archived: it may be an event whose body is in an archive that is not at hand.
            DamagedRecord: the key history does not know of it.
        """
        await self._load()
        until = self._version(at)
        async for event in self.history(key, until=until, newest_first=True):
            if not self._is_same_at(key, path, event.version):
                with suppress(AccessDenied):  # where it came from is not told
                    return await self._source(key, path, event) if follow else event
                return event
        self._stream.require_here(1)  # before the horizon it may have been made what it is
        if not same_at(self._engine.timeline.value_at(self._stream, key, until), None, path):
            raise DamagedRecord(
                f"{key} has a value, and its history does not know since when: rebuild the indexes"
            )
        return None

    async def _source(self, key: str, path: Path, event: Event) -> Event:
        """Return the event that made a value which another event took over as it was."""
        value_at = self._engine.timeline.value_at
        now = value_at(self._stream, key, event.version)
        for moment in reversed(event.parents):
            other = self._on(StreamName(self.agent_id, *moment.line), None)
            await other._load()
            if same_at(value_at(other._stream, key, moment.version), now, path):
                return await other.blame(key, path, moment.version, follow=True) or event
        return event

    async def diff_from(self, source: StateResolver | str, at: Point | None = None) -> Change:
        """Return the change that leads from another branch, now or at a moment, to this one now.

        It names what differs, however that came about; applied there it makes both the same.

        Raises:
            InputError: the other is a branch of another agent.
        """
        await self._load()
        other = await self._other(source)
        sees = self._guard.sight(Permission.READ)
        others = other._guard.sight(Permission.READ if at is None else Permission.HISTORY)
        before = self._engine.timeline.root_at(other._stream, other._version(at))
        found = await self._engine.waiter.away(diff, values_of(before), values_of(self._root()))
        return shown(shown(found, sees), others)

    async def history_at(self, key: str, path: Path) -> AsyncIterator[Event]:
        """Yield the events that changed what is at a path in a key's value, oldest first."""
        await self._load()
        async for event in self.history(key):
            if not self._is_same_at(key, path, event.version):
                yield event

    def _is_same_at(self, key: str, path: Path, version: int) -> bool:
        value_at = self._engine.timeline.value_at
        before = value_at(self._stream, key, version - 1) if version > 1 else None
        return same_at(before, value_at(self._stream, key, version), path)

    async def bisect(
        self,
        good: Point,
        bad: Point,
        predicate: Callable[[Look], bool | None],
        *,
        steps: Collection[tuple[int, bool | None]] = (),
    ) -> Bisection:
        """Return the first version for which a predicate no longer holds.

        Args:
            good: a moment at which it holds.
            bad: a later one at which it does not.
            predicate: tells whether a state, a mapping, is good; ``None`` where that can't be told,
                and versions nearby are looked at. Only the keys it reads are loaded.
            steps: those of an earlier bisection, which are not judged again.

        Raises:
            InputError: good is not good, bad is not bad, or good is not before bad.
        """
        await self._load()
        sees = self._guard.sight(Permission.HISTORY)
        show = partial(self._state, sees=sees)
        states = _States(self._engine, self._stream, show, sees)
        versions = self._version(good), self._version(bad)
        return await self._engine.waiter.away(bisect, states, *versions, predicate, dict(steps))

    async def cursor(self, at: Point | None = None) -> Cursor:
        """Return a cursor at a moment, that steps from version to version, either way.

        Permission is asked for again at each step.
        """
        await self._load()
        self._guard.require(Permission.HISTORY)
        root = self._engine.timeline.root_at(self._stream, self._version(at))
        return Cursor(self._engine, self._stream, root, self._state_of_the_past)

    def _state_of_the_past(self, root: Root) -> AgentState:
        """Return what may be seen now of a state that was.

        Raises:
            AccessDenied: nothing may be.
        """
        return self._state(root, self._guard.sight(Permission.HISTORY))

    async def what_if(
        self,
        name: str,
        *,
        skip: Collection[int] = (),
        replace: Mapping[int, Change | Mapping[str, Value]] = _NOTHING,
        until: Point | None = None,
        **options: Unpack[WriteOptions],
    ) -> WhatIf[Self]:
        """Make a branch on which some events did not happen, or did something else.

        It begins before the first of them; what came after is done again, as one event. The branch
        is there with that event or not at all.

        Args:
            name: of the branch.
            skip: the versions of the events that did not happen.
            replace: what events did instead, by version.
            until: up to which moment the rest is done again; all of it where left out.

        Raises:
            AccessDenied: it would show what may not be seen here, of the past neither.
            BranchExists: there is a branch of this name.
        """
        await self._load()
        self._guard.require_fork(name, is_past=True)
        last = self._version(until)
        changed = {*skip, *replace}
        if not changed or not all(0 < version <= last for version in changed):
            raise InputError(f"say which of events 1 to {last} to skip or to replace")
        fork = min(changed) - 1
        key, register = branch_key(name), self._register()
        known = await register.get_state(key)
        if is_open(known):
            raise BranchExists(f"{self.agent_id} has a branch {name!r} already")
        generation = self._unused(name, known["generation"] + 1 if known else 0)
        start = values_of(self._engine.timeline.root_at(self._stream, fork))
        change, left_out = self._replay(start, fork, last, skip, replace)
        moment = self._moment(fork)
        branch = self._on(StreamName(self.agent_id, name, generation), moment)
        await branch._load()
        origin = Source(EventType.PICKED, (self._moment(last),))
        await branch._write(change, {"actor": self.actor, **options}, source=origin)
        made = entry(moment, generation, options.get("reason"))
        await register.set_state(key, made, actor=options.get("actor", self.actor))
        return WhatIf(branch, left_out)

    def _replay(
        self,
        start: dict[str, Packed],
        fork: int,
        last: int,
        skip: Collection[int],
        replace: Mapping[int, Change | Mapping[str, Value]],
    ) -> tuple[Change, dict[int, str]]:
        """Return what the events come to without some or with others, and which no longer fit."""
        state, left_out = dict(start), dict[int, str]()
        sees = self._guard.sight(Permission.HISTORY, blind=True)
        for record in self._engine.timeline.records(self._stream, fork, last):
            if record.version in skip:
                continue
            given = replace.get(record.version)
            change = change_of(record) if given is None else as_change(given)
            if change.cleared:
                state = {}
            try:
                after = {k: op.apply(state.get(k)) for k, op in change.operations.items()}
            except OperationMismatch as error:
                is_seen = sees is None or all(map(sees, change.operations))
                left_out[record.version] = str(error) if is_seen else _UNSEEN
                continue
            for key, packed in after.items():
                if packed is None:
                    state.pop(key, None)
                else:
                    state[key] = packed
        return diff(start, state), left_out

    async def search(self, text: str, at: Point | None = None) -> dict[Path, Value]:
        """Return the strings of a state that hold a text, keys included, by path."""
        state = await self.at(at)
        return {path: value for key in state for path, value in find_text(key, state[key], text)}

    async def search_history(self, text: str, key: str | None = None) -> AsyncIterator[Event]:
        """Yield the events that brought in a text, oldest first; of one key or of all."""
        await self._load()
        async for event in self.history(key):
            found = (
                find_text(name, value, text)
                for name, operation in event.change.operations.items()
                for value in brought_in(operation)
            )
            if any(any(each) for each in found):
                yield event


class _States:
    """The states of a stream, as a bisection asks for them."""

    def __init__(
        self,
        engine: Engine,
        stream: Stream,
        state: Callable[[Root], AgentState],
        sees: Sees | None,
    ) -> None:
        self._timeline = engine.timeline
        self._history = engine.streams.aids.history
        self._stream = stream
        self._state = state
        self._sees = sees

    def value_at(self, key: str, version: int) -> tuple[bool, Value]:
        if self._sees is not None and not self._sees(key):
            return False, None
        packed = self._timeline.value_at(self._stream, key, version)
        return packed is not None, None if packed is None else thaw(packed)

    def state_at(self, version: int) -> AgentState:
        return self._state(self._timeline.root_at(self._stream, version))

    def unchanged(self, keys: set[str] | None, version: int) -> tuple[int, int]:
        if keys is None:
            return version, version
        head = self._stream.root.version
        first, last = self._history.last_cleared(self._stream, version), head
        if self._history.last_cleared(self._stream, head) > version:
            return version, version
        for key in keys:
            first = max(first, self._history.last_touched(self._stream, key, version)[0])
            last = self._before_next(key, version, last)
        return first, last

    def _before_next(self, key: str, version: int, last: int) -> int:
        """Return the last version before a key is touched again; looks nearby first."""
        for until in (min(version + _NEARBY, last), last):
            later = self._history.touched(self._stream, key, version, until)
            if later:
                return later[0] - 1
        return last
