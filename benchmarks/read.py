"""What does it cost to ask? One stream of many events on 10,000 keys, asked in every way.

    python -m benchmarks.read

The store is built first, which takes about a minute; ``--store PATH`` keeps it there, or takes the
one that is there. Then, in microseconds:

- opening: from ``open`` to the current version, everything imported before. The store grows a
  little before each, since what there is to replay depends on how far back the last snapshot is
- replay: every event folded, without snapshots; beside stock eventsourcing (SQLite, JSON, zlib,
  its AES cipher), whose events are read and their values put into a dict, which is less than its
  aggregates do. Both fold the same ``--replay`` events, in turns
- one key at random versions: from the file, in a store just opened, each question for the first
  time; and warm, the same questions again
- the whole state at random versions: cold, each in a store opened for it; and warm, at versions
  never asked for among 2,000 that were gone through before. What is returned makes its values when
  they are read: reading all of them is measured apart
- the difference between versions 100 apart, among the first 10,000 and among all
- the current value of random keys

Whatever is read from the file comes out of the operating system's cache: no disk is measured.
Python's garbage collector is left as it is: what was garbage before is collected before, and its
pauses within are part of every figure.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any, Final
from uuid import uuid4

import statecore
from benchmarks.append import VALUES, Stock
from benchmarks.harness import AGENT, KEY, Row, fill, main, pace, pace_since, settle, spread, timed
from benchmarks.size import put
from benchmarks.workload import calls

KEYS: Final = 10_000
QUESTIONS: Final = 2_000
STATES: Final = 40  # read cold, each by a store of its own
PASSES: Final = 3
STRETCH: Final = 2_000  # versions gone through, to be asked for warm
GROWTH: Final = 250  # events between openings; 40 times that is further than snapshots are apart
APART: Final = 100
EARLY: Final = 10_000
US: Final = "statecore"


class Questions:
    """Random questions about one store."""

    def __init__(self, path: Path, head: int) -> None:
        self._path = path
        self._head = head
        self._chance = random.Random(5)

    def open(self) -> statecore.BlockingStore:
        """Open the store."""
        return statecore.open(self._path, key=KEY).blocking()

    def key(self) -> str:
        """A key."""
        return f"k{self._chance.randrange(KEYS)}"

    def version(self, after: int = 0) -> int:
        """A version."""
        return self._chance.randint(after + 1, self._head)

    def cold(self) -> list[Row]:
        """Opening, and the whole state at a version by a store opened for it."""
        opened, read, paces = [], [], []
        for _ in range(STATES):
            fill(self._path, calls(GROWTH, KEYS, VALUES))
            settle()
            paces.append(pace())
            version, started = self.version(), time.perf_counter()
            with self.open() as store:
                agent = store.manager(AGENT)
                agent.version()
                opened.append(time.perf_counter() - started)
                read += timed_each(agent.at, [(version,)])
        return [
            report("opening, and the current version", opened, median(paces), "at most 100,000"),
            report("state at a version, cold", read, median(paces), "at most 50,000"),
        ]

    def warm(self, agent: statecore.BlockingManager) -> list[Row]:
        """The whole state near versions that were read before, and all its values."""
        stretch = min(STRETCH, self._head // 4)
        end = self.version(stretch)
        agent.at(end - stretch)
        state = agent.at(end)
        near = self._chance.sample(range(end - stretch + 1, end), stretch // 2)
        settle()
        before = pace()
        took = timed_each(agent.at, [(version,) for version in near])
        rows = [report("state at a version, warm", took, pace_since(before), "at most 1,000")]
        before = pace()
        took = timed(lambda: state.data, STATES)
        return [*rows, report(f"all {len(state):,} values of a state", took, pace_since(before))]

    def one_key(self, agent: statecore.BlockingManager) -> list[Row]:
        """One key at random versions, asked once and again; and now."""
        asked = [(self.key(), self.version()) for _ in range(QUESTIONS)]
        rows = []
        for how, expected in (("from the file", "at most 60"), ("warm", "at most 5")):
            settle()
            before = pace()
            took = timed_each(agent.value_at, asked)
            rows.append(report(f"key at a version, {how}", took, pace_since(before), expected))
        before = pace()
        took = timed_each(agent.get_state, [(key,) for key, _ in asked])
        return [*rows, report("key now, blocking", took, pace_since(before), "at most 5")]

    def differences(self, agent: statecore.BlockingManager) -> list[Row]:
        """The change between two versions."""
        rows = []
        for last in sorted({min(EARLY, self._head), self._head}):
            starts = [self._chance.randint(0, last - APART) for _ in range(QUESTIONS // 4)]
            settle()
            before = pace()
            took = timed_each(agent.diff, [(start, start + APART) for start in starts])
            what = f"diff, {APART} versions apart, among {last:,}"
            rows.append(report(what, took, pace_since(before), "at most 1,000"))
        return rows


def timed_each(ask: Callable[..., object], questions: Iterable[tuple[Any, ...]]) -> list[float]:
    """Return the seconds each question takes."""
    took = []
    for question in questions:
        started = time.perf_counter()
        ask(*question)
        took.append(time.perf_counter() - started)
    return took


def report(what: str, took: list[float], pace_ms: float, expected: str | None = None) -> Row:
    """Return what was measured, and the pace around it."""
    row = {"what": what, **spread(took), "times": len(took), "pace_ms": round(pace_ms, 1)}
    return row if expected is None else {**row, "expected": expected}


def replay(path: Path) -> float:
    """Return the seconds that folding every event takes."""
    with statecore.open(path, key=KEY, snapshots=False) as store:
        agent = store.manager(AGENT)
        return timed(agent.version, 1)[0]


def take_turns(count: int, contenders: dict[str, Callable[[], float]]) -> list[Row]:
    """Have each fold so many events, in turns, the first of them being us."""
    took: dict[str, list[float]] = {name: [] for name in contenders}
    paces = []
    for _ in range(PASSES):
        for name, fold in contenders.items():
            settle()
            before = pace()
            took[name].append(fold() / count * 1e6)
            paces.append(pace_since(before))
    each = {name: median(microseconds) for name, microseconds in took.items()}
    rows: list[Row] = [
        {
            "what": f"replay of {count:,} events, {name}",
            "us_per_event": round(microseconds, 2),
            "to_statecore": round(microseconds / each[US], 1),
            "times": PASSES,
            "pace_ms": round(median(paces), 1),
        }
        for name, microseconds in each.items()
    ]
    rows[0]["expected"] = "at most 5"
    return rows


def replay_beside_stock(folder: Path, count: int) -> list[Row]:
    """Fold as many events as stock eventsourcing can bear."""
    path = folder / "replay.db"
    fill(path, calls(count, KEYS, cycle(VALUES)))
    stock, originator = Stock(folder), uuid4()
    put(stock, originator, calls(count, KEYS, cycle(VALUES)))

    def fold() -> dict[str, Any]:
        events: Iterator[Any] = stock._store.get(originator)
        return {event.key: event.value for event in events}

    contenders = {
        US: lambda: replay(path),
        "stock eventsourcing": lambda: timed(fold, 1)[0],
    }
    rows = take_turns(count, contenders)
    stock.close()
    return rows


def prepare(path: Path, count: int) -> Row:
    """Build the store, unless it is there, and return what is in it."""
    if not path.exists():
        fill(path, calls(count, KEYS, cycle(VALUES)))
    with statecore.open(path, key=KEY) as store:
        statistics = store.statistics()
    events, size = statistics.events, statistics.bytes_in_all
    return {
        "what": "the store",
        "events": events,
        "bytes": size,
        "bytes_per_event": round(size / events, 1),
    }


def measure(folder: Path, arguments: argparse.Namespace) -> list[Row]:
    """Ask everything."""
    path = Path(arguments.store) if arguments.store else folder / "agents.db"
    store = prepare(path, arguments.events)
    questions = Questions(path, store["events"])
    rows = [store, *take_turns(store["events"], {US: lambda: replay(path)})]
    rows += replay_beside_stock(folder, arguments.replay)
    for ask in (questions.one_key, questions.warm, questions.differences):
        with questions.open() as opened:
            agent = opened.manager(AGENT)
            agent.version()
            rows += ask(agent)
    return rows + questions.cold()  # last: it makes the store grow


if __name__ == "__main__":
    main("Reading, in microseconds", measure, events=1_000_000, replay=20_000, store="")
