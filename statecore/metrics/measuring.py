"""Measuring an open store: what it counted, and a look at what it holds."""

from __future__ import annotations

import time
from math import inf
from types import MappingProxyType
from typing import Final

from statecore.checking import CheckReport
from statecore.codec import read_time
from statecore.engine import Engine
from statecore.errors import Damage, InputError
from statecore.events import EventType, to_time
from statecore.metrics.figures import Distribution, Metrics
from statecore.recorders import LogStore
from statecore.tally import RANGES, Spread
from statecore.transparency.checkpoint import parse_checkpoint
from statecore.transparency.note import parse_note

_TILE_LEAVES: Final = 256  # as ``KeptTree`` counts them


def measure(
    engine: Engine,
    anchor: bytes | None = None,
    backup: int | None = None,
    last_check: CheckReport | None = None,
) -> Metrics:
    """Return the metrics of an open store; ``StateStore.metrics`` says more.

    Raises:
        InputError: the anchor is of another log.
        Damage: the log has fewer events than the anchor or the backup.
    """
    log, tally, now = engine.streams.log, engine.streams.tally, engine.clock()
    kept = log.tree.last_head() if log.tree else None
    head = None if log.tree is None else (kept[0] if kept else 0)
    anchored = None if anchor is None else _anchored(log, anchor, kept[1] if kept else anchor)
    names = ((EventType(kind).name.lower(), count) for kind, count in sorted(tally.events.items()))
    return Metrics(
        time=to_time(now),
        open_seconds=time.monotonic() - tally.began,
        reads=tally.reads,
        read_seconds=_distribution(tally.read_seconds),
        values_warm=tally.values_warm,
        values_cold=tally.values_cold,
        states_warm=tally.states_warm,
        states_cold=tally.states_cold,
        events_by_type=MappingProxyType(dict(names)),
        batch_events=_distribution(tally.batch_events),
        commit_seconds=_distribution(tally.commit_seconds),
        turn_seconds=_distribution(tally.turn_seconds),
        conflicts=tally.conflicts,
        retries=tally.retries,
        refused=tally.refused,
        packed_bytes=tally.packed_bytes,
        stored_bytes=tally.stored_bytes,
        log_events=log.last_position(),
        log_streams=len(log.streams()),
        files_bytes=MappingProxyType(log.size_bytes()),
        head_events=head,
        unsigned_seconds=_age_behind(log, head, now),
        unanchored_seconds=_age_behind(log, anchored, now),
        backup_lag_events=_behind(log, backup),
        backup_lag_seconds=_age_after(log, backup, now),
        check_findings=len(last_check.complaints) if last_check else None,
        check_age_seconds=(now - last_check.time) / 1e6 if last_check else None,
    )


def _distribution(spread: Spread) -> Distribution:
    bounds = (spread.unit * 2**above for above in range(RANGES - 1))
    return Distribution((*bounds, inf), tuple(spread.counts), spread.total)


def _anchored(log: LogStore, anchor: bytes, own: bytes) -> int:
    """Return over how many of a log's events a head kept outside is, beside one of its own."""
    said, ours = (parse_checkpoint(parse_note(note).text) for note in (anchor, own))
    if said.origin != ours.origin:
        raise InputError(f"the anchor is of {said.origin}, which is another log")
    if said.size > log.last_position():
        raise Damage(
            f"the log has {log.last_position()} events, the anchor is of {said.size}: "
            "`statecore verify --anchor` tells more"
        )
    return said.size


def _age_behind(log: LogStore, events: int | None, now: int) -> float | None:
    """Return the age of the first event of the tree after so many; 0 where there is none."""
    if events is None or log.tree is None:
        return None
    tiles, rest = divmod(events, _TILE_LEAVES)
    rows = log.tree.rows(log.tree.upto(tiles - 1), rest + 1)
    return _age(rows[rest][3], now) if len(rows) > rest else 0.0


def _behind(log: LogStore, position: int | None) -> int | None:
    """Return how many events there are after a position."""
    if position is None:
        return None
    last = log.last_position()
    if position > last:
        raise Damage(
            f"the log has {last} events, the backup {position}: the store went back, or is another "
            "copy"
        )
    return last - position


def _age_after(log: LogStore, position: int | None, now: int) -> float | None:
    """Return the age of the first event after a position; 0 where there is none."""
    if position is None:
        return None
    rows = log.read_log(position, 1)
    return _age(rows[0][3], now) if rows else 0.0


def _age(stored: bytes, now: int) -> float:
    return max(0, now - read_time(stored)) / 1e6
