"""Branches of one agent's state: fork from any moment, and how what they do is merged."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Self, Unpack

from statecore.appends import WriteOptions
from statecore.change import EMPTY
from statecore.errors import BranchExists, BranchNotFound
from statecore.events import Event, Moment
from statecore.merges import (
    rules_for,
)
from statecore.moments import Point
from statecore.operations import Put
from statecore.policy import Permission
from statecore.register import (
    REGISTER,
    STRATEGIES,
    Branch,
    branch_key,
    branch_names,
    describe,
    entry,
    fork_of,
    is_open,
)
from statecore.state import Root
from statecore.stream import MAIN, StreamName
from statecore.values import Value
from statecore.writer import StateWriter


class _Register(StateWriter):
    """An agent's register. One that was erased with its state begins anew, as empty.

    What is read of it decides; who may be told of it is asked where it is told.
    """

    _is_of_the_house = True

    def _root(self) -> Root:
        root = self._engine.streams.refresh(self._stream)
        return root if self._stream.is_erased else super()._root()


class StateBrancher(StateWriter):
    """The part of ``StateManager`` that forks."""

    async def branch(
        self,
        name: str,
        at: Point | None = None,
        *,
        create: bool = True,
        description: str | None = None,
        **options: Unpack[WriteOptions],
    ) -> Self:
        """Return the manager of another branch, which begins here where there is none of the name.

        It begins with the state at a moment of this branch, or now, whatever its size; neither
        side sees what the other writes afterwards.

        Args:
            name: the branch; ``"main"`` is the one that every agent has.
            at: where it is to begin. A branch that began elsewhere is refused.
            create: make it if there is none.
            description: what it is for.

        Raises:
            AccessDenied: it may not be made, or would show what may not be read here.
            BranchNotFound: there is none, and ``create`` is false.
            BranchExists: there is one that began at another moment than ``at``.
        """
        if name == MAIN:
            return self._on(StreamName(self.agent_id), None)
        key, register = branch_key(name), self._register()
        known = await register.get_state(key)
        if not is_open(known):
            if not create:
                raise BranchNotFound(f"{self.agent_id} has no branch {name!r}")
            await self._load()
            self._guard.require_fork(name)  # first: who may not is told of no tag
            version = self._version(at)
            if version != self._stream.root.version:
                self._guard.require_fork(name, is_past=True)
            fork = self._moment(version)

            def make(old: Value) -> Value:
                if is_open(old):
                    return old
                generation = self._unused(name, old["generation"] + 1 if old else 0)
                return entry(fork, generation, description)

            await self._sign(options)
            known = await register.atomic_update(key, make, **options)
        elif at is not None:
            await self._load()
        fork = fork_of(known)
        if at is not None and fork != self._moment(self._version(at)):
            raise BranchExists(f"{self.agent_id} has a branch {name!r} that began at {fork}")
        return self._on(StreamName(self.agent_id, name, known["generation"]), fork)

    async def branch_names(self) -> list[str]:
        """Return the names of the agent's branches beside ``"main"``, in order."""
        self._guard.require(Permission.READ)
        found = await self._register().at()
        return [name for name in branch_names(list(found)) if is_open(found[branch_key(name)])]

    async def branches(self) -> list[Branch]:
        """Return the agent's branches beside ``"main"``, by name."""
        self._guard.require(Permission.READ)
        register = self._register()
        found = await register.at()
        branches = []
        for name in branch_names(list(found)):
            known = found[branch_key(name)]
            if is_open(known):
                made: Event | None = None
                async for event in register.history(branch_key(name), newest_first=True):
                    put = event.change.operations[branch_key(name)]
                    if isinstance(put, Put) and put.value["generation"] != known["generation"]:
                        break  # an earlier branch of the name
                    made = event
                if made is not None:
                    branches.append(describe(name, known, made))
        return branches

    async def describe_branch(
        self, name: str, description: str | None, **options: Unpack[WriteOptions]
    ) -> None:
        """Say anew what a branch is for; ``None`` takes it back. What was said is history.

        Raises:
            BranchNotFound: there is none.
        """
        await self._amend(name, {"description": description}, options)

    async def branches_ever(self) -> list[StreamName]:
        """Return the stream of each branch there ever was, the register's and ``"main"`` last."""
        self._guard.require(Permission.READ)
        register = self._register()
        found: list[StreamName] = []
        if await register.version():
            known = await register.at()
            for name in branch_names(list(known)):
                last = known[branch_key(name)]["generation"]
                found += (StreamName(self.agent_id, name, at) for at in range(last + 1))
        return [*found, StreamName(self.agent_id, REGISTER), StreamName(self.agent_id)]

    async def delete_branch(self, name: str, **options: Unpack[WriteOptions]) -> None:
        """Give up a branch; its events stay in the log, and its name is free again.

        Raises:
            BranchNotFound: there is none.
        """

        await self._amend(name, {"deleted": True}, options)

    async def _amend(self, name: str, more: dict[str, Any], options: WriteOptions) -> None:
        def amend(old: Value) -> Value:
            if not is_open(old):
                raise BranchNotFound(f"{self.agent_id} has no branch {name!r}")
            return {**old, **more}

        await self._sign(options)
        await self._register().atomic_update(branch_key(name), amend, **options)

    async def _sign(self, options: WriteOptions) -> None:
        """Put into the options who writes, which a shared state has to be told.

        Raises:
            KindMismatch, MissingActor: it can't be written so.
        """
        await self._load()
        options.setdefault("actor", self.actor)
        self._require_kind(options["actor"])

    async def set_strategy(
        self, pattern: str, name: str | None, **options: Unpack[WriteOptions]
    ) -> None:
        """Record how keys of a pattern are merged on all branches; ``None`` takes it back.

        Patterns are of the shell's kind: ``*``, ``?``, ``[abc]``. The longest one counts first.
        Strategies: ``conflict``, ``ours``, ``theirs``, ``latest``, ``max``, ``min``, ``sum``,
        ``union``, ``append``, ``text``, ``objects`` or ``objects:field``.
        """
        if name is not None:
            rules_for("record", {}, [(pattern, name)])  # refuses what is no strategy
        change = EMPTY.remove(pattern) if name is None else EMPTY.put(pattern, name)
        await self._sign(options)
        await self._register().patch(STRATEGIES, change, **options)

    async def strategies(self) -> dict[str, str]:
        """Return the recorded strategies by pattern, in the order in which they count."""
        self._guard.require(Permission.READ)
        return await self._strategies()

    async def _strategies(self) -> dict[str, str]:
        kept: dict[str, str] = await self._register().get_state(STRATEGIES, {})
        return dict(sorted(kept.items(), key=lambda item: (-len(item[0]), item[0])))

    def _register(self) -> _Register:
        kind, ttl = self.kind, self._ttl
        expires = self._stream.expires
        if expires is not None:
            ttl = timedelta(microseconds=expires - self._engine.clock())
        kind = kind if ttl is not None else None
        return _Register(
            self._engine,
            StreamName(self.agent_id, REGISTER),
            actor=self.actor,
            kind=kind,
            ttl=ttl,
            subject=self.subject,
            authority=self._authority,
        )

    def _on(self, name: StreamName, origin: Moment | None) -> Self:
        return type(self)(
            self._engine,
            name,
            actor=self.actor,
            kind=self._kind,
            ttl=self._ttl,
            origin=origin,
            subject=self._subject,
            authority=self._authority,
        )

    def _unused(self, name: str, generation: int) -> int:
        """Return the first generation of a name, from one on, that nothing was ever written to."""
        streams = self._engine.streams
        while streams.log.version(streams.id_of(StreamName(self.agent_id, name, generation))):
            generation += 1
        return generation

    def _moment(self, version: int) -> Moment:
        """Return a version of this branch as the moment it is, of a parent's where it is shared."""
        return Moment(*self._stream.owner(version).name[1:], version)
