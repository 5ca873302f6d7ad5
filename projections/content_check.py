"""Every event and snapshot opened, with the key: what digests can't tell of what is sealed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from statecore.codec import Sealer, read_epoch, read_time
from statecore.codec.cut import mend, read_cut
from statecore.codec.seal import is_committed
from statecore.errors import Archived, Damage, DamagedRecord, Erased, NewerFormat
from statecore.events import EventType
from statecore.keys import DataKey, KeyRing
from statecore.keys.ring import LOG_EPOCH
from statecore.projections.cut_check import CutCheck
from statecore.projections.findings import Report
from statecore.recorders import EVERYTHING, LogStore
from statecore.state import Root

_ROWS: Final = 1000


class UnpackRoot(Protocol):
    """Turns an opened snapshot into the state it is of."""

    def __call__(self, version: int, packed: bytes) -> Root:
        """Return the state.

        Raises:
            ValueError: it is none.
        """


class _Opened:
    """One stream, as far as its events were opened."""

    def __init__(self, sealer: Sealer, keys: dict[int, DataKey | None], first: int) -> None:
        self.sealer = sealer
        self.keys = keys
        self.epochs = {LOG_EPOCH}  # whose first event was seen; the log's own key commits nowhere
        self.first = self.last = first
        self.unreadable = 0  # the last version whose key was destroyed
        self.ended = 0  # the last one that says so
        self.cuts = CutCheck()


class ContentCheck:
    """Opens a log from its first event to its last."""

    def __init__(
        self,
        log: LogStore,
        ring: KeyRing,
        unpack_root: UnpackRoot,
        report: Report,
        body_of: Callable[[bytes, int, bytes], bytes | None],
    ) -> None:
        """Check a log.

        Args:
            log: which.
            ring: its keys.
            unpack_root: turns snapshots into states.
            report: where findings are taken down.
            body_of: gives the sealed body of a stream's version, from the archives at hand.
        """
        self._body_of = body_of
        self._log = log
        self._ring = ring
        self._unpack_root = unpack_root
        self._report = report
        self._streams: dict[bytes, _Opened | None] = {}
        self._runs: dict[tuple[str, bytes], tuple[int, int, str]] = {}
        self._time = 0

    def run(self, on_progress: Callable[[int], None]) -> None:
        """Open all there is."""
        after = done = 0
        while rows := self._log.read_log(after, _ROWS):
            for _, stream, version, stored in rows:
                self._open(stream, version, stored)
            after, done = rows[-1][0], done + len(rows)
            on_progress(done)
        for kind, stream in list(self._runs):
            self._end_run(kind, stream)
        snapshots = sum(
            self._open_snapshots(stream, its) for stream, its in self._streams.items() if its
        )
        for stream, its in self._streams.items():
            if its is not None:
                self._judge(stream, its)
        self._tell(snapshots)

    def _open(self, stream: bytes, version: int, stored: bytes) -> None:
        its = self._streams.get(stream)
        if its is None:
            its = None if stream in self._streams else self._meet(stream, version)
            if its is None:
                return
        its.last = version
        try:
            record = its.sealer.open(version, stored)
        except Erased:
            its.unreadable = version
        except Archived:
            its.cuts.meet(version, stored, None)
            self._look_at_epoch(its, stream, version, stored)
        except NewerFormat as error:
            its.cuts.pass_over(version)
            self._tell_run("newer-format", stream, version, error)
        except DamagedRecord as error:
            its.cuts.pass_over(version)
            is_known = _epoch_of(stored) in its.keys
            self._tell_run("damaged-event" if is_known else "missing-key", stream, version, error)
            return
        else:
            if record.type == EventType.ERASED:
                its.ended, its.cuts = version, CutCheck()
            its.cuts.meet(version, stored, record)
            self._look_at_epoch(its, stream, version, stored)
        self._look_at_time(stream, version, read_time(stored))

    def _meet(self, stream: bytes, version: int) -> _Opened | None:
        self._streams[stream] = None
        try:
            keys = {LOG_EPOCH: self._ring.log_key, **self._ring.keys(stream)}
        except Damage as error:
            self._report.find("damaged-key", f"stream {stream.hex()}: {error}")
            return None

        def bring_back(version: int, stored: bytes) -> bytes:
            body = self._body_of(stream, version, read_cut(stored).digest)
            if body is None:
                raise Archived(f"version {version} was archived")
            return mend(version, stored, body)

        sealer = Sealer(self._log.log_id, stream, keys, self._log.prefix_of, bring_back)
        its = self._streams[stream] = _Opened(sealer, keys, version)
        return its

    def _look_at_epoch(self, its: _Opened, stream: bytes, version: int, stored: bytes) -> None:
        """Have the first event of a data key commit to it."""
        epoch = read_epoch(stored)
        is_first = epoch not in its.epochs
        its.epochs.add(epoch)
        if is_first and not is_committed(stored):
            self._report.find(
                "no-commitment",
                f"stream {stream.hex()}: version {version:,} is the first of its data key, and "
                "does not commit to it",
            )

    def _look_at_time(self, stream: bytes, version: int, time: int) -> None:
        if time < self._time:
            self._report.find(
                "time-backwards",
                f"stream {stream.hex()}: version {version:,} is of an earlier time than the event "
                "before it in the log",
            )
        self._time = max(self._time, time)

    def _tell_run(self, kind: str, stream: bytes, version: int, error: Exception) -> None:
        """Take down what is wrong with an event; versions in a row make one finding."""
        first, last, why = self._runs.get((kind, stream), (version, version - 1, str(error)))
        if last != version - 1:
            self._end_run(kind, stream)
            first, why = version, str(error)
        self._runs[kind, stream] = first, version, why

    def _end_run(self, kind: str, stream: bytes) -> None:
        first, last, why = self._runs.pop((kind, stream))
        more = f"; and so up to version {last:,}" if last > first else ""
        self._report.find(kind, f"stream {stream.hex()}: {why}{more}")

    def _open_snapshots(self, stream: bytes, its: _Opened) -> int:
        """Open a stream's snapshots; return how many there are."""
        count, found = 0, self._log.snapshot(stream, EVERYTHING)
        if found is not None and found[0] > its.last:
            self._report.find(
                "missing-events",
                f"stream {stream.hex()}: its events end at version {its.last:,}, its snapshots at "
                f"{found[0]:,}",
            )
        while found is not None:
            version, stored = found
            try:
                self._unpack_root(version, its.sealer.open_snapshot(version, stored))
            except (DamagedRecord, Erased, NewerFormat, ValueError) as error:
                self._report.find(
                    "damaged-snapshot",
                    f"stream {stream.hex()}: the snapshot of version {version:,} is passed over: "
                    f"{error}",
                )
            count += 1
            found = self._log.snapshot(stream, version - 1)
        return count

    def _judge(self, stream: bytes, its: _Opened) -> None:
        """Hold what could be opened of a stream against what its keys and its events say."""
        if its.unreadable > its.ended:
            self._report.find(
                "missing-erasure",
                f"stream {stream.hex()}: the keys of its events up to version "
                f"{its.unreadable:,} were destroyed, and no event says so",
            )
        if gap := its.cuts.gap():
            first, last, count = gap
            self._report.find(
                "missing-body",
                f"stream {stream.hex()}: {count:,} events between versions {first:,} and {last:,} "
                "have no body, and no event says that they were archived",
            )
        since = min((key.since for key in its.keys.values() if key and key.since), default=0)
        if not its.unreadable and since and its.first > since:
            self._report.find(
                "missing-events",
                f"stream {stream.hex()}: begins at version {its.first:,}, its key at {since:,}",
            )

    def _tell(self, snapshots: int) -> None:
        opened = [its for its in self._streams.values() if its is not None]
        erased = sum(1 for its in opened if its.ended and its.unreadable)
        undone = sum(
            1
            for its in opened
            if any(key and 0 < key.since < its.ended for key in its.keys.values())
        )
        notes = self._report.notes
        notes.append(f"{snapshots:,} snapshots were opened")
        if erased:
            notes.append(f"{erased:,} streams were erased: their events are proved, not readable")
        if undone:
            notes.append(f"{undone:,} streams were erased, and keys of what was erased are there")


def _epoch_of(stored: bytes) -> int:
    """Return the number of the data key of a stored event; none that is there, where it is odd."""
    try:
        return read_epoch(stored)
    except (ValueError, IndexError):
        return LOG_EPOCH
