"""An open store: managers of states, what there is, and the life of it all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from statecore.archiving import BlockingArchiving, StoreArchiving
from statecore.audit_record import AuditRecord, SelectionOptions
from statecore.backup import Backup, BackupResult
from statecore.blocking import BlockingManager
from statecore.caring import BlockingCare, StoreCare
from statecore.change import CLEAR, Change
from statecore.custody import BlockingKeyCustody
from statecore.erasing import BlockingErasing, StoreErasing
from statecore.errors import InputError
from statecore.events import Birth, Kind
from statecore.manager import StateManager
from statecore.parts import Faced, StoreStatistics, kind_of, time_to_live
from statecore.policy import Permission, Principal
from statecore.proving import StoreProofs
from statecore.register import REGISTER
from statecore.security import StateSecurityManager
from statecore.stream import MAIN, StreamName
from statecore.values import check_key, check_text
from statecore.waiting import BlockingWaiter, run
from statecore.warden import BlockingAccess, StoreAccess
from statecore.went_back import WentBack

if TYPE_CHECKING:
    from statecore.metrics import Metrics


class StateStore(StoreProofs, StoreCare, StoreArchiving, StoreErasing):
    """A store, open for coroutines. Made by ``statecore.open``."""

    def manager(
        self,
        agent_id: str,
        *,
        actor: str | None = None,
        kind: Kind | str | None = None,
        ttl: timedelta | float | None = None,
        subject: str | None = None,
    ) -> StateManager:
        """Return the manager of an agent's state, which begins with the first write.

        Args:
            agent_id: whose state, any string of at most 1,024 bytes.
            actor: who writes through this manager; where a principal does, its id by default.
            kind: ``persistent`` (a new state's default), ``runtime``, ``shared`` or ``temporary``;
                left out, an old state is taken as what it is.
            ttl: how long a temporary state lives from its first write on, in seconds or as a
                ``timedelta``.
            subject: whose personal data a new state is to hold, on all of its branches, so that
                ``erase_subject`` finds it. An old state must have been begun so.

        Raises:
            InputError: the id or the combination makes no sense.
        """
        check_key(agent_id)
        if not agent_id:
            raise InputError("an agent needs an id")
        for what, text in (("actor", actor), ("subject", subject)):
            if text is not None:
                check_text(what, text)
        kind = None if kind is None else kind_of(kind)
        if (kind == Kind.TEMPORARY) != (ttl is not None):
            raise InputError("a temporary state, and no other, has a ttl")
        ttl = None if ttl is None else time_to_live(ttl)
        engine = self._parts.runtime() if kind == Kind.RUNTIME else self._engine
        return StateManager(
            engine,
            StreamName(agent_id, MAIN),
            actor=self._own_actor() if actor is None else actor,
            kind=kind,
            ttl=ttl,
            subject=subject,
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
        name = StreamName(manager.agent_id)
        durable = StateManager(
            self._engine,
            name,
            actor=manager.actor,
            subject=manager.subject,
            authority=manager.authority,
        )
        durable = await durable.branch(manager.branch_name)  # which the register then knows
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

    def _own_actor(self) -> str | None:
        return self._authority.principals[0].id if self._authority.principals else None

    def blocking(self) -> BlockingStore:
        """Return the same open store for plain functions; closing either closes both."""
        return BlockingStore(StateStore(Faced(self._parts, BlockingWaiter), self._authority))

    def for_tasks(self) -> StateStore:
        """Return the same open store for coroutines; closing either closes both."""
        from statecore.tasks import AsyncWaiter  # whose asyncio blocking programs can do without

        return StateStore(Faced(self._parts, AsyncWaiter), self._authority)

    async def statistics(self) -> StoreStatistics:
        """Return how much there is in the store: numbers of all of it, whoever asks."""
        log = self._engine.streams.log
        return StoreStatistics(log.last_position(), len(log.streams()), log.size_bytes())

    async def metrics(
        self, *, anchor: bytes | None = None, backup: int | str | Path | None = None
    ) -> Metrics:
        """Return how the store is doing and what it holds, as numbers of all of it, whoever asks.

        Args:
            anchor: a signed head that is kept outside, to tell what is newer.
            backup: where a backup of this store lies, to tell the same; or the position up to
                which it reaches.

        Raises:
            InputError: the anchor is of another log, or no signed head; the backup of another.
            Damage: the log is shorter than the anchor or the backup.
            StoreFailure, StoreUnsupported: the backup can't be looked at.
        """
        from statecore.metrics import measure  # most stores that are opened are not measured

        def look() -> Metrics:
            log_id, care = self._engine.streams.log.log_id, self._parts.care
            reached = Backup(backup).position(log_id) if isinstance(backup, str | Path) else backup
            return measure(self._engine, anchor, reached, care.last_check)

        return await self._engine.waiter.away(look)

    async def close(self) -> None:
        """Write what is still waiting, end every watch, let go of the files. Twice is fine."""
        await self._engine.waiter.away(self._parts.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class BlockingStore(BlockingCare, BlockingArchiving, BlockingErasing):
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
        subject: str | None = None,
    ) -> BlockingManager:
        """Return the manager of an agent's state; see ``StateStore.manager``."""
        return BlockingManager(
            self.store.manager(agent_id, actor=actor, kind=kind, ttl=ttl, subject=subject)
        )

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

    def signed_head(self) -> bytes:
        """Return a signed head of all that was recorded; see ``StateStore.signed_head``."""
        return run(self.store.signed_head())

    def prove(self, agent_id: str, version: int, *, branch: str = MAIN) -> bytes:
        """Return the proof that an event is in the log; see ``StateStore.prove``."""
        return run(self.store.prove(agent_id, version, branch=branch))

    def audit_policy(self) -> bytes:
        """Return the policy that trusts the key of this log; see ``StateStore.audit_policy``."""
        return run(self.store.audit_policy())

    @property
    def keys(self) -> BlockingKeyCustody:
        """What can be done with the store's keys."""
        return BlockingKeyCustody(self.store.keys)

    @property
    def security(self) -> StateSecurityManager:
        """What seals states to be kept elsewhere, or to be handed to others."""
        return self.store.security

    def audit(self, **selection: Unpack[SelectionOptions]) -> AuditRecord:
        """Return the audit record, to iterate over with ``for``; see ``StateStore.audit``."""
        return self.store.audit(**selection)

    def backup(
        self, place: str | Path, *, on_progress: Callable[[int, int], None] = lambda _, __: None
    ) -> BackupResult:
        """Bring what is new to a backup; see ``StateStore.backup``."""
        return run(self.store.backup(place, on_progress=on_progress))

    def restores(self) -> list[WentBack]:
        """Return when this store was restored to an earlier moment; see ``StateStore.restores``."""
        return run(self.store.restores())

    def statistics(self) -> StoreStatistics:
        """Return how much there is in the store."""
        return run(self.store.statistics())

    def metrics(
        self, *, anchor: bytes | None = None, backup: int | str | Path | None = None
    ) -> Metrics:
        """Return how the store is doing and what it holds; see ``StateStore.metrics``."""
        return run(self.store.metrics(anchor=anchor, backup=backup))

    def close(self) -> None:
        """Write what is still waiting, end every watch, let go of the files. Twice is fine."""
        run(self.store.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
