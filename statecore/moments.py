"""The moments of a history one can name: versions, positions, times, tags."""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

from statecore.errors import InputError, TagNotFound
from statecore.events import to_microseconds
from statecore.state import Root
from statecore.stream import Stream
from statecore.timeline import Timeline


class Position(int):
    """A place in the whole log, where a plain number would be a version of one stream."""


Point: TypeAlias = int | Position | datetime | str
"""A version, a position in the log, a time, or the name of a tag."""


def version_of(point: Point | None, stream: Stream, root: Root, timeline: Timeline) -> int:
    """Return the version of a moment; of ``None``, the current one.

    Raises:
        InputError: it is no moment.
        VersionNotFound, TagNotFound: there is no such moment.
        Erased: there was, and it was erased.
    """
    if type(point) is int:
        timeline.require_version(stream, point)
        return point
    if point is None:
        return root.version
    if isinstance(point, str):
        if point not in root.tags:
            raise TagNotFound(f"{stream.name} has no tag {point!r}")
        return root.tags[point]
    if isinstance(point, datetime):
        if point.tzinfo is None:
            raise InputError("a time needs a time zone, as in 2026-03-02T09:30:00Z")
        return timeline.version_at_time(stream, to_microseconds(point))
    if isinstance(point, Position):
        return timeline.version_at_position(stream, point)
    raise InputError(f"a moment is a version, a time or a tag, not {type(point).__name__}")
