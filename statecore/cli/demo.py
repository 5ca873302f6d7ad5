"""The demonstration: records an agent's run, then travels through it to find a mistake."""

from __future__ import annotations

import json
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import statecore
from statecore import EMPTY, AgentState, BlockingManager, Change, Event
from statecore.bisection import Look
from statecore.cli import trip
from statecore.cli.access import announce, secret_of
from statecore.cli.exposing import difference


class Clock:
    """The clock of the story: it shows the same times whenever the story is told."""

    def __init__(self) -> None:
        self._now = trip.BEGIN

    def __call__(self) -> int:
        return int(self._now.timestamp()) * 1_000_000

    def tick(self, seconds: int) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the demonstration writes its store, and how that is opened."""

    path: Path
    key: str | None = None
    passphrase: str | None = None
    kept: bool = True

    def open(self, clock: Clock) -> statecore.Opening:
        """Return the store, about to be opened."""
        path = self.path.absolute()
        return statecore.open(path, key=self.key, passphrase=self.passphrase, clock=clock)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the run takes, in bytes."""

    events: int  # all in the store, those of branches too
    store: int  # all files of the closed store
    empty: int  # the same before anything was recorded
    snapshots: int  # the whole state after each event, as compact JSON
    compressed: int  # the same, each of them compressed on its own


@dataclass(frozen=True, slots=True)
class Run:
    """What was recorded, what travelling through it found, and what it takes."""

    place: Place
    states: list[AgentState]  # a few past ones
    spendings: list[Event]  # the history of one key
    looks: int  # at past states, to find the slip
    slip: Event
    change: Change  # what the slip did
    without: Change  # what would be different today without it
    correction: Change  # what the merge of a correction did
    corrected: AgentState
    sizes: Sizes

    def data(self) -> dict[str, Any]:
        """Return the facts for JSON."""
        return {
            "agent": trip.AGENT,
            "store": str(self.place.path) if self.place.kept else None,
            "events": self.corrected.version,
            "slip": {"version": self.slip.version, "actor": self.slip.actor, "looks": self.looks},
            "events_in_store": self.sizes.events,
            "store_bytes": self.sizes.store,
            "empty_store_bytes": self.sizes.empty,
            "snapshots_bytes": self.sizes.snapshots,
            "snapshots_compressed_bytes": self.sizes.compressed,
        }


@contextmanager
def place(path: Path | None, *, passphrase: bool) -> Iterator[Place]:
    """Give the place asked for; or one that is gone afterwards, with a key of its own.

    Raises:
        InputError: something is there already.
    """
    if path is None and passphrase:
        raise statecore.InputError("a passphrase is for a store that is kept: say where")
    if path is None:
        with tempfile.TemporaryDirectory(prefix="statecore-") as directory:
            yield Place(Path(directory) / "trip.db", key=statecore.new_key(), kept=False)
        return
    if path.exists():
        raise statecore.InputError(f"{path} is there already; the demonstration makes a new store")
    yield Place(path, passphrase=secret_of(new=True, asked=passphrase))
    announce(path, passphrase=passphrase)


def run(place: Place) -> Run:
    """Record the story, find the mistake in it, put it right, and measure."""
    clock = Clock()
    with place.open(clock) as store:
        files = [place.path.with_name(name) for name in store.statistics().files_bytes]
    empty = _size(files)
    with place.open(clock) as store:
        agent = store.manager(trip.AGENT)
        _record(agent, clock)
        found = agent.bisect(1, agent.version(), _adds_up)
        version = found.first_bad
        moments = (12, trip.APPROVED, version - 1, version, agent.version())
        states = [agent.at(moment) for moment in moments]
        spendings = list(agent.history("spent", since=trip.APPROVED))
        slip = next(event for event in spendings if event.version == version)
        clock.tick(60)
        without = _without(agent, slip)
        clock.tick(60)
        correction = _correct(agent, slip)
        corrected = agent.at()
        snapshots, compressed = _whole_states(agent)
        events = store.statistics().events
    return Run(
        place=place,
        states=states,
        spendings=spendings,
        looks=len(found.steps),
        slip=slip,
        change=slip.change,
        without=without,
        correction=correction,
        corrected=corrected,
        sizes=Sizes(events, _size(files), empty, snapshots, compressed),
    )


def _without(agent: BlockingManager, slip: Event) -> Change:
    """Replay the run with the slip put right, on a branch, and return what that changes."""
    right = {**slip.change.operations, **EMPTY.add("spent", trip.PRICE).operations}
    reason = f"what if version {slip.version} had not slipped?"
    made = agent.what_if("no-slip", replace={slip.version: Change(right)}, reason=reason)
    return difference(agent.at(), made.branch.at())


def _correct(agent: BlockingManager, slip: Event) -> Change:
    """Put the slip right where it happened, merge that into today, and return what that did."""
    fix = agent.branch("fix", at=slip.version)
    fix.add("spent", -trip.SLIP, actor="planner", reason=f"undoes the slip of {slip.version}")
    return agent.merge(fix, actor="planner", reason="the slip is put right").change


def _size(files: list[Path]) -> int:
    """Return what the files take; the write-ahead log is gone once a store is closed."""
    return sum(file.stat().st_size for file in files if file.exists())


def _record(agent: BlockingManager, clock: Clock) -> None:
    for step in trip.story():
        clock.tick(step.seconds)
        if step.tag:
            agent.tag(step.tag, actor=step.actor, reason=step.reason)
        else:
            agent.apply(step.change, actor=step.actor, reason=step.reason)


def _adds_up(state: Look) -> bool:
    """Tell whether what is spent is what the bookings cost."""
    paid = sum((booking["price"] for booking in state.get("bookings", [])), Decimal(0))
    return bool(paid == state.get("spent", Decimal(0)))


def _whole_states(agent: BlockingManager) -> tuple[int, int]:
    """Return the bytes that keeping the whole state after each event takes: plain, compressed."""
    plain = compressed = 0
    for version in range(1, agent.version() + 1):
        data = agent.at(version).data
        text = json.dumps(data, default=str, separators=(",", ":"), ensure_ascii=False).encode()
        plain += len(text)
        compressed += len(zlib.compress(text))
    return plain, compressed
