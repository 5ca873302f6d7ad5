"""The history of a stream, as an iterator of events that holds nothing open between two of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace

from statecore.codec import Record
from statecore.errors import DamagedRecord, InputError
from statecore.events import Event
from statecore.recorders import Row
from statecore.stream import Stream
from statecore.streams import Streams
from statecore.timeline import Timeline
from statecore.values import check_key, printable

_PAGE = 128
_VERSIONS_PAGE = 50_000


@dataclass(frozen=True, slots=True)
class Span:
    """Which events of a stream."""

    after: int  # version, exclusive
    until: int  # version, inclusive
    known: int = 0  # as ``after``, but with what is archived
    key: str | None = None
    actor: str | None = None
    newest_first: bool = False


class StateHistory:
    """Events of a stream, to iterate over with ``async for``, or ``for`` under the blocking face.

    A paused iteration blocks nobody. Events appended after it began are not part of it.
    """

    def __init__(
        self,
        streams: Streams,
        timeline: Timeline,
        stream: Stream,
        span: Span,
        tell: Callable[[Event], Event | None] | None = None,
    ) -> None:
        """Make an iterator; ``tell`` returns what may be told of an event, or ``None``."""
        self._streams = streams
        self._timeline = timeline
        self._stream = stream
        self._span = span
        self._tell = tell

    async def __aiter__(self) -> AsyncIterator[Event]:
        for event in self:
            yield event

    def __iter__(self) -> Iterator[Event]:
        for record, position in self._found():
            event = record.event(*self._stream.name[:2], position)
            seen = event if self._tell is None else self._tell(event)
            if seen is not None:
                yield seen

    def versions(self) -> Iterator[int]:
        """Yield the versions of the events, in order; those that were archived, too.

        An event before the first one here is not told otherwise: it is in an archive.

        Raises:
            InputError: events of one actor are asked for, whom only their bodies name.
        """
        if self._span.actor is not None:
            raise InputError("what an actor did is told by the events, not by their versions")
        known = replace(self._span, after=self._span.known)
        if known.key is not None:
            return self._versions_of_key(known.key, known)
        versions = range(known.after + 1, known.until + 1)
        return iter(versions[::-1] if known.newest_first else versions)

    def records(self) -> Iterator[Record]:
        """Yield the records of the events, which tell all.

        Raises:
            InputError: only what may be told is to be told.
        """
        if self._tell is not None:
            raise InputError("a handle gives events, not records")
        return (record for record, _ in self._found())

    def _found(self) -> Iterator[tuple[Record, int]]:
        """Yield the records of the span with their positions, in its order."""
        key = self._span.key
        links = None if key is None else _Links(self._stream, self._span, key)
        for version, position, stored in self._rows():
            record = self._timeline.open(self._stream, version, stored)
            if links is not None:
                links.follow(record)
            if self._span.actor is None or record.actor == self._span.actor:
                yield record, position
        if links is not None:
            links.end()

    def _rows(self) -> Iterator[Row]:
        """Yield the rows of the span, in its order."""
        return self._all_rows() if self._span.key is None else self._rows_of_key(self._span.key)

    def _all_rows(self) -> Iterator[Row]:
        after, until, back = self._span.after, self._span.until, self._span.newest_first
        while after < until:
            rows = self._timeline.rows(self._stream, after, until, _PAGE, back=back)
            for version, position, stored in rows or [(0, 0, b"")]:
                expected = until if back else after + 1
                if version != expected:
                    raise DamagedRecord(f"{self._stream.name}: version {expected} is missing")
                yield version, position, stored
                after, until = (after, until - 1) if back else (expected, until)

    def _rows_of_key(self, key: str) -> Iterator[Row]:
        check_key(key)
        for version in self._versions_of_key(key, self._span):
            yield self._timeline.row(self._stream, version)

    def _versions_of_key(self, key: str, span: Span) -> Iterator[int]:
        """Yield the versions that touched or cleared a key."""
        history = self._streams.aids.history
        starts = range(span.after, span.until, _VERSIONS_PAGE)
        for start in reversed(starts) if span.newest_first else starts:
            until = min(start + _VERSIONS_PAGE, span.until)
            touched = history.touched(self._stream, key, start, until)
            cleared = history.cleared(self._stream, start, until)
            yield from sorted({*touched, *cleared}, reverse=span.newest_first)


class _Links:
    """Holds what the index says of a key against the events, which are sealed.

    Each event says which version touched its keys before it, and the state which one did last: an
    index that leaves one out, as a damaged one may, is noticed.
    """

    def __init__(self, stream: Stream, span: Span, key: str) -> None:
        self._name, self._span, self._key = stream.name, span, key
        cell = stream.root.cells.get(key)
        # The last one up to the span's end, where that is known: it may be after it.
        self._head = cell[0] if cell and span.after < cell[0] <= span.until else None
        self._next: int | None = self._head if span.newest_first else None
        self._newest: int | None = None

    def follow(self, record: Record) -> None:
        """Take in the next event.

        Raises:
            DamagedRecord: it is not the next one that touched the key.
        """
        before = record.touched_before(self._key)
        if before is None:
            return self._require(record.is_clear, record.version, "which does not touch it")
        if self._span.newest_first:
            self._require(self._next in (None, record.version), self._next)
            self._next = before
        else:
            last = self._newest
            self._require(before <= self._span.after if last is None else before == last, before)
        self._newest = record.version
        return None

    def end(self) -> None:
        """Take note that there are no more; raises as ``follow`` does."""
        if self._span.newest_first:
            self._require((self._next or 0) <= self._span.after, self._next)
        else:
            self._require(self._head in (None, self._newest), self._head)

    def _require(self, holds: bool, version: int | None, why: str = "") -> None:
        if not holds:
            what = f"names version {version}, {why}" if why else f"leaves out version {version}"
            raise DamagedRecord(
                f"{self._name}: the index of the key {printable(self._key)} {what}: `statecore "
                "rebuild` makes it anew"
            )
