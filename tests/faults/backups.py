"""Backups interrupted: killed at any moment, or at each step, or their disk's power gone."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import statecore
from statecore.backup import Backup, take
from statecore.errors import StatecoreError
from tests.acknowledged import PATIENCE_SECONDS
from tests.conftest import KEY
from tests.faults.damage import AGENTS, LOG, tell
from tests.faults.fault import Trial
from tests.faults.mounted import PulledPlug
from tests.faults.power import forgetful_disk

SECONDS_MAX = 0.04  # of a backup's life
KILLS_OF_A_BACKUP = 10
EVENTS_MAX = 5  # of a segment, so that there are many
EVENTS = 40
REFUSED = 3  # how a backup ends that met an error of ours
# What changes names, as Python tells of it; a file that was not linked yet is nobody's.
CHANGES = ("os.mkdir", "os.link", "os.remove")


@dataclass(slots=True)
class Backed:
    """A store that grows, its backup, and what was told to be in that."""

    trial: Trial
    path: Path
    place: Path
    told_path: Path
    events: int = 0

    def write(self, events: int) -> None:
        """Write to the store's agents in turn."""
        with statecore.open(self.path, key=KEY, durability="relaxed") as store:
            agents = [store.manager(name) for name in AGENTS]
            for number in range(self.events, self.events + events):
                with agents[number % len(agents)].transaction() as tx:
                    tx.set("n", number)
                    tx.set(f"k{number % 7}", f"value {number}")
            self.events += events
            store.signed_head()

    def start(self, steps: int = 0) -> int:
        """Have another process take the backup, and be killed at a step; return its number."""
        before = Backup(self.place).listing().end
        self.told_path.write_text("0\n")
        process = os.fork()
        if process:
            return process
        ended = 1
        try:
            if steps:
                sys.addaudithook(_dies_at(steps))
            ended = self._take(before)
        finally:
            os._exit(ended)

    def _take(self, before: int) -> int:
        told = os.open(self.told_path, os.O_WRONLY | os.O_APPEND)

        def tell_progress(done: int, _: int) -> None:
            os.write(told, f"{before + done}\n".encode())

        try:
            take(self.path, self.place, events_max=EVENTS_MAX, on_progress=tell_progress)
        except StatecoreError:
            return REFUSED
        return 0

    def check(self, name: str) -> None:
        """Look whether what there is is a whole beginning, with all that was told of."""
        told = int(self.told_path.read_text().split()[-1])
        end = Backup(self.place).listing().end
        self.trial.require(end >= told, f"{name}: told of {told} events, {end} are there")
        self.trial.prove("events told of", told)
        if end:
            self._verify(name, end)
        self.trial.prove("whole beginnings" if end < self.events else "whole backups")

    def check_again(self, name: str) -> None:
        """Take it again: it comes to its end, and restores to what the store is."""
        take(self.path, self.place, events_max=EVENTS_MAX)
        self._verify(f"{name}, again", self.events)
        restored = self.path.with_name("restored.db")
        statecore.restore(self.place, restored, key_store=f"{self.path}-keys")
        self.trial.require(tell(restored) == tell(self.path), f"{name}: restored another store")
        self.trial.prove("restored equal")
        for file in restored.parent.glob(f"{restored.name}*"):
            file.unlink()

    def _verify(self, name: str, events: int) -> None:
        report = statecore.verify_backup(self.place)
        found = [finding.text for finding in report.findings]
        self.trial.require(not found, f"{name}: {found}")
        self.trial.require(report.events == events, f"{name}: {report.events} of {events} events")


def _dies_at(steps: int) -> Callable[[str, tuple[object, ...]], None]:
    """Return what kills this process before its nth change of a folder."""
    left = count(steps - 1, -1)

    def look(event: str, _: tuple[object, ...]) -> None:
        if event in CHANGES and next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return look


def _end(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def kill_backups(trial: Trial) -> None:
    """A backup of a store that grows is killed at random moments.

    Each time what is there is a beginning of the log, whole, with all that was told of; the next
    one goes on from it, and restores to what the store is.
    """
    while trial.goes_on:
        folder = trial.folder / f"after-{trial.done}"
        folder.mkdir()
        backed = Backed(trial, folder / LOG, folder / "backup", folder / "told")
        for _ in range(KILLS_OF_A_BACKUP):
            backed.write(EVENTS)
            _kill(trial, backed)
            if not trial.goes_on:
                break
        backed.check_again(f"kill {trial.done}")


def _kill(trial: Trial, backed: Backed) -> None:
    process = backed.start()
    time.sleep(trial.chance.uniform(0, SECONDS_MAX))
    os.kill(process, signal.SIGKILL)
    ended = _end(process)
    trial.require(ended in (0, -signal.SIGKILL), f"a backup ended with {ended}")
    trial.prove("killed", int(ended == -signal.SIGKILL))
    trial.done += 1
    backed.check(f"kill {trial.done}")


def kill_backups_at_each_step(trial: Trial) -> None:
    """A backup is killed before each change it makes to its folder: names made, linked, removed."""
    backed = Backed(trial, trial.folder / LOG, trial.folder / "whole", trial.folder / "told")
    backed.write(EVENTS)
    steps = _length_of_life(backed)
    for step in trial.cases(range(1, steps + 1)):
        backed.place = trial.folder / f"step-{step}"
        ended = _end(backed.start(step))
        trial.require(ended == -signal.SIGKILL, f"step {step}: it ended with {ended}")
        backed.check(f"step {step}")
        backed.check_again(f"step {step}")


def _length_of_life(backed: Backed) -> int:
    """Return how many steps a backup takes that nobody kills: two for each file, and the folder."""
    assert _end(backed.start()) == 0
    files = len(list(backed.place.iterdir()))
    return 1 + 2 * files


def pull_the_plug_on_backups(trial: Trial) -> None:
    """Power is lost at each step of a backup to a disk: what was not synced is gone, or torn."""
    with forgetful_disk(trial.folder / "disk") as plug:
        backed = Backed(trial, trial.folder / LOG, plug.folder / "whole", trial.folder / "told")
        backed.write(EVENTS)
        before = plug.steps()
        assert _end(backed.start()) == 0
        for step in trial.cases(range(1, plug.steps() - before + 1)):
            backed.place = plug.folder / f"step-{step}"
            _cut(trial, plug, backed, step)
            backed.check(f"step {step}")
            backed.check_again(f"step {step}")


def _cut(trial: Trial, plug: PulledPlug, backed: Backed, step: int) -> None:
    """Pull the plug at a step of a backup, see it refused, and restore the power."""
    plug.pull_after(step)
    process = backed.start()
    if not plug.wait(PATIENCE_SECONDS):
        raise TimeoutError("the backup takes no steps")
    ended = _end(process)
    # The last steps remove a draft, and are not asked about.
    trial.require(ended in (0, REFUSED), f"step {step}: it ended with {ended}")
    trial.prove("writes and names lost", plug.restore(trial.chance.randrange(1 << 32)))
