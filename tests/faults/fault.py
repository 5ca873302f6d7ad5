"""What a fault is: something caused many times over, and what must hold each time."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

_VIOLATIONS_TOLD_MAX = 20

_Case = TypeVar("_Case")


@dataclass(frozen=True, slots=True)
class Fault:
    """One way for things to go wrong. The first line of ``cause`` says which."""

    name: str
    cause: Callable[[Trial], None]
    times: int  # in a campaign
    times_brief: int  # in the ordinary suite; 0 where that has tests of its own
    case_seconds_max: float = 300.0  # until it counts as a hang

    @property
    def title(self) -> str:
        """What is done."""
        return (self.cause.__doc__ or "").partition("\n")[0].rstrip(".")


@dataclass(slots=True)
class Trial:
    """One run of a fault: how often to cause it, and what came of that."""

    folder: Path
    times: int
    chance: random.Random
    until: float = float("inf")  # by the monotonic clock; no case begins later
    case_seconds_max: float = 0.0  # until SIGALRM ends the process; 0 for no limit
    done: int = 0
    proved: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    @property
    def goes_on(self) -> bool:
        """Whether there is to be another case, for which the time begins now."""
        self.watch()
        return self.done < self.times and time.monotonic() < self.until

    def cases(self, every: Sequence[_Case]) -> Iterator[_Case]:
        """Yield each case, or as many as are asked for, evenly spread over all of them.

        They come in no order, so that those that there was time for are spread evenly, too.
        """
        count = min(self.times, len(every))
        chosen = [number * len(every) // count for number in range(count)]
        self.chance.shuffle(chosen)
        for number in chosen:
            if time.monotonic() >= self.until:
                return
            self.done += 1
            self.watch()
            yield every[number]

    def watch(self) -> None:
        """Give what comes now the time that one case has."""
        signal.setitimer(signal.ITIMER_REAL, self.case_seconds_max)

    def prove(self, what: str, number: int = 1) -> None:
        """Count what was seen."""
        self.proved[what] += number

    def require(self, holds: bool, otherwise: str) -> None:
        """Note a violation, unless something holds; the run goes on."""
        if not holds and len(self.violations) < _VIOLATIONS_TOLD_MAX:
            self.violations.append(otherwise)
