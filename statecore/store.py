"""An open store: managers of states, what there is, and the life of it all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, Protocol, Self

from statecore.access import FULL, Authority
from statecore.blocking import BlockingManager
from statecore.change import CLEAR, Change
from statecore.engine import Engine
from statecore.errors import InputError
from statecore.events import Birth, Kind
from statecore.log import Sequencer
from statecore.manager import StateManager
from statecore.policy import Permission, Principal
from statecore.register import REGISTER
from statecore.stream import MAIN, StreamName
from statecore.values import check_key, check_text
from statecore.waiting import AsyncWaiter, BlockingWaiter, Waiter, run
from statecore.warden import BlockingAccess, StoreAccess

_TTL_MAX: Final = timedelta(days=365_000)  # what its end is kept in has 64 bits


class Parts(Protocol):
    """What the front door composes."""

    engine: Engine

    def runtime(self) -> Engine:
        """Return the engine of states that live in memory only."""

    def births(self) -> Iterator[Birth]:
        """Yield what the first event of each stream says of it, oldest first."""

    def sweep(self) -> int:
        """End what has expired; return how many states that were."""

    def close(self) -> None:
        """Write what waits, and let go of everything."""


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """How much there is in a store."""

    events: int
    streams: int
    files_bytes: dict[str, int]

    @property
    def bytes_in_all(self) -> int:
        """The bytes of all files together."""
        return sum(self.files_bytes.values())


class _Housekeeper(StateManager):
    """A manager by which the store looks for itself."""

    _is_of_the_house = True


class StateStore:
    """A store, open for coroutines. Made by ``statecore.open``."""

    def __init__(self, parts: Parts, authority: Authority = FULL) -> None:
        self._parts = parts
        self._authority = authority
        self._engine = parts.engine

    def manager(
        self,
        agent_id: str,
        *,
        actor: str | None = None,
        kind: Kind | str | None = None,
        ttl: timedelta | float | None = None,
    ) -> StateManager:
        """Return the manager of an agent's state, which begins with the first write.

        Args:
            agent_id: whose state, any string of at most 1,024 bytes.
            actor: who writes through this manager; where a principal does, its id by default.
            kind: ``persistent`` (a new state's default), ``runtime``, ``shared`` or ``temporary``;
                left out, an old state is taken as what it is.
            ttl: how long a temporary state lives from its first write on, in seconds or as a
                ``timedelta``.

        Raises:
            InputError: the id or the combination makes no sense.
        """
        check_key(agent_id)
        if not agent_id:
            raise InputError("an agent needs an id")
        if actor is not None:
            check_text("actor", actor)
        kind = None if kind is None else _kind(kind)
        if (kind == Kind.TEMPORARY) != (ttl is not None):
            raise InputError("a temporary state, and no other, has a ttl")
        ttl = None if ttl is None else _time_to_live(ttl)
        engine = self._parts.runtime() if kind == Kind.RUNTIME else self._engine
        if actor is None and self._authority.principals:
            actor = self._authority.principals[0].id
        return StateManager(
            engine,
            StreamName(agent_id, MAIN),
            actor=actor,
            kind=kind,
            ttl=ttl,
            authority=self._authority,
        )

    def as_principal(
        self, principal: Principal | str, *, context: Mapping[str, Any] | None = None
    ) -> StateStore:
        """Return the same open store for somebody, who may do what the policy permits them.

        Of a store that is somebody's already, what both may do. Closing either closes both.

        Args:
            principal: who, by id or with roles and attributes.
            context: attributes of what it is for, which rules may ask for.
        """
        return StateStore(self._parts, self._authority.narrowed(principal, attributes=context))

    @property
    def access(self) -> StoreAccess:
        """Who may do what, and what was denied."""
        return StoreAccess(self._engine, self._authority)

    async def agents(self) -> list[Birth]:
        """Return what is known of each agent's state: whose and which kind; oldest first.

        Of its main branch, or of the first other one where nothing was written to that. Runtime
        states and erased ones are not among them; ``StateManager.branches`` tells of forks. Nor are
        those of which nothing may be read.
        """
        found = await self._engine.waiter.away(self._agents)
        return [birth for birth in found if self.access.may_see(birth.agent_id)]

    def _agents(self) -> list[Birth]:
        found: dict[str, Birth] = {}
        for birth in self._parts.births():
            if not birth.agent_id:
                continue  # the store's own
            if birth.branch == MAIN or (birth.branch != REGISTER and birth.agent_id not in found):
                found[birth.agent_id] = birth
        return list(found.values())

    async def persist(self, manager: StateManager) -> StateManager:
        """Keep a runtime state: write it whole, as one event, to the durable state of its agent.

        What the durable state held before is replaced; its history stays. The runtime state goes
        on as it is.

        Raises:
            AccessDenied: not all of it may be read, or written there.
        """
        if manager.kind != Kind.RUNTIME:
            raise InputError(f"{manager.agent_id} is durable already")
        state = await manager.at()
        if state.is_filtered:  # a part would replace the whole
            access = StoreAccess(self._engine, manager.authority)
            access.require(Permission.READ, manager.agent_id)
        name = StreamName(manager.agent_id, manager.branch_name)
        durable = StateManager(self._engine, name, actor=manager.actor, authority=manager.authority)
        change: Change = CLEAR
        for key, value in state.items():
            change = change.put(key, value)
        await durable.apply(change, reason="persisted from runtime")
        return durable

    async def clean_up(self) -> int:
        """End the temporary states whose time is over; return how many there were.

        The store does so by itself while it is open.
        """
        return await self._engine.waiter.away(self._parts.sweep)

    async def erase(self, agent_id: str) -> None:
        """Destroy the data keys of an agent's state, on every branch: nothing of it can be read.

        The sealed events stay, and an event on each branch says that it was erased. Writing to the
        agent begins anew. What was never written is erased already.

        Raises:
            AccessDenied: ``erase`` is not permitted, or forbidden for any key of it.
        """
        self.access.require(Permission.ERASE, agent_id)
        whose = StreamName(self.manager(agent_id).agent_id)
        branches = await _Housekeeper(self._engine, whose).branches_ever()
        for name in branches:
            streams = self._engine.streams
            await self._engine.waiter.away(self._engine.sequencer.erase, streams.id_of(name))

    def blocking(self) -> BlockingStore:
        """Return the same open store for plain functions; closing either closes both."""
        return BlockingStore(StateStore(_Faced(self._parts, BlockingWaiter), self._authority))

    def for_tasks(self) -> StateStore:
        """Return the same open store for coroutines; closing either closes both."""
        return StateStore(_Faced(self._parts, AsyncWaiter), self._authority)

    async def statistics(self) -> StoreStatistics:
        """Return how much there is in the store."""
        log = self._engine.streams.log
        return StoreStatistics(log.last_position(), len(log.streams()), log.size_bytes())

    async def close(self) -> None:
        """Write what is still waiting, end every watch, let go of the files. Twice is fine."""
        await self._engine.waiter.away(self._parts.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Faced:
    """An open log behind another face: its callers wait in another way."""

    def __init__(self, parts: Parts, waiter: Callable[[Sequencer], Waiter]) -> None:
        self._parts = parts
        self._waiter = waiter
        self.engine = self._facing(parts.engine)

    def runtime(self) -> Engine:
        return self._facing(self._parts.runtime())

    def births(self) -> Iterator[Birth]:
        return self._parts.births()

    def sweep(self) -> int:
        return self._parts.sweep()

    def close(self) -> None:
        self._parts.close()

    def _facing(self, engine: Engine) -> Engine:
        return replace(engine, waiter=self._waiter(engine.sequencer))


class BlockingStore:
    """A store, open for plain functions: ``StateStore``, but each call returns when it is done."""

    def __init__(self, store: StateStore) -> None:
        self.store = store

    def manager(
        self,
        agent_id: str,
        *,
        actor: str | None = None,
        kind: Kind | str | None = None,
        ttl: timedelta | float | None = None,
    ) -> BlockingManager:
        """Return the manager of an agent's state; see ``StateStore.manager``."""
        return BlockingManager(self.store.manager(agent_id, actor=actor, kind=kind, ttl=ttl))

    def as_principal(
        self, principal: Principal | str, *, context: Mapping[str, Any] | None = None
    ) -> BlockingStore:
        """Return the same open store for somebody; see ``StateStore.as_principal``."""
        return BlockingStore(self.store.as_principal(principal, context=context))

    @property
    def access(self) -> BlockingAccess:
        """Who may do what, and what was denied."""
        return BlockingAccess(self.store.access)

    def agents(self) -> list[Birth]:
        """Return what is known of each state; see ``StateStore.agents``."""
        return run(self.store.agents())

    def persist(self, manager: BlockingManager) -> BlockingManager:
        """Keep a runtime state; see ``StateStore.persist``."""
        return BlockingManager(run(self.store.persist(manager.manager)))

    def clean_up(self) -> int:
        """End the temporary states whose time is over; see ``StateStore.clean_up``."""
        return run(self.store.clean_up())

    def blocking(self) -> Self:
        """Return this store."""
        return self

    def for_tasks(self) -> StateStore:
        """Return the same open store for coroutines; see ``StateStore.for_tasks``."""
        return self.store.for_tasks()

    def erase(self, agent_id: str) -> None:
        """Destroy the data keys of an agent's state; see ``StateStore.erase``."""
        run(self.store.erase(agent_id))

    def statistics(self) -> StoreStatistics:
        """Return how much there is in the store."""
        return run(self.store.statistics())

    def close(self) -> None:
        """Write what is still waiting, end every watch, let go of the files. Twice is fine."""
        run(self.store.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _time_to_live(ttl: timedelta | float) -> timedelta:
    try:
        given = ttl if isinstance(ttl, timedelta) else timedelta(seconds=ttl)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"a ttl is a number of seconds, not {ttl!r}") from error
    if not timedelta(0) < given <= _TTL_MAX:
        raise InputError(f"a ttl is more than nothing and at most {_TTL_MAX.days} days, not {ttl}")
    return given


def _kind(kind: Kind | str) -> Kind:
    try:
        return Kind(kind)
    except ValueError as error:
        raise InputError(f"kind is one of {', '.join(Kind)}, not {kind!r}") from error
