"""What an open store is made of: what the front door composes, whichever face it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

from statecore.backup import BackupResult
from statecore.caring import Care
from statecore.engine import Engine
from statecore.errors import InputError
from statecore.events import Birth, Kind
from statecore.log import Sequencer
from statecore.waiting import Waiter

_TTL_MAX: Final = timedelta(days=365_000)  # what its end is kept in has 64 bits


class Heads(Protocol):
    """The signed heads of the audit tree, and proofs that lead to them."""

    def head(self) -> bytes:
        """Return the signed head of all that is in the log now."""

    def prove(self, position: int) -> bytes:
        """Return the proof that the event at a position is in the log."""

    def policy(self) -> bytes:
        """Return the policy that trusts this log's key."""

    def index_of(self, position: int) -> int:
        """Return the index of the leaf of the event at a position."""


class Parts(Protocol):
    """What the front door composes."""

    engine: Engine

    @property
    def heads(self) -> Heads:
        """The signed heads."""

    def runtime(self) -> Engine:
        """Return the engine of states that live in memory only."""

    def engines(self) -> list[Engine]:
        """Return the engine, and that of states in memory once there is one."""

    def births(self, engine: Engine | None = None) -> Iterator[Birth]:
        """Yield what the first event of each stream says of it, oldest first."""

    @property
    def care(self) -> Care:
        """What cares for the log."""

    def sweep(self) -> int:
        """End what has expired; return how many states that were."""

    def backup(self, place: str | Path, on_progress: Callable[[int, int], None]) -> BackupResult:
        """Bring what is new to a backup, signed."""

    def close(self) -> None:
        """Write what waits, and let go of everything."""


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """How much there is in a store."""

    events: int
    streams: int
    files_bytes: dict[str, int]

    @property
    def bytes_in_all(self) -> int:
        """The bytes of all files together."""
        return sum(self.files_bytes.values())


class Faced:
    """An open log behind another face: its callers wait in another way."""

    def __init__(self, parts: Parts, waiter: Callable[[Sequencer], Waiter]) -> None:
        self._parts = parts
        self._waiter = waiter
        self.engine = self._facing(parts.engine)
        self.heads = parts.heads
        self.care = parts.care

    def runtime(self) -> Engine:
        return self._facing(self._parts.runtime())

    def engines(self) -> list[Engine]:
        return [self._facing(engine) for engine in self._parts.engines()]

    def births(self, engine: Engine | None = None) -> Iterator[Birth]:
        return self._parts.births(engine)

    def sweep(self) -> int:
        return self._parts.sweep()

    def backup(self, place: str | Path, on_progress: Callable[[int, int], None]) -> BackupResult:
        return self._parts.backup(place, on_progress)

    def close(self) -> None:
        self._parts.close()

    def _facing(self, engine: Engine) -> Engine:
        return replace(engine, waiter=self._waiter(engine.sequencer))


def time_to_live(ttl: timedelta | float) -> timedelta:
    """Return a time to live.

    Raises:
        InputError: it is none.
    """
    try:
        given = ttl if isinstance(ttl, timedelta) else timedelta(seconds=ttl)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"a ttl is a number of seconds, not {ttl!r}") from error
    if not timedelta(0) < given <= _TTL_MAX:
        raise InputError(f"a ttl is more than nothing and at most {_TTL_MAX.days} days, not {ttl}")
    return given


def kind_of(kind: Kind | str) -> Kind:
    """Return a kind by its name.

    Raises:
        InputError: there is no such kind.
    """
    try:
        return Kind(kind)
    except ValueError as error:
        raise InputError(f"kind is one of {', '.join(Kind)}, not {kind!r}") from error
