"""The power pulled from under writers; what nobody had the disk keep is gone, or torn."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acknowledged import PATIENCE_SECONDS, Store, start, the_session_ends, wait_until
from tests.conftest import Clock
from tests.faults.fault import Trial
from tests.faults.mounted import PulledPlug
from tests.writer import REFUSED, Writers

CUTS_OF_A_STORE = 10
STEPS_MAX = 400  # of a writer's life; opening the store takes about 80


@contextmanager
def forgetful_disk(folder: Path) -> Iterator[PulledPlug]:
    """Give a mounted disk that forgets, or skip where there can't be one."""
    if importlib.util.find_spec("mfusepy") is None:
        pytest.skip("needs mfusepy: the extra 'faults'")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/fuse")
    folder.mkdir()
    # Stores on it are refused otherwise, rightly so: who knows what a file system keeps.
    os.environ["STATECORE_UNSAFE_FILE_SYSTEM"] = "1"
    with PulledPlug(folder) as plug:
        wait_until(lambda: os.path.ismount(folder), "the disk is not mounted")
        yield plug


def new_folder(parent: Path, name: str) -> Path:
    """Make a folder whose name is kept; that is up to whoever says where a store shall be."""
    folder = parent / name
    folder.mkdir()
    descriptor = os.open(parent, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    return folder


def cut(trial: Trial, plug: PulledPlug, writers: Writers, running: list[int]) -> None:
    """Wait for the power to go, bury who was writing, and restore the power."""
    if not plug.wait(PATIENCE_SECONDS):
        raise TimeoutError("the writers take no steps")
    for process in running:
        os.kill(process, signal.SIGKILL)
        ended = writers.wait(process)
        # SQLite closes a file whatever errors it meets, and using memory that is mapped from a disk
        # that is gone is a bus error: neither is a failure of what was written.
        expected = (0, REFUSED, -signal.SIGKILL, -signal.SIGBUS)
        trial.require(ended in expected, f"a writer ended with {ended}: {_last_words(trial)}")
    lost = plug.restore(trial.chance.randrange(1 << 32))
    trial.done += 1
    trial.prove("power cuts")
    trial.prove("writes and names lost", lost)


@contextmanager
def quiet_writers(trial: Trial) -> Iterator[Writers]:
    """Give writers that complain of a disk without power to a file."""
    with (trial.folder / "stderr").open("w") as file, Writers(file.fileno()) as writers:
        yield writers


def _last_words(trial: Trial) -> str:
    """Return what a writer said at last of an error that is none of ours."""
    lines = (trial.folder / "stderr").read_text().splitlines()
    foreign = [line for line in lines if "Error" in line and "apsw" not in line]
    return " | ".join(foreign[-3:])


def pull_the_plug(trial: Trial) -> None:
    """Power is lost at random steps of writers, alone, as tasks, or two processes at once.

    A step is a change of a file or directory. Every acknowledged event is there, and the store is
    written to at once; or the next writers open it, and lose their power while they recover it.
    """
    with forgetful_disk(trial.folder / "disk") as plug, quiet_writers(trial) as writers:
        while trial.goes_on:
            name = f"after-{trial.done}"
            store = Store(new_folder(plug.folder, name), told=trial.folder / name)
            for number in range(CUTS_OF_A_STORE):
                works = trial.chance.choice((["alone"], ["tasks"], ["alone", "tasks"]))
                plug.pull_after(trial.chance.randint(1, STEPS_MAX))
                running = [
                    start(writers, store, work, f"cut-{number}.{at}")
                    for at, work in enumerate(works)
                ]
                cut(trial, plug, writers, running)
                if trial.chance.random() < 0.7:
                    store.check(trial.chance)
                if not trial.goes_on:
                    break
            store.check(trial.chance, all_of_it=True)
            trial.prove("acknowledged", len(store.told))
            trial.prove("unacknowledged and whole", store.unacknowledged)


def pull_the_plug_at_each_step(trial: Trial) -> None:
    """Power is lost at each step of a small store's life: creation, writes, an erasure, the end.

    An expired state ends as it would without the cut, and its key is destroyed.
    """
    with forgetful_disk(trial.folder / "disk") as plug, quiet_writers(trial) as writers:
        steps = length_of_life(trial, plug, writers)
        for step in trial.cases(range(1, steps + 1)):
            trial.done -= 1  # counted by the cut
            clock = Clock()
            folder = new_folder(plug.folder, f"step-{step}")
            store = Store(folder, clock, told=trial.folder / folder.name)
            plug.pull_after(step)
            cut(trial, plug, writers, [start(writers, store, "life", "life")])
            store.check(random.Random(step))
            clock.tick(61)
            the_session_ends(store)
            trial.prove("acknowledged", len(store.told))


def length_of_life(trial: Trial, plug: PulledPlug, writers: Writers) -> int:
    """Return the number of steps of a life that is not cut short."""
    store = Store(new_folder(plug.folder, "whole"), Clock(), told=trial.folder / "whole")
    before = plug.steps()
    assert writers.wait(start(writers, store, "life", "life")) == 0
    return plug.steps() - before
