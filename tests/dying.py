"""Processes that write to a store and are killed right before, or right after, they commit."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import statecore
from statecore import Change
from statecore.recorders.sqlite.log import SqliteTurn
from tests.conftest import KEY
from tests.mortal import MortalDisk

# Each begins as a copy of one process that has imported this module, so that it begins at once.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])


def write_and_die(
    path: Path, agent_id: str, branch: str, change: Change, *, committed: bool, now: int
) -> None:
    """Have another process apply a change, and be killed before it is told that it is done."""
    arguments = (path, agent_id, branch, change, committed, now)
    process = _processes.Process(target=_write, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def _write(
    path: Path, agent_id: str, branch: str, change: Change, committed: bool, now: int
) -> None:
    commit = SqliteTurn.commit

    def die(turn: SqliteTurn) -> None:
        if committed:
            commit(turn)
        os.kill(os.getpid(), signal.SIGKILL)

    store = statecore.open(path, key=KEY, clock=lambda: now).blocking()
    agent = store.manager(agent_id, actor="dying").branch(branch, create=False)
    SqliteTurn.commit = die  # type: ignore[assignment,method-assign]
    agent.apply(change)


def archive_and_die(path: Path, archive: Path, before: int, steps: int) -> int | None:
    """Have another process archive, and be killed at the nth step that changes a file; return how
    it ended."""
    process = _processes.Process(target=_archive, args=(path, archive, before, steps))
    process.start()
    process.join()
    return process.exitcode


def _archive(path: Path, archive: Path, before: int, steps: int) -> None:
    disk = MortalDisk(steps)
    for name in ("link", "fsync", "unlink"):
        setattr(os, name, _mortal(disk, getattr(os, name)))
    store = statecore.open(path, key=KEY).blocking()
    store.archive("agent", before=before, to=archive)
    os._exit(0)


def _mortal(disk: MortalDisk, do: Callable[..., Any]) -> Callable[..., Any]:
    def step(*arguments: Any, **options: Any) -> Any:
        disk.step()
        return do(*arguments, **options)

    return step
