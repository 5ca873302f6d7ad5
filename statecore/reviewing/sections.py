"""The sections of a review: state, performance, security, audit. Each says what to do, too."""

from __future__ import annotations

import random
import shutil
import stat
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from statecore.blocking import BlockingManager
from statecore.errors import StatecoreError
from statecore.metrics import Metrics
from statecore.reviewing.report import Plot, Rank, Section
from statecore.reviewing.survey import Survey
from statecore.store import BlockingStore
from statecore.verifying import Report, Verdict

# What is worth a concern; docs/operations.md has the same numbers.
UNSIGNED_MAX: Final = timedelta(hours=1)
UNANCHORED_MAX: Final = timedelta(days=7)
UNBACKED_MAX: Final = timedelta(days=1)
WAL_BYTES_MAX: Final = 64 * 1024 * 1024
DAYS_LEFT_MIN: Final = 30
DATA_KEY_MAX: Final = timedelta(days=365)
COLD_READ_SECONDS_MAX: Final = 0.05
COLD_STATE_SECONDS_MAX: Final = 1.0

_BUSIEST: Final = 5
_READS: Final = 200
_STATES: Final = 20


def monitor(survey: Survey, metrics: Metrics, path: Path) -> Section:
    """Tell what happened, and how the states are now."""
    section = Section("State")
    section.tell("events in this time", f"{survey.events:,}")
    section.tell("events in all", f"{metrics.log_events:,}")
    section.tell("states, branches counted", f"{survey.states:,}")
    section.tell("by agent", _most(survey.agents.most_common(_BUSIEST)))
    section.tell("by actor", _most(survey.actors.most_common(_BUSIEST)))
    section.tell("by type", _most(survey.types.most_common()))
    section.plots.append(_over_time(survey))
    for name, why in survey.damaged.items():
        advice = "Stop what writes, copy all files, restore: docs/operations.md, Damage."
        section.warn(Rank.CRITICAL, f"{name} can't be read: {why}", advice)
    for name, why in survey.unread.items():
        section.warn(Rank.WARNING, f"{name} could not be looked at: {why}", "Do what it says.")
    for name, count in survey.conflicts.items():
        advice = "List them with `statecore conflicts`, decide them with `statecore resolve`."
        section.warn(Rank.NOTICE, f"{name} has {count} places in conflict", advice)
    for name, count in survey.violations.items():
        advice = "`statecore schema check` lists them; `migrate` brings old values up."
        section.warn(Rank.WARNING, f"{name} violates its rules in {count} places", advice)
    _space(section, survey, metrics, path)
    _backup(section, metrics)
    return section


def _backup(section: Section, metrics: Metrics) -> None:
    """Tell how far behind the backup is, where it was said where that lies."""
    if metrics.backup_lag_seconds is None:
        return
    age = timedelta(seconds=round(metrics.backup_lag_seconds))
    section.tell("events that no backup has", f"{metrics.backup_lag_events:,}")
    section.tell("the oldest of them", age if metrics.backup_lag_events else "none")
    if age > UNBACKED_MAX:
        text = f"there was no backup for {age.days} days: {metrics.backup_lag_events:,} events"
        section.warn(Rank.WARNING, text, "`statecore backup run`; see why nothing does it.")


def _over_time(survey: Survey) -> Plot:
    step = (survey.until - survey.since) / survey.steps
    form = "%H:%M" if step < timedelta(days=1) else "%m-%d"
    names = (f"{survey.since + at * step:{form}}" for at in range(survey.steps))
    return Plot("events", tuple(zip(names, survey.per_step, strict=True)))


