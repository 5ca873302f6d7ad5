"""An open store: managers of states, what there is, and the life of it all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Protocol, Self

from statecore.blocking import BlockingManager
from statecore.caring import BlockingCare, Care, StoreCare
from statecore.change import CLEAR, Change
from statecore.engine import Engine
from statecore.errors import InputError
from statecore.events import Birth, Kind
from statecore.log import Sequencer
from statecore.manager import StateManager
from statecore.register import REGISTER
from statecore.stream import MAIN, StreamName
from statecore.values import check_key, check_text
from statecore.waiting import AsyncWaiter, BlockingWaiter, Waiter, run

_TTL_MAX: Final = timedelta(days=365_000)  # what its end is kept in has 64 bits


class Heads(Protocol):
    """The signed heads of the audit tree, and proofs that lead to them."""

    def head(self) -> bytes:
        """Return the signed head of all that is in the log now."""

    def prove(self, position: int) -> bytes:
        """Return the proof that the event at a position is in the log."""

    def policy(self) -> bytes:
        """Return the policy that trusts this log's key."""


class Parts(Protocol):
    """What the front door composes."""

    engine: Engine

    @property
    def heads(self) -> Heads:
        """The signed heads."""

    def runtime(self) -> Engine:
        """Return the engine of states that live in memory only."""

    def births(self) -> Iterator[Birth]:
        """Yield what the first event of each stream says of it, oldest first."""

    @property
    def care(self) -> Care:
        """What cares for the log."""

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


class StateStore(StoreCare):
    """A store, open for coroutines. Made by ``statecore.open``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
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
            actor: who writes through this manager.
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
        return StateManager(engine, StreamName(agent_id, MAIN), actor=actor, kind=kind, ttl=ttl)

    async def agents(self) -> list[Birth]:
        """Return what is known of each agent's state: whose and which kind; oldest first.

        Of its main branch, or of the first other one where nothing was written to that. Runtime
        states and erased ones are not among them; ``StateManager.branches`` tells of forks.
        """
        return await self._engine.waiter.away(self._agents)

    def _agents(self) -> list[Birth]:
        found: dict[str, Birth] = {}
        for birth in self._parts.births():
            if birth.branch == MAIN or (birth.branch != REGISTER and birth.agent_id not in found):
                found[birth.agent_id] = birth
        return list(found.values())

    async def persist(self, manager: StateManager) -> StateManager:
        """Keep a runtime state: write it whole, as one event, to the durable state of its agent.

        What the durable state held before is replaced; its history stays. The runtime state goes
        on as it is.
        """
        if manager.kind != Kind.RUNTIME:
            raise InputError(f"{manager.agent_id} is durable already")
        state = await manager.at()
        name = StreamName(manager.agent_id, manager.branch_name)
        durable = StateManager(self._engine, name, actor=manager.actor)
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
        """
        branches = await self.manager(agent_id).branches_ever()
        for name in branches:
            streams = self._engine.streams
            await self._engine.waiter.away(self._engine.sequencer.erase, streams.id_of(name))

    async def signed_head(self) -> bytes:
        """Return a signed head of all that was recorded so far: a signed checkpoint, in a note.

        Kept elsewhere, it proves later that nothing of it was edited, removed or reordered:
        ``statecore.verify(..., anchors=[...])``. Formats: c2sp.org/tlog-checkpoint and signed-note.

        Raises:
            Damage: the log does not go on from the head that was signed before.
        """
        return await self._engine.waiter.away(self._parts.heads.head)

    async def prove(self, agent_id: str, version: int, *, branch: str = MAIN) -> bytes:
        """Return the proof that an event is in the log, for ``.tlog-proof`` (c2sp.org/tlog-proof).

        It is verified offline and without any key of the store, and says nothing of any other event
        but how many there are. Its extra data is the event's entry in the tree.

        Raises:
            VersionNotFound, BranchNotFound, Erased: there is no such event.
            InputError: this store does not tell positions.
        """
        main = self.manager(agent_id)
        manager = main if branch == MAIN else await main.branch(branch, create=False)
        position = await manager.position_of(version)
        return await self._engine.waiter.away(self._parts.heads.prove, position)

    async def audit_policy(self) -> bytes:
        """Return the policy that trusts the key of this log: what an auditor is to be given once.

        Format: c2sp.org/tlog-policy; witnesses are added by hand.
        """
        return self._parts.heads.policy()

    def blocking(self) -> BlockingStore:
        """Return the same open store for plain functions; closing either closes both."""
        return BlockingStore(StateStore(_Faced(self._parts, BlockingWaiter)))

    def for_tasks(self) -> StateStore:
        """Return the same open store for coroutines; closing either closes both."""
        return StateStore(_Faced(self._parts, AsyncWaiter))

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
        self.heads = parts.heads
        self.care = parts.care

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


class BlockingStore(BlockingCare):
    """A store, open for plain functions: ``StateStore``, but each call returns when it is done."""

    def __init__(self, store: StateStore) -> None:
        self.store: StateStore = store

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

    def signed_head(self) -> bytes:
        """Return a signed head of all that was recorded; see ``StateStore.signed_head``."""
        return run(self.store.signed_head())

    def prove(self, agent_id: str, version: int, *, branch: str = MAIN) -> bytes:
        """Return the proof that an event is in the log; see ``StateStore.prove``."""
        return run(self.store.prove(agent_id, version, branch=branch))

    def audit_policy(self) -> bytes:
        """Return the policy that trusts the key of this log; see ``StateStore.audit_policy``."""
        return run(self.store.audit_policy())

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
