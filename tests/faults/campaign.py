"""The faults there are, each run in a process of its own, so that a hang or a crash is seen.

A new fault is a function that takes a ``Trial``, and a line in ``FAULTS``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from tests.conftest import environment
from tests.faults.backups import (
    kill_backups,
    kill_backups_at_each_step,
    pull_the_plug_on_backups,
)
from tests.faults.bad_backups import (
    cut_backups,
    flip_bits_of_backups,
    mix_backups,
    share_a_place,
)
from tests.faults.clocks import set_the_clock
from tests.faults.damage import cut_files, flip_bits
from tests.faults.errors import fail_calls
from tests.faults.fault import Fault
from tests.faults.kills import kill_writers
from tests.faults.mounts import unmount_below
from tests.faults.neighbours import crowd, fork_while_writing, write_protect
from tests.faults.pages import flip_bits_of_pages
from tests.faults.power import pull_the_plug, pull_the_plug_at_each_step
from tests.faults.readers import hold_readers
from tests.faults.space import fill_the_disk

EVERY = 1_000_000  # more cases than there are

FAULTS = [
    Fault("kill", kill_writers, 1000, 30),
    Fault("power", pull_the_plug, 500, 10),
    Fault("power-life", pull_the_plug_at_each_step, EVERY, 10),
    Fault("full", fill_the_disk, 60, 0),
    Fault("error", fail_calls, EVERY, 0),
    Fault("flip", flip_bits, EVERY, 200),
    Fault("flip-page", flip_bits_of_pages, EVERY, 40),
    Fault("cut", cut_files, EVERY, 100),
    Fault("clock", set_the_clock, 20, 2),
    Fault("reader", hold_readers, 5000, 1200),
    Fault("crowd", crowd, 10, 1),
    Fault("fork", fork_while_writing, 100, 5),
    Fault("read-only", write_protect, 20, 1),
    Fault("backup-kill", kill_backups, 300, 10),
    Fault("backup-step", kill_backups_at_each_step, EVERY, 5),
    Fault("backup-power", pull_the_plug_on_backups, EVERY, 5),
    Fault("backup-flip", flip_bits_of_backups, EVERY, 40),
    Fault("backup-cut", cut_backups, EVERY, 40),
    Fault("backup-mix", mix_backups, 1000, 40),
    Fault("backup-shared", share_a_place, 300, 10),
]


@dataclass(slots=True)
class Outcome:
    """What came of a fault."""

    name: str
    title: str
    seed: int
    done: int = 0
    seconds: float = 0.0
    proved: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    skipped: str = ""  # why it could not be caused here


def cause(fault: Fault, folder: Path, times: int, seconds: float, seed: int) -> Outcome:
    """Cause a fault in a process of its own; a hang or a crash of it is a violation.

    Args:
        folder: an empty one.
        times: how often, at most.
        seconds: no case begins after so many; 0 for no such limit.
        seed: of all that is random.
    """
    outcome = Outcome(fault.name, fault.title, seed)
    order = {
        "fault": fault.name,
        "times": times,
        "seconds": seconds,
        "seed": seed,
        "case_seconds_max": fault.case_seconds_max,
    }
    command = [sys.executable, "-m", "tests.faults.one", json.dumps(order), str(folder)]
    with TemporaryFile("w+") as told:
        process = subprocess.Popen(command, stdout=told, env=environment(), start_new_session=True)
        try:
            ended = process.wait()
        finally:
            _end_session(process)
            unmount_below(folder)
        told.seek(0)
        lines = told.read().splitlines()
    if ended == -signal.SIGALRM:
        outcome.violations.append(f"hangs: no end of a case after {fault.case_seconds_max:g} s")
        return outcome
    return _read(outcome, lines, ended)


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """Leave none of the processes that a fault started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _read(outcome: Outcome, lines: Sequence[str], ended: int) -> Outcome:
    if ended or not lines:
        outcome.violations.append(f"the process that causes it ended with {ended}")
        return outcome
    said: dict[str, Any] = json.loads(lines[-1])
    for name, value in said.items():
        setattr(outcome, name, value)
    return outcome
