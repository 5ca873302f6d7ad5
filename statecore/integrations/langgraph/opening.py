"""Opening a store and what stands over it together, by ``with`` or ``async with``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from typing import Generic, Protocol, TypeVar

from statecore.opening import Opening
from statecore.store import BlockingStore, StateStore


class Closable(Protocol):
    """What stands over a store."""

    def close(self) -> None:
        """Let go of the store."""


_Over = TypeVar("_Over", bound=Closable)


class OpeningOver(Generic[_Over]):
    """A store, and what stands over it, about to be opened."""

    _over: _Over

    def __init__(
        self, opening: Opening, make: Callable[[StateStore | BlockingStore], _Over]
    ) -> None:
        self._opening = opening
        self._make = make

    def __enter__(self) -> _Over:
        with ExitStack() as stack:
            self._over = self._make(stack.enter_context(self._opening))
            stack.pop_all()  # from here on it is closed by the end of the block
        return self._over

    def __exit__(self, *error: object) -> None:
        try:
            self._over.close()
        finally:
            self._opening.__exit__(*error)

    async def __aenter__(self) -> _Over:
        async with AsyncExitStack() as stack:
            self._over = self._make(await stack.enter_async_context(self._opening))
            stack.pop_all()
        return self._over

    async def __aexit__(self, *error: object) -> None:
        try:
            await asyncio.to_thread(self._over.close)
        finally:
            await self._opening.__aexit__(*error)
