"""What a manager works with: the parts of one open log, composed by the front door."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from statecore.gate import Gate
from statecore.log import Sequencer
from statecore.streams import Streams
from statecore.timeline import Timeline
from statecore.waiting import Waiter


@dataclass(frozen=True, slots=True)
class Engine:
    """The parts of one open log."""

    streams: Streams
    gate: Gate
    sequencer: Sequencer
    timeline: Timeline
    waiter: Waiter
    clock: Callable[[], int]  # microseconds since 1970, UTC
    write_seconds: float  # after which a write that could not begin is given up
