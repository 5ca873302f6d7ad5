"""The policy of a store, set, asked and looked back at; and the record of what was denied and done.

The policy is events in a stream of the store: who set which, when and why is history, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from statecore.access import Authority, Decision, operation_of, principal_of
from statecore.change import EMPTY
from statecore.engine import Engine
from statecore.errors import InputError
from statecore.events import Event
from statecore.gate import AUDIT_STREAM, POLICY, POLICY_STREAM, Request, decision_on
from statecore.ledger import DENIED, AccessRecord, records_of
from statecore.moments import Point
from statecore.policy import (
    ANONYMOUS,
    ON_KEYS,
    Permission,
    Policy,
    Principal,
    policy_from,
    policy_of,
    record_of,
)
from statecore.stream import MAIN
from statecore.waiting import run
from statecore.writer import StateWriter


class _OwnState(StateWriter):
    """A state of the store's own. What is read of it is asked for where it is told."""

    _is_of_the_house = True


class StoreAccess:
    """Who may do what in a store. Each method is a coroutine."""

    def __init__(self, engine: Engine, authority: Authority) -> None:
        self._engine = engine
        self._authority = authority

    async def set_policy(
        self, policy: Policy | Mapping[str, Any] | None, *, reason: str | None = None
    ) -> int:
        """Set who may do what, from the next write of any process on; return the policy's version.

        The first one is set by one of its owners: ``store.as_principal("ada").access``. From then
        on it takes an owner, or a rule that permits ``policy``. It is durable when this returns.

        Args:
            policy: all of it, as a ``Policy`` or as JSON would have it. ``None`` takes it back:
                everything is allowed again.
            reason: why.

        Raises:
            AccessDenied: the policy that is set does not permit it.
            InputError: it is no policy, or the first one and another's.
        """
        checked = None if policy is None else policy_of(policy)
        state = self._state()
        await state.version()
        if checked is not None and self._engine.gate.now() is None:
            self._require_own(checked)
        change = EMPTY.remove(POLICY) if checked is None else EMPTY.put(POLICY, record_of(checked))
        return await state.apply(change, reason=reason)

    def _require_own(self, policy: Policy) -> None:
        who = {principal.id for principal in self._authority.principals}
        if not who or not who <= {*policy.owners}:
            raise InputError(
                "the first policy is set by one of its owners, who says so (--as, or"
                " store.as_principal); else nobody here could change it"
            )

    async def policy(self, at: Point | None = None) -> Policy | None:
        """Return the policy that is set, or was at a moment; ``None`` where none is.

        Args:
            at: a time, a position in the log, or a version of the policy.

        Raises:
            AccessDenied: ``audit`` is not permitted.
        """
        self.require(Permission.AUDIT)
        state = await self._state().at(at)
        return policy_from(state[POLICY]) if POLICY in state else None

    async def decide(
        self,
        principal: Principal | str,
        operation: str,
        agent_id: str | None = None,
        key: str | None = None,
        branch: str | None = MAIN,
        *,
        context: Mapping[str, Any] | None = None,
        at: Point | None = None,
    ) -> Decision:
        """Return whether a principal may do something, or might have at a moment, and why.

        Args:
            principal: who.
            operation: what.
            agent_id: to whose state.
            key: to which key; where left out, to any at all.
            branch: on which branch.
            context: attributes of the handle.
            at: when, as for ``policy``.

        Raises:
            AccessDenied: ``audit`` is not permitted.
        """
        who = Authority((principal_of(principal),), attributes=dict(context or {}))
        request = Request(operation_of(operation), agent_id, branch if agent_id else None, key)
        return decision_on(await self.policy(at), who, request)

    async def changes(self) -> list[Event]:
        """Return the events that set the policy, oldest first: who, when, why and what.

        Raises:
            AccessDenied: ``audit`` is not permitted.
        """
        self.require(Permission.AUDIT)
        state = self._state()
        await state.version()
        return [event async for event in state.history()]

    async def records(
        self, what: str | None = None, *, since: datetime | None = None
    ) -> list[AccessRecord]:
        """Return what was denied, done and read, oldest first. That this was asked is recorded.

        Args:
            what: only ``"denied"``, ``"done"`` or ``"read"``.
            since: only what was written after a moment.

        Raises:
            AccessDenied: ``audit`` is not permitted.
        """
        self.require(Permission.AUDIT)
        if self._engine.gate.witness is not None:
            await self._engine.waiter.away(self._engine.gate.witness.flush)
        state = _OwnState(self._engine, AUDIT_STREAM)
        await state.version()
        found = [
            record async for event in state.history(since=since) for record in records_of(event)
        ]
        return [record for record in found if what in (None, record.what)]

    async def denials(self, *, since: datetime | None = None) -> list[AccessRecord]:
        """Return what was denied; see ``records``."""
        return await self.records(DENIED, since=since)

    def require(self, operation: str, agent_id: str | None = None) -> None:
        """Refuse what may not be done to the store or to a whole state, on all its branches.

        What is always recorded is, once a policy is set: erasures, exports, what is done with keys,
        and each look at the record.

        Raises:
            AccessDenied: says why.
        """
        gate, wanted = self._engine.gate, Request(operation_of(operation), agent_id)
        gate.decide(gate.now(), self._authority, wanted, whole=wanted.operation in ON_KEYS)
        gate.note(self._authority, wanted)

    def may_see(self, agent_id: str) -> bool:
        """Tell whether anything of an agent's state may be read, on any branch."""
        wanted = Request(Permission.READ, agent_id)
        return bool(decision_on(self._engine.gate.now(), self._authority, wanted))

    def _state(self) -> _OwnState:
        """Return the state that holds the policy, for as long as it is asked."""
        names = self._authority.names
        actor = None if names == [ANONYMOUS] else names[0]
        return _OwnState(self._engine, POLICY_STREAM, actor=actor, authority=self._authority)


