"""Care for a store, on its two faces: checks, rebuilding, sizes and space."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from statecore.checking import Check, CheckReport
from statecore.engine import Engine
from statecore.errors import Archived, BranchNotFound, Erased, StatecoreError
from statecore.events import Birth
from statecore.manager import StateManager
from statecore.policy import Permission
from statecore.rebuilding import Rebuilt
from statecore.sizing import KeySize, StoreSizes
from statecore.stream import MAIN, StreamName
from statecore.waiting import run
from statecore.warden import StoreAccess

if TYPE_CHECKING:
    from statecore.store import StateStore

_LOOKS: Final = 5  # while others go on writing


class Care(Protocol):
    """What cares for a log."""

    last_check: CheckReport | None

    def check(self, checks: Collection[Check | str]) -> CheckReport:
        """Check what is asked for, or all of it."""

    def rebuild(self, *, only_check: bool) -> Rebuilt:
        """Make what is derived again."""

    def sizes(self) -> StoreSizes:
        """Return what takes how many bytes."""

    def key_sizes(self, name: StreamName) -> list[KeySize]:
        """Return what each key of a state takes."""

    def compact(self) -> tuple[int, int]:
        """Give back space; return the bytes before and after."""


class _Cared(Protocol):
    """Parts that have what cares for them."""

    @property
    def care(self) -> Care:
        """What cares for the log."""


class _Store(Protocol):
    """A store, as its care knows it."""

    _engine: Engine

    @property
    def _parts(self) -> _Cared:
        """What it is made of."""

    @property
    def access(self) -> StoreAccess:
        """Who may do what."""

    def manager(self, agent_id: str) -> StateManager:
        """Return the manager of an agent's state."""

    async def agents(self) -> list[Birth]:
        """Return what is known of each agent's state."""


class StoreCare:
    """The part of ``StateStore`` that cares for it."""

    async def check(self: _Store, *checks: Check | str) -> CheckReport:
        """Check the store and return what was proved and what was found; nothing is changed.

        Each state is folded again from its first event; so it takes as long as reading all of it.

        Args:
            checks: of ``state``, ``reference``, ``history`` and ``index``; all where left out.

        Raises:
            AccessDenied: ``audit`` is not permitted.
        """
        self.access.require(Permission.AUDIT)
        report = await self._engine.waiter.away(self._parts.care.check, checks)
        if Check.REFERENCE in report.checks:
            position_of = self._engine.streams.log.last_position
            for birth in await self.agents():
                main = self.manager(birth.agent_id)
                await _check_rules(main, report, position_of)
                names: list[str] = []
                with suppress(Erased):  # it ended meanwhile
                    names = await main.branch_names()  # which asks no index
                for name in names:
                    with suppress(BranchNotFound, Erased):  # given up meanwhile, or ended
                        branch = await main.branch(name, create=False)
                        await _check_rules(branch, report, position_of)
        return report

    @property
    def last_check(self: _Store) -> CheckReport | None:
        """What the last check came to, also one that the store did by itself.

        Raises:
            AccessDenied: ``audit`` is not permitted.
        """
        self.access.require(Permission.AUDIT)
        return self._parts.care.last_check

    async def rebuild(self: _Store, *, only_check: bool = False) -> Rebuilt:
        """Make the key history, the ids, the tree and the snapshots again from the events.

        What differs is told, and then replaced, all in one transaction.

        Args:
            only_check: replace nothing.

        Raises:
            AccessDenied: ``audit`` is not permitted.
            InputError: this store keeps nothing beside its events.
        """
        self.access.require(Permission.AUDIT)

        def work() -> Rebuilt:
            return self._parts.care.rebuild(only_check=only_check)

        return await self._engine.waiter.away(work)

    async def sizes(self: _Store) -> StoreSizes:
        """Return what takes how many bytes: by table, and by state.

        Raises:
            AccessDenied: ``audit`` is not permitted.
            InputError: this store is in no file.
        """
        self.access.require(Permission.AUDIT)
        return await self._engine.waiter.away(self._parts.care.sizes)

    async def key_sizes(self: _Store, agent_id: str, *, branch: str = MAIN) -> list[KeySize]:
        """Return what each key of a state takes, and its events, before compression."""
        self.access.require(Permission.READ, agent_id)
        name = StreamName(agent_id, branch)
        return await self._engine.waiter.away(self._parts.care.key_sizes, name)

    async def compact(self: _Store) -> tuple[int, int]:
        """Give back the space in the file that is not used; return its bytes before and after.

        The file is written anew in one transaction: it takes as much space again meanwhile, and
        other writers wait. Killed at any moment, nothing is lost.

        Raises:
            AccessDenied: ``audit`` is not permitted.
            StoreFull: there is not enough space to do it; nothing was changed.
        """
        self.access.require(Permission.AUDIT)
        return await self._engine.waiter.away(self._parts.care.compact)


async def _check_rules(
    manager: StateManager, report: CheckReport, position_of: Callable[[], int]
) -> None:
    """Hold the values of a state against its agent's rules, references among them.

    Values and rules are read one after the other: what does not fit is looked at again where
    something was written meanwhile.
    """
    for _ in range(_LOOKS):
        position = position_of()
        what, found = await _hold_to_rules(manager)
        if not found or position_of() == position:
            break
    report.count(what)
    name = StreamName(manager.agent_id, manager.branch_name)
    for text in found:
        report.find(Check.REFERENCE, str(name), text)


async def _hold_to_rules(manager: StateManager) -> tuple[str, list[str]]:
    """Return what a state counts as, and what is wrong with it."""
    try:
        return "states held to rules", [str(each) for each in await manager.check()]
    except Erased:
        return "states that ended before they were held to rules", []
    except Archived:
        return "forks of what is archived, not held to rules", []
    except StatecoreError as error:
        return "states that can't be held to rules", [str(error)]


class BlockingCare:
    """The part of ``BlockingStore`` that cares for it; see ``StoreCare``."""

    store: StateStore

    def check(self, *checks: Check | str) -> CheckReport:
        """Check the store; see ``StateStore.check``."""
        return run(self.store.check(*checks))

    @property
    def last_check(self) -> CheckReport | None:
        """What the last check came to."""
        return self.store.last_check

    def rebuild(self, *, only_check: bool = False) -> Rebuilt:
        """Make all that is derived again; see ``StateStore.rebuild``."""
        return run(self.store.rebuild(only_check=only_check))

    def sizes(self) -> StoreSizes:
        """Return what takes how many bytes; see ``StateStore.sizes``."""
        return run(self.store.sizes())

    def key_sizes(self, agent_id: str, *, branch: str = MAIN) -> list[KeySize]:
        """Return what each key of a state takes; see ``StateStore.key_sizes``."""
        return run(self.store.key_sizes(agent_id, branch=branch))

    def compact(self) -> tuple[int, int]:
        """Give back space; see ``StateStore.compact``."""
        return run(self.store.compact())
