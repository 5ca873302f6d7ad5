"""Reading one agent's state: as it is now, and as it was at any moment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from time import perf_counter
from typing import Any, Final, Self

from statecore.access import FULL, Authority, Decision, operation_of
from statecore.agent_state import AgentState
from statecore.change import Change
from statecore.engine import Engine
from statecore.errors import DamagedRecord, InputError, StoreClosed, VersionNotFound
from statecore.events import Event, Kind, Moment
from statecore.gate import Guard
from statecore.history import Span, StateHistory
from statecore.moments import Point, version_of
from statecore.packed import thaw
from statecore.policy import Permission, Principal
from statecore.sight import Sight, shown, told
from statecore.state import Root
from statecore.stream import STALE, StreamName
from statecore.tally import SAMPLED
from statecore.values import Value

_DIFF_NEAR: Final = 256  # events; composing so many takes about a millisecond


class StateReader:
    """The half of ``StateManager`` that reads."""

    _is_of_the_house = False  # whether what it reads is for the house's own decisions

    def __init__(
        self,
        engine: Engine,
        name: StreamName,
        *,
        actor: str | None = None,
        kind: Kind | None = None,
        ttl: timedelta | None = None,
        origin: Moment | None = None,
        subject: str | None = None,
        authority: Authority = FULL,
    ) -> None:
        self._engine = engine
        self._stream = engine.streams.open(name, origin)
        self._authority = authority
        self._guard = Guard(engine.gate, None if self._is_of_the_house else authority, name)
        # Looked at by every reading of a key: whether anything is to be asked.
        self._policies = engine.gate.stream
        self._is_limited = bool(authority.limits) or not engine.gate.serves(engine.streams)
        self._tally = engine.streams.tally
        self._kind = kind
        self._ttl = ttl
        self._subject = subject
        self.actor = actor
        """Who writes through this manager."""

    @property
    def agent_id(self) -> str:
        """Whose state it is."""
        return self._stream.name.agent_id

    @property
    def authority(self) -> Authority:
        """What it acts by: who, and what it was narrowed to."""
        return self._authority

    @property
    def branch_name(self) -> str:
        """The branch: ``"main"``, or one that began at a moment of another."""
        return self._stream.name.branch

    @property
    def kind(self) -> Kind | None:
        """How long the state lives and who writes it; ``None`` before it is known."""
        return self._stream.nature.kind if self._stream.nature else self._kind

    @property
    def subject(self) -> str | None:
        """Whose personal data the state holds; ``None`` for nobody's, or before it is known."""
        return self._stream.nature.subject if self._stream.nature else self._subject

    async def get_state(
        self, key: str, default: Value = None, *, into: type[Any] | None = None
    ) -> Value:
        """Return a fresh value of a key as it is now.

        Args:
            key: the key.
            default: what to return where there is no such key.
            into: a pydantic model to return the value as.

        Raises:
            AccessDenied: the key may not be read.
            Expired, Erased: the state has ended; it is not read as empty.
        """
        if not self.is_loaded:
            await self._load()
        return self.get_now(key, default, into=into)

    @property
    def is_loaded(self) -> bool:
        """Whether the state was looked at before: then reading a key needs no waiting."""
        return self._stream.freshness != STALE

    def get_now(self, key: str, default: Value = None, *, into: type[Any] | None = None) -> Value:
        """Return what ``get_state`` does, where the state is loaded."""
        tally = self._tally
        tally.reads += 1
        started = 0.0 if tally.reads & SAMPLED else perf_counter()
        cell = self._root().cells.get(key)
        if self._policies.root.cells or self._is_limited:
            self._guard.require(Permission.READ, key)
        if cell is None:
            return default
        value = thaw(cell[1])
        if started:
            tally.read_seconds.note(perf_counter() - started)
        return value if into is None else into.model_validate(value, by_alias=False, by_name=True)

    async def at(self, point: Point | None = None) -> AgentState:
        """Return the whole state at a moment: a version, a time, a tag, a position; or now.

        At a time, it is the state after the last event recorded up to then. Keys that may not be
        read are left out of it, and ``is_filtered`` says so.

        Raises:
            AccessDenied: no key may be read.
            VersionNotFound, TagNotFound: there is no such moment.
            Expired, Erased: the state has ended, or what came before that moment was erased.
        """
        if not self.is_loaded:
            await self._load()
        sees = self._guard.sight(Permission.READ if point is None else Permission.HISTORY)
        timeline, stream, version = self._engine.timeline, self._stream, self._version(point)
        root = stream.root  # once: others write
        if root.version == version:
            return self._state(root, sees)
        if timeline.is_near(stream, version):
            return self._state(timeline.root_at(stream, version), sees)
        return self._state(await self._engine.waiter.away(timeline.root_at, stream, version), sees)

    async def value_at(self, key: str, point: Point, default: Value = None) -> Value:
        """Return a fresh value of one key at a moment, without building the whole state."""
        if not self.is_loaded:
            await self._load()
        return self.value_now(key, point, default)

    def value_now(self, key: str, point: Point, default: Value = None) -> Value:
        """Return what ``value_at`` does, where the state is loaded."""
        version = self._version(point)
        if self._policies.root.cells or self._is_limited:
            self._guard.require(Permission.HISTORY, key)
        packed = self._engine.timeline.value_at(self._stream, key, version)
        return default if packed is None else thaw(packed)

    async def version(self) -> int:
        """Return the version of the state now: how many events it has; 0 before the first."""
        await self._load()
        self._guard.require(Permission.READ)
        return self._engine.streams.refresh(self._stream).version

    async def position_of(self, version: int) -> int:
        """Return the position in the whole log of the event of a version.

        Raises:
            VersionNotFound, Erased: there is no such event.
            InputError: this store does not tell positions.
        """
        await self._load()
        self._guard.require(Permission.HISTORY)
        if version < 1:
            raise VersionNotFound(f"{self._stream.name}: events have versions from 1 on")
        self._engine.timeline.require_version(self._stream, version)
        _, position, _ = self._engine.timeline.row(self._stream, version)
        if not position:
            raise InputError("this store does not tell positions")
        return position

    async def start(self) -> int:
        """Return the version that its own history begins after: of a fork, or an erasure; or 0."""
        await self._load()
        self._guard.require(Permission.READ)
        return self._stream.first_own - 1

    async def diff(self, point: Point, other: Point | None = None) -> Change:
        """Return the change that leads from one moment to another, or to now.

        Print it, or apply it. Forwards it is what was done in between, composed into one. Keys that
        may not be read are left out.
        """
        await self._load()
        sees = self._guard.sight(Permission.HISTORY)
        between = self._engine.timeline.change_between
        stream, version, to = self._stream, self._version(point), self._version(other)
        if abs(to - version) <= _DIFF_NEAR:
            return shown(between(stream, version, to), sees)
        return shown(await self._engine.waiter.away(between, stream, version, to), sees)

    async def states(self, since: Point, until: Point | None = None) -> list[AgentState]:
        """Return the state at each version after a moment up to another, or now, oldest first.

        They share what did not change, so many cost little more than one.
        """
        await self._load()
        sees = self._guard.sight(Permission.HISTORY)
        stream, after, last = self._stream, self._version(since), self._version(until)
        roots = await self._engine.waiter.away(self._engine.timeline.roots, stream, after, last)
        return [self._state(root, sees) for root in roots]

    async def find_event(self, event_id: str) -> int:
        """Return the version of the event with an id its caller chose; 0 if there is none.

        Of this branch's own events: an id may be used once on each.
        """
        await self._load()
        self._guard.require(Permission.HISTORY)
        if self._root().version == 0:
            return 0
        return self._engine.streams.aids.history.find_id(self._stream, event_id)

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

        Of an event, keys that may not be read are left out, and its ``is_filtered`` says so; one
        that did nothing else is left out itself. Permission is asked for again at each event.

        Args:
            key: only events that touched this key.
            actor: only events of this actor.
            since: only events after this moment.
            until: only events up to this moment.
            newest_first: backwards.
        """
        span = self._span(key, actor, since, until, newest_first=newest_first)
        self._guard.require(Permission.HISTORY, key)
        return self._history(span, self._tell)

    def _span(
        self,
        key: str | None = None,
        actor: str | None = None,
        since: Point | None = None,
        until: Point | None = None,
        *,
        newest_first: bool = False,
    ) -> Span:
        last = self._version(until)
        first = self._stream.first_here - 1 if last else 0
        after = 0 if since is None else self._version(since)
        if type(since) is int and since:  # by name, where a time only says how far back
            self._stream.require_here(since + 1)
        return Span(
            after=max(first, after),
            known=max(self._stream.first_version - 1 if last else 0, after),
            until=last,
            key=key,
            actor=actor,
            newest_first=newest_first,
        )

    def _history(
        self, span: Span, tell: Callable[[Event], Event | None] | None = None
    ) -> StateHistory:
        streams, timeline = self._engine.streams, self._engine.timeline
        return StateHistory(streams, timeline, self._stream, span, tell)

    def _tell(self, event: Event) -> Event | None:
        """Return what may be told of an event now."""
        return told(event, self._guard.sight(Permission.HISTORY, blind=True))

    async def tags(self) -> dict[str, int]:
        """Return the version that each tag names."""
        await self._load()
        self._guard.require(Permission.READ)
        return dict(self._root().tags)

    async def watch(self, since: Point | None = None) -> AsyncIterator[Event]:
        """Yield the events after a moment, or from now on, as they come; ends with the store.

        Events of this process come at once, those of others within 50 ms. None is left out, but
        what may not be read, as in ``history``.

        Raises:
            AccessDenied: no key may be read, or none any more.
        """
        version = self._version(since)
        bell = self._engine.waiter.bell()
        end = self._engine.streams.log.subscribe(bell.ring)
        try:
            while True:
                for event in self._events_after(version):
                    version = event.version
                    seen = self._tell(event)
                    if seen is not None:
                        yield seen
                await bell.wait()
        except StoreClosed:
            return
        finally:
            end()

    def _events_after(self, version: int) -> StateHistory:
        self._guard.require(Permission.HISTORY)
        head = self._engine.streams.refresh(self._stream).version
        span = Span(max(version, self._stream.first_version - 2), head)
        return self._history(span)

    def validate_access(self, operation: str, key: str | None = None) -> Decision:
        """Return whether something may be done by this handle on this branch now, and why.

        Nothing is done, and nothing is recorded.

        Args:
            operation: one of ``statecore.Permission``.
            key: to which key; where left out, to any at all.
        """
        return self._guard.decision(operation_of(operation), key)

    def restricted(
        self,
        principal: Principal | str | None = None,
        *,
        operations: Iterable[str] | None = None,
        keys: Iterable[str] | None = None,
        read_only: bool = False,
    ) -> Self:
        """Return a manager of the same state that may do less; there is no way back from it.

        Args:
            principal: who it is to act for. The first one named on a manager that was not narrowed
                is who it acts for; each further one must be allowed a thing as well.
            operations: only these, by the names of ``statecore.Permission``.
            keys: only keys of these patterns, and nothing that concerns a state as a whole.
            read_only: only what changes nothing.
        """
        narrowed = self._authority.narrowed(principal, operations, keys, read_only=read_only)
        return type(self)(
            self._engine,
            self._stream.name,
            actor=self.actor or (narrowed.principals[0].id if narrowed.principals else None),
            kind=self._kind,
            ttl=self._ttl,
            origin=self._stream.origin,
            subject=self._subject,
            authority=narrowed,
        )

    async def _load(self) -> None:
        """Load the state before its first use, which may take a while."""
        if not self.is_loaded:
            with suppress(DamagedRecord):  # who reads what it concerns is told again
                await self._engine.waiter.away(self._engine.streams.refresh, self._stream)

    def _root(self) -> Root:
        """Return the current root, if it may be read."""
        stream = self._stream
        root = self._engine.streams.refresh(stream)
        if stream.guarded:
            stream.require_readable(self._engine.clock())
        return root

    def _state(self, root: Root, sees: Sight | None) -> AgentState:
        stream, birth = self._stream, self._stream.birth
        load = partial(self._event_of, sees=sees)
        kind = birth.kind if birth else None
        return AgentState(*stream.name[:2], kind, root, load, sees, stream.name.generation)

    def _event_of(self, root: Root, sees: Sight | None) -> Event | None:
        return told(self._engine.timeline.event(self._stream, root), sees)

    def _version(self, point: Point | None) -> int:
        try:
            root = self._root()
        except DamagedRecord:
            root = self._stream.root  # that before the damage
            if type(point) is not int or point > root.version:
                raise
        return version_of(point, self._stream, root, self._engine.timeline)
