"""Erasing: the data keys of a state, or of all that is a person's, destroyed on request."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Protocol

from statecore.engine import Engine
from statecore.manager import Housekeeper, StateManager
from statecore.parts import Parts
from statecore.policy import Permission
from statecore.stream import StreamName
from statecore.values import check_text
from statecore.waiting import run
from statecore.warden import StoreAccess

if TYPE_CHECKING:
    from statecore.store import StateStore


class _Store(Protocol):
    """A store, as erasing knows it."""

    _engine: Engine

    @property
    def _parts(self) -> Parts:
        """What it is made of."""

    @property
    def access(self) -> StoreAccess:
        """Who may do what."""

    def manager(self, agent_id: str) -> StateManager:
        """Return the manager of a state."""

    def _own_actor(self) -> str | None:
        """Return who has the store, if a principal does."""


class StoreErasing:
    """The part of ``StateStore`` that erases."""

    async def erase(
        self: _Store, agent_id: str, *, actor: str | None = None, reason: str | None = None
    ) -> None:
        """Destroy the data keys of an agent's state, on every branch: nothing of it can be read.

        The sealed events stay, and an event on each branch says that it was erased. Writing to the
        agent begins anew. What was never written is erased already.

        Args:
            agent_id: whose.
            actor: who erases; where a principal does, its id by default.
            reason: why. Both stay readable with the store's keys, for good: name no data in it.

        Raises:
            InputError: the actor or the reason is none.
            AccessDenied: ``erase`` is not permitted, or forbidden for any key of it.
        """
        self.access.require(Permission.ERASE, agent_id)
        whose = StreamName(self.manager(agent_id).agent_id)
        branches = await Housekeeper(self._engine, whose).branches_ever()
        found = [self._engine.streams.id_of(name) for name in branches]
        await _erase(self._engine, lambda: found, actor or self._own_actor(), reason)

    async def erase_subject(
        self: _Store, subject: str, *, actor: str | None = None, reason: str | None = None
    ) -> list[str]:
        """Destroy the data keys of all states that hold a subject's data; return whose they were.

        Those are the agents that were begun with that ``subject``, on all of their branches, with
        those of this process's runtime states. All or none: one turn records that they are erased,
        and keys that a kill leaves are destroyed when the store is next opened.

        Args:
            subject: whose data.
            actor: who erases; where a principal does, its id by default.
            reason: why. Both stay readable with the store's keys, for good: name no data in it.

        Raises:
            InputError: the actor or the reason is none.
            AccessDenied: ``erase`` is not permitted for one of them; nothing was erased.
        """
        found: set[str] = set()
        for birth in [
            each for engine in self._parts.engines() for each in self._parts.births(engine)
        ]:
            if birth.subject == subject:
                self.access.require(Permission.ERASE, birth.agent_id)
        for engine in self._parts.engines():
            choose = partial(_streams_of, self._parts, subject, engine, found)
            await _erase(engine, choose, actor or self._own_actor(), reason)
        return sorted(found)


class BlockingErasing:
    """The part of ``BlockingStore`` that erases; see ``StoreErasing``."""

    store: StateStore

    def erase(self, agent_id: str, *, actor: str | None = None, reason: str | None = None) -> None:
        """Destroy the data keys of an agent's state; see ``StateStore.erase``."""
        run(self.store.erase(agent_id, actor=actor, reason=reason))

    def erase_subject(
        self, subject: str, *, actor: str | None = None, reason: str | None = None
    ) -> list[str]:
        """Destroy the data keys of a subject's states; see ``StateStore.erase_subject``."""
        return run(self.store.erase_subject(subject, actor=actor, reason=reason))


async def _erase(
    engine: Engine,
    choose: Callable[[], Collection[bytes]],
    actor: str | None,
    reason: str | None,
) -> None:
    for what, text in (("actor", actor), ("reason", reason)):
        if text is not None:
            check_text(what, text)
    erase = partial(engine.sequencer.erase, choose, actor, reason)
    await engine.waiter.away(erase)


def _streams_of(parts: Parts, subject: str, engine: Engine, agents: set[str]) -> list[bytes]:
    """Return the streams of the agents that hold a subject's data, and add these agents."""
    births = list(parts.births(engine))
    theirs = {birth.agent_id for birth in births if birth.subject == subject}
    agents |= theirs
    names = [StreamName(birth.agent_id, birth.branch, birth.generation) for birth in births]
    return [engine.streams.id_of(name) for name in names if name.agent_id in theirs]
