"""One agent's state: read it, change it, travel through its past.

Every method is a coroutine. ``statecore.blocking`` gives the same ones to plain functions.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar, Unpack

from statecore.agent_state import AgentState
from statecore.appends import Append, WriteOptions
from statecore.change import CLEAR, EMPTY, Change
from statecore.engine import Engine
from statecore.errors import (
    InputError,
    StoreClosed,
)
from statecore.events import Birth, Event, Kind
from statecore.history import Span, StateHistory
from statecore.moments import Point, version_of
from statecore.operations import Number
from statecore.packed import thaw
from statecore.state import Root, Tag, empty
from statecore.stream import STALE, StreamName
from statecore.transaction import Transaction, run_until_committed
from statecore.values import Value, check_key, check_text, pack, unpack

ATTEMPTS_MAX: Final = 1_000
DEADLINE_SECONDS: Final = 30.0
_DIFF_NEAR: Final = 256  # events; composing so many takes about a millisecond

_Returned = TypeVar("_Returned")


class StateManager:
    """One agent's state on one branch. Cheap to make; holds nothing that needs closing."""

    def __init__(
        self,
        engine: Engine,
        name: StreamName,
        *,
        actor: str | None = None,
        kind: Kind | None = None,
        ttl: timedelta | None = None,
    ) -> None:
        self._engine = engine
        self._stream = engine.streams.open(name)
        self._kind = kind
        self._ttl = ttl
        self.actor = actor
        """Who writes through this manager."""

    @property
    def agent_id(self) -> str:
        """Whose state it is."""
        return self._stream.name.agent_id

    @property
    def branch(self) -> str:
        """The branch."""
        return self._stream.name.branch

    @property
    def kind(self) -> Kind | None:
        """How long the state lives and who writes it; ``None`` before it is known."""
        return self._stream.birth.kind if self._stream.birth else self._kind

    # Reading

    async def get_state(
        self, key: str, default: Value = None, *, into: type[Any] | None = None
    ) -> Value:
        """Return a fresh value of a key as it is now.

        Args:
            key: the key.
            default: what to return where there is no such key.
            into: a pydantic model to return the value as.

        Raises:
            Expired, Erased: the state has ended; it is not read as empty.
        """
        if self._stream.freshness == STALE:
            await self._load()
        cell = self._root().cells.get(key)
        if cell is None:
            return default
        value = thaw(cell[1])
        return value if into is None else into.model_validate(value)

    async def at(self, point: Point | None = None) -> AgentState:
        """Return the whole state at a moment: a version, a time, a tag, a position; or now.

        At a time, it is the state after the last event recorded up to then.

        Raises:
            VersionNotFound, TagNotFound: there is no such moment.
            Expired, Erased: the state has ended, or what came before that moment was erased.
        """
        await self._load()
        timeline, stream, version = self._engine.timeline, self._stream, self._version(point)
        if timeline.is_near(stream, version):
            return self._state(timeline.root_at(stream, version))
        return self._state(await self._engine.waiter.away(timeline.root_at, stream, version))

    async def value_at(self, key: str, point: Point, default: Value = None) -> Value:
        """Return a fresh value of one key at a moment, without building the whole state."""
        check_key(key)
        if self._stream.freshness == STALE:
            await self._load()
        packed = self._engine.timeline.value_at(self._stream, key, self._version(point))
        return default if packed is None else thaw(packed)

    async def version(self) -> int:
        """Return the version of the state now: how many events it has; 0 before the first."""
        await self._load()
        return self._engine.streams.refresh(self._stream).version

    async def diff(self, point: Point, other: Point | None = None) -> Change:
        """Return the change that leads from one moment to another, or to now.

        Print it, or apply it. Forwards it is what was done in between, composed into one.
        """
        await self._load()
        between = self._engine.timeline.change_between
        stream, version, to = self._stream, self._version(point), self._version(other)
        if abs(to - version) <= _DIFF_NEAR:
            return between(stream, version, to)
        return await self._engine.waiter.away(between, stream, version, to)

    def history(
        self,
        key: str | None = None,
        *,
        actor: str | None = None,
        since: Point | None = None,
        until: Point | None = None,
        newest_first: bool = False,
    ) -> StateHistory:
        """Return the events: of all or of one key, of anybody or one actor, from after a moment.

        Args:
            key: only events that touched this key.
            actor: only events of this actor.
            since: only events after this moment.
            until: only events up to this moment.
            newest_first: backwards.
        """
        first = self._stream.first_version - 1 if self._root().version else 0
        span = Span(
            after=max(first, 0 if since is None else self._version(since)),
            until=self._version(until),
            key=key,
            actor=actor,
            newest_first=newest_first,
        )
        return StateHistory(self._engine.streams, self._engine.timeline, self._stream, span)

    async def tags(self) -> dict[str, int]:
        """Return the version that each tag names."""
        await self._load()
        return dict(self._root().tags)

    async def watch(self, since: Point | None = None) -> AsyncIterator[Event]:
        """Yield the events after a moment, or from now on, as they come; ends with the store.

        Events of this process come at once, those of others within 50 ms. None is left out.
        """
        version = self._version(since)
        bell = self._engine.waiter.bell()
        end = self._engine.streams.log.subscribe(bell.ring)
        try:
            while True:
                for event in self._events_after(version):
                    yield event
                    version = event.version
                await bell.wait()
        except StoreClosed:
            return
        finally:
            end()

    def _events_after(self, version: int) -> StateHistory:
        head = self._engine.streams.refresh(self._stream).version
        span = Span(max(version, self._stream.first_version - 2), head)
        return StateHistory(self._engine.streams, self._engine.timeline, self._stream, span)

    # Writing

    async def set_state(self, key: str, value: Value, **options: Unpack[WriteOptions]) -> int:
        """Set a key, and return the version this made. It is durable when the call returns.

        A list that grew is recorded as what was added. See ``WriteOptions`` for the options.

        Raises:
            UnsupportedValue, LimitExceeded: the value can't be recorded; names the place in it.
            WrongExpectedVersion: the key was changed after ``expected_version``.
        """
        return await self._write(EMPTY.put(key, value), options)

    async def delete_state(self, key: str, **options: Unpack[WriteOptions]) -> int:
        """Remove a key, if it is there, and return the version this made."""
        return await self._write(EMPTY.remove(key), options)

    async def clear_state(self, **options: Unpack[WriteOptions]) -> int:
        """Remove every key, and return the version this made. The history stays."""
        return await self._write(CLEAR, options)

    async def apply(self, change: Change, **options: Unpack[WriteOptions]) -> int:
        """Do a change, such as ``diff`` returns, as one event; return the version this made.

        Raises:
            OperationMismatch: an operation does not fit what its key holds.
        """
        return await self._write(change, options)

    async def extend(
        self, key: str, items: Iterable[Value], **options: Unpack[WriteOptions]
    ) -> int:
        """Append items to a list, a missing one counting as empty; return the version this made.

        Raises:
            OperationMismatch: the key holds something else.
        """
        return await self._write(EMPTY.extend(key, items), options)

    async def add(self, key: str, amount: Number, **options: Unpack[WriteOptions]) -> int:
        """Add to a number of the same type, a missing one counting as zero; return the version.

        Additions of ``int`` and ``Decimal`` never conflict with each other.

        Raises:
            OperationMismatch: the key holds something else.
        """
        return await self._write(EMPTY.add(key, amount), options)

    async def patch(
        self, key: str, change: Change | Mapping[str, Value], **options: Unpack[WriteOptions]
    ) -> int:
        """Change fields of a nested map, a missing one counting as empty; return the version.

        A mapping sets the fields it names; ``statecore.EMPTY.put(...).remove(...)`` says more.

        Raises:
            OperationMismatch: the key holds something else.
        """
        return await self._write(EMPTY.patch(key, change), options)

    def transaction(self, **options: Unpack[WriteOptions]) -> Transaction:
        """Return a transaction: ``async with agent.transaction(reason="...") as tx``."""

        async def begin() -> tuple[AgentState, Root]:
            await self._load()
            root = self._root_to_change()
            return self._state(root), root

        async def commit(change: Change, base: int | None, reads: set[str] | None) -> int:
            if options.get("expected_version") is None:
                options["expected_version"] = base
            return await self._write(change, options, reads)

        return Transaction(begin, commit)

    async def atomic_update(
        self,
        key: str,
        update: Callable[[Value], Value | Awaitable[Value]],
        *,
        default: Value = None,
        attempts: int = ATTEMPTS_MAX,
        deadline_seconds: float = DEADLINE_SECONDS,
        **options: Unpack[WriteOptions],
    ) -> Value:
        """Set a key to what a function makes of its value, and return that.

        The function, plain or async, gets a fresh value, or the default. If others change the key
        in the meantime it runs again with the new value: nothing is locked, no update is lost. If
        it raises, nothing is written.

        Raises:
            RetriesExhausted: others were faster until the attempts or the time ran out.
        """
        default = pack(default, ("default",))

        async def attempt(tx: Transaction) -> Value:
            new = update(tx.get(key, unpack(default)))
            if inspect.isawaitable(new):
                new = await new
            tx.set(key, new)
            return new

        return await self.atomic_transaction(
            attempt, attempts=attempts, deadline_seconds=deadline_seconds, **options
        )

    async def atomic_transaction(
        self,
        work: Callable[[Transaction], _Returned | Awaitable[_Returned]],
        *,
        attempts: int = ATTEMPTS_MAX,
        deadline_seconds: float = DEADLINE_SECONDS,
        **options: Unpack[WriteOptions],
    ) -> _Returned:
        """Run a function on a transaction until it commits without conflict; return its result.

        Raises:
            RetriesExhausted: others were faster until the attempts or the time ran out.
        """
        return await run_until_committed(
            lambda: self.transaction(**options),
            work,
            attempts=attempts if options.get("expected_version") is None else None,
            deadline_seconds=deadline_seconds,
        )

    async def tag(
        self,
        name: str,
        at: Point | None = None,
        *,
        replace: bool = False,
        **options: Unpack[WriteOptions],
    ) -> int:
        """Give a moment, or the state now, a name; return the version it names.

        Raises:
            TagExists: the name is another version's, and ``replace`` is false.
        """
        check_text("name of a tag", name)
        if not name:
            raise InputError("a tag needs a name")
        version = self._version(at)
        await self._write(EMPTY, options, tag=Tag(name, version, replace))
        return version

    async def untag(self, name: str, **options: Unpack[WriteOptions]) -> None:
        """Give up the name of a version.

        Raises:
            TagNotFound: there is no such tag.
        """
        self._version(name)
        await self._write(EMPTY, options, tag=Tag(name, None))

    def _write(
        self,
        change: Change,
        options: WriteOptions,
        reads: set[str] | tuple[()] | None = (),
        tag: Tag | None = None,
    ) -> Awaitable[int]:
        append = Append(
            self._stream, self._birth, change, options, actor=self.actor, reads=reads, tag=tag
        )
        if self._kind is not None or self._stream.is_shared:
            self._stream.require_kind(self._kind, append.actor)
        return self._engine.waiter.write(append, self._engine.write_seconds)

    # Between the face and the engine

    async def _load(self) -> None:
        """Load the state before its first use, which may take a while."""
        if self._stream.freshness == STALE:
            await self._engine.waiter.away(self._engine.streams.refresh, self._stream)

    def _root(self) -> Root:
        """Return the current root, if it may be read."""
        stream = self._stream
        root = self._engine.streams.refresh(stream)
        if stream.guarded:
            stream.require_readable(self._engine.clock())
        return root

    def _root_to_change(self) -> Root:
        """Return the current root; an ended state is changed as an empty one."""
        root = self._engine.streams.refresh(self._stream)
        if self._stream.guarded and self._stream.has_expired(self._engine.clock()):
            return empty(root.version)
        return root

    def _state(self, root: Root) -> AgentState:
        stream, birth = self._stream, self._stream.birth
        load = partial(self._engine.timeline.event, stream)
        return AgentState(*stream.name, birth.kind if birth else None, root, load)

    def _version(self, point: Point | None) -> int:
        root = self._root()
        return version_of(point, self._stream, root, self._engine.timeline)

    def _birth(self) -> Birth:
        """Return what the first event would say, should this become it."""
        expires = None
        if self._ttl is not None:
            expires = self._engine.clock() + self._ttl // timedelta(microseconds=1)
        return Birth(*self._stream.name, self._kind or Kind.PERSISTENT, expires)
