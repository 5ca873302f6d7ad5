"""A day of a store in ten minutes, a death every minute: ``python -m tests.soak --minutes 10``.

Workers write, watch, travel, merge, review and back up, each in a process of its own. Each minute
one of them is killed and another takes its place, all but one, whose memory must stay as it is. At
the end every acknowledged event is there, the subscriber saw each event once and in order, what the
backup came to restores to what the store was at that position, and all is sound.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import statecore
from tests.conftest import KEY, environment
from tests.faults.bad_disk import is_sound
from tests.soak.shipped import Lag, check_backup
from tests.soak.workers import AGENTS, WORKERS, open_store

MEBIBYTE = 1024 * 1024
PATIENCE_SECONDS = 60
STEADY = "threads"  # is never killed: its memory is looked at all the time
GROWTH_MAX = 1.25  # of its memory, from a third of the time on
GROWTH_BYTES_MAX = 16 * MEBIBYTE


@dataclass(slots=True)
class Soak:
    """One run: who is at work, and what came of it."""

    folder: Path
    working: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    lives: Counter[str] = field(default_factory=Counter)
    steady_bytes: list[int] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def start(self, name: str) -> None:
        """Have a worker begin its next life."""
        actor = f"{name}-{self.lives[name]}"
        self.lives[name] += 1
        command = [sys.executable, "-m", "tests.soak.workers", name, str(self.folder), actor]
        self.working[name] = subprocess.Popen(command, env=environment())

    def kill(self, name: str) -> None:
        """Kill a worker, and start another in its place."""
        self.working[name].kill()
        ended = self.working[name].wait()
        if ended != -signal.SIGKILL:
            self.violations.append(f"{name} had ended by itself, with {ended}")
        self.start(name)

    def stop(self) -> None:
        """Have all end their work; who does not is a violation."""
        for process in self.working.values():
            process.terminate()
        for name, process in self.working.items():
            try:
                ended = process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                ended = process.wait()
            # Told before it had begun to listen; or it is a command, which says so.
            if ended not in (0, -signal.SIGTERM, 128 + signal.SIGTERM):
                self.violations.append(f"{name} ended with {ended}")

    def report(self, beat: int, killed: str) -> None:
        """Say how it goes."""
        memory = {name: resident_bytes(process.pid) for name, process in self.working.items()}
        self.steady_bytes.append(memory[STEADY])
        told = sum(file.read_bytes().count(b"\n") for file in self.folder.glob("told-*"))
        files = [self.folder / f"agents.db{end}" for end in ("", "-wal", "-keys")]
        sizes = {file.name: file.stat().st_size for file in files if file.exists()} | memory
        shown = ", ".join(f"{name} {size / MEBIBYTE:.1f}" for name, size in sizes.items())
        say(f"{beat:>4}  {told:,} acknowledged  MiB: {shown}  now killed: {killed}")


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def resident_bytes(process: int) -> int:
    """Return how much memory a process has; 0 once it is gone."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    except FileNotFoundError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def live(
    soak: Soak, seconds: float, beat_seconds: float, chance: random.Random, behind: Lag
) -> None:
    """Let them all work for a while, and kill one at each beat."""
    open_store(soak.folder).blocking().close()
    for name in WORKERS:
        soak.start(name)
    mortals = [name for name in WORKERS if name != STEADY]
    began = time.monotonic()
    for beat in range(1, 1 + max(1, int(seconds / beat_seconds))):
        behind.look_until(began + beat * beat_seconds)
        killed = chance.choice(mortals)
        soak.report(beat, killed)
        soak.kill(killed)
    soak.stop()
    check_memory(soak)


