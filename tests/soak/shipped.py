"""What a backup that followed all day came to: verified, restored, held against the store."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import statecore
from statecore.backup import Backup, lag
from statecore.log import now
from statecore.values import same
from tests.conftest import KEY
from tests.soak.workers import AGENTS, open_store

LOOK_SECONDS = 0.5


@dataclass(slots=True)
class Lag:
    """How far the backup was behind, looked at every so often."""

    folder: Path
    last: tuple[int, float] = (0, 0.0)
    events_max: int = 0
    seconds_max: float = 0.0

    def look_until(self, moment: float) -> None:
        """Look again and again until a moment of the monotonic clock."""
        while (left := moment - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_SECONDS))
            self.look()

    def look(self) -> None:
        """Look how far it is behind now."""
        end = Backup(self.folder / "backup").listing().end
        self.last = events, seconds = lag(self.folder / "agents.db", end, now())
        self.events_max = max(self.events_max, events)
        self.seconds_max = max(self.seconds_max, seconds)

    def __str__(self) -> str:
        events, seconds = self.last
        return (
            f"{events:,} events and {seconds:.1f} s behind at last, "
            f"{self.events_max:,} and {self.seconds_max:.1f} s at most"
        )


@dataclass(slots=True)
class Shipped:
    """What came of the backup, and what is wrong with it."""

    segments: int = 0
    position: int = 0
    events: int = 0
    violations: list[str] = field(default_factory=list)


def check_backup(folder: Path) -> Shipped:
    """Verify the backup with the keys, restore it, and hold each agent against the live store."""
    place, keys = folder / "backup", folder / "agents.db-keys"
    listing = Backup(place).require_listing()
    found = Shipped(len(listing.segments), listing.end)
    for line in _told(folder):
        if line["position"] > found.position:
            found.violations.append(f"shipped up to {line['position']}, and the backup lacks it")
    report = statecore.verify_backup(place, key=KEY, key_store=keys)
    found.violations += [f"the backup: {each.kind}: {each.text}" for each in report.findings]
    restored = statecore.restore(place, folder / "restored.db", key=KEY, key_store=keys)
    if restored.position != found.position:
        found.violations.append(f"restored up to {restored.position}, not {found.position}")
    found.events = restored.events
    with (
        open_store(folder) as live,
        statecore.open(folder / "restored.db", key=KEY, create=False) as copy,
    ):
        for name in AGENTS:
            _compare(found, live.manager(name), copy.manager(name))
    return found


def _told(folder: Path) -> list[dict[str, Any]]:
    """Return what each life of the follower told; of a life that was killed whole lines alone."""
    texts = [file.read_text() for file in sorted(folder.glob("shipped-*"))]
    return [json.loads(line) for text in texts for line in text.splitlines(True) if "\n" in line]


def _compare(
    found: Shipped, live: statecore.BlockingManager, copy: statecore.BlockingManager
) -> None:
    """Look whether exactly the events up to the last shipped position are in the copy."""
    theirs = [event for event in live.history() if event.position <= found.position]
    if list(copy.history()) != theirs:
        found.violations.append(f"{live.agent_id}: the restored history is another")
        return
    if not same(copy.at().data, live.at(len(theirs)).data):
        found.violations.append(f"{live.agent_id}: the restored state is another")
