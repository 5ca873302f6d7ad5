"""Where the checkpoints of a thread are: on which branch, at which version.

Every method is a coroutine that never suspends under the blocking face.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from statecore.agent_state import AgentState
from statecore.errors import BranchExists, Erased
from statecore.integrations.langgraph import layout
from statecore.integrations.langgraph.layout import Envelope, Hidden
from statecore.manager import StateManager
from statecore.packed import same_packed

_PAGE_MIN: Final = 16
_PAGE_MAX: Final = 256

_Item = TypeVar("_Item")


class Place(NamedTuple):
    """Where a checkpoint is, or where one is to go."""

    manager: StateManager
    state: AgentState
    envelope: Envelope | None


class Found(NamedTuple):
    """A checkpoint on a branch."""

    namespace: str
    envelope: Envelope
    state: AgentState
    last: AgentState  # the state with the next checkpoint of the namespace, or the head


class Places:
    """Finds the checkpoints of one thread."""

    def __init__(self, manager: StateManager) -> None:
        """Find those of the agent of a manager, which is on the branch main."""
        self.main = manager

    async def _head(self, manager: StateManager) -> AgentState | None:
        """Return the state of a branch now; ``None`` where it was erased."""
        try:
            return await manager.at()
        except Erased:
            return None

    async def heads(self) -> list[tuple[StateManager, AgentState]]:
        """Return each branch with its state now, main first; none where the thread was erased."""
        return [head async for head in self._each_head()]

    async def _each_head(self) -> AsyncIterator[tuple[StateManager, AgentState]]:
        """Yield each branch with its state now, main first; forks are only looked up when asked."""
        main = await self._head(self.main)
        if main is None or main.version == 0:
            return
        yield self.main, main
        for name in await self.main.branch_names():
            branch = await self.main.branch(name, create=False)
            state = await self._head(branch)
            if state is not None:
                yield branch, state

    async def head_with(self, namespace: str, checkpoint_id: str) -> Place | None:
        """Return the branch whose last checkpoint of a namespace is this one, if there is one."""
        async for manager, state in self._each_head():
            envelope = Envelope.of(state, namespace)
            if envelope is not None and envelope.id == checkpoint_id:
                return Place(manager, state, envelope)
        return None

    async def find(self, namespace: str, checkpoint_id: str) -> Place | None:
        """Return where a checkpoint is, hidden or not."""
        for manager, _ in await self.heads():
            version, again = 0, 0
            name = event_id(namespace, checkpoint_id, again)
            while found := await manager.find_event(name):
                version, again = found, again + 1
                name = event_id(namespace, checkpoint_id, again)
            if version:
                state = await manager.at(version)
                return Place(manager, state, Envelope.of(state, namespace))
        return None

    async def fork(self, namespace: str, known: Place, branch: str | None, count: int) -> Place:
        """Return a branch that begins with a checkpoint, and where nothing came behind it yet.

        Where its name is taken, by who forks at the same time for one, the next is.
        """
        version = known.state.version
        for number in itertools.count(1):
            name = f"fork-{version}-{count + number - 1}"
            if branch:
                name = branch if number == 1 else f"{branch}-{number}"
            try:
                fork = await known.manager.branch(name, version)
            except BranchExists:
                continue
            state = await fork.at()
            envelope = Envelope.of(state, namespace)
            if envelope and known.envelope and envelope.id == known.envelope.id:
                return Place(fork, state, envelope)
        raise AssertionError("names don't end")

    async def is_from(self, branch: StateManager, namespace: str, checkpoint_id: str) -> bool:
        """Tell whether the last checkpoint of a branch was put there, and not before it began."""
        if branch is self.main:
            return True
        return bool(await branch.find_event(event_id(namespace, checkpoint_id, 0)))

    async def latest(
        self, namespace: str, heads: list[tuple[StateManager, AgentState]], hidden: Hidden
    ) -> Place | None:
        """Return where the checkpoint with the greatest id is that is not hidden."""
        best: Place | None = None
        for manager, state in heads:
            envelope = Envelope.of(state, namespace)
            if envelope is not None and (best is None or envelope.greatest > _greatest(best)):
                best = Place(manager, state, envelope)
        if best is None or best.envelope is None:
            return None
        if (namespace, best.envelope.greatest) in hidden:
            async for found in self.found(namespace):
                if (namespace, found.envelope.id) not in hidden:
                    return await self.find(namespace, found.envelope.id)
            return None
        if best.envelope.id == best.envelope.greatest:
            return best
        return await self.find(namespace, best.envelope.greatest)

    async def last_with(self, place: Place, namespace: str) -> AgentState:
        """Return the state with the next checkpoint behind one on its branch, or the head."""
        head = await place.manager.at()
        key = layout.checkpoint_key(namespace)
        here = place.state.packed(key)  # read from elsewhere it is another object of the same value
        if same_packed(head.packed(key), here):
            return head
        behind = await place.manager.at(place.state.version + 1)  # mostly it is the next event
        if not same_packed(behind.packed(key), here):
            return behind
        async for event in place.manager.history(key, since=behind.version):
            return await place.manager.at(event.version)
        return head

    async def found(self, namespace: str | None, expected: int = 0) -> AsyncIterator[Found]:
        """Yield checkpoints, hidden ones too, the greatest id first; of one or all namespaces.

        So many as are expected are read at once.
        """
        page = min(max(expected + 1, _PAGE_MIN), _PAGE_MAX)
        walks = [self._walk(*head, namespace, page) for head in await self.heads()]
        if await self._is_out_of_order():
            everything = [found for walk in walks async for found in walk]
            everything.sort(key=lambda each: each.envelope.id, reverse=True)
            walks = [_each(everything)]
        seen: set[tuple[str, str]] = set()  # a merge of branches has what its source has, too
        async for found in merged(walks, lambda each: each.envelope.id):
            place = (found.namespace, found.envelope.id)
            if place not in seen:
                seen.add(place)
                yield found

    async def _is_out_of_order(self) -> bool:
        return any(
            envelope.newest is not None
            for _, state in await self.heads()
            for key in state
            if (namespace := layout.namespace_of(key)) is not None
            and (envelope := Envelope.of(state, namespace))
        )

    async def _walk(
        self, manager: StateManager, head: AgentState, namespace: str | None, page: int
    ) -> AsyncIterator[Found]:
        """Yield the checkpoints of one branch, the last one first; each id once."""
        start, until = await manager.start(), head.version
        following: dict[str, AgentState] = {}
        seen: set[tuple[str, str]] = set()
        while until > start:
            since = max(start, until - page)
            for state in reversed(await manager.states(since, until)):
                for key in state.touched:
                    of = layout.namespace_of(key)
                    if of is None or namespace not in (None, of):
                        continue
                    envelope = Envelope.of(state, of)
                    if envelope is None:
                        continue
                    if (of, envelope.id) not in seen:
                        yield Found(of, envelope, state, following.get(of, head))
                    seen.add((of, envelope.id))
                    following[of] = state
            until, page = since, min(2 * page, _PAGE_MAX)


async def merged(
    walks: Sequence[AsyncIterator[_Item]], key: Callable[[_Item], Any]
) -> AsyncIterator[_Item]:
    """Yield what several walks yield, each from the greatest on, the greatest first."""
    waiting = [(item, walk) for walk in walks if (item := await anext(walk, None)) is not None]
    while waiting:
        at = max(range(len(waiting)), key=lambda at: key(waiting[at][0]))
        item, walk = waiting[at]
        yield item
        following = await anext(walk, None)
        waiting[at : at + 1] = [] if following is None else [(following, walk)]


async def _each(items: Sequence[_Item]) -> AsyncIterator[_Item]:
    for item in items:
        yield item


def event_id(namespace: str, checkpoint_id: str, again: int) -> str:
    """Return the id of a checkpoint's event; one that is put again gets another."""
    return f"{namespace}:{checkpoint_id}" + (f"#{again}" if again else "")


def _greatest(place: Place) -> str:
    return place.envelope.greatest if place.envelope else ""
