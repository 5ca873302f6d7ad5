"""The past of a stream: its state, one key, or the change between any two versions.

Every route leads to the same answer and is only chosen for its cost: a warm root or value, the key
history, a snapshot and the events after it, or all events from the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from statecore.change import Change, compose
from statecore.codec import Record, read_time
from statecore.codec.record import CLEARED
from statecore.codec.wire import REMOVED, read_change, read_operation, rows, whole_value
from statecore.diff import diff
from statecore.errors import Archived, DamagedRecord, Erased, VersionNotFound
from statecore.events import Event
from statecore.operations import Operation
from statecore.packed import Packed
from statecore.recorders import EVERYTHING, Row, row_of
from statecore.state import Root, changed_keys, fold, values_of
from statecore.stream import Stream
from statecore.streams import Streams
from statecore.values import check_key

_CHAIN_MAX: Final = 32  # operations that build on each other, before replay is cheaper
_COMPOSED_MAX: Final = 2_000  # events, before comparing two states is cheaper


class Timeline:
    """Answers questions of the past of streams that are up to date. Safe to use from any thread."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._replay = streams.replay
        self._history = streams.aids.history
        self._values = streams.aids.values
        self._tally = streams.tally
        self._not_cleared: dict[bytes, int] = {}  # by stream: up to which version it never was

    def require_version(self, stream: Stream, version: int) -> None:
        """Refuse a version that there is not, or not any more.

        Raises:
            VersionNotFound, Erased: says how far the history reaches.
        """
        head = stream.root.version
        if not 0 <= version <= head:
            raise VersionNotFound(f"{stream.name} has versions 0 to {head}, not {version}")
        if version < stream.first_version - 1:
            first = stream.first_version
            raise Erased(f"{stream.name}: what came before version {first} was erased")

    def root_at(self, stream: Stream, version: int) -> Root:
        """Return the whole state at a version."""
        self.require_version(stream, version)
        return self._replay.root_at(stream, version)

    def roots(self, stream: Stream, after: int, until: int) -> list[Root]:
        """Return the whole state at each version after one up to another, oldest first."""
        self.require_version(stream, until)
        root, roots = self.root_at(stream, after), []
        for record in self.records(stream, after, until):
            root = fold(root, [record])
            roots.append(root)
        return roots

    def is_near(self, stream: Stream, version: int) -> bool:
        """Tell whether the state at a version is at hand, or a few events away from one that is."""
        return self._replay.is_near(stream, version)

    def value_at(self, stream: Stream, key: str, version: int) -> Packed | None:
        """Return the packed value of a key at a version; ``None`` where the key is not there."""
        self.require_version(stream, version)  # first: what was erased must not be found warm
        if version < stream.first_version:
            return None
        horizon = stream.horizon
        if version < horizon:
            stream.require_here(version)
        cell = stream.root.cells.get(key)
        if cell is not None and cell[0] <= version:
            return cell[1]  # untouched since; the index, which is not sealed, is not asked
        known, packed = self._values.find(stream.id, key, version)
        if known:
            self._tally.values_warm += 1
            return packed
        self._tally.values_cold += 1
        check_key(key)
        while True:
            try:
                return self._cold_value_at(stream, key, version)
            except Archived:
                if stream.horizon == horizon:
                    raise
                horizon = stream.horizon  # moved meanwhile, over what was to be read
                stream.require_here(version)

    def _cold_value_at(self, stream: Stream, key: str, version: int) -> Packed | None:
        packed: Packed | None = None
        if version < stream.horizon_before(EVERYTHING):  # from an archive, seldom: by its events
            cell = self.root_at(stream, version).cells.get(key)
            return cell[1] if cell else None
        # Whatever others archive meanwhile, this one state is what is gone on from.
        base = self._replay.horizon_root(stream, version)
        touched, until = self._history.last_touched(stream, key, version)
        cleared = self._last_cleared(stream, version)
        # The next clear may come before the next touch.
        never = 0 if cleared else self._not_cleared.get(stream.id, 0)
        until = max(version, min(until, never))
        since = max(touched, cleared)
        if base is not None and since <= base.version:
            since, packed = base.cells.get(key) or (base.version, None)
        elif touched and touched >= cleared:
            packed = self._value_after(stream, key, touched, cleared, base)
        self._values.keep(stream.id, key, (since, until), packed)
        return packed

    def _last_cleared(self, stream: Stream, version: int) -> int:
        """Return the last version up to another that cleared the state; mostly there is none."""
        if version <= self._not_cleared.get(stream.id, 0):
            return 0
        head = stream.root.version
        if not self._history.last_cleared(stream, head):
            self._not_cleared[stream.id] = head
            return 0
        return self._history.last_cleared(stream, version)

    def _value_after(
        self, stream: Stream, key: str, touched: int, cleared: int, base: Root | None
    ) -> Packed | None:
        """Return the value after the event that last touched a key.

        Operations that build on older ones are followed back to one that says the whole value.
        """
        chain: list[Operation] = []
        version = touched
        while version >= max(cleared, 1):
            if base is not None and version <= base.version:
                cell = base.cells.get(key)
                return _apply_all(cell[1] if cell else None, chain)
            code, distance, argument = self._operation(stream, key, version)
            whole = whole_value(code, argument)
            if whole is not None or code == REMOVED:
                return _apply_all(whole, chain)
            chain.append(read_operation(code, argument))
            if len(chain) > _CHAIN_MAX:
                cell = self.root_at(stream, touched).cells.get(key)
                return cell[1] if cell else None
            if distance == 0:
                break
            version -= distance
        return _apply_all(None, chain)

    def _operation(self, stream: Stream, key: str, version: int) -> tuple[int, int, Any]:
        """Return code, distance and argument of what an event did to a key."""
        for name, code, distance, argument in rows(self.record(stream, version).operations):
            if name == key:
                return code, distance, argument
        raise DamagedRecord(f"the key history names version {version}, which does not touch {key}")

    def event(self, stream: Stream, root: Root) -> Event:
        """Return the event that led to a root.

        Raises:
            Erased: it was erased since.
        """
        if root.version < stream.first_version - 1:
            raise Erased(f"{stream.name}: version {root.version} was erased")
        version, position, stored = self.row(stream, root.version)
        return self.open(stream, version, stored).event(*stream.name[:2], position)

    def row(self, stream: Stream, version: int) -> Row:
        """Return the row of a version that must be there."""
        return row_of(self._streams.log, stream.owner(version).id, version)

    def open(self, stream: Stream, version: int, stored: bytes) -> Record:
        """Return the record of a row."""
        return self._replay.open(stream, version, stored)

    def record(self, stream: Stream, version: int) -> Record:
        """Return one record."""
        return self._replay.record(stream, version)

    def records(self, stream: Stream, after: int, until: int) -> Iterator[Record]:
        """Return the records after a version and up to another, oldest first.

        Raises:
            DamagedRecord: one is missing.
        """
        return self._replay.records(stream, after, until)

    def change_between(self, stream: Stream, version: int, other: int) -> Change:
        """Return the change that leads from one version to another, forwards or backwards.

        Forwards it is what was done in between, composed; where that is long, or backwards, it is
        what differs.
        """
        self.require_version(stream, version)
        self.require_version(stream, other)
        if other < version:
            return self._back(stream, version, other)
        if other - version > max(_COMPOSED_MAX, len(stream.root.cells)):
            before, after = self.root_at(stream, version), self.root_at(stream, other)
            return diff(values_of(before), values_of(after))
        return compose(
            read_change(record.operations, cleared=CLEARED in record.extras)
            for record in self.records(stream, version, other)
        )

    def _back(self, stream: Stream, version: int, other: int) -> Change:
        """Return what differs, looking only at keys that were touched in between."""
        before, after = self.root_at(stream, version), self.root_at(stream, other)
        if version - other > _COMPOSED_MAX:
            return diff(values_of(before), values_of(after))
        records = list(self.records(stream, other, version))
        if any(CLEARED in record.extras for record in records):
            return diff(values_of(before), values_of(after))
        keys = set(changed_keys(records))
        return diff(_some(before, keys), _some(after, keys))

    def version_at_time(self, stream: Stream, time: int) -> int:
        """Return the last version recorded up to a moment, in microseconds since 1970, UTC."""
        return self._last_where(stream, lambda row: read_time(row[2]) <= time)

    def version_at_position(self, stream: Stream, position: int) -> int:
        """Return the last version up to a position in the whole log.

        Raises:
            VersionNotFound: this log does not tell positions.
        """
        last = self._row(stream, stream.root.version)
        if last is not None and last[1] == 0:
            raise VersionNotFound("this store does not tell positions; use versions or times")
        return self._last_where(stream, lambda row: row[1] <= position)

    def _last_where(self, stream: Stream, holds: Callable[[Row], bool]) -> int:
        """Return the last version for which something holds that holds for all before it."""
        low, high = 0, stream.root.version
        while low < high:
            middle = (low + high + 1) // 2
            row = self._row(stream, middle)
            low, high = (middle, high) if row and holds(row) else (low, middle - 1)
        return low

    def _row(self, stream: Stream, version: int) -> Row | None:
        found = self._replay.rows(stream, version - 1, version)
        return found[0] if found else None

    def rows(
        self, stream: Stream, after: int, until: int, limit: int, *, back: bool = False
    ) -> list[Row]:
        """Return rows of a stream, as the log does."""
        return self._replay.rows(stream, after, min(until, EVERYTHING), limit, back=back)


def _apply_all(packed: Packed | None, chain: list[Operation]) -> Packed | None:
    for operation in reversed(chain):
        packed = operation.apply(packed)
    return packed


def _some(root: Root, keys: set[str]) -> dict[str, Packed]:
    return {key: cell[1] for key in keys if (cell := root.cells.get(key))}
