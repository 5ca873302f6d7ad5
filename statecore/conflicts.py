"""Optimistic concurrency at the grain of keys: what happened since a decision was made?

Changes that commute with the new one are no conflict, and it is rebased on them; others are.
"""

from __future__ import annotations

from typing import Final

from statecore.appends import Append
from statecore.change import Change, operations_commute
from statecore.codec import Record
from statecore.codec.cut import is_cut
from statecore.codec.record import CLEARED
from statecore.codec.wire import STRIDE, read_operation, rows
from statecore.errors import DamagedRecord, SubjectMismatch, WrongExpectedVersion
from statecore.events import Event, is_own_id
from statecore.keys import DataKey
from statecore.operations import Operation
from statecore.recorders import EVERYTHING
from statecore.state import Root
from statecore.stream import Stream, clear_tag, key_tag
from statecore.streams import Streams

_EVENTS_MAX: Final = 100  # of the other side, told to the loser
_IDS_SEARCHED: Final = 1024


class Pending:
    """A stream within a turn: its root after what the turn has appended so far."""

    __slots__ = (
        "_cleared",
        "_committed",
        "_history",
        "_indexed",
        "_log",
        "_replay",
        "_touched",
        "birth",
        "new_key",
        "packed_bytes",
        "records",
        "root",
        "stream",
        "tag_key",
    )

    def __init__(self, stream: Stream, root: Root, streams: Streams) -> None:
        self.stream = stream
        self.root = root
        self.records: list[Record] = []
        self.packed_bytes = 0  # of their bodies, before compression
        self.new_key: DataKey | None = None  # which the stream gets once it is committed
        self.birth = None if stream.is_erased else stream.nature
        self.tag_key: DataKey | None = None  # the same, where it is the first of the stream
        self._committed = 0 if stream.is_erased else root.version
        self._log = streams.log
        self._replay = streams.replay
        self._history = streams.aids.history
        self._indexed = 0  # of the records; most turns need no index of them
        self._touched: dict[str, int] = {}
        self._cleared = -1

    def tags(self, change: Change) -> list[bytes]:
        """Return the tags of the keys that a change touches."""
        if self.tag_key is None:
            tags = list(map(self.stream.tag, change.operations))
            return [*tags, clear_tag(self.stream.tag_key)] if change.cleared else tags
        tags = [key_tag(self.tag_key, key) for key in change.operations]
        return [*tags, clear_tag(self.tag_key)] if change.cleared else tags

    def require_subject(self, wanted: str) -> None:
        """Refuse to put one person's data to another's, or to what was begun as nobody's.

        Raises:
            SubjectMismatch: the state was begun for another.
        """
        if self.birth is not None and self.birth.subject != wanted:
            # Who reads the message need not know whose it is.
            raise SubjectMismatch(f"{self.stream.name} was begun for another subject, or for none")

    def advance(self, root: Root, record: Record) -> None:
        """Take in an event that the turn appends."""
        self.root = root
        self.records.append(record)

    def _index(self) -> None:
        for record in self.records[self._indexed :]:
            for key in record.operations[::STRIDE]:
                self._touched[key] = record.version
            if CLEARED in record.extras:
                self._cleared = record.version
        self._indexed = len(self.records)

    def last_touched(self, key: str) -> int:
        """Return the version that last touched a key, whether it is there or not; 0 for none."""
        cell = self.root.cells.get(key)
        if cell is not None:
            return cell[0]
        self._index()
        if key in self._touched or not self._committed:
            return self._touched.get(key, 0)
        return self._history.last_touched(self.stream, key, self._committed)[0]

    def last_cleared(self) -> int:
        """Return the version that last cleared the state; 0 for none."""
        self._index()
        if self._cleared < 0:
            committed = self._committed
            self._cleared = self._history.last_cleared(self.stream, committed) if committed else 0
        return self._cleared

    def find_id(self, event_id: str, *, certainly: bool) -> int:
        """Return the version of the event with an id; 0 for none.

        Args:
            event_id: the id.
            certainly: whether to look for it where the commit refuses it, too.
        """
        for record in self.records:
            if record.event_id == event_id:
                return record.version
        if self._committed == 0:
            return 0
        known = 0
        if certainly or not self._history.refuses_known_ids:
            known = self._history.find_id(self.stream, event_id)
        return known or self._find_own_id(event_id)

    def _find_own_id(self, event_id: str) -> int:
        """Find an id that a writer gave, which no index holds, among the last events.

        One asks for it only after a commit of unknown outcome, and then it is near the end.
        """
        if not is_own_id(event_id):
            return 0
        rows = self._log.read(self.stream.id, 0, EVERYTHING, _IDS_SEARCHED, back=True)
        first = self.stream.first_own
        readable = [row for row in rows if row[0] >= first and not is_cut(row[2])]
        records = (self.stream.sealer.open(version, stored) for version, _, stored in readable)
        return next((record.version for record in records if record.event_id == event_id), 0)

    def require_no_conflict(self, append: Append, base: int) -> None:
        """Refuse an append whose decision no longer holds.

        Raises:
            WrongExpectedVersion: with the events that collide.
        """
        version = self.root.version
        if base == version:
            return
        if base < self.stream.first_version - 1:
            raise WrongExpectedVersion(f"{self.stream.name}: was erased after version {base}")
        if base > version:
            raise WrongExpectedVersion(f"{self.stream.name}: expected version {base}, is {version}")
        colliding = self._colliding(append, base)
        if colliding:
            raise WrongExpectedVersion(
                f"{self.stream.name}: expected version {base}, is {version}, and "
                f"{_spell(colliding)} touched what this is based on",
                lambda: [self._event(at) for at in colliding],
            )

    def _colliding(self, append: Append, base: int) -> list[int]:
        """Return the versions since the base that the decision does not hold against."""
        if append.reads is None or append.change.cleared:
            return list(
                range(max(base, self.root.version - _EVENTS_MAX) + 1, self.root.version + 1)
            )
        colliding = {self.last_cleared()} if self.last_cleared() > base else set()
        for key in {*append.reads, *append.change.operations}:
            last = self.last_touched(key)
            if last > base:
                mine = None if key in append.reads else append.change.operations[key]
                colliding.update(self._colliding_at(key, mine, base, last))
        return sorted(colliding)[-_EVENTS_MAX:]

    def _colliding_at(self, key: str, mine: Operation | None, base: int, last: int) -> list[int]:
        """Return the versions since the base that touched a key and do not commute with mine."""
        committed: list[int] = []
        if self._committed > base:
            committed = self._history.touched(self.stream, key, base, self._committed)
        pending = [r.version for r in self.records if key in r.operations[::STRIDE]]
        if last not in (*committed, *pending):
            raise DamagedRecord(f"the key history does not know that version {last} touched {key}")
        return [
            version
            for version in [*committed, *pending]
            if mine is None or not operations_commute(self._operation(version, key), mine)
        ]

    def _operation(self, version: int, key: str) -> Operation:
        for name, code, _, argument in rows(self._record(version).operations):
            if name == key:
                return read_operation(code, argument)
        raise DamagedRecord(f"the key history names version {version}, which does not touch {key}")

    def _record(self, version: int) -> Record:
        if version > self._committed:
            return self.records[version - self._committed - 1]
        return self._replay.record(self.stream, version)

    def _event(self, version: int) -> Event:
        return self._record(version).event(*self.stream.name[:2], position=0)


def _spell(versions: list[int]) -> str:
    some = ", ".join(map(str, versions[:3]))
    more = f" and {len(versions) - 3} more" if len(versions) > 3 else ""
    return f"version {some}{more}"
