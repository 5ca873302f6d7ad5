"""Processes on a disk of which one call fails, and what is left by them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

import statecore
from tests.conftest import KEY, environment

WRITES = 8

STUBBORN = """
import os, sys
import statecore

path, weight, agents = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
with statecore.open(path, key=bytes(range(32))) as store:
    for number in range(8):
        agent = store.manager(agents[number % len(agents)])
        id, ballast = f"{agent.agent_id}-{number}", {"ballast": os.urandom(weight)}
        try:
            version = agent.extend("items", [number], event_id=id, metadata=ballast)
            print(number, version, flush=True)
        except statecore.StatecoreError as error:
            print(number, type(error).__name__, error, flush=True)
"""


def write_on_a_bad_disk(
    path: Path, agents: list[str], file: str, fault: str, when: int, weight: int = 0
) -> list[list[str]]:
    """Write eight times in a process in which one system call on one file fails.

    Args:
        path: the store.
        agents: who writes, in turn.
        file: the name of the file.
        fault: the call, and the error it fails with: ``fdatasync:EIO``.
        when: which of the calls on that file, from 1.
        weight: bytes to write beside, each time.

    Returns:
        What each write told: its number, and its version or the error. Nothing, if there were
        fewer calls.
    """
    call, _, error = fault.partition(":")
    inject = ["-e", f"inject={call}:error={error}:when={when}"]
    told, trace = _traced(path, agents, file, call, weight, inject)
    if "(INJECTED)" not in trace:
        return []
    return [line.split(maxsplit=2) for line in told.splitlines()]


def count_calls(path: Path, agents: list[str], file: str, call: str, weight: int = 0) -> int:
    """Return how many such calls on a file these writes take where nothing fails."""
    _, trace = _traced(path, agents, file, call, weight, [])
    return sum(f"{call}(" in line for line in trace.splitlines())


def _traced(
    path: Path, agents: list[str], file: str, call: str, weight: int, inject: list[str]
) -> tuple[str, str]:
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    trace = path.with_name("trace")
    strace = ["strace", "-f", "-o", str(trace), "-e", f"trace={call}", *inject]
    python = os.path.realpath(sys.executable)  # a shim would be traced in its place
    write = [python, "-c", STUBBORN, str(path), str(weight), *agents]
    told = subprocess.run(
        [*strace, "-P", str(path.with_name(file)), *write],
        capture_output=True,
        text=True,
        env={**environment(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    assert told.stderr == ""
    return told.stdout, trace.read_text()


def items_after_retries(path: Path, agent: str) -> list[object]:
    """Reopen the store, write again what may not have been written; return what is there."""
    with statecore.open(path, key=KEY) as store:
        manager = store.manager(agent)
        for number in range(WRITES):
            manager.extend("items", [number], event_id=f"{agent}-{number}")
        versions = [event.version for event in manager.history()]
        assert versions == list(range(1, len(versions) + 1))
        items: list[object] = manager.get_state("items")
        return items


def is_sound(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with its own structures."""
    database = apsw.Connection(str(path))
    try:
        return bool(database.execute("PRAGMA integrity_check(1)").get == "ok")
    except apsw.Error:
        return False
    finally:
        database.close()
