"""What the integrations share: the store they are given, names in it, values as JSON has them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self, TypeAlias, TypeVar

from pydantic_core import PydanticSerializationError, ValidationError, to_jsonable_python
from pydantic_core import to_json as to_json_bytes

from statecore.errors import BranchExists, DamagedRecord, StoreClosed, UnsupportedValue
from statecore.manager import StateManager
from statecore.moments import Point
from statecore.opening import Opening, open  # noqa: A004 - read as statecore.open
from statecore.store import BlockingStore, StateStore
from statecore.values import Value

Given: TypeAlias = StateStore | BlockingStore | Opening | str | Path
"""A store that is open, what ``statecore.open`` returned, or the path of a file."""

_Result = TypeVar("_Result")


class InStore:
    """What works in a store: in an open one, or in one that its own block opens and closes.

    A store opened ``with``, not ``async with``, blocks the event loop while it writes.
    """

    def __init__(self, store: Given) -> None:
        self._opening: Opening | None = None
        self._store: StateStore | None = None
        if isinstance(store, StateStore):
            self._store = store
        elif isinstance(store, BlockingStore):
            self._store = store.store
        else:
            self._opening = store if isinstance(store, Opening) else open(store)

    @property
    def store(self) -> StateStore:
        """The store.

        Raises:
            StoreClosed: it is to be opened by ``async with``, and is not.
        """
        if self._store is None:
            raise StoreClosed("the store is not open: use `async with`, or give an open store")
        return self._store

    async def close(self) -> None:
        """Close the store, if a block of this opened it; one that was given open stays so."""
        if self._opening is not None and self._store is not None:
            store, self._store = self._store, None
            await store.close()

    async def __aenter__(self) -> Self:
        """Open the store, if it was not given open; raises what ``statecore.open`` does."""
        if self._opening is not None and self._store is None:
            self._store = await self._opening
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def path_of(*names: str) -> str:
    """Return the id of an agent that stands for a path of names, whatever is in these."""
    return "/".join(name.replace("%", "%25").replace("/", "%2F") for name in names)


async def paths_under(store: StateStore, *names: str) -> list[tuple[str, ...]]:
    """Return the paths of all agents that begin with these names, oldest first."""
    start = path_of(*names) + "/"
    ids = [birth.agent_id for birth in await store.agents()]
    return [
        tuple(name.replace("%2F", "/").replace("%25", "%") for name in id_.split("/"))
        for id_ in ids
        if id_.startswith(start)
    ]


async def settled(write: Coroutine[Any, Any, _Result]) -> _Result:
    """Return what a write returns; a cancellation counts only once its outcome is known.

    A write that is handed in is written, whether its caller is still there or not. So a caller who
    was cancelled can look at what is stored, and need not fear that it changes behind their back.
    """
    task = asyncio.ensure_future(write)
    interruption: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            interruption = error
    if interruption is not None:
        raise interruption from None if task.cancelled() else task.exception()
    return task.result()


async def fork_of(state: StateManager, name: str, at: Point | None) -> StateManager:
    """Return the manager of a new branch, which begins at a moment of this one, or now.

    Raises:
        BranchExists: there is one, which begins elsewhere or has gone on.
        VersionNotFound, TagNotFound: there is no such moment.
    """
    start = (await state.at(at)).version
    branch = await state.branch(name, start)
    if await branch.version() > start:
        raise BranchExists(f"{state.agent_id} has a branch {name!r} already, which has gone on")
    return branch


def to_json(value: object) -> Value:
    """Return a value as JSON has it, a tuple as a list and a time as text, for instance.

    Raises:
        UnsupportedValue: JSON has nothing for it.
    """
    try:
        return to_jsonable_python(value)
    except (PydanticSerializationError, ValueError) as error:
        raise UnsupportedValue((), f"{type(error).__name__}: JSON can't hold this") from error


def from_json(what: str, read: Callable[[bytes], _Result], value: Value) -> _Result:
    """Return what a framework reads from a value that ``to_json`` made of its own.

    Raises:
        DamagedRecord: it does not read; says what, and nothing of what is in it.
    """
    try:
        return read(to_json_bytes(value))
    except ValidationError as error:
        faults = error.error_count()
    # Not from the error, and not within its block: its text shows what was read.
    raise DamagedRecord(
        f"{what} has {faults} faults: did another release of its framework write it?"
    )
