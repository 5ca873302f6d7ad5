"""Every stream replayed from its first event, and held against all that was derived from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final, Protocol

from statecore.codec import Record
from statecore.codec.record import CLEARED, EVENT_ID
from statecore.errors import Archived, Damage, DamagedRecord, Erased
from statecore.events import EventType
from statecore.packed import to_bytes
from statecore.projections.findings import Report
from statecore.recorders import EVERYTHING, LogStore
from statecore.state import Root, changed_keys, fold
from statecore.stream import Snapshots, Stream, StreamName, clear_tag, id_tag
from statecore.streams import Streams

_PAGE: Final = 500


class KeptIndexes(Protocol):
    """The indexes that a log keeps beside the events, whole."""

    def touches(self, stream: bytes) -> dict[bytes, list[int]]:
        """Return the versions that touched each tag."""

    def ids(self, stream: bytes) -> dict[bytes, int]:
        """Return the version of each event with an id, by the tag of that."""


class _Derived:
    """What the indexes of a stream have to hold, as its events say."""

    def __init__(self, stream: Stream, since: int) -> None:
        """Begin with the events from a version on."""
        self._stream = stream
        self.touches: defaultdict[bytes, set[int]] = defaultdict(set)
        self.ids: dict[bytes, int] = {}
        self.since = since

    def take_in(self, records: Iterable[Record]) -> None:
        stream = self._stream
        for record in records:
            if record.type == EventType.ERASED:  # tags of keys before stand for nothing
                self.touches.clear()
                self.ids.clear()
                self.since = record.version + 1
            for key in changed_keys([record]):
                self.touches[stream.tag(key)].add(record.version)
            if CLEARED in record.extras:
                self.touches[clear_tag(stream.tag_key)].add(record.version)
            if EVENT_ID in record.extras:
                self.ids[id_tag(stream.tag_key, record.extras[EVENT_ID])] = record.version


class ReplayCheck:
    """Replays all streams of a log."""

    def __init__(
        self,
        streams: Streams,
        snapshots: Snapshots,
        kept: KeptIndexes | None,
        report: Report,
    ) -> None:
        """Check a log.

        Args:
            streams: replay from events alone.
            snapshots: what an open store begins at.
            kept: the indexes beside the log, where it keeps any.
            report: where findings are taken down.
        """
        self._streams = streams
        self._snapshots = snapshots
        self._kept = kept
        self._report = report

    def run(self) -> None:
        """Replay all there is that can be read."""
        lost = archived = 0
        for stream_id in self._streams.log.streams():
            try:
                birth = self._streams.birth_of(stream_id)
                if birth is None:
                    continue  # erased, or none of ours
                name = StreamName(birth.agent_id, birth.branch, birth.generation)
                if self._streams.id_of(name) != stream_id:
                    raise DamagedRecord("its first event is of another stream's name")
                stream = self._streams.open(name)
                self._streams.refresh(stream)
                if stream.has_lost_its_past:
                    lost += 1
                else:
                    self._replay(stream)
            except Archived:
                archived += 1
            except (Damage, Erased) as error:
                self._report.find("no-replay", f"stream {stream_id.hex()}: {error}")
        if archived:
            self._report.notes.append(f"{archived:,} forks of what was archived can't be read here")
        if lost:
            self._report.notes.append(f"{lost:,} forks of what was erased can't be read either")

    def _replay(self, stream: Stream) -> None:
        log, replay = self._streams.log, self._streams.replay
        root, head = replay.base(stream), log.version(stream.id)
        derived = _Derived(stream, root.version + 1)
        kept = [at for at in _snapshot_versions(log, stream.id) if root.version < at <= head]
        for until in (*kept, head):
            while root.version < until:
                after = root.version
                records = list(replay.records(stream, after, min(until, after + _PAGE)))
                derived.take_in(records)
                root = fold(root, records)
            if until in kept:
                self._hold_snapshot(stream, root)
        if kept:
            self._hold_current(stream, root)
        elif differences(stream.root, root):
            self._report.find("wrong-state", f"stream {stream.id.hex()}: two replays differ")
        if self._kept is not None:
            self._hold_indexes(stream, derived, self._kept)

    def _hold_snapshot(self, stream: Stream, root: Root) -> None:
        kept = self._snapshots.load(stream, root.version)
        if kept is None or kept.version != root.version:
            return  # it did not open, which was told
        if wrong := differences(kept, root):
            self._report.find(
                "wrong-snapshot",
                f"stream {stream.id.hex()}: the snapshot of version {root.version:,} is not what "
                f"its events make: {wrong}",
            )

    def _hold_current(self, stream: Stream, root: Root) -> None:
        """Hold the state that an open store begins with against that from the first event on."""
        begun = self._snapshots.load(stream, EVERYTHING)
        if begun is None or begun.version > root.version:
            return
        records = self._streams.replay.records(stream, begun.version, root.version)
        if wrong := differences(fold(begun, records), root):
            self._report.find(
                "wrong-state",
                f"stream {stream.id.hex()}: its state is not what its events make: {wrong}",
            )

    def _hold_indexes(self, stream: Stream, derived: _Derived, indexes: KeptIndexes) -> None:
        name, since = stream.id.hex(), derived.since
        try:
            touches = indexes.touches(stream.id)
        except Damage as error:
            self._report.find("wrong-history", f"stream {name}: {error}")
        else:
            kept = {(tag, at) for tag, found in touches.items() for at in found if at >= since}
            due = {(tag, at) for tag, versions in derived.touches.items() for at in versions}
            self._compare("wrong-history", f"stream {name}: the key history", kept, due)
        ids = indexes.ids(stream.id)
        odd = [tag for tag, at in ids.items() if type(at) is not int]
        kept = {(tag, at) for tag, at in ids.items() if tag not in odd and at >= since}
        self._compare(
            "wrong-ids", f"stream {name}: the index of ids", kept, set(derived.ids.items())
        )
        if odd:
            self._report.find("wrong-ids", f"stream {name}: {len(odd):,} ids name no version")

    def _compare(
        self, kind: str, what: str, kept: set[tuple[bytes, int]], due: set[tuple[bytes, int]]
    ) -> None:
        lacking, invented = due - kept, kept - due
        if lacking:
            first = min(at for _, at in lacking)
            text = f"{what} lacks {len(lacking):,} entries, the first of version {first:,}"
            self._report.find(kind, text)
        if invented:
            first = min(at for _, at in invented)
            text = f"{what} has {len(invented):,} entries that no event made, of version {first:,}"
            self._report.find(kind, text)


def differences(kept: Root, root: Root) -> str:
    """Say in which respects two states of a version differ; nothing where they are the same."""
    parts = {
        "values": (_cells(kept), _cells(root)),
        "tags": (dict(kept.tags), dict(root.tags)),
        "time": (kept.time, root.time),
        "weight": (kept.weight, root.weight),
        "past": (dict(kept.past), dict(root.past)),
    }
    return ", ".join(name for name, (one, other) in parts.items() if one != other)


def _cells(root: Root) -> dict[str, tuple[int, bytes]]:
    return {key: (version, to_bytes(packed)) for key, (version, packed) in root.cells.items()}


def _snapshot_versions(log: LogStore, stream_id: bytes) -> list[int]:
    """Return the versions that there are snapshots of, oldest first."""
    versions, found = [], log.snapshot(stream_id, EVERYTHING)
    while found is not None:
        versions.append(found[0])
        found = log.snapshot(stream_id, found[0] - 1)
    return versions[::-1]
