"""The audit record: every event of the log, in its order, as far as a key, or none, tells it.

Who did what, when, from where and why, for the whole log or a part of it. It is read page by page,
so that a million events take no more memory than a thousand, and nothing is held open in between.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Final, Protocol, TypeAlias, TypedDict

from statecore.codec.cut import is_cut
from statecore.codec.header import Header, read_header
from statecore.errors import Archived, Damage, Erased, InputError, Malformed
from statecore.events import Event, to_microseconds, to_time
from statecore.recorders import EVERYTHING, LogRow

PAGE_EVENTS: Final = 512

Range: TypeAlias = tuple[int | None, int | None]
"""From a number to another, both inclusive; ``None`` leaves an end open."""


class Standing(StrEnum):
    """What can be said of an event."""

    OPEN = "open"
    """It was opened: its seal holds, and what is told of it is what was recorded."""
    ERASED = "erased"
    """Its data key was destroyed on purpose. That it was there, and when, is still told."""
    ARCHIVED = "archived"
    """Its body is in an archive that is not at hand. That it was there, and when, is still told."""
    SEALED = "sealed"
    """It was not tried to open it, for want of a key."""
    DAMAGED = "damaged"
    """It should open, and does not."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One event of the log, as it stands in the audit record."""

    position: int
    """Its place in the log."""
    index: int | None
    """That of its leaf in the audit tree, from 0; ``None`` where the tree can't tell."""
    stream: bytes
    """The pseudonym of its stream, 16 bytes: all that tells streams apart without a key."""
    version: int
    time: datetime | None
    """When, by the clock of the machine that wrote; ``None`` where the header does not parse."""
    size_bytes: int
    """As it is stored, header and seal included."""
    writer: str | None
    """Which opening of the store wrote it: a process, and each time it opens the store anew."""
    sequence: int | None
    """How many events that one had sealed by then."""
    standing: Standing
    agent_id: str | None = None
    """Whose state; ``None`` where that can't be told, as of an agent that was erased."""
    branch: str | None = None
    event: Event | None = None
    """What was recorded; only where it is open."""
    trouble: str | None = None
    """What is wrong with a damaged one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which events; each condition narrows the others.

    Conditions on what is sealed (actor, key) leave out what can't be opened.

    Raises:
        InputError: it makes no sense.
    """

    agent: str | None = None
    """Whose states, the registers of its branches and rules included."""
    branch: str | None = None
    actor: str | None = None
    """Who did it."""
    key: str | None = None
    """A key that it touched, or a pattern of such: ``user/*``. A clear touches every key."""
    positions: Range = (None, None)
    """Of the log."""
    versions: Range = (None, None)
    """Of each stream."""
    since: datetime | None = None
    """Not before."""
    until: datetime | None = None
    """Not after."""
    newest_first: bool = False
    limit: int | None = None

    def __post_init__(self) -> None:
        for moment in (self.since, self.until):
            if moment is not None and moment.tzinfo is None:
                raise InputError("a time needs a time zone, as in 2026-03-02T09:30:00Z")
        if self.limit is not None and self.limit < 0:
            raise InputError("a limit is not below 0")

    @property
    def needs_key(self) -> bool:
        """Whether it asks for what only a key tells."""
        return (self.agent, self.branch, self.actor, self.key) != (None,) * 4

    def covers(self, version: int, header: Header | None) -> bool:
        """Tell whether it may be an event of this version and with this header, if it has any."""
        if not _is_in(self.versions, version):
            return False
        if self.since is None and self.until is None:
            return True
        return header is not None and _is_in(
            (_microseconds(self.since), _microseconds(self.until)), header.time
        )

    def takes(self, entry: AuditEntry) -> bool:
        """Tell whether it is an event with what this entry says."""
        if self.agent not in (None, entry.agent_id) or self.branch not in (None, entry.branch):
            return False
        if self.actor is None and self.key is None:
            return True
        event = entry.event
        if event is None or self.actor not in (None, event.actor):
            return False
        return self.key is None or touches(event, self.key)


class SelectionOptions(TypedDict, total=False):
    """The conditions of a ``Selection``, each of which may be left out."""

    agent: str | None
    branch: str | None
    actor: str | None
    key: str | None
    positions: Range
    versions: Range
    since: datetime | None
    until: datetime | None
    newest_first: bool
    limit: int | None


class Opener(Protocol):
    """Opens events, as far as there are keys."""

    def renew(self) -> None:
        """Look again which keys there are: one may have been destroyed since."""

    def may_be(self, stream: bytes) -> bool:
        """Tell, without opening anything, whether a stream may be one of those wanted."""

    def whose(self, stream: bytes) -> tuple[str | None, str | None]:
        """Return a stream's agent and branch, as far as that can be told."""

    def open(self, stream: bytes, version: int, stored: bytes, position: int) -> Event | None:
        """Return an event; ``None`` where it is not tried to open any.

        Raises:
            Erased, Archived, Damage: as named.
        """


