"""Durable, sealed appends, beside a bare loop and beside stock eventsourcing, in one run.

    python -m benchmarks.append

- the bare loop packs, compresses, seals, inserts and commits with a sync, one event at a time,
  and does nothing else: what any store that keeps its promise must at least do
- stock eventsourcing is its SQLite module with its JSON transcoder, zlib and its AES cipher,
  called at its event store from as many threads as there are tasks, 64 at most

Each contender writes the same values. The lone callers take turns, fifty events each, so that a
machine that changes its speed slows both. Not measured: networks, other disks.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import apsw
import msgpack
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from eventsourcing.cipher import AESCipher
from eventsourcing.domain import DomainEvent
from eventsourcing.persistence import (
    DatetimeAsISO,
    EventStore,
    JSONTranscoder,
    Mapper,
    UUIDAsHex,
)
from eventsourcing.sqlite import SQLiteFactory

import statecore
from benchmarks.harness import Row, main, pace, settle, spread
from benchmarks.synthetic import Synthetic

TASKS = (1, 8, 64, 512)
TURN = 50
KEY = os.urandom(32)
VALUES = [Synthetic(seed).record() for seed in range(1000)]


class Bare:
    """The least a durable, sealed append can be."""

    def __init__(self, folder: Path) -> None:
        self._database = apsw.Connection(str(folder / "bare.db"))
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(
            "CREATE TABLE events(position INTEGER PRIMARY KEY, stream INTEGER, version INTEGER,"
            " state BLOB, UNIQUE(stream, version))"
        )
        self._seal = AESGCM(os.urandom(32)).encrypt
        self._compress = zstandard.ZstdCompressor(level=3).compress
        self._version = 0

    def append(self, key: str, value: Any) -> None:
        """Append one event and return when it is durable."""
        nonce = os.urandom(12)
        sealed = self._seal(nonce, self._compress(msgpack.packb([key, value])), b"place")
        self._version += 1
        self._database.execute("BEGIN IMMEDIATE")
        row = (self._version, nonce + sealed)
        self._database.execute("INSERT INTO events(stream, version, state) VALUES (1, ?, ?)", row)
        self._database.execute("COMMIT")


class ValueSet(DomainEvent):
    """What stock eventsourcing records."""

    key: str
    value: Any


class Stock:
    """eventsourcing as it comes."""

    def __init__(self, folder: Path) -> None:
        environment = {
            "SQLITE_DBNAME": str(folder / "stock.db"),
            "CIPHER_KEY": AESCipher.create_key(32),
            "SQLITE_LOCK_TIMEOUT": "60",
        }
        factory = SQLiteFactory(environment)
        transcoder = JSONTranscoder()
        for transcoding in (DatetimeAsISO(), UUIDAsHex()):
            transcoder.register(transcoding)
        mapper: Mapper[Any] = Mapper(transcoder, zlib, factory.cipher())  # type: ignore[arg-type]
        self._store: EventStore[Any] = factory.event_store(mapper, factory.application_recorder())
        self._close = factory.close

    def run(self, tasks: int, count: int) -> float:
        """Return the seconds that so many events take from so many callers."""
        each = count // tasks
        started = time.perf_counter()
        with ThreadPoolExecutor(min(tasks, 64)) as pool:
            list(pool.map(lambda _: self._append(each), range(tasks)))
        return time.perf_counter() - started

    def _append(self, count: int) -> None:
        originator = uuid4()
        for version in range(1, count + 1):
            event = ValueSet(  # type: ignore[call-arg]  # a dataclass by its metaclass
                originator_id=originator,
                originator_version=version,
                timestamp=ValueSet.create_timestamp(),
                key=f"k{version % 20}",
                value=VALUES[version % 1000],
            )
            self._store.put([event])

    def close(self) -> None:
        """Let go of the file."""
        self._close()


def lone(folder: Path, count: int) -> list[Row]:
    """A single caller: blocking, and a task, in turns with the bare loop."""
    took: dict[str, list[float]] = {"bare loop": [], "blocking": [], "task": []}
    with statecore.open(folder / "blocking.db", key=KEY) as blocking:
        bare, agent = Bare(folder), blocking.manager("agent")

        async def measure() -> None:
            async with statecore.open(folder / "task.db", key=KEY) as store:
                task = store.manager("agent")
                for start in range(0, count, TURN):
                    for at in range(start, start + TURN):
                        _time(took["bare loop"], bare.append, at)
                    for at in range(start, start + TURN):
                        _time(took["blocking"], agent.set_state, at)
                    for at in range(start, start + TURN):
                        began = time.perf_counter()
                        await task.set_state(f"k{at % 20}", VALUES[at % 1000])
                        took["task"].append(time.perf_counter() - began)

        asyncio.run(measure())
    floor = spread(took["bare loop"])["p50"]
    return [
        {"what": f"1 caller, {name}", **spread(took[name]), "to_bare": _ratio(took[name], floor)}
        for name in took
    ]


def _time(took: list[float], append: Callable[[str, Any], object], at: int) -> None:
    began = time.perf_counter()
    append(f"k{at % 20}", VALUES[at % 1000])
    took.append(time.perf_counter() - began)


def _ratio(seconds: list[float], floor: float) -> float:
    return round(float(spread(seconds)["p50"]) / floor, 2)


async def crowd(path: Path, tasks: int, rounds: int, *, shared: bool) -> Row:
    """Many tasks, each with an agent of its own or all on one."""
    async with statecore.open(path, key=KEY) as store:
        agents = [store.manager("agent" if shared else f"agent-{at}") for at in range(tasks)]
        await asyncio.gather(*(agent.set_state("begun", True) for agent in agents))

        async def work(agent: statecore.StateManager) -> None:
            for at in range(rounds):
                await agent.set_state(f"k{at % 20}", VALUES[at % 1000])

        settle()
        before = pace()
        cpu, wall = time.process_time(), time.perf_counter()
        await asyncio.gather(*map(work, agents))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    count = tasks * rounds
    return {
        "events_per_s": round(count / wall),
        "cpu_us": round(cpu / count * 1e6, 1),
        "pace_ms": round((before + pace()) / 2, 1),
    }


def measure(folder: Path, arguments: argparse.Namespace) -> list[Row]:
    """Measure everything."""
    rows = lone(folder, arguments.lone)
    stock_best = 0.0
    for tasks in TASKS:
        stock = Stock(_new(folder, f"stock-{tasks}"))
        count = max(arguments.stock // tasks, 1) * tasks
        rate = count / stock.run(tasks, count)
        stock.close()
        stock_best = max(stock_best, rate)
        rows.append({"what": f"{tasks} callers, stock eventsourcing", "events_per_s": round(rate)})
    for tasks in TASKS:
        for shared in (False, True):
            rounds = max(arguments.crowd // tasks, 20)
            whose = "one agent" if shared else "an agent each"
            row = asyncio.run(crowd(folder / f"{tasks}-{shared}.db", tasks, rounds, shared=shared))
            row["to_stock_best"] = round(row["events_per_s"] / stock_best, 1)
            rows.append({"what": f"{tasks} tasks, {whose}", **row})
    return rows


def _new(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


if __name__ == "__main__":
    main("Durable sealed appends", measure, lone=1500, stock=2048, crowd=20_000)
