"""What a review says: figures, plots, and concerns ranked by how soon something is to be done."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum


class Rank(IntEnum):
    """How soon something is to be done."""

    CRITICAL = 0
    """At once: data may be lost, or is not what was recorded."""
    WARNING = 1
    """Within days."""
    NOTICE = 2
    """Good to know."""


@dataclass(frozen=True, slots=True)
class Concern:
    """Something found, and what to do about it."""

    rank: Rank
    text: str
    advice: str


@dataclass(frozen=True, slots=True)
class Plot:
    """Numbers in a row, such as one for each day."""

    title: str
    points: tuple[tuple[str, float], ...]


@dataclass(slots=True)
class Section:
    """One part of a review."""

    title: str
    figures: list[tuple[str, str]] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    concerns: list[Concern] = field(default_factory=list)

    def tell(self, name: str, figure: object) -> None:
        """Take a figure down."""
        self.figures.append((name, str(figure)))

    def warn(self, rank: Rank, text: str, advice: str) -> None:
        """Take a concern down."""
        self.concerns.append(Concern(rank, text, advice))


@dataclass(frozen=True, slots=True)
class Review:
    """A review of a store over a time."""

    title: str
    store: str
    since: datetime
    until: datetime
    sections: tuple[Section, ...]

    @property
    def concerns(self) -> list[Concern]:
        """All concerns, the most urgent first."""
        found = [concern for section in self.sections for concern in section.concerns]
        return sorted(found, key=lambda concern: concern.rank)
