"""The open streams of one log: opened once, shared, and checked against what others wrote."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Final, TypeAlias
from weakref import WeakValueDictionary, ref

from statecore.codec import Record, Sealer, read_epoch
from statecore.codec.cut import header_and_digest, is_cut, mend, read_cut
from statecore.codec.record import TYPE
from statecore.errors import Damage, DamagedRecord
from statecore.events import Archive, Birth, EventType, Moment, covers
from statecore.keys import DataKey, KeyRing
from statecore.keys.ring import LOG_EPOCH
from statecore.recorders import EVERYTHING, LogStore, Row, row_of
from statecore.replay import FAR, WARM_DISTANCE, Replay
from statecore.state import Root, empty, fold
from statecore.stream import Aids, Stream, StreamName
from statecore.tally import Tally
from statecore.validation import Local
from statecore.values import pack

_PAGE: Final = 500  # events replayed at once; of more, the garbage collector would see too much
_OPENINGS: Final = 64  # between looks at what all open streams weigh
_STREAM_BYTES: Final = 3 * 1024  # what one takes whose state is empty
_REPLAY_WEIGHT: Final = 128  # replaying an event costs as much as loading so many more bytes


def pseudonym(ring: KeyRing, name: StreamName) -> bytes:
    """Return all that a log tells of a stream's name: a tag of it."""
    parts = name if name.generation else name[:2]
    return ring.log_key.tag(b"s" + pack(list(parts)))


def _bring_back(streams: ref[Streams], whose: ref[Stream], version: int, stored: bytes) -> bytes:
    known, stream = streams(), whose()
    assert known is not None, "who opens a record holds the streams"
    assert stream is not None, "and its own"
    return known.bring_back(stream, version, stored)


BodyOf: TypeAlias = Callable[[bytes, int, bytes], bytes | None]
"""Gives the sealed body of a stream's version, one of a digest if there is any."""


def _without_key(keys: Mapping[int, DataKey | None]) -> str:
    """Say what is wrong where a stream has events, and no key."""
    if not keys:
        return "its key is gone, and no event says why"
    return (
        "its key was destroyed, and no event says so: the log is older than its key store; erase "
        "the agent, which records it"
    )


def _nowhere(stream: bytes, version: int, digest: bytes) -> None:
    """Know of no archive."""