class AuditRecord:
    """Events of the whole log, to iterate over with ``for`` or ``async for``, any number of times.

    A paused iteration blocks nobody. Events appended after it began are not part of it, and one
    that is erased meanwhile is told as erased from the next page on.
    """

    def __init__(
        self,
        rows: Callable[[int, int], list[LogRow]],
        last_position: Callable[[], int],
        index_of: Callable[[int], int],
        opener: Opener,
        selection: Selection,
        away: Callable[..., Awaitable[Any]] | None = None,
    ) -> None:
        """Make a record.

        Args:
            rows: gives events of the log, after a position, so many at most.
            last_position: of the log.
            index_of: gives the index of the leaf of the event at a position.
            opener: opens them.
            selection: which of them.
            away: has a function run without holding other tasks up.
        """
        self._rows = rows
        self._last_position = last_position
        self._index_of = index_of
        self._opener = opener
        self._selection = selection
        self._away = away

    def __iter__(self) -> Iterator[AuditEntry]:
        entries = itertools.chain.from_iterable(self._pages())
        return itertools.islice(entries, self._selection.limit)

    async def __aiter__(self) -> AsyncIterator[AuditEntry]:
        pages, left = self._pages(), self._selection.limit
        while left != 0:
            page = next(pages, None) if self._away is None else await self._away(next, pages, None)
            if page is None:
                return
            for entry in page[:left]:
                yield entry
            left = None if left is None else left - len(page[:left])

    def _pages(self) -> Iterator[list[AuditEntry]]:
        step = -1 if self._selection.newest_first else 1
        index: int | None = None
        for rows in self._windows():
            if index is None:
                index = self._first_index(rows[0][0])
            self._opener.renew()
            numbered = [
                (None if index is None else index + step * place, row)
                for place, row in enumerate(rows)
            ]
            index = None if index is None else index + step * len(rows)
            yield [entry for at, row in numbered if (entry := self._entry(at, row)) is not None]

    def _first_index(self, position: int) -> int | None:
        try:
            return self._index_of(position)
        except InputError:
            return None  # the log was made before it had a tree, and not opened since

    def _windows(self) -> Iterator[list[LogRow]]:
        """Yield the rows of the positions wanted, in the order wanted."""
        first, last = self._selection.positions
        after = max((first or 1) - 1, 0)
        until = min(self._last_position(), EVERYTHING if last is None else last)
        while after < until:
            if self._selection.newest_first:
                begin = max(after, until - PAGE_EVENTS)
                rows = [row for row in self._rows(begin, PAGE_EVENTS) if row[0] <= until]
                rows.reverse()
                until = begin
            else:
                rows = [row for row in self._rows(after, PAGE_EVENTS) if row[0] <= until]
                after = rows[-1][0] if rows else until
            if rows:
                yield rows

    def _entry(self, index: int | None, row: LogRow) -> AuditEntry | None:
        """Return the entry of a row, if it is one of those wanted."""
        position, stream, version, stored = row
        try:
            header = read_header(stored)
        except Malformed:
            header = None
        if not self._selection.covers(version, header) or not self._opener.may_be(stream):
            return None
        agent_id, branch = self._opener.whose(stream)
        event, standing, trouble = self._opened(row)
        entry = AuditEntry(
            position=position,
            index=index,
            stream=stream,
            version=version,
            time=to_time(header.time) if header else None,
            size_bytes=len(stored),
            writer=header.writer if header else None,
            sequence=header.sequence if header else None,
            standing=standing,
            agent_id=agent_id,
            branch=branch,
            event=event,
            trouble=trouble,
        )
        return entry if self._selection.takes(entry) else None

    def _opened(self, row: LogRow) -> tuple[Event | None, Standing, str | None]:
        position, stream, version, stored = row
        try:
            event = self._opener.open(stream, version, stored, position)
        except Erased:
            return None, Standing.ERASED, None
        except Archived:
            return None, Standing.ARCHIVED, None
        except Damage as error:
            return None, Standing.DAMAGED, str(error)
        if event is not None:
            return event, Standing.OPEN, None
        return None, Standing.ARCHIVED if is_cut(stored) else Standing.SEALED, None


class NoKeys:
    """Opens nothing: the record of whoever has no key."""

    def renew(self) -> None:
        """There is nothing to look at."""

    def may_be(self, stream: bytes) -> bool:
        return True

    def whose(self, stream: bytes) -> tuple[str | None, str | None]:
        return None, None

    def open(self, stream: bytes, version: int, stored: bytes, position: int) -> Event | None:
        return None


def touches(event: Event, pattern: str) -> bool:
    """Tell whether an event touched a key that fits a pattern."""
    if event.change.cleared:
        return True
    return any(fnmatchcase(key, pattern) for key in event.change.operations)


def _is_in(span: Range, number: int) -> bool:
    first, last = span
    return (first is None or first <= number) and (last is None or number <= last)


def _microseconds(moment: datetime | None) -> int | None:
    return None if moment is None else to_microseconds(moment)
