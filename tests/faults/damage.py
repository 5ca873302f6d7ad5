"""Files that are not what they were: a bit flipped anywhere, an end missing from anywhere."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple, TypeAlias

import statecore
from statecore.errors import StatecoreError
from tests.conftest import KEY, environment
from tests.faults.bad_disk import is_sound
from tests.faults.fault import Trial

LOG: Final = "agents.db"
WAL: Final = "agents.db-wal"
KEYS: Final = "agents.db-keys"

NAMES: Final = (LOG, WAL, KEYS)
AGENTS: Final = ("agent", "other")

Files: TypeAlias = dict[str, bytes]
"""The files of a store that is not open, by their names."""

WRITE = """
import os, signal, sys
import statecore

path, first, last, ending = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
with statecore.open(path, key=bytes(range(32))) as store:
    for number in range(first, last):
        for name in ("agent", "other"):
            agent = store.manager(name)
            with agent.transaction() as tx:
                tx.set("n", number)
                tx.set(f"k{number}", f"value {number}")
    if ending == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


class Told(NamedTuple):
    """What a store tells of one agent."""

    events: list[str]
    states: list[dict[str, Any]]  # at each version, from 0 on
    indexed: list[object]  # what the key history is asked for

    def begins(self, whole: Told) -> bool:
        """Whether this is true, but perhaps not all: an older state of the same."""
        ours = zip_longest(self.events, whole.events[: len(self.events)])
        return all(a == b for a, b in ours) and self.states == whole.states[: len(self.states)]


def tell(path: Path) -> dict[str, Told]:
    """Read all of a store, in every way."""
    told = {}
    with statecore.open(path, key=KEY, create=False) as store:
        for name in AGENTS:
            agent = store.manager(name)
            events = [str(event) for event in agent.history()]
            states = [dict(agent.at(version).data) for version in range(agent.version() + 1)]
            indexed: list[object] = [event.version for event in agent.history(key="n")]
            indexed += [agent.value_at("n", version) for version in range(1, len(events) + 1)]
            told[name] = Told(events, states, indexed)
    return told


def write_stores(folder: Path) -> Iterator[tuple[str, Files]]:
    """Yield the names of files to damage, each with all files of its store.

    Most of it is in the log, the last events in the write-ahead log of a writer that was killed.
    """
    path = folder / LOG
    _write(path, 0, 6, "closed")
    closed = _files(folder)
    yield from ((name, closed) for name in (LOG, KEYS))
    _write(path, 6, 7, "killed")
    yield WAL, _files(folder)


def _write(path: Path, first: int, last: int, ending: str) -> None:
    command = [sys.executable, "-c", WRITE, str(path), str(first), str(last), ending]
    done = subprocess.run(command, env=environment(), check=False)
    assert done.returncode == (0 if ending == "closed" else -signal.SIGKILL)


def _files(folder: Path) -> Files:
    return {name: file.read_bytes() for name in NAMES if (file := folder / name).exists()}


def lay_out(folder: Path, files: Files) -> None:
    """Put the files there, and none that an open store made beside them."""
    for file in folder.iterdir():
        file.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


@contextmanager
def in_memory(folder: Path) -> Iterator[Path]:
    """Give a folder for files that nobody needs to be durable."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else folder) as place:
        yield Path(place)


def damage(trial: Trial, change: Callable[[bytes, int], bytes]) -> None:
    """Change each file at each of its bytes, and read all of its store each time."""
    every: list[tuple[str, Files, dict[str, Told], int]] = []
    with in_memory(trial.folder) as folder:
        for name, files in write_stores(trial.folder):
            lay_out(folder, files)
            whole = tell(folder / LOG)
            every += [(name, files, whole, at) for at in range(len(files[name]))]
        for name, files, whole, at in trial.cases(every):
            lay_out(folder, {**files, name: change(files[name], at)})
            _judge(trial, f"{name} at {at}", folder / LOG, whole)


def _judge(trial: Trial, place: str, path: Path, whole: dict[str, Told]) -> None:
    name = place.partition(" ")[0]
    try:
        told = tell(path)
    except StatecoreError:
        trial.prove(f"{name}: refused")
        return
    except Exception as error:
        trial.require(False, f"{place}: an error of no type of ours: {error!r}")
        return
    if told == whole:
        trial.prove(f"{name}: told right")
        return
    if not all(told[agent].begins(whole[agent]) for agent in AGENTS):
        trial.require(False, f"{place}: wrong, and told as if it were right")
    elif all(told[agent][:2] == whole[agent][:2] for agent in AGENTS):
        trial.prove(f"{name}: hidden from the key history")
    else:
        trial.prove(f"{name}: an older state told")
        # An end that is missing from a write-ahead log looks like one that was never written.
        shown = name == WAL or not is_sound(path)
        trial.require(shown, f"{place}: an older state is told, and nothing shows it")


def flip_bits(trial: Trial) -> None:
    """A bit is flipped in each byte of a small store: of its log, write-ahead log and keys.

    What is read is right, or refused with a typed error. Three things can hide what is there, and
    never change it: SQLite drops what comes after a flipped bit in a write-ahead log; pages of an
    index are not sealed, which its own check finds; nor is the key history,
    which `statecore check` finds, and `history(key=)` notices.
    """

    def flip(whole: bytes, at: int) -> bytes:
        changed = bytearray(whole)
        changed[at] ^= 1 << trial.chance.randrange(8)
        return bytes(changed)

    damage(trial, flip)


def cut_files(trial: Trial) -> None:
    """A file is cut off at each length: the log, its write-ahead log, the keys.

    What is read is right, or refused with a typed error; of a write-ahead log the beginning.
    """
    damage(trial, lambda whole, length: whole[:length])
