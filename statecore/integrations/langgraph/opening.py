"""Opening a store and what stands over it together, by ``with`` or ``async with``."""

from __future__ import annotations

from collections.abc import Callable
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

    def __init__(
        self, opening: Opening, make: Callable[[StateStore | BlockingStore], _Over]
    ) -> None:
        self._opening = opening
        self._make = make
        self._over: _Over | None = None

    def __enter__(self) -> _Over:
        self._over = self._make(self._opening.__enter__())
        return self._over

    def __exit__(self, *error: object) -> None:
        try:
            if self._over is not None:
                self._over.close()
        finally:
            self._opening.__exit__(*error)

    async def __aenter__(self) -> _Over:
        self._over = self._make(await self._opening.__aenter__())
        return self._over

    async def __aexit__(self, *error: object) -> None:
        try:
            if self._over is not None:
                self._over.close()
        finally:
            await self._opening.__aexit__(*error)
