"""A disk on which one call fails: reading, writing or syncing, the first of them or any later."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import statecore
from tests.conftest import KEY
from tests.faults.bad_disk import (
    WRITES,
    count_calls,
    is_sound,
    items_after_retries,
    write_on_a_bad_disk,
)
from tests.faults.fault import Trial

WRITES_CHOSEN = 12
HEAVY = 700_000  # bytes; six such writes fill the write-ahead log, so that it is folded back


class Case(NamedTuple):
    """A call on a file that fails, while an old agent writes, or eight new ones."""

    agents: tuple[str, ...]
    file: str
    fault: str
    weight: int = 0


OLD = ("old",)
NEW = tuple(f"new-{number}" for number in range(WRITES))

CASES = [
    Case(agents, f"agents.db{end}", f"{call}:{error}", weight)
    for agents, end, weight in (
        (OLD, "-wal", 0),
        (OLD, "", HEAVY),
        (NEW, "-keys", 0),
        (NEW, "-keys-journal", 0),
    )
    for call in ("fdatasync", "pwrite64")
    for error in ("EIO", "ENOSPC")
]


def fail_calls(trial: Trial) -> None:
    """One call fails, each in turn: a write or a sync, of the log or of the key store.

    After a failed sync nothing more is acknowledged until the store is opened anew. What was
    acknowledged before is there then, and a write that is repeated by its id is there once.
    """
    template = trial.folder / "template"
    template.mkdir()
    with statecore.open(template / "agents.db", key=KEY) as store:
        store.manager("old").extend("items", ["first"])
    counts: dict[tuple[str, str], int] = {}
    every: list[tuple[Case, int]] = []
    for case in CASES:
        call = case.fault.partition(":")[0]
        counted = (case.file, call)
        if counted not in counts:
            path = _copy(template, trial.folder / f"count-{len(counts)}")
            counts[counted] = count_calls(path, [*case.agents], case.file, call, case.weight)
        every += [(case, when) for when in _whens(call, counts[counted])]
    for case, when in trial.cases(every):
        path = _copy(template, trial.folder / f"case-{trial.done}")
        _fail(trial, path, case, when)


def _whens(call: str, count: int) -> list[int]:
    """Return which calls to have fail: each sync, and some of the many writes."""
    chosen = count if call == "fdatasync" else min(count, WRITES_CHOSEN)
    return [1 + number * count // chosen for number in range(chosen)]


def _copy(template: Path, folder: Path) -> Path:
    shutil.copytree(template, folder)
    return folder / "agents.db"


def _fail(trial: Trial, path: Path, case: Case, when: int) -> None:
    name = f"{case.file} {case.fault} at call {when}"
    told = write_on_a_bad_disk(path, [*case.agents], *case[1:3], when, case.weight)
    if not told:
        trial.prove("calls that never came")
        return
    outcomes = [outcome for _, outcome, *_ in told]
    acknowledged = [int(number) for number, outcome, *_ in told if outcome.isdigit()]
    trial.require(len(told) == WRITES, f"{name}: the process died")
    trial.prove("acknowledged", len(acknowledged))
    for outcome in set(outcomes):
        if not outcome.isdigit():
            trial.prove(outcome, outcomes.count(outcome))
    failed = [number for number, outcome in enumerate(outcomes) if not outcome.isdigit()]
    # Where folding the log back into the file fails, nothing fails that was asked for: the events
    # are in the write-ahead log, and it is folded back another time.
    if failed and (case.fault.startswith("fdatasync") or "OutcomeUnknown" in outcomes):
        later = [number for number in acknowledged if number > failed[0]]
        trial.require(not later, f"{name}: acknowledged after it: {outcomes}")
    with statecore.open(path, key=KEY) as store:
        kept = {case.agents[number % len(case.agents)] for number in acknowledged}
        there = [item for agent in kept for item in store.manager(agent).get_state("items")]
    missing = [number for number in acknowledged if number not in there]
    trial.require(not missing, f"{name}: acknowledged and lost: {missing}")
    for agent in case.agents:
        items = items_after_retries(path, agent)
        whole = [*(["first"] if agent == "old" else []), *range(WRITES)]
        trial.require(sorted(items, key=str) == sorted(whole, key=str), f"{name}: {items}")
    sound = is_sound(path) and is_sound(path.with_name("agents.db-keys"))
    trial.require(sound, f"{name}: SQLite finds damage")