class Streams:
    """The open streams of one log, a bounded number of them."""

    def __init__(
        self,
        log: LogStore,
        ring: KeyRing,
        aids: Aids,
        cache_bytes_max: int,
        body_of: BodyOf = _nowhere,
    ) -> None:
        """Open streams.

        Args:
            log: holds them.
            ring: has their keys.
            aids: make answers faster.
            cache_bytes_max: what all of them may weigh together.
            body_of: gives the sealed body of a stream's version and of a digest, from the archives
                at hand.
        """
        self.log = log
        self.ring = ring
        self.aids = aids
        self.watched: Stream | None = None  # is brought up to date with every other stream
        self.replay = Replay(log, aids)
        self.tally = Tally()
        self.body_of = body_of
        self._cache_bytes_max = cache_bytes_max
        self._recent: OrderedDict[StreamName, Stream] = OrderedDict()
        # Whoever still holds a stream must share it with whoever opens it anew: there is one
        # root, and the sequencer makes only that one current.
        self._held: WeakValueDictionary[StreamName, Stream] = WeakValueDictionary()
        self._opened = 0
        self._lock = threading.Lock()
        self._local_rules: dict[str, Local] = {}

    def local_rules_of(self, agent_id: str) -> Local:
        """Return what of an agent's rules only this process knows."""
        return self._local_rules.setdefault(agent_id, Local())

    def id_of(self, name: StreamName) -> bytes:
        """Return the pseudonym of a stream: all that a log tells of its name."""
        return pseudonym(self.ring, name)

    def open(self, name: StreamName, origin: Moment | None = None) -> Stream:
        """Return a stream, opened now or before; its root may be out of date.

        A fork that has no event of its own yet begins at its origin.
        """
        with self._lock:
            stream = self._recent.get(name) or self._held.get(name)
            if stream is None:
                stream = self._held[name] = self.adopt(name, self.id_of(name))
                stream.origin = origin
                self.tally.states_cold += 1
            else:
                self.tally.states_warm += 1
            self._recent[name] = stream
            self._recent.move_to_end(name)
            self._opened += 1
            if self._opened % _OPENINGS == 0:
                self._make_room()
        return stream

    def adopt(self, name: StreamName, stream_id: bytes) -> Stream:
        """Return a stream of an id, without keeping it."""
        stream = Stream(name, stream_id, {LOG_EPOCH: self.ring.log_key})
        stream.sealer = self._new_sealer(stream)
        return stream

    def _new_sealer(self, stream: Stream) -> Sealer:
        # We have the stream, and it has the sealer: were we known by that in turn, nothing of it
        # all would go when it is not used any more.
        bring_back = partial(_bring_back, ref(self), ref(stream))
        return Sealer(self.log.log_id, stream.id, stream.keys, self.log.prefix_of, bring_back)

    def bring_back(self, stream: Stream, version: int, stored: bytes) -> bytes:
        """Return an event as it was before its body was archived.

        Raises:
            Archived: the archive is not at hand.
            DamagedRecord: the body in the archive is another, or no event says that it is in one.
        """
        body = self.body_of(stream.id, version, read_cut(stored).digest)
        if body is not None:
            return mend(version, stored, body)
        if version >= stream.horizon:  # archived by others, a moment ago
            self._look_for_archives(stream)
        stream.require_here(version)
        raise DamagedRecord(f"version {version}: its body is missing, and no event says why")

    def archives(self, stream: Stream) -> tuple[Archive, ...]:
        """Return all archives that bodies of a stream are in, at hand or not, oldest first.

        Raises:
            DamagedRecord: bodies are missing, and no event says where they are.
        """
        first = stream.first_own
        for row in self.log.read(stream.id, first - 1, first):
            return self._telling(stream, row).archives
        return ()

    def _telling(self, stream: Stream, first: Row) -> Record:
        """Return the record that tells whose a stream is: its first, or, where that was archived,
        that of the event which says so.

        Raises:
            DamagedRecord: there is no such event.
        """
        version, _, stored = first
        if not is_cut(stored):
            return stream.sealer.open(version, stored)
        version, _, stored = row_of(self.log, stream.id, read_cut(stored).event)
        record = None if is_cut(stored) else stream.sealer.open(version, stored)
        is_told = record is not None and record.type == EventType.ARCHIVED
        if record is None or not is_told or not covers(record.archives, first[0], first[0]):
            raise DamagedRecord(f"{stream.name}: bodies are missing, and no event says where")
        return record

    def _look_for_archives(self, stream: Stream) -> None:
        """Note what of a stream is in archives, and which of them are not at hand.

        Each is set once, and not cleared before: others read meanwhile.
        """
        found = self.archives(stream) if stream.parent is None else ()
        stream.missing = tuple(each for each in found if not self._is_at_hand(stream, each))
        stream.archives = found

    def _is_at_hand(self, stream: Stream, archive: Archive) -> bool:
        """Tell whether an archive is at hand: both of its ends are, as they were archived.

        One that was left by a killed attempt ends earlier, one of a history that the store left
        behind ends in another way, and one from before a restore may have the beginning of another.
        """
        return all(self._has_body(stream, at) for at in (archive.first, archive.horizon - 1))

    def _has_body(self, stream: Stream, version: int) -> bool:
        for _, _, stored in self.log.read(stream.id, version - 1, version):
            try:
                digest = header_and_digest(stored)[1]
                body = self.body_of(stream.id, version, digest)
            except Damage:
                return False  # verification tells why
            return body is not None and sha256(body).digest() == digest
        return False

    def _make_room(self) -> None:
        """Let go of the streams opened longest ago while all together are too large."""
        weight = sum(stream.root.weight + _STREAM_BYTES for stream in self._recent.values())
        while weight > self._cache_bytes_max and len(self._recent) > 1:
            _, closed = self._recent.popitem(last=False)
            weight -= closed.root.weight + _STREAM_BYTES

    def refresh(self, stream: Stream) -> Root:
        """Bring a stream's root up to date, and return it.

        One look at a counter where nobody else wrote; else a query, and what is new is folded.
        """
        freshness = self.log.freshness()
        if freshness == stream.freshness and freshness >= 0:
            return stream.root
        with stream.lock:
            if stream.parent is not None and self._has_lost(stream.parent, stream.fork):
                self._start(stream)
            self._catch_up(stream)
            if self.watched is not None and stream is not self.watched:
                self.refresh(self.watched)  # after: what is read is never newer than who may
            stream.freshness = freshness
        return stream.root

    def living_root(self, stream: Stream, now: int) -> Root:
        """Return a stream's root up to date; of a state that has ended an empty one."""
        root = self.refresh(stream)
        return empty(root.version) if stream.has_expired(now) else root

    def _has_lost(self, parent: Stream, fork: int) -> bool:
        """Tell whether what a stream shares with its parent was erased."""
        self.refresh(parent)
        return parent.is_erased or fork < parent.first_version - 1

    def _catch_up(self, stream: Stream) -> None:
        if stream.root.version == 0:
            if stream.is_settled_empty and not self.log.version(stream.id):
                return  # as most registers are, which every write looks at
            self._start(stream)
        while rows := self.log.read(stream.id, stream.root.version, EVERYTHING, _PAGE):
            if not self._knows_keys(stream, rows) or self._is_gone(stream, rows[0]):
                self._start(stream)
                rows = self.log.read(stream.id, stream.root.version, EVERYTHING, _PAGE)
            records: list[Record] = []
            try:
                for version, _, stored in rows:
                    records.append(stream.sealer.open(version, stored))
            finally:  # what comes before a damaged record stays readable
                self.aids.history.observe(stream, records)
                for start in range(0, len(records), FAR):
                    part = records[start : start + FAR]
                    self.advance(stream, fold(stream.root, part), part)
            if rows:
                stream.use_key(read_epoch(rows[-1][2]))

    def _knows_keys(self, stream: Stream, rows: list[Row]) -> bool:
        """Tell whether the keys of these rows are as known: none new, none destroyed since."""
        epochs = {read_epoch(rows[0][2]), read_epoch(rows[-1][2])}
        return LOG_EPOCH not in epochs and epochs <= stream.keys.keys()

    def _is_gone(self, stream: Stream, row: Row) -> bool:
        """Tell whether others archived what was to be read next."""
        return is_cut(row[2]) and (
            self.body_of(stream.id, row[0], header_and_digest(row[2])[1]) is None
        )

    def _start(self, stream: Stream) -> None:
        """Load the keys and begin where what can be read begins, or at the latest snapshot.

        Raises:
            DamagedRecord: the key is gone and no event says so, or the log commits to another.
        """
        last = self.log.read(stream.id, 0, EVERYTHING, 1, back=True)
        epoch = read_epoch(last[0][2]) if last else None
        keys = self.ring.keys(stream.id)
        # Keys may be there although their end was recorded: whoever did so was killed, and the
        # next who opens the store destroys them. They are not used.
        stream.load_keys(dict.fromkeys(keys) if epoch == LOG_EPOCH else keys, epoch)
        stream.sealer = self._new_sealer(stream)
        stream.parent = None
        self.aids.history.forget(stream.id)
        if epoch == LOG_EPOCH:
            self._start_erased(stream, last[0])
            return
        if last and stream.key is None:
            raise DamagedRecord(f"{stream.name}: {_without_key(keys)}")
        first = stream.first_own
        rows = self.log.read(stream.id, first - 1, first)
        if rows:
            stream.birth = self._telling(stream, rows[0]).birth
        if rows and is_cut(rows[0][2]):
            self._look_for_archives(stream)
        else:
            stream.missing = stream.archives = ()
        origin = stream.birth.fork if stream.birth else stream.origin
        if origin is not None and not self._inherit(stream, origin):
            return
        kept = self.aids.snapshots.load(stream, EVERYTHING) if stream.key else None
        if kept and kept.version > (head := self.log.version(stream.id)):
            raise DamagedRecord(
                f"{stream.name}: its events end at version {head}, its snapshots at {kept.version}"
            )
        stream.weight_since_snapshot = 0
        stream.snapshot_version = kept.version if kept else 0
        begins = max(first, stream.horizon_before(EVERYTHING))
        is_near = kept and kept.version >= begins
        stream.root = kept if kept and is_near else self.replay.base(stream, EVERYTHING)
        stream.settle()

    def _inherit(self, stream: Stream, origin: Moment) -> bool:
        """Have a stream begin with its parent's state; tell whether that is still there."""
        parent = self.open(StreamName(stream.name.agent_id, *origin.line))
        stream.has_lost_its_past = self._has_lost(parent, origin.version)
        if stream.has_lost_its_past:
            self._cool(stream)
            stream.root = empty(max(origin.version, self.log.version(stream.id)))
            stream.settle()
            return False
        stream.parent, stream.fork = parent, origin.version
        return True

    def _start_erased(self, stream: Stream, row: Row) -> None:
        """Begin at the event that says that the state was erased."""
        version, _, stored = row
        record = stream.sealer.open(version, stored)
        self._cool(stream)
        stream.root = fold(empty(version - 1), [record])
        stream.birth, stream.missing, stream.archives = None, (), ()
        stream.settle()

    def _cool(self, stream: Stream) -> None:
        """Forget what was warm of a stream whose keys, or whose parent's, were destroyed."""
        self.aids.roots.forget(stream.id)
        self.aids.values.forget(stream.id)

    def advance(self, stream: Stream, root: Root, records: Sequence[Record]) -> None:
        """Make a root the stream's current one, unless it is there already or further."""
        if root.version <= stream.root.version:
            return
        if root.version // WARM_DISTANCE > stream.root.version // WARM_DISTANCE:
            self.aids.roots.keep(stream.id, root)
        stream.root = root
        says_more = False
        for record in records:
            stream.weight_since_snapshot += len(record.stored) + _REPLAY_WEIGHT
            says_more = says_more or len(record.body) > TYPE
        if says_more or stream.is_erased:
            births = [record.birth for record in records if record.birth]
            stream.birth = births[-1] if births else stream.birth
            stream.settle()
            if any(record.type == EventType.ARCHIVED for record in records):
                self._look_for_archives(stream)

    def birth_of(self, stream_id: bytes) -> Birth | None:
        """Return what the first event of a stream says of it; ``None`` where it was erased."""
        stream = self.adopt(StreamName(""), stream_id)
        stream.load_keys(self.ring.keys(stream_id))
        if stream.key is None:
            return None
        for row in self.log.read(stream_id, stream.first_own - 1, EVERYTHING, 1):
            return self._telling(stream, row).birth
        return None

    def forget(self, stream_id: bytes) -> None:
        """Forget what was derived from a stream whose keys were destroyed."""
        self.aids.roots.forget(stream_id)
        self.aids.values.forget(stream_id)
        for stream in list(self._held.values()):
            if stream.id == stream_id or stream.descends_from(stream_id):
                with stream.lock:
                    self._start(stream)
