"""Every stream replayed from its first event, and held against all that was derived from it."""

from __future__ import annotations

from typing import Final, Protocol

from statecore.errors import Archived, Damage, DamagedRecord, Erased
from statecore.projections.findings import Report
from statecore.recorders import EVERYTHING, Indexes, LogStore
from statecore.recount import Recount, compare_rows, differences
from statecore.state import Root, fold
from statecore.stream import Snapshots, Stream, StreamName
from statecore.streams import Streams

_PAGE: Final = 500
_KINDS: Final = {"the key history": "wrong-history", "the ids": "wrong-ids"}


class KeptIndexes(Protocol):
    """The indexes that a log keeps beside the events, whole."""

    def indexes(self, stream: bytes) -> Indexes:
        """Return the rows of a stream's indexes."""


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
        root, head = replay.base(stream, stream.horizon), log.version(stream.id)
        made, rows = Recount(stream), self._kept and self._kept.indexes(stream.id)
        if rows and stream.horizon:
            made.go_on(rows, stream.first_own, root.version)
        kept = [at for at in _snapshot_versions(log, stream.id) if root.version < at <= head]
        for until in (*kept, head):
            while root.version < until:
                after = root.version
                records = list(replay.records(stream, after, min(until, after + _PAGE)))
                made.take_in(records)
                root = fold(root, records)
            if until in kept:
                self._hold_snapshot(stream, root)
        if kept:
            self._hold_current(stream, root)
        elif differences(stream.root, root):
            self._report.find("wrong-state", f"stream {stream.id.hex()}: two replays differ")
        if rows:
            self._hold_indexes(stream, made.indexes(), rows)

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

    def _hold_indexes(self, stream: Stream, made: Indexes, kept: Indexes) -> None:
        for what, wrong, _ in compare_rows(kept, made, stream.first_own):
            if wrong:
                self._report.find(_KINDS[what], f"stream {stream.id.hex()}: {wrong}")


def _snapshot_versions(log: LogStore, stream_id: bytes) -> list[int]:
    """Return the versions that there are snapshots of, oldest first."""
    versions, found = [], log.snapshot(stream_id, EVERYTHING)
    while found is not None:
        versions.append(found[0])
        found = log.snapshot(stream_id, found[0] - 1)
    return versions[::-1]