def check_memory(soak: Soak) -> None:
    """Look whether the memory of the one who lives on stays as it is."""
    early, late = soak.steady_bytes[len(soak.steady_bytes) // 3], soak.steady_bytes[-1]
    if late > early * GROWTH_MAX + GROWTH_BYTES_MAX:
        soak.violations.append(f"memory grows from {early:,} to {late:,} bytes")


def check_events(soak: Soak) -> int:
    """Look whether all is there that was acknowledged; return how many events there are."""
    acknowledged: dict[str, dict[int, tuple[str, str]]] = {name: {} for name in AGENTS}
    for file in soak.folder.glob("told-*"):
        for line in file.read_text().splitlines():
            agent, version, actor, number = line.split()
            acknowledged[agent][int(version)] = (actor, number)
    numbers: dict[str, list[int]] = {}
    count = 0
    with open_store(soak.folder) as store:
        for name in AGENTS:
            count += check_agent(soak, store.manager(name), acknowledged[name], numbers)
    for actor, written in numbers.items():
        if sorted(written) != list(range(len(written))):
            soak.violations.append(f"{actor} has a write twice, or one is missing")
    say(f"{sum(map(len, acknowledged.values())):,} acknowledged, {count:,} events")
    return count


def check_agent(
    soak: Soak,
    agent: statecore.BlockingManager,
    acknowledged: dict[int, tuple[str, str]],
    numbers: dict[str, list[int]],
) -> int:
    """Look through an agent's history; return how long it is."""
    events = list(agent.history())
    if [event.version for event in events] != list(range(1, len(events) + 1)):
        soak.violations.append(f"{agent.agent_id}: versions have gaps")
    if any(event.time > after.time for event, after in pairwise(events)):
        soak.violations.append(f"{agent.agent_id}: times run backwards")
    stored = {event.version: (event.actor or "", event.reason or "") for event in events}
    lost = [version for version, what in acknowledged.items() if stored.get(version) != what]
    if lost:
        soak.violations.append(f"{agent.agent_id}: acknowledged and lost: {lost[:10]}")
    for actor, number in stored.values():
        if actor.startswith(("threads-", "tasks-")):
            numbers.setdefault(actor, []).append(int(number))
    check_subscriber(soak, agent.agent_id, len(events))
    return len(events)


def check_subscriber(soak: Soak, agent: str, count: int) -> None:
    """Look whether the subscriber saw each event once, in order; the last ones it may have missed
    when it was told to stop."""
    lines = (soak.folder / "seen").read_text().splitlines()
    seen = [int(line.split()[1]) for line in lines if line.split()[0] == agent]
    if seen != list(range(1, len(seen) + 1)):
        soak.violations.append(f"{agent}: the subscriber missed an event, or saw one twice")
    if len(seen) < count // 2:
        soak.violations.append(f"{agent}: the subscriber saw {len(seen)} of {count} events")


def check_whole(soak: Soak) -> None:
    """Look whether SQLite finds nothing in the file, and a replay of all events neither."""
    path = soak.folder / "agents.db"
    if not is_sound(path):
        soak.violations.append("SQLite finds damage")
    found = statecore.verify(path, depth="replay", key=KEY).findings
    soak.violations += [f"{each.kind}: {each.text}" for each in found]


def check_shipped(soak: Soak, behind: Lag) -> None:
    """Look whether the backup is what the store was, and say how it went."""
    shipped = check_backup(soak.folder)
    soak.violations += shipped.violations
    say(
        f"backup: {shipped.events:,} events up to position {shipped.position:,}, in "
        f"{shipped.segments:,} segments; {behind}"
    )
    reviews = sum(file.read_bytes().count(b"\n") for file in soak.folder.glob("reviewed-*"))
    say(f"reviews: {reviews}")
    if not reviews:
        soak.violations.append("no review was made")


def main(arguments: Sequence[str]) -> int:
    """Run a soak; return 1 if anything was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--beat", type=float, default=60, help="seconds from death to death")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="statecore-soak-") as folder:
        soak, behind = Soak(Path(folder)), Lag(Path(folder))
        try:
            live(soak, asked.minutes * 60, asked.beat, random.Random(asked.seed), behind)
        finally:
            for process in soak.working.values():
                process.kill()
        check_events(soak)
        check_shipped(soak, behind)
        check_whole(soak)
        lives = ", ".join(f"{name} {count}" for name, count in soak.lives.items())
        say(f"lives: {lives}")
    for violation in soak.violations:
        say(f"VIOLATED: {violation}")
    say(f"{len(soak.violations)} violations")
    return int(bool(soak.violations))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