class BlockingAccess:
    """Who may do what in a store: ``StoreAccess``, but each call returns when it is done."""

    def __init__(self, access: StoreAccess) -> None:
        self._access = access

    def set_policy(
        self, policy: Policy | Mapping[str, Any] | None, *, reason: str | None = None
    ) -> int:
        """Set who may do what; see ``StoreAccess.set_policy``."""
        return run(self._access.set_policy(policy, reason=reason))

    def policy(self, at: Point | None = None) -> Policy | None:
        """Return the policy, or that of a moment; see ``StoreAccess.policy``."""
        return run(self._access.policy(at))

    def decide(
        self,
        principal: Principal | str,
        operation: str,
        agent_id: str | None = None,
        key: str | None = None,
        branch: str | None = MAIN,
        *,
        context: Mapping[str, Any] | None = None,
        at: Point | None = None,
    ) -> Decision:
        """Return whether a principal may do something; see ``StoreAccess.decide``."""
        asked = self._access.decide(
            principal, operation, agent_id, key, branch, context=context, at=at
        )
        return run(asked)

    def changes(self) -> list[Event]:
        """Return the events that set the policy; see ``StoreAccess.changes``."""
        return run(self._access.changes())

    def records(
        self, what: str | None = None, *, since: datetime | None = None
    ) -> list[AccessRecord]:
        """Return what was denied, done and read; see ``StoreAccess.records``."""
        return run(self._access.records(what, since=since))

    def denials(self, *, since: datetime | None = None) -> list[AccessRecord]:
        """Return what was denied; see ``StoreAccess.denials``."""
        return run(self._access.denials(since=since))

    def require(self, operation: str, agent_id: str | None = None) -> None:
        """Refuse what may not be done; see ``StoreAccess.require``."""
        self._access.require(operation, agent_id)

    def may_see(self, agent_id: str) -> bool:
        """Tell whether anything of an agent's state may be read; see ``StoreAccess.may_see``."""
        return self._access.may_see(agent_id)
