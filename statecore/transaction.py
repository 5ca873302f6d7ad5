"""Several operations as one event: all of them or none."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import count
from typing import Any, TypeAlias, TypeVar

from statecore.agent_state import AgentState
from statecore.change import CLEAR, EMPTY, Change
from statecore.errors import Conflict, RetriesExhausted
from statecore.operations import Number
from statecore.packed import thaw
from statecore.state import Root
from statecore.values import Value
from statecore.waiting import run

_Returned = TypeVar("_Returned")

Begin: TypeAlias = Callable[[], Awaitable[tuple[AgentState, Root]]]
Commit: TypeAlias = Callable[[Change, int | None, set[str] | None], Awaitable[int]]


class Transaction:
    """Collects operations, and appends them as one event when its block ends without an error.

    What it reads is as of its beginning, with its own operations applied. Whoever reads bases a
    decision on it: if a key it read, or one it wrote, was changed by others before it commits, it
    is refused with ``Conflict`` and nothing is written. One that only writes can't conflict.
    """

    _state: AgentState
    _root: Root

    def __init__(self, begin: Begin, commit: Commit, look: Callable[[str], None]) -> None:
        """Make a transaction; ``look`` refuses a key that may not be read."""
        self._look = look
        self._begin = begin
        self._commit = commit
        self._change = EMPTY
        self._reads: set[str] | None = set()
        self.version: int | None = None
        """The version of the event, once it is recorded; ``None`` where there was nothing to do."""

    def get(self, key: str, default: Value = None) -> Value:
        """Return a fresh value of a key, as this transaction sees it.

        Raises:
            AccessDenied: the key may not be read.
        """
        self._look(key)
        if self._reads is not None:
            self._reads.add(key)
        cell = self._root.cells.get(key)
        packed = cell[1] if cell and not self._change.cleared else None
        operation = self._change.operations.get(key)
        if operation is not None:
            packed = operation.apply(packed)
        return default if packed is None else thaw(packed)

    def state(self) -> AgentState:
        """Return the whole state as of the beginning; any change by others is then a conflict."""
        self._reads = None
        return self._state

    def set(self, key: str, value: Value) -> None:
        """Set a key."""
        self._change = self._change.put(key, value)

    def delete(self, key: str) -> None:
        """Remove a key, if it is there."""
        self._change = self._change.remove(key)

    def clear(self) -> None:
        """Remove every key."""
        self._change = CLEAR

    def extend(self, key: str, items: Iterable[Value]) -> None:
        """Append items to a list; a missing key counts as an empty one."""
        self._change = self._change.extend(key, items)

    def splice(self, key: str, at: int, delete: int, items: Iterable[Value] = ()) -> None:
        """Replace ``delete`` items of a list from index ``at`` on."""
        self._change = self._change.splice(key, at, delete, items)

    def add(self, key: str, amount: Number) -> None:
        """Add to a number of the same type; a missing key counts as zero."""
        self._change = self._change.add(key, amount)

    def patch(self, key: str, change: Change | Mapping[str, Value]) -> None:
        """Change fields of a nested map; a mapping sets the fields it names."""
        self._change = self._change.patch(key, change)

    async def __aenter__(self) -> Transaction:
        self._state, self._root = await self._begin()
        return self

    def __enter__(self) -> Transaction:
        """Begin, under the blocking face."""
        return run(self.__aenter__())

    def __exit__(self, *exception: Any) -> None:
        run(self.__aexit__(*exception))

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._change.touches_anything:
            based = self._reads is None or bool(self._reads)
            base = self._root.version if based else None
            self.version = await self._commit(self._change, base, self._reads)


async def run_until_committed(
    begin: Callable[[], Transaction],
    work: Callable[[Transaction], _Returned | Awaitable[_Returned]],
    *,
    attempts: int | None,
    deadline_seconds: float,
    on_retry: Callable[[], None],
) -> _Returned:
    """Run a function on one transaction after the other until one commits; return its result.

    The loop of optimistic concurrency: decide, try to record, decide again on what others did. It
    never waits, so nothing can deadlock. Without attempts to count it tries once, and the conflict
    is the caller's.
    """
    until = time.monotonic() + deadline_seconds
    for attempt in count(1):
        try:
            async with begin() as transaction:
                result = work(transaction)
                if inspect.isawaitable(result):
                    result = await result
            return result
        except Conflict as conflict:
            if attempts is None:
                raise
            if attempt >= attempts or time.monotonic() > until:
                raise RetriesExhausted(f"lost {attempt} times in a row: {conflict}") from conflict
            on_retry()
    raise AssertionError  # counting never ends
