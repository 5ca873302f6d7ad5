"""What has no body any more, held against the events that say what was archived.

Nothing that is signed tells a body that was archived from one that somebody took away. Only an
event does, which nobody can make without the key.
"""

from __future__ import annotations

from statecore.codec import Record
from statecore.codec.cut import is_cut, read_cut
from statecore.events import Archive, EventType, covers


class _Gap:
    """Versions without a body, from one to another."""

    __slots__ = ("count", "first", "last")

    def __init__(self, first: int) -> None:
        self.first = self.last = first
        self.count = 0

    def add(self, version: int) -> None:
        self.last = version
        self.count += 1


class CutCheck:
    """The events of one stream that have no body, met in order with those that have one.

    The first of them names an event, itself with its body, whose archives have all of them: readers
    go by that one. It need not be the newest such event: in a backup there may be a newer one, and
    all that it cut as it was before. Each of the others names an event whose archives have it. That
    one may be archived by now itself; it is then taken for such an event where its archive is not
    at hand, since readers do without it.
    """

    __slots__ = ("_all", "_begins", "_named", "_teller", "_told")

    def __init__(self, begins: int = 0) -> None:
        """Begin.

        Args:
            begins: with which version the stream does, in a backup: events were archived there
                between one segment and the next, and once restored, those before them are so, too,
                and the first one names the last event that any does (``even_out``). In a store,
                where it is so already, 0.
        """
        self._begins = begins
        self._all: _Gap | None = None
        self._named: dict[int, _Gap] = {}  # those that name an event which wasn't met, by that
        self._teller = 0  # the event that all is to be told by
        self._told: tuple[Archive, ...] = ()  # by that

    def meet(self, version: int, stored: bytes, record: Record | None) -> None:
        """Take in the next event.

        Args:
            version: its own.
            stored: as it is kept.
            record: opened, if need be with its body from an archive; ``None`` where it was
                archived, and the archive isn't at hand.
        """
        if record is None:
            self._named.pop(version, None)
        elif record.type == EventType.ARCHIVED:
            self._hear(version, record.archives, is_whole=not is_cut(stored))
        if is_cut(stored):
            self._note(version, read_cut(stored).event)

    def pass_over(self, version: int) -> None:
        """Take in that the next event is damaged, which is told of by itself."""
        self._named.pop(version, None)

    def gap(self) -> tuple[int, int, int] | None:
        """Return of the versions that have no body although no event says that they were archived
        the first and the last one, and how many there are; ``None`` where there are none.
        """
        if self._all is None:
            return None
        first, last = self._begins or self._all.first, self._all.last
        is_told = covers(self._told, first, last) and self._told[0].first == first
        untold = [*self._named.values()] if is_told else [self._all]
        if not untold:
            return None
        ends = min(gap.first for gap in untold), max(gap.last for gap in untold)
        return *ends, sum(gap.count for gap in untold)

    def _hear(self, version: int, archives: tuple[Archive, ...], *, is_whole: bool) -> None:
        named = self._named.get(version)
        if named is not None and covers(archives, named.first, named.last):
            del self._named[version]
        if is_whole and version == self._teller:
            self._told = archives

    def _note(self, version: int, said_by: int) -> None:
        if self._all is None or (self._begins and said_by > self._teller):
            self._teller, self._told = said_by, ()
        self._all = self._all or _Gap(version)
        self._all.add(version)
        self._named.setdefault(said_by, _Gap(version)).add(version)
