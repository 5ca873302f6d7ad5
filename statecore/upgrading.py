"""Bringing a store's file to the newest format: looked at, rehearsed on a copy, then done.

In this order: analyse what it is, verify what it holds, plan the steps, take them on a copy, verify
that, and only where nothing but what was planned has changed, take them in the store.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from statecore.errors import Damage, StoreFull
from statecore.recorders.sqlite.reading import StoreFile
from statecore.recorders.sqlite.schema import FORMAT
from statecore.recorders.sqlite.upgrading import Step, due, take
from statecore.verifying import Report, verify

__all__ = ["Step", "Upgrade", "upgrade"]


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What an upgrade found and did."""

    format: int
    steps: tuple[Step, ...]
    """What was due."""
    before: Report
    after: Report | None
    """Of the store, or of the copy where it was only rehearsed; ``None`` where nothing was due."""
    is_done: bool
    """Whether the store itself was changed."""


def upgrade(
    path: Path, *, dry_run: bool = False, on_stage: Callable[[str], None] = lambda _: None
) -> Upgrade:
    """Bring a store's file to the newest format; nothing that was recorded is touched.

    Args:
        path: the store. Others should have closed it: an older statecore knows no newer tables.
        dry_run: only rehearse it.
        on_stage: called with what begins.

    Raises:
        Damage: the store does not hold together, or would not after it; nothing was changed.
        StoreFull: there is no room for the copy; nothing was changed.
        StoreNotFound, ForeignSchema, NewerFormat: there is nothing to upgrade.
    """
    on_stage("analysing")
    file = StoreFile(path)
    try:
        steps = due(file)
        on_stage("verifying")
        before = _verified(path, "was not upgraded")
        if not steps:
            return Upgrade(FORMAT, (), before, None, is_done=False)
        on_stage("rehearsing on a copy")
        after = _rehearse(path, file, steps)
    finally:
        file.close()
    if not dry_run:
        on_stage("upgrading")
        take(path, steps)
        on_stage("verifying again")
        after = _verified(path, "was upgraded, and then")
    return Upgrade(FORMAT, tuple(steps), before, after, is_done=not dry_run)


def _rehearse(path: Path, file: StoreFile, steps: list[Step]) -> Report:
    """Take the steps on a copy, and hold what comes of it against the original."""
    size = path.stat().st_size
    if shutil.disk_usage(path.parent).free < 2 * size:
        raise StoreFull(f"a copy of {path} to rehearse on needs {2 * size:,} bytes beside it")
    with TemporaryDirectory(prefix=f".{path.name}-upgrade-", dir=path.parent) as folder:
        copy = Path(folder) / path.name
        os.close(os.open(copy, os.O_CREAT | os.O_EXCL, 0o600))
        file.copy_to(copy)
        original = _verified(copy, "was not upgraded: its copy")
        take(copy, steps)
        after = _verified(copy, "was not upgraded: the copy")
        upgraded = StoreFile(copy)
        try:
            left = due(upgraded)
        finally:
            upgraded.close()
        same = (original.root, original.events, original.streams)
        if left or same != (after.root, after.events, after.streams):
            raise Damage(f"{path} was not upgraded: on a copy the result was another log")
        return after


def _verified(path: Path, what: str) -> Report:
    report = verify(path)
    if report.findings:
        found = "; ".join(finding.text for finding in report.findings)
        raise Damage(f"{path} {what} does not hold together: {found}")
    return report
