"""One turn of writing: decide each append, seal it, commit them all, make them visible."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from statecore.appends import Append
from statecore.codec import Record, Sealer, Writer, pack_body, read_epoch, read_time
from statecore.codec.record import make_body
from statecore.conflicts import Pending
from statecore.errors import LimitExceeded, StoreFailure
from statecore.events import Birth, EventType, join
from statecore.judge import Judge
from statecore.keys import DataKey
from statecore.keys.ring import LOG_EPOCH
from statecore.recorders import EVERYTHING, Turn
from statecore.state import Root, decide, empty, name_version
from statecore.stream import Stream, id_tag
from statecore.streams import Streams
from statecore.values import EVENT_BYTES_MAX
from statecore.xaes import PREFIX_BYTES

_SEQUENCES_MAX: Final = (1 << 32) - (1 << 20)  # an event's id has four bytes for it


class Scribe:
    """Writes batches. Only one thread at a time may ask it to."""

    def __init__(self, streams: Streams, clock: Callable[[], int]) -> None:
        self._streams = streams
        self._log = streams.log
        self._ring = streams.ring
        self._clock = clock
        self._judge = Judge(streams)
        self._writer: Writer | None = None
        self._last_time = 0
        self._freshness = -1
        self.others_wrote = False  # since our last turn

    def write(self, batch: list[Append], *, wait: bool) -> list[Append]:
        """Write a batch in one turn; return those to try again.

        What is wrong with a single append is said to it alone.

        Raises:
            StoreBusy: somebody else has the turn, and ``wait`` is false. Nothing was done.
            StoreFailure: nothing of the batch was written, or whether it was is not known.
        """
        with self._log.turn(wait=wait) as turn:
            self._look_around(turn.freshness)
            writer = self._writer or self._new_writer(turn)
            self._ring.forget_new()
            time, now = self._next_time(), self._clock()
            page = _Page(self._streams, self._judge, turn, writer, self._freshness, time, now)
            accepted = [append for append in batch if page.try_append(append)]
            if accepted:
                written = page.commit()
                self._writer = page.writer if page.last_number < _SEQUENCES_MAX else None
                accepted = [append for append in accepted if append.stream.id not in written]
        for stream in page.expired:
            self.erase(stream.id, now)
        return accepted + page.postponed

    def erase(self, stream_id: bytes, expired_by: int | None = None) -> None:
        """Append the event that says that a stream's data keys are destroyed, and destroy them.

        In this order: a crash in between leaves a key too many, which the next try destroys, and
        never a missing one without its event. Both within the turn: somebody who was faster may
        have begun the stream anew, and that must not be destroyed with the old one.
        """
        with self._log.turn() as turn:
            if expired_by is not None and stream_id not in self._ring.expired(expired_by):
                return
            self._look_around(turn.freshness)
            writer = self._writer or self._new_writer(turn)
            for version, _, stored in self._log.read(stream_id, 0, EVERYTHING, 1, back=True):
                if read_epoch(stored) != LOG_EPOCH:
                    body = pack_body(make_body((), type=EventType.ERASED))
                    sealer = Sealer(self._log.log_id, stream_id, {}, self._log.prefix_of)
                    key, at = self._ring.log_key, self._next_time()
                    _, erased = sealer.seal(key, version + 1, at, body, writer)
                    turn.append(stream_id, version + 1, erased, (), None)
                    turn.drop_snapshots(stream_id)
                    turn.commit()
                    self._writer = writer
            self._ring.destroy(stream_id)
            self._streams.forget(stream_id)  # before the turn's end tells watchers to look

    def _look_around(self, freshness: int) -> None:
        """Notice whether others wrote, and never record an earlier time than they did."""
        if freshness == self._freshness and freshness >= 0:
            self.others_wrote = False
            return
        self.others_wrote = self._freshness >= 0
        self._freshness = freshness
        for _, _, _, stored in self._log.read_log(self._log.last_position() - 1, 1):
            self._last_time = max(self._last_time, read_time(stored))

    def _next_time(self) -> int:
        """Return the time, but never an earlier one than the event before (a hybrid clock)."""
        self._last_time = max(self._last_time, self._clock())
        return self._last_time

    def _new_writer(self, turn: Turn) -> Writer:
        prefix = secrets.token_bytes(PREFIX_BYTES)
        return Writer(prefix, turn.register_writer(prefix))


class _Page:
    """What one turn writes: nothing of it counts before ``commit`` has returned."""

    def __init__(
        self,
        streams: Streams,
        judge: Judge,
        turn: Turn,
        writer: Writer,
        freshness: int,
        time: int,
        now: int,
    ) -> None:
        self.writer = writer
        self._time = time
        # States end by the clock, as they are read by it. The time of events may be ahead of it,
        # for as long as it was set wrong, and what begins meanwhile would end at once.
        self._now = now
        self._judge = judge
        self._freshness = freshness  # which can't change while the turn is ours
        self.last_number = 0
        self.expired: set[Stream] = set()
        self.postponed: list[Append] = []  # until their stream is erased
        self._streams = streams
        self._turn = turn
        self._pending: dict[Stream, Pending] = {}
        self._refreshed: set[Stream] = set()  # for logs that can't tell whether they are fresh

    def try_append(self, append: Append) -> bool:
        """Append one event, or say to its caller why not."""
        try:
            pending = self._pending.get(append.stream) or self._pending_of(append.stream)
            if append.stream.has_lost_its_past:
                append.stream.require_readable(self._now)
            if append.stream.has_expired(self._now):
                self.expired.add(append.stream)
                self.postponed.append(append)
                return False
            if append.event_id is not None and (version := pending.find_id(append.event_id)):
                append.version = version  # done before: a retry after a lost answer
                return False
            if append.base is not None:
                pending.require_no_conflict(append, append.base)
            self._append(pending, append)
        except StoreFailure:
            raise  # of the whole turn
        except Exception as error:
            append.fail(error)
            return False
        return True

    def _pending_of(self, stream: Stream) -> Pending:
        pending = Pending(stream, self._root_of(stream), self._streams)
        self._pending[stream] = pending
        return pending

    def _root_of(self, stream: Stream) -> Root:
        """Return a stream's root, after what the turn has appended so far; empty once it ended."""
        pending = self._pending.get(stream)
        if pending is not None:
            return pending.root
        if stream.freshness != self._freshness or self._freshness < 0:
            if stream not in self._refreshed:
                self._streams.refresh(stream)
            self._refreshed.add(stream)
        return empty(stream.root.version) if stream.has_expired(self._now) else stream.root

    def _append(self, pending: Pending, append: Append) -> None:
        stream, root, change, time = append.stream, pending.root, append.change, self._time
        first = root.version < stream.first_own or (stream.is_erased and not pending.records)
        wire, cells, weight = decide(root, change, pending.last_touched)
        judged = self._judge.judge(stream, change, root.cells, cells, self._root_of)
        if judged is not change:  # references are cleared with it
            change = judged
            wire, cells, weight = decide(root, change, pending.last_touched)
        tags_after = name_version(root.tags, append.tag) if append.tag else root.tags
        version, birth, new_key = root.version + 1, None, None
        if first:
            birth = append.birth()
            new_key = self._new_key(stream, birth, version)
            birth = replace(birth, expires=new_key.expires)
        body = make_body(wire, append.actor, append.reason, append.type, append.extras(birth))
        packed = pack_body(body)
        if len(packed) > EVENT_BYTES_MAX:
            raise LimitExceeded("the event", len(packed), EVENT_BYTES_MAX, "bytes")

        pending.new_key = new_key or pending.new_key
        key = pending.new_key or stream.key
        assert key is not None, "a stream has a key from its first event on"
        self.last_number, stored = stream.sealer.seal(key, version, time, packed, self.writer)
        event_id = append.event_id
        id_of = None if event_id is None else id_tag(pending.new_key or stream.tag_key, event_id)
        self._turn.append(stream.id, version, stored, pending.tags(change), id_of)

        record = Record(version, stored, stream.sealer, body)
        past = join(root.past, record.past) if append.source else root.past
        pending.advance(Root(version, time, cells, weight, tags_after, record, past), record)
        append.version, append.record = version, record

    def _new_key(self, stream: Stream, birth: Birth, version: int) -> DataKey:
        """Return the data key of a stream's first event, kept before where a try failed."""
        ring = self._streams.ring
        kept = ring.keys(stream.id)
        epoch = max(kept, default=0)
        key = kept.get(epoch)
        if key is not None and key.since == version:
            return key
        return ring.new_key(stream.id, epoch + 1, version, birth.expires)

    def commit(self) -> set[bytes]:
        """Make it durable, then visible; return the streams written to."""
        ring = self._streams.ring
        ring.keep_new()
        written = self._turn.commit()
        for stream, pending in self._pending.items():
            if stream.id in written and pending.records:
                with stream.lock:
                    if pending.new_key is not None:
                        stream.load_keys(ring.keys(stream.id))
                    self._streams.aids.history.observe(stream, pending.records)
                    self._streams.advance(stream, pending.root, pending.records)
                self._streams.aids.snapshots.consider(stream)
        return written
