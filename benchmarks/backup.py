"""What do a backup and a restore take? Beside SQLite's own backup with age, and beside restic.

    python -m benchmarks.backup --events 1000000 --more 1000

A store of so many events of a hundred agents, each a value of about 170 bytes on one of twenty
keys, is backed up to an empty folder, then again after some more; verified; tidied; restored, whole
to its middle, and to random points, each of which is compared, agent by agent, with the history
that the store still has.

- copy and age: SQLite's backup of the whole file, then ``age`` over it: what is done by hand. It
  has no incremental form, so that the second time costs as much as the first
- restic: the same copy, into a repository of restic, which finds what it has already by content

Both are skipped where they are not installed. Ours is checked as it is taken: every event hashed
into the audit tree, and every segment read back; theirs are not. Ours leaves the snapshots out,
which the store makes again as it is used, and carries the key history and the ids. Not measured:
networks.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import apsw

import statecore
from benchmarks.append import VALUES
from benchmarks.harness import KEY, Row, main
from benchmarks.workload import calls
from statecore.backup import take

AGENTS: Final = 100
KEYS: Final = 20
_TASKS: Final = 400


def fill(path: Path, count: int, first: int = 0) -> None:
    """Write events, from many tasks, to many agents."""

    async def run() -> None:
        async with statecore.open(path, key=KEY, durability="relaxed") as store:
            agents = [store.manager(f"agent-{number}") for number in range(AGENTS)]
            rest = calls(count, KEYS, cycle(VALUES), seed=first)

            async def work(number: int) -> None:
                agent = agents[number % AGENTS]
                for key, value in rest:
                    await agent.set_state(key, value)

            await asyncio.gather(*(work(number) for number in range(_TASKS)))

    asyncio.run(run())


def size(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def seconds(action: Callable[[], object]) -> float:
    """Return how long it takes."""
    started = time.perf_counter()
    action()
    return round(time.perf_counter() - started, 3)


def measure(folder: Path, arguments: argparse.Namespace) -> list[Row]:
    """Fill a store, and back it up in each way."""
    path = folder / "agents.db"
    fill(path, arguments.events)
    rows: list[Row] = [
        {"what": "the store", "events": arguments.events, "bytes": path.stat().st_size}
    ]
    ways: list[tuple[str, _Way]] = [("statecore", _Ours(folder))]
    if shutil.which("age"):
        ways.append(("sqlite backup and age", _Age(folder)))
    if shutil.which("restic"):
        ways.append(("sqlite backup and restic", _Restic(folder)))
    for name, way in ways:
        took = seconds(partial(way.take, path))
        rows.append({"what": f"{name}: all", "seconds": took, "bytes": size(way.place)})
    fill(path, arguments.more, 1)
    for name, way in ways:
        before = size(way.place)
        took = seconds(partial(way.take, path))
        row = {"what": f"{name}: {arguments.more} more", "seconds": took}
        rows.append({**row, "bytes": size(way.place) - before})
    for name, way in ways:
        took = seconds(partial(way.restore, folder / "restored.db"))
        rows.append({"what": f"{name}: restore", "seconds": took})
        (folder / "restored.db").unlink()
    rows += _more(folder, path, arguments.events)
    return [*rows, _points(folder, path, arguments)]


def _more(folder: Path, path: Path, events: int) -> list[Row]:
    """Measure what only ours has."""
    place, middle = folder / "ours", folder / "middle.db"
    half: dict[str, Any] = {"at": events // 2, "key": KEY, "key_store": f"{path}-keys"}
    tree = folder / "opened.db"
    return [
        {"what": "statecore: nothing new", "seconds": seconds(lambda: take(path, place))},
        {
            "what": "statecore: verify without a key",
            "seconds": seconds(lambda: statecore.verify_backup(place)),
        },
        {
            "what": "statecore: verify, every event opened",
            "seconds": seconds(
                lambda: statecore.verify_backup(place, key=KEY, key_store=f"{path}-keys")
            ),
        },
        {
            "what": "statecore: restore to the middle",
            "seconds": seconds(lambda: statecore.restore(place, middle, **half)),
        },
        {
            "what": "statecore: prune",
            "seconds": seconds(lambda: statecore.prune_backup(place)),
        },
        {
            "what": "statecore: restore, then read one agent cold",
            "seconds": seconds(lambda: _restore_and_read(place, tree, path)),
        },
    ]


def _points(folder: Path, path: Path, arguments: argparse.Namespace) -> Row:
    """Restore to random points, and compare each with the live history."""
    chance, took, compared = random.Random(arguments.points), [], 0
    with statecore.open(path, key=KEY) as live:
        agents = [live.manager(birth.agent_id) for birth in live.agents()]
        for _ in range(arguments.points):
            point, target = chance.randint(1, arguments.events), folder / "point.db"
            restore = partial(statecore.restore, folder / "ours", target, key=KEY)
            took.append(seconds(partial(restore, at=point, key_store=f"{path}-keys")))
            with statecore.open(target, key=KEY) as restored:
                for agent in agents:
                    there = restored.manager(agent.agent_id).at()
                    assert there == agent.at(statecore.Position(point)), (point, agent.agent_id)
                    compared += 1
            for file in folder.glob("point.db*"):
                file.unlink()
    what = "statecore: restores to random points, all equal"
    return {"what": what, "points": len(took), "states": compared, "seconds": round(sum(took), 1)}


def _restore_and_read(place: Path, restored: Path, path: Path) -> None:
    statecore.restore(place, restored, key=KEY, key_store=f"{path}-keys")
    with statecore.open(restored, key=KEY) as store:
        store.manager("agent-0").at()


class _Way:
    place: Path

    def take(self, path: Path) -> None:
        raise NotImplementedError

    def restore(self, target: Path) -> None:
        raise NotImplementedError


class _Ours(_Way):
    def __init__(self, folder: Path) -> None:
        self.place = folder / "ours"

    def take(self, path: Path) -> None:
        take(path, self.place)

    def restore(self, target: Path) -> None:
        statecore.restore(self.place, target)


def copy(source: Path, target: Path) -> None:
    """Copy a database that may be in use, durably."""
    target.unlink(missing_ok=True)
    database = apsw.Connection(str(source))
    backup = apsw.Connection(str(target))
    with backup.backup("main", database, "main") as copying:
        copying.step()
    backup.close()
    database.close()


class _Age(_Way):
    def __init__(self, folder: Path) -> None:
        self.place = folder / "age"
        self.place.mkdir()
        self._identity = folder / "identity"
        self._copy = folder / "copy.db"
        subprocess.run(["age-keygen", "-o", self._identity], check=True, capture_output=True)
        told = subprocess.run(
            ["age-keygen", "-y", self._identity], check=True, capture_output=True, text=True
        )
        self._recipient = told.stdout.strip()

    def take(self, path: Path) -> None:
        copy(path, self._copy)
        sealed = self.place / f"{len(list(self.place.iterdir()))}.age"
        subprocess.run(["age", "-r", self._recipient, "-o", sealed, self._copy], check=True)

    def restore(self, target: Path) -> None:
        newest = max(self.place.iterdir(), key=lambda file: int(file.stem))
        subprocess.run(["age", "-d", "-i", self._identity, "-o", target, newest], check=True)


class _Restic(_Way):
    def __init__(self, folder: Path) -> None:
        self.place = folder / "restic"
        self._copy = folder / "copy.db"
        self._environment = {
            **os.environ,
            "RESTIC_REPOSITORY": str(self.place),
            "RESTIC_PASSWORD": "only a benchmark",
            "RESTIC_CACHE_DIR": str(folder / "restic-cache"),
        }
        self._run("init")

    def take(self, path: Path) -> None:
        copy(path, self._copy)
        self._run("backup", str(self._copy))

    def restore(self, target: Path) -> None:
        with target.open("wb") as file:
            self._run("dump", "latest", str(self._copy), output=file)

    def _run(self, *arguments: str, output: Any = subprocess.DEVNULL) -> None:
        subprocess.run(
            ["restic", "--quiet", *arguments], check=True, env=self._environment, stdout=output
        )


if __name__ == "__main__":
    main("backup", measure, events=1_000_000, more=1_000, points=20)