def _space(section: Section, survey: Survey, metrics: Metrics, path: Path) -> None:
    """Tell what the files take, and for how long the disk will do."""
    for name, size in metrics.files_bytes.items():
        section.tell(name, f"{size:,} bytes")
        if name.endswith("-wal") and size > WAL_BYTES_MAX:
            advice = "A reader has kept an old moment open; find it, or close the store everywhere."
            section.warn(Rank.WARNING, f"the write-ahead log has grown to {size:,} bytes", advice)
    free = shutil.disk_usage(path.parent).free
    section.tell("free on its disk", f"{free:,} bytes")
    days = (survey.until - survey.since) / timedelta(days=1)
    grows = (metrics.bytes_per_event or 0) * survey.events / days
    if grows * DAYS_LEFT_MIN > free:
        text = f"at {grows:,.0f} bytes a day the disk is full in {free / grows:,.0f} days"
        section.warn(Rank.WARNING, text, "Make space, or move the store to a larger disk.")


def perform(store: BlockingStore, survey: Survey, metrics: Metrics) -> Section:
    """Measure readings of this store, cold ones among them, and tell what an event takes."""
    section = Section("Performance")
    if metrics.bytes_per_event is not None:
        section.tell("all files, for each event", f"{metrics.bytes_per_event:,.0f} bytes")
    names = [*survey.agents, *(birth.agent_id for birth in store.agents())]
    busiest = [store.manager(name) for name in list(dict.fromkeys(names))[:_BUSIEST]]
    chance = random.Random(0)  # noqa: S311 - which versions are looked at is no secret
    reads = _timed(_READS, busiest, lambda agent: _read(agent, chance))
    wholes = _timed(_STATES, busiest, lambda agent: agent.at(_version(agent, chance)))
    for name, took, most in (
        ("a key at some version", reads, COLD_READ_SECONDS_MAX),
        ("a whole state at some version", wholes, COLD_STATE_SECONDS_MAX),
    ):
        if not took:
            continue
        middle, nearly_all = took[len(took) // 2], took[int(len(took) * 0.99)]
        said = f"{middle * 1e3:,.2f} ms, 99 % within {nearly_all * 1e3:,.2f} ms"
        section.tell(name, f"{said} ({len(took)} tries)")
        if nearly_all > most:
            advice = "See whether the disk is busy; raise cache_mib; look how large the values are."
            section.warn(Rank.NOTICE, f"reading {name} took up to {nearly_all:,.2f} s", advice)
    return section


def _timed(
    count: int, agents: list[BlockingManager], work: Callable[[BlockingManager], object]
) -> list[float]:
    """Return the seconds of so many tries, in order."""
    took = []
    for at in range(count if agents else 0):
        agent = agents[at % len(agents)]
        started = time.perf_counter()
        try:
            work(agent)
        except StatecoreError:
            continue  # the state's section tells of it
        took.append(time.perf_counter() - started)
    return sorted(took)


def _version(agent: BlockingManager, chance: random.Random) -> int:
    return chance.randint(min(agent.start() + 1, agent.version()), agent.version())


def _read(agent: BlockingManager, chance: random.Random) -> object:
    keys = sorted(agent.at())
    return agent.value_at(chance.choice(keys), _version(agent, chance)) if keys else None


def secure(store: BlockingStore, survey: Survey, metrics: Metrics, path: Path) -> Section:
    """Assess who can reach the store, its keys, its policy, and what proves the record."""
    section = Section("Security")
    _files(section, path)
    _proofs(section, metrics)
    _keys(section, store, survey.until)
    _access(section, store, survey)
    return section


def _files(section: Section, path: Path) -> None:
    for file in (path, *(path.with_name(path.name + end) for end in ("-keys", "-wal", "-lock"))):
        if file.exists() and (mode := stat.S_IMODE(file.stat().st_mode)) & 0o077:
            text = f"{file.name} is open to other accounts: mode {mode:04o}"
            section.warn(Rank.WARNING, text, f"chmod 600 {file}")
    if path.parent.stat().st_mode & stat.S_IWOTH:
        text = f"anybody may write to {path.parent}"
        section.warn(Rank.CRITICAL, text, "Move the store to a directory of its account alone.")


def _proofs(section: Section, metrics: Metrics) -> None:
    for name, seconds, most, advice in (
        (
            "oldest event without a signed head",
            metrics.unsigned_seconds,
            UNSIGNED_MAX,
            "Open and close the store; a warning of the logger `statecore` says why none is made.",
        ),
        (
            "oldest event without a head outside",
            metrics.unanchored_seconds,
            UNANCHORED_MAX,
            "`statecore anchor` again, to where the store's writers can't reach.",
        ),
    ):
        if seconds is None:
            continue
        age = timedelta(seconds=round(seconds))
        section.tell(name, age if seconds else "none")
        if age > most:
            section.warn(Rank.WARNING, f"{name}: {age} old", advice)
    if metrics.unanchored_seconds is None:
        text = "no head kept outside was given: nobody can tell a rollback of the whole store"
        section.warn(Rank.NOTICE, text, "`statecore anchor STORE DEST` daily; give it here.")


def _keys(section: Section, store: BlockingStore, now: datetime) -> None:
    found = store.keys.check()
    section.tell("the key is from", found.provider)
    section.tell("data keys", f"{found.keys:,}, {found.destroyed:,} destroyed")
    for problem in found.problems:
        advice = "Restore the key store from its backup: docs/operations.md, The key."
        section.warn(Rank.CRITICAL, problem, advice)
    living = [entry for entry in store.keys.entries() if entry.begun and not entry.is_destroyed]
    old = [entry for entry in living if entry.begun and now - entry.begun > DATA_KEY_MAX]
    if living:
        eldest = min(entry.begun for entry in living if entry.begun)
        section.tell("oldest data key in use", f"{(now - eldest).days} days")
    if old:
        text = f"{len(old):,} data keys are older than {DATA_KEY_MAX.days} days"
        section.warn(Rank.NOTICE, text, "`statecore keys rotate-data` begins new ones.")


def _access(section: Section, store: BlockingStore, survey: Survey) -> None:
    changes = [event for event in store.access.changes() if event.time > survey.since]
    if store.access.policy() is None:
        text = "there is no access policy: whoever has the key may do everything"
        section.warn(
            Rank.NOTICE, text, "`statecore access set`, where several principals share it."
        )
    for event in changes:
        text = f"the policy was changed at {event.time:%Y-%m-%d %H:%M} by {event.actor or 'nobody'}"
        section.warn(Rank.NOTICE, text, "See that this was meant: `statecore access show --at`.")
    denials = [each for each in store.access.denials() if each.until > survey.since]
    section.tell("changes of the policy", len(changes))
    section.tell("denials", sum(each.count for each in denials))
    for each in sorted(denials, key=lambda each: -each.count)[:_BUSIEST]:
        who = ", ".join(each.principals) or "nobody"
        text = f"{who} was denied {each.operation} {each.count:,} times"
        section.warn(Rank.NOTICE, text, "`statecore access denials` tells of each.")


def audit(report: Report) -> Section:
    """Tell what a verification of the whole file found."""
    section = Section("Audit")
    section.tell("verdict", report.verdict)
    section.tell("verified by", report.depth)
    section.tell("events", f"{report.events:,}")
    section.tell("root", report.root.hex())
    section.tell("signed heads", f"{report.heads:,}, the last over {report.head_size:,} events")
    for finding in report.findings:
        advice = (
            "Keep all files as they are, and compare with a backup: docs/operations.md, Damage."
        )
        section.warn(Rank.CRITICAL, f"{finding.kind}: {finding.text}", advice)
    for note in report.notes:
        section.warn(Rank.NOTICE, note, "`statecore verify` explains it.")
    if report.verdict == Verdict.UNANCHORED:
        text = "verified, but held against nothing from outside"
        section.warn(Rank.NOTICE, text, "Give a head kept outside with --anchor.")
    return section


def _most(counted: list[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counted) or "none"
