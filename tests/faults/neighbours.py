"""Several processes on one store: a crowd of them, children by fork, and one that may only read."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
import traceback
from pathlib import Path
from typing import Final

import pytest

import statecore
from statecore.errors import StoreForked, StoreReadOnly
from tests.acknowledged import Store, start
from tests.conftest import KEY
from tests.faults.fault import Trial
from tests.faults.mounts import mount, unmount_below
from tests.writer import Writers

CROWD: Final = 5
THREADS: Final = 3
PATIENCE_SECONDS: Final = 30


def crowd(trial: Trial) -> None:
    """Five processes write at once, are killed one after the other, and others take their places.

    Every acknowledged event is there, each is what its writer meant to write.
    """
    with Writers() as writers:
        store = Store(trial.folder / "store")
        while trial.goes_on:
            works = [trial.chance.choice(["alone", "tasks"]) for _ in range(CROWD)]
            running = [
                start(writers, store, work, f"crowd-{trial.done}.{at}")
                for at, work in enumerate(works)
            ]
            time.sleep(trial.chance.uniform(0.2, 0.6))
            for process in running:
                time.sleep(trial.chance.uniform(0, 0.1))
                os.kill(process, signal.SIGKILL)
                assert writers.wait(process) == -signal.SIGKILL
            store.check(trial.chance)
            trial.done += 1
        store.check(trial.chance, all_of_it=True)
        trial.prove("acknowledged", len(store.told))
        trial.prove("unacknowledged and whole", store.unacknowledged)


def fork_while_writing(trial: Trial) -> None:
    """A process forks while its threads write, and the child uses what it inherited.

    The child is refused with StoreForked, at once, also if it opens the store anew: SQLite would
    take the parent's locks for its own. The parent goes on, and every acknowledged event is there.
    """
    path = trial.folder / "agents.db"
    stop = threading.Event()
    versions: dict[str, list[int]] = {}
    with statecore.open(path, key=KEY) as store:

        def write(name: str) -> None:
            agent = store.manager(name)
            versions[name] = []
            while not stop.is_set():
                versions[name].append(agent.extend("items", [len(versions[name])]))

        threads = [threading.Thread(target=write, args=(f"t-{n}",)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        try:
            while trial.goes_on:
                time.sleep(trial.chance.uniform(0, 0.02))
                ended = _fork(path, store)
                trial.require(ended == 0, f"child {trial.done} ended with {ended}")
                trial.done += 1
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    with statecore.open(path, key=KEY) as store:
        for name, told in versions.items():
            trial.require(told == list(range(1, len(told) + 1)), f"{name} was told {told}")
            trial.require(
                store.manager(name).get_state("items") == list(range(len(told))), f"{name} lost"
            )
            trial.prove("acknowledged to the parent", len(told))


def _fork(path: Path, inherited: statecore.BlockingStore) -> int:
    """Fork, and return how the child ended; one that hangs is killed."""
    process = os.fork()
    if process == 0:
        os._exit(_live_as_child(path, inherited))
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _live_as_child(path: Path, inherited: statecore.BlockingStore) -> int:
    """Try whatever a child may try; return how many things were not refused as they should be."""
    agent = inherited.manager("t-0")
    wrong = 0
    for use in (
        lambda: agent.get_state("items"),
        lambda: agent.set_state("x", 1),
        lambda: list(agent.history()),
        statecore.open(path, key=KEY).blocking,
    ):
        try:
            use()
            wrong += 1
        except StoreForked:
            continue
        except BaseException:
            traceback.print_exc()
            wrong += 1
    inherited.close()  # as it is when a child leaves the block that opened it
    return wrong


def write_protect(trial: Trial) -> None:
    """A store is opened where it can only be read, while another process writes it elsewhere.

    Opening it is refused with StoreReadOnly, nothing is touched, and the other goes on.
    """
    if not hasattr(os, "getuid") or os.getuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs root and mount")
    folder, protected = trial.folder / "written", trial.folder / "protected"
    protected.mkdir()
    store = Store(folder)
    mount("--bind", folder, protected)
    mount("-o", "remount,bind,ro", protected)
    try:
        with Writers() as writers:
            while trial.goes_on:
                writer = start(writers, store, "alone", f"writer-{trial.done}")
                time.sleep(trial.chance.uniform(0, 0.1))
                refused = False
                try:
                    statecore.open(protected / "agents.db", key=KEY).blocking().close()
                except StoreReadOnly:
                    refused = True
                trial.require(refused, "it could be opened where it can only be read")
                os.kill(writer, signal.SIGKILL)
                assert writers.wait(writer) == -signal.SIGKILL
                store.check(trial.chance)
                trial.done += 1
    finally:
        unmount_below(protected)
    trial.prove("acknowledged to the writer", len(store.told))
