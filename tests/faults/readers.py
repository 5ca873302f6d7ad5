"""Readers that never let go, and readers that never pause, while a writer goes on."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import statecore
from tests.conftest import KEY, environment
from tests.faults.fault import Trial

MEBIBYTE: Final = 1024 * 1024
WAL_BYTES_MAX: Final = 32 * MEBIBYTE  # it is folded back at 4 MiB, when nobody reads from it
VALUE_BYTES: Final = 4_000
BEFORE: Final = 300

HELD: Final = """
import sys
import statecore

with statecore.open(sys.argv[1], key=bytes(range(32))) as store:
    agent = store.manager("agent")
    history, past = iter(agent.history()), agent.at(7)
    first, count = next(history), 1
    print("holding", flush=True)
    sys.stdin.readline()
    for event in history:
        count += 1
        assert event.version == count
    assert past.data == agent.at(7).data
    print(first.version, count)
"""


def hold_readers(trial: Trial) -> None:
    """Histories are paused and past states held for a whole run, here and in another process.

    Others read without a pause. The writer goes on, the write-ahead log stays bounded, and who was
    paused goes on with what there was when it began.
    """
    path = trial.folder / "agents.db"
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        for number in range(BEFORE):
            agent.set_state(f"k{number % 50}", number)
        history, past = iter(agent.history()), agent.at(BEFORE // 2)
        known = [next(history)]
        data = dict(past.data)
        with _held_elsewhere(path), _reading(path, store):
            largest = _write(trial, agent, path)
        known += history
        versions = [event.version for event in known]
        trial.require(versions == list(range(1, BEFORE + 1)), f"paused, it yields {versions}")
        trial.require(past.data == data, "a past state changed while it was held")
        trial.require(largest <= WAL_BYTES_MAX, f"the write-ahead log grows to {largest:,} bytes")
    trial.prove("largest write-ahead log, KiB", largest // 1024)


def _write(trial: Trial, agent: statecore.BlockingManager, path: Path) -> int:
    """Write so many times, and return how large the write-ahead log became."""
    wal, largest = path.with_name(path.name + "-wal"), 0
    while trial.goes_on:
        number = trial.done
        version = agent.set_state(f"k{number % 50}", os.urandom(VALUE_BYTES))
        trial.require(version == BEFORE + number + 1, f"write {number} became {version}")
        if number % 20 == 0:
            largest = max(largest, wal.stat().st_size)
        trial.done += 1
    return largest


@contextmanager
def _held_elsewhere(path: Path) -> Iterator[None]:
    """Hold a paused history and a past state in another process."""
    command = [sys.executable, "-c", HELD, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        yield
        told, _ = process.communicate("go on\n")
    assert process.returncode == 0
    assert told == f"1 {BEFORE}\n"


@contextmanager
def _reading(path: Path, store: statecore.BlockingStore) -> Iterator[None]:
    """Read without a pause, in threads of this store and of another on the same file."""
    stop = threading.Event()
    wrong: list[object] = []

    def read(opened: statecore.BlockingStore, seed: int) -> None:
        chance, agent = random.Random(seed), opened.manager("agent")
        while not stop.is_set():
            version = chance.randint(1, BEFORE)
            value = agent.value_at(f"k{(version - 1) % 50}", version)
            if value != version - 1:
                wrong.append((version, value))
            events = [event.version for event in agent.history(since=version - 1, until=version)]
            if events != [version]:
                wrong.append(events)

    with statecore.open(path, key=KEY) as other:
        readers = [
            threading.Thread(target=read, args=(each, seed))
            for seed, each in enumerate((store, other))
        ]
        for reader in readers:
            reader.start()
        try:
            yield
        finally:
            stop.set()
            for reader in readers:
                reader.join()
    assert not wrong
