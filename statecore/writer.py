"""Writing one agent's state: each call appends one event, or none."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar, Unpack

from statecore.agent_state import AgentState
from statecore.appends import Append, Source, WriteOptions
from statecore.change import CLEAR, EMPTY, Change
from statecore.errors import Conflict, InputError
from statecore.events import Birth, Kind, Moment
from statecore.moments import Point
from statecore.operations import Number
from statecore.policy import Permission
from statecore.reader import StateReader
from statecore.state import Root, Tag
from statecore.transaction import Transaction, run_until_committed
from statecore.values import Value, check_text, pack, unpack

ATTEMPTS_MAX: Final = 1_000
DEADLINE_SECONDS: Final = 30.0

_Returned = TypeVar("_Returned")


class StateWriter(StateReader):
    """The half of ``StateManager`` that writes."""

    async def set_state(self, key: str, value: Value, **options: Unpack[WriteOptions]) -> int:
        """Set a key, and return the version this made. It is durable when the call returns.

        A list that grew is recorded as what was added. See ``WriteOptions`` for the options.

        Raises:
            UnsupportedValue, LimitExceeded: the value can't be recorded; names the place in it.
            WrongExpectedVersion: the key was changed after ``expected_version``.
            AccessDenied: the key may not be set.
        """
        return await self._write(EMPTY.put(key, value), options)

    async def delete_state(self, key: str, **options: Unpack[WriteOptions]) -> int:
        """Remove a key, if it is there, and return the version this made."""
        return await self._write(EMPTY.remove(key), options)

    async def clear_state(self, **options: Unpack[WriteOptions]) -> int:
        """Remove every key, and return the version this made. The history stays."""
        return await self._write(CLEAR, options)

    async def apply(self, change: Change, **options: Unpack[WriteOptions]) -> int:
        """Do a change, such as ``diff`` returns, as one event; return the version this made.

        Raises:
            OperationMismatch: an operation does not fit what its key holds.
        """
        return await self._write(change, options)

    async def extend(
        self, key: str, items: Iterable[Value], **options: Unpack[WriteOptions]
    ) -> int:
        """Append items to a list, a missing one counting as empty; return the version this made.

        Raises:
            OperationMismatch: the key holds something else.
        """
        return await self._write(EMPTY.extend(key, items), options)

    async def add(self, key: str, amount: Number, **options: Unpack[WriteOptions]) -> int:
        """Add to a number of the same type, a missing one counting as zero; return the version.

        Additions of ``int`` and ``Decimal`` never conflict with each other.

        Raises:
            OperationMismatch: the key holds something else.
        """
        return await self._write(EMPTY.add(key, amount), options)

    async def patch(
        self, key: str, change: Change | Mapping[str, Value], **options: Unpack[WriteOptions]
    ) -> int:
        """Change fields of a nested map, a missing one counting as empty; return the version.

        A mapping sets the fields it names; ``statecore.EMPTY.put(...).remove(...)`` says more.

        Raises:
            OperationMismatch: the key holds something else.
        """
        return await self._write(EMPTY.patch(key, change), options)

    def transaction(self, **options: Unpack[WriteOptions]) -> Transaction:
        """Return a transaction: ``async with agent.transaction(reason="...") as tx``."""

        async def begin() -> tuple[AgentState, Root]:
            await self._load()
            root = self._root_to_change()
            return self._state(root, self._guard.sight(Permission.READ, blind=True)), root

        async def commit(change: Change, base: int | None, reads: set[str] | None) -> int:
            if options.get("expected_version") is None:
                options["expected_version"] = base
            return await self._write(change, options, reads)

        return Transaction(begin, commit, partial(self._guard.require, Permission.READ))

    async def to_change(self) -> AgentState:
        """Return the state that the next write meets: as it is now, empty where it has ended."""
        await self._load()
        return self._state(self._root_to_change(), self._guard.sight(Permission.READ))

    async def atomic_update(
        self,
        key: str,
        update: Callable[[Value], Value | Awaitable[Value]],
        *,
        default: Value = None,
        attempts: int = ATTEMPTS_MAX,
        deadline_seconds: float = DEADLINE_SECONDS,
        **options: Unpack[WriteOptions],
    ) -> Value:
        """Set a key to what a function makes of its value, and return that.

        The function, plain or async, gets a fresh value, or the default. If others change the key
        in the meantime it runs again with the new value: nothing is locked, no update is lost. If
        it raises, nothing is written.

        Raises:
            RetriesExhausted: others were faster until the attempts or the time ran out.
        """
        default = pack(default, ("default",))

        async def attempt(tx: Transaction) -> Value:
            new = update(tx.get(key, unpack(default)))
            if inspect.isawaitable(new):
                new = await new
            tx.set(key, new)
            return new

        return await self.atomic_transaction(
            attempt, attempts=attempts, deadline_seconds=deadline_seconds, **options
        )

    async def atomic_transaction(
        self,
        work: Callable[[Transaction], _Returned | Awaitable[_Returned]],
        *,
        attempts: int = ATTEMPTS_MAX,
        deadline_seconds: float = DEADLINE_SECONDS,
        **options: Unpack[WriteOptions],
    ) -> _Returned:
        """Run a function on a transaction until it commits without conflict; return its result.

        Raises:
            RetriesExhausted: others were faster until the attempts or the time ran out.
        """
        return await run_until_committed(
            lambda: self.transaction(**options),
            work,
            attempts=attempts if options.get("expected_version") is None else None,
            deadline_seconds=deadline_seconds,
            on_retry=self._count_retry,
        )

    def _count_retry(self) -> None:
        self._engine.streams.tally.retries += 1

    async def tag(
        self,
        name: str,
        at: Point | None = None,
        *,
        replace: bool = False,
        **options: Unpack[WriteOptions],
    ) -> int:
        """Give a moment, or the state now, a name; return the version it names.

        Raises:
            TagExists: the name is another version's, and ``replace`` is false.
        """
        check_text("name of a tag", name)
        if not name:
            raise InputError("a tag needs a name")
        version = self._version(at)
        await self._write(EMPTY, options, tag=Tag(name, version, replace))
        return version

    async def untag(self, name: str, **options: Unpack[WriteOptions]) -> None:
        """Give up the name of a version.

        Raises:
            TagNotFound: there is no such tag.
        """
        self._version(name)
        await self._write(EMPTY, options, tag=Tag(name, None))

    def _write(
        self,
        change: Change,
        options: WriteOptions,
        reads: set[str] | tuple[()] | None = (),
        tag: Tag | None = None,
        source: Source | None = None,
    ) -> Awaitable[int]:
        append = self._append(change, options, reads, tag, source)
        self._require_kind(append.actor)
        written = self._engine.waiter.write(append, self._engine.write_seconds)
        return self._told(written) if self._policies.root.cells or self._is_limited else written

    def _append(
        self,
        change: Change,
        options: WriteOptions,
        reads: set[str] | tuple[()] | None,
        tag: Tag | None,
        source: Source | None,
    ) -> Append:
        append = Append(
            self._stream, self._birth, change, options, actor=self.actor, reads=reads, tag=tag
        )
        append.source = source
        append.subject = self._subject
        append.authority = self._authority
        return append

    def _rehearse(self, change: Change, options: WriteOptions, source: Source) -> None:
        """Refuse what ``_write`` would not be permitted, and write nothing.

        Raises:
            AccessDenied: says why.
        """
        append = self._append(change, options, (), None, source)
        engine, before = self._engine, self._root_to_change().cells
        engine.gate.require(append, change, before, engine.streams, engine.streams.refresh)

    async def _told(self, written: Awaitable[int]) -> int:
        """Return the version that was written; of a conflict tell what may be told."""
        try:
            return await written
        except Conflict as conflict:
            conflict.narrow(self._tell)
            raise

    def _require_kind(self, actor: str | None) -> None:
        if self._kind is not None or self._stream.is_shared:
            self._stream.require_kind(self._kind, actor)

    def _root_to_change(self) -> Root:
        """Return the current root; an ended state is changed as an empty one."""
        return self._engine.streams.living_root(self._stream, self._engine.clock())

    def _birth(self) -> Birth:
        """Return what the first event would say, should this become it."""
        stream, expires = self._stream, None
        if self._ttl is not None:
            expires = self._engine.clock() + self._ttl // timedelta(microseconds=1)
        if stream.parent is not None:
            fork = Moment(*stream.parent.name[1:], stream.fork)
            kind = self.kind or Kind.PERSISTENT
            expires = stream.expires or expires  # its own where nothing is written to the parent
            generation = stream.name.generation
            return Birth(*stream.name[:2], kind, expires, generation, fork, self.subject)
        kind = self._kind or Kind.PERSISTENT
        return Birth(*stream.name[:2], kind, expires, subject=self._subject)
