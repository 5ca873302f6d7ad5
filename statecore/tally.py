"""What an open store counts of its own work: plain numbers, cheap to keep, read by whoever looks.

Most are counted by whoever has the turn to write, and exact. Those of reading are counted by any
thread without a lock: what two threads count in the very same moment may count once.
"""

from __future__ import annotations

import time
from collections import Counter
from math import ceil
from typing import Final

RANGES: Final = 40  # from a microsecond to six days, or from one to half a trillion
SAMPLED: Final = 255  # of so many readings and one more, one is timed: a look at a clock costs more
MICROSECOND: Final = 1e-6


class Spread:
    """Measurements: their sum, and how many lay in each range; ranges double."""

    __slots__ = ("counts", "total", "unit")

    def __init__(self, unit: float) -> None:
        self.unit = unit
        self.counts = [0] * RANGES
        self.total = 0.0

    def note(self, amount: float) -> None:
        """Count a measurement: in the first range n of at most ``unit * 2**n``, or in the last."""
        above = max(ceil(amount / self.unit) - 1, 0).bit_length()
        self.counts[min(above, RANGES - 1)] += 1
        self.total += amount


class Tally:
    """The counts of one open log, from its opening on."""

    __slots__ = (
        "batch_events",
        "began",
        "commit_seconds",
        "conflicts",
        "events",
        "packed_bytes",
        "read_seconds",
        "reads",
        "refused",
        "retries",
        "states_cold",
        "states_warm",
        "stored_bytes",
        "turn_seconds",
        "values_cold",
        "values_warm",
    )

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.reads = 0  # of single keys, as they are now
        self.read_seconds = Spread(MICROSECOND)  # of one in 256 of them
        self.values_warm = 0  # of single keys, as they were: found in memory
        self.values_cold = 0
        self.states_warm = 0  # managers made of states that were open already
        self.states_cold = 0
        self.events: Counter[int] = Counter()  # that were written, by type
        self.packed_bytes = 0  # of their bodies, before compression
        self.stored_bytes = 0
        self.batch_events = Spread(1)  # written with one sync
        self.commit_seconds = Spread(MICROSECOND)  # until they were durable
        self.turn_seconds = Spread(MICROSECOND)  # the same, and deciding and sealing
        self.conflicts = 0  # appends that lost to others
        self.refused = 0  # appends that could not be, for any other reason
        self.retries = 0  # functions run again after a conflict
