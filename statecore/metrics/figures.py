"""What ``store.metrics()`` returns: numbers of one moment, their units in their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Distribution:
    """Measurements by ranges that double, each given by the most in it; the last is endless."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    @property
    def count(self) -> int:
        """How many were measured."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """Their mean; ``None`` where nothing was measured."""
        return self.total / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """Return a bound that at least this share of them does not exceed; at most twice as much.

        ``None`` where nothing was measured.
        """
        wanted = share * self.count
        reached = zip(self.bounds, accumulate(self.counts), strict=True)
        return next((bound for bound, so_far in reached if so_far and so_far >= wanted), None)


@dataclass(frozen=True, slots=True)
class Metrics:
    """How an open store is doing, and what it holds.

    What was counted, was so in this process since it opened the store; the rest is as of now,
    whoever wrote it. Counts of reading may fall short by what threads counted at the same moment.
    """

    time: datetime
    open_seconds: float
    """For how long the store has been open."""

    # Reading.
    reads: int
    """Single keys read as they are now."""
    read_seconds: Distribution
    """What that took; one in 256 is timed."""
    values_warm: int
    """Single keys read as they were, and found in memory."""
    values_cold: int
    states_warm: int
    """Managers made of states that were open already."""
    states_cold: int

    # Writing.
    events_by_type: Mapping[str, int]
    """Events written."""
    batch_events: Distribution
    """How many events one commit made durable: group commit."""
    commit_seconds: Distribution
    """From handing rows to the store until they are durable: mostly the disk's sync."""
    turn_seconds: Distribution
    """The same, and deciding and sealing the batch."""
    conflicts: int
    """Writes that lost to others."""
    retries: int
    """Functions that were run again for that."""
    refused: int
    """Writes that could not be, for any other reason."""
    packed_bytes: int
    """Of events, before they were compressed and sealed."""
    stored_bytes: int
    """The same ones, as they are stored."""

    # What is there.
    log_events: int
    log_streams: int
    files_bytes: Mapping[str, int]
    """What each file takes, by its name."""
    head_events: int | None
    """Events under the last signed head; ``None`` where the log keeps none."""
    unsigned_seconds: float | None
    """For how long the oldest event that no signed head covers has been there; 0 for none."""
    unanchored_seconds: float | None
    """The same for the head kept outside that was given; ``None`` where none was."""
    backup_lag_events: int | None
    """Events that the backup that was given lacks; ``None`` where none was."""
    backup_lag_seconds: float | None
    """For how long the oldest of those has been there; 0 for none."""

    # What the last check came to that this process made, such as one of ``check_seconds``.
    check_findings: int | None
    """What was not as it should be; ``None`` before the first check."""
    check_age_seconds: float | None
    """How long ago it ended."""

    def prometheus(self) -> str:
        """Return it as text that Prometheus reads; see ``statecore.metrics.prometheus``."""
        from statecore.metrics.exposition import prometheus  # which knows this class
        from statecore.metrics.families import families

        return prometheus(families(self))

    @property
    def events_written(self) -> int:
        """Events written, of all types."""
        return sum(self.events_by_type.values())

    @property
    def values_hit_ratio(self) -> float | None:
        """The share of past values that were found in memory; ``None`` before the first."""
        return _share(self.values_warm, self.values_warm + self.values_cold)

    @property
    def states_hit_ratio(self) -> float | None:
        """The share of managers whose state was open already; ``None`` before the first."""
        return _share(self.states_warm, self.states_warm + self.states_cold)

    @property
    def bytes_per_event(self) -> float | None:
        """All bytes of all files for each event in the log; ``None`` where there is none."""
        return _share(sum(self.files_bytes.values()), self.log_events)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
