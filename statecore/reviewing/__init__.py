"""Reviews of a store: what happened, how it performs, who can reach it, whether it is genuine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from statecore.anchoring import checkpoint_of
from statecore.errors import InputError
from statecore.reviewing.report import Concern, Plot, Rank, Review, Section
from statecore.reviewing.sections import audit, monitor, perform, secure
from statecore.reviewing.survey import survey
from statecore.store import BlockingStore
from statecore.verifying import verify

__all__ = ["Concern", "Period", "Plot", "Rank", "Review", "Section", "review"]


class Period(StrEnum):
    """How much a review looks at; each has the sections of those before."""

    DAILY = "daily"  # the state
    WEEKLY = "weekly"  # and the performance
    MONTHLY = "monthly"  # and the security
    QUARTERLY = "quarterly"  # and an audit of it all


# How long it reaches back, and in how many parts events are counted.
_SPANS: Final = {
    Period.DAILY: (timedelta(days=1), 24),
    Period.WEEKLY: (timedelta(days=7), 7),
    Period.MONTHLY: (timedelta(days=30), 30),
    Period.QUARTERLY: (timedelta(days=91), 13),
}


def review(
    store: BlockingStore,
    path: Path,
    period: Period,
    now: datetime,
    *,
    anchors: Sequence[Path] = (),
    backup: str | Path | None = None,
    policy: Path | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Review:
    """Return a review of an open store's file; nothing in it is changed.

    Args:
        store: the open store.
        path: its file.
        period: how far back, and how much.
        now: until when.
        anchors: signed heads that were kept outside.
        backup: where the store's backup lies.
        policy: whom the audit trusts (c2sp.org/tlog-policy).
        on_progress: called with how many events were looked at so far.

    Raises:
        AccessDenied: what is to be looked at may not be.
        InputError: an anchor is none, or another log's; or the backup is another's.
        Damage: the log is shorter than an anchor or the backup.
    """
    span, steps = _SPANS[period]
    found = survey(store, now - span, now, steps, on_progress)
    metrics = store.metrics(anchor=_largest(anchors), backup=backup)
    sections = [monitor(found, metrics, path)]
    if period != Period.DAILY:
        sections.append(perform(store, found, metrics))
    if period in (Period.MONTHLY, Period.QUARTERLY):
        sections.append(secure(store, found, metrics, path))
    if period == Period.QUARTERLY:
        report = verify(path, policy=policy, anchors=anchors, on_progress=on_progress)
        sections.append(audit(report))
    title = f"{period.capitalize()} review"
    return Review(title, path.name, now - span, now, tuple(sections))


def _largest(anchors: Sequence[Path]) -> bytes | None:
    """Return the head over the most events."""
    try:
        notes = [path.read_bytes() for path in anchors]
    except OSError as error:
        raise InputError(f"the anchor {error.filename} can't be read: {error.strerror}") from error
    return max(notes, key=lambda note: checkpoint_of(note).size, default=None)
