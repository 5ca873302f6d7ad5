"""The blocking face: the same operations for plain functions, scripts and threads.

Nothing is written twice: each method drives the coroutine of the same name to its end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, TypeVar

from statecore.access import Authority
from statecore.change import Change
from statecore.errors import Path
from statecore.events import Event, Kind
from statecore.history import StateHistory
from statecore.inquirer import WhatIf
from statecore.manager import StateManager
from statecore.merges import MergeResult
from statecore.moments import Point
from statecore.policy import Principal
from statecore.stream import MAIN
from statecore.transaction import Transaction
from statecore.waiting import run

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_Call = TypeVar("_Call", bound=Callable[..., Any])


def _blocking(
    method: Callable[Concatenate[StateManager, _Parameters], Coroutine[Any, Any, _Result]],
) -> Callable[Concatenate[BlockingManager, _Parameters], _Result]:
    def call(
        self: BlockingManager, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        return run(method(self.manager, *args, **kwargs))

    return _named_like(method, call)


def _quick(
    method: Callable[Concatenate[StateManager, _Parameters], Coroutine[Any, Any, _Result]],
    now: Callable[Concatenate[StateManager, _Parameters], _Result],
) -> Callable[Concatenate[BlockingManager, _Parameters], _Result]:
    """Make a method that, once the state is loaded, needs no coroutine: a third of its time."""

    def call(
        self: BlockingManager, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        manager = self.manager
        if manager.is_loaded:
            return now(manager, *args, **kwargs)
        return run(method(manager, *args, **kwargs))

    return _named_like(method, call)


def _plain(
    method: Callable[Concatenate[StateManager, _Parameters], _Result],
) -> Callable[Concatenate[BlockingManager, _Parameters], _Result]:
    def call(
        self: BlockingManager, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        return method(self.manager, *args, **kwargs)

    return _named_like(method, call)


def _named_like(method: Callable[..., Any], call: _Call) -> _Call:
    """Give a call the name, the documentation and the signature of a method."""
    update_wrapper(call, method)
    return call


class BlockingManager:
    """One agent's state: ``StateManager``, but each call returns when it is done."""

    def __init__(self, manager: StateManager) -> None:
        self.manager = manager

    @property
    def agent_id(self) -> str:
        """Whose state it is."""
        return self.manager.agent_id

    @property
    def authority(self) -> Authority:
        """What it acts by: who, and what it was narrowed to."""
        return self.manager.authority

    @property
    def branch_name(self) -> str:
        """The branch: ``"main"``, or one that began at a moment of another."""
        return self.manager.branch_name

    @property
    def subject(self) -> str | None:
        """Whose personal data the state holds; ``None`` for nobody's, or before it is known."""
        return self.manager.subject

    @property
    def kind(self) -> Kind | None:
        """How long the state lives and who writes it; ``None`` before it is known."""
        return self.manager.kind

    @property
    def is_loaded(self) -> bool:
        """Whether the state was looked at before."""
        return self.manager.is_loaded

    @property
    def actor(self) -> str | None:
        """Who writes through this manager."""
        return self.manager.actor

    validate_access = _plain(StateManager.validate_access)
    get_state = _quick(StateManager.get_state, StateManager.get_now)
    at = _blocking(StateManager.at)
    value_at = _quick(StateManager.value_at, StateManager.value_now)
    version = _blocking(StateManager.version)
    get_now = _plain(StateManager.get_now)
    value_now = _plain(StateManager.value_now)
    states = _blocking(StateManager.states)
    position_of = _blocking(StateManager.position_of)
    start = _blocking(StateManager.start)
    find_event = _blocking(StateManager.find_event)
    diff = _blocking(StateManager.diff)
    history: Callable[..., StateHistory] = _plain(StateManager.history)
    tags = _blocking(StateManager.tags)

    to_change = _blocking(StateManager.to_change)
    apply = _blocking(StateManager.apply)
    set_state = _blocking(StateManager.set_state)
    delete_state = _blocking(StateManager.delete_state)
    clear_state = _blocking(StateManager.clear_state)
    extend = _blocking(StateManager.extend)
    add = _blocking(StateManager.add)
    patch = _blocking(StateManager.patch)
    transaction: Callable[..., Transaction] = _plain(StateManager.transaction)
    atomic_update = _blocking(StateManager.atomic_update)
    atomic_transaction = _blocking(StateManager.atomic_transaction)
    tag = _blocking(StateManager.tag)
    untag = _blocking(StateManager.untag)

    branches = _blocking(StateManager.branches)
    branch_names = _blocking(StateManager.branch_names)
    branches_ever = _blocking(StateManager.branches_ever)
    describe_branch = _blocking(StateManager.describe_branch)
    delete_branch = _blocking(StateManager.delete_branch)
    set_strategy = _blocking(StateManager.set_strategy)
    strategies = _blocking(StateManager.strategies)
    revert = _blocking(StateManager.revert)
    undo = _blocking(StateManager.undo)
    redo = _blocking(StateManager.redo)
    restore = _blocking(StateManager.restore)
    conflicts = _blocking(StateManager.conflicts)
    resolve = _blocking(StateManager.resolve)

    set_schema = _blocking(StateManager.set_schema)
    schemas = _blocking(StateManager.schemas)
    constrain = _blocking(StateManager.constrain)
    set_reference = _blocking(StateManager.set_reference)
    rules = _blocking(StateManager.rules)
    check = _blocking(StateManager.check)
    migrate = _blocking(StateManager.migrate)

    blame = _blocking(StateManager.blame)
    bisect = _blocking(StateManager.bisect)
    cursor = _blocking(StateManager.cursor)
    search = _blocking(StateManager.search)

    def history_at(self, key: str, path: Path) -> Iterator[Event]:
        """Yield the events that changed what is at a path; see ``StateManager.history_at``."""
        return _iterate(self.manager.history_at(key, path))

    def search_history(self, text: str, key: str | None = None) -> Iterator[Event]:
        """Yield the events that brought in a text; see ``StateManager.search_history``."""
        return _iterate(self.manager.search_history(text, key))

    def what_if(self, name: str, **options: Any) -> WhatIf[BlockingManager]:
        """Make a branch on which some events did not happen; see ``StateManager.what_if``."""
        made = run(self.manager.what_if(name, **options))
        return WhatIf(BlockingManager(made.branch), made.left_out)

    contested = _blocking(StateManager.contested)

    def rebase(self, onto: BlockingManager | str = MAIN, **options: Any) -> BlockingManager:
        """Begin this branch anew at the end of another; see ``StateManager.rebase``."""
        return BlockingManager(run(self.manager.rebase(_manager(onto), **options)))

    def branch(self, name: str, at: Point | None = None, **options: Any) -> BlockingManager:
        """Return the manager of another branch; see ``StateManager.branch``."""
        return BlockingManager(run(self.manager.branch(name, at, **options)))

    def merge(
        self, source: BlockingManager | str, at: Point | None = None, **options: Any
    ) -> MergeResult:
        """Bring in what another branch did; see ``StateManager.merge``."""
        return run(self.manager.merge(_manager(source), at, **options))

    def diff_from(self, source: BlockingManager | str, at: Point | None = None) -> Change:
        """Return what leads from another branch to this one; see ``StateManager.diff_from``."""
        return run(self.manager.diff_from(_manager(source), at))

    def cherry_pick(
        self, source: BlockingManager | str, *versions: int, **options: Any
    ) -> MergeResult:
        """Do here what events of another branch did; see ``StateManager.cherry_pick``."""
        return run(self.manager.cherry_pick(_manager(source), *versions, **options))

    def restricted(
        self,
        principal: Principal | str | None = None,
        *,
        operations: Iterable[str] | None = None,
        keys: Iterable[str] | None = None,
        read_only: bool = False,
    ) -> BlockingManager:
        """Return a manager that may do less; see ``StateManager.restricted``."""
        return BlockingManager(
            self.manager.restricted(
                principal, operations=operations, keys=keys, read_only=read_only
            )
        )

    def watch(self, since: Point | None = None) -> Iterator[Event]:
        """Yield the events after a moment, or from now on, as they come; ends with the store."""
        return _iterate(self.manager.watch(since))


def _manager(source: BlockingManager | str) -> StateManager | str:
    return source if isinstance(source, str) else source.manager


def _iterate(events: AsyncIterator[Event]) -> Iterator[Event]:
    """Iterate over what never suspends."""
    while True:
        try:
            yield run(_next(events))
        except StopAsyncIteration:
            return


async def _next(events: AsyncIterator[Event]) -> Event:
    return await anext(events)
