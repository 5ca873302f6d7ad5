"""One turn of writing: decide each append, seal it, commit them all, make them visible."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from dataclasses import replace
from time import perf_counter
from typing import Final

from statecore.appends import Append
from statecore.change import Change
from statecore.codec import Record, Sealer, Writer, pack_body, read_epoch, read_time
from statecore.codec.record import TYPE, make_body
from statecore.conflicts import Pending
from statecore.errors import Conflict, Damage, LimitExceeded, OutcomeUnknown, StoreFailure
from statecore.events import EXPIRED, EventType, join
from statecore.gate import Gate
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

_CONTRADICTION: Final = (
    "the log refuses an event though nobody was faster: an index of it is damaged; nothing was"
    " written; statecore doctor says what to do"
)


class Scribe:
    """Writes batches. Only one thread at a time may ask it to."""

    def __init__(self, streams: Streams, clock: Callable[[], int], gate: Gate) -> None:
        self._streams = streams
        self._gate = gate
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
            self._ring.begin()
            time, now = self._next_time(), self._clock()
            page = _Page(
                self._streams, self._gate, self._judge, turn, writer, self._freshness, time, now
            )
            alone = len(batch) == 1
            accepted = [append for append in batch if page.try_append(append, alone=alone)]
            if accepted:
                written = page.commit()
                if written:  # else a new writer is not registered
                    self._writer = page.writer if page.last_number < _SEQUENCES_MAX else None
                refused = [append for append in accepted if append.stream.id not in written]
                accepted = [each for each in refused if self._may_try_again(each, turn.freshness)]
        if page.expired:
            self.erase(lambda: self._ring.expired(self._clock()), reason=EXPIRED)
        return accepted + page.postponed

    def _may_try_again(self, append: Append, freshness: int) -> bool:
        """Tell whether to try again what a commit refused; else its caller is told why not.

        Somebody was faster, or its id is there: it is looked up from now on. Where neither is so,
        an index contradicts what is read, and would do so for ever.
        """
        if append.came_back and freshness >= 0 and not self.others_wrote:
            append.fail(Damage(_CONTRADICTION))
            return False
        append.came_back = True
        return True

    def erase(
        self,
        choose: Callable[[], Collection[bytes]],
        actor: str | None = None,
        reason: str | None = None,
    ) -> Collection[bytes]:
        """Append to streams the event that says that their data keys are destroyed; destroy them.

        In this order, and all events before any key: a kill in between leaves keys too many, which
        the next opening destroys (``settle``), and never a missing one without its event. Which
        streams is chosen within the turn: somebody who was faster may have begun one anew, and that
        must not be destroyed with the old one. Returns which were.
        """
        body = pack_body(make_body((), actor, reason, EventType.ERASED))
        with self._log.turn() as turn:
            self._ring.begin()
            chosen = choose()
            self._look_around(turn.freshness)
            writer = self._writer or self._new_writer(turn)
            ending = [each for each in chosen if self._end(turn, each, writer, body)]
            ended = set(chosen) - set(ending)
            if ending:
                written = turn.commit()
                if not written and turn.freshness >= 0:  # nobody can have been faster
                    raise Damage(_CONTRADICTION)
                ended |= written
                self._writer = writer
            self._ring.destroy(dict.fromkeys(ended, EVERYTHING))
            for stream_id in ended:
                self._streams.forget(stream_id)  # before the turn's end tells watchers to look
        left = set(chosen) - ended  # in which others were faster; not every log is ours alone
        return {*ended, *self.erase(lambda: left, actor, reason)} if left else ended

    def _end(self, turn: Turn, stream_id: bytes, writer: Writer, body: bytes) -> bool:
        """Append the event that says so, unless it is there already or nothing ever was."""
        for version, _, stored in self._log.read(stream_id, 0, EVERYTHING, 1, back=True):
            if read_epoch(stored) == LOG_EPOCH:
                return False
            sealer = Sealer(self._log.log_id, stream_id, {}, self._log.prefix_of)
            key, at = self._ring.log_key, self._next_time()
            _, erased = sealer.seal(key, version + 1, at, body, writer)
            turn.drop_derived(stream_id)
            turn.append(stream_id, version + 1, erased, (), None)
            return True
        return False

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
        gate: Gate,
        judge: Judge,
        turn: Turn,
        writer: Writer,
        freshness: int,
        time: int,
        now: int,
    ) -> None:
        self.writer = writer
        self._time = time
        self._gate = gate
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

    def try_append(self, append: Append, *, alone: bool) -> bool:
        """Append one event, or say to its caller why not.

        Args:
            append: what to record.
            alone: whether nothing else is written in this turn.
        """
        try:
            pending = self._pending.get(append.stream) or self._pending_of(append.stream)
            if append.stream.has_lost_its_past:
                append.stream.require_readable(self._now)
            if append.stream.has_expired(self._now):
                self.expired.add(append.stream)
                self.postponed.append(append)
                return False
            self._require_access(append, append.change, pending.root)
            if append.subject is not None:
                pending.require_subject(append.subject)
            return self._append_once(pending, append, looks=append.came_back or not alone)
        except StoreFailure:
            raise  # of the whole turn
        except Exception as error:
            append.fail(error)
            if isinstance(error, Conflict):
                self._streams.tally.conflicts += 1
            else:
                self._streams.tally.refused += 1
            return False

    def _append_once(self, pending: Pending, append: Append, *, looks: bool) -> bool:
        """Append an event, unless it is there already: this is a retry after a lost answer.

        Nearly none is, and the commit refuses what is there. An append that is alone is only looked
        for once that happened, or where it would be refused for another reason; among others it
        would be taken for something that they have to follow.
        """
        if _is_there(pending, append, certainly=looks):
            return False
        try:
            if append.base is not None:
                pending.require_no_conflict(append, append.base)
            self._append(pending, append)
        except StoreFailure:
            raise
        except Exception:
            if _is_there(pending, append, certainly=True):
                return False
            raise
        return True

    def _require_access(self, append: Append, change: Change, root: Root) -> None:
        self._gate.require(append, change, root.cells, self._streams, self._root_of)

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
            self._require_access(append, change, root)
            wire, cells, weight = decide(root, change, pending.last_touched)
        tags_after = name_version(root.tags, append.tag) if append.tag else root.tags
        version, birth, new_key = root.version + 1, None, None
        if first:
            birth = append.birth()
            new_key = pending.tag_key = self._new_key(stream, birth.expires, version)
            birth = pending.birth = replace(birth, expires=new_key.expires)
        elif append.rekeys and pending.new_key is None and stream.key is not None:
            new_key = self._new_key(stream, stream.key.expires, version)
        body = make_body(wire, append.actor, append.reason, append.type, append.extras(birth))
        packed = pack_body(body)
        if len(packed) > EVENT_BYTES_MAX:
            raise LimitExceeded("the event", len(packed), EVENT_BYTES_MAX, "bytes")

        pending.packed_bytes += len(packed)
        pending.new_key = new_key or pending.new_key
        key = pending.new_key or stream.key
        assert key is not None, "a stream has a key from its first event on"
        self.last_number, stored = stream.sealer.seal(key, version, time, packed, self.writer)
        if append.source and append.source.archives:
            last = append.source.archives[-1]
            self._turn.cut(stream.id, stream.first_own, (last.first, last.horizon), version)
        event_id = append.event_id
        id_of = None if event_id is None else id_tag(pending.tag_key or stream.tag_key, event_id)
        self._turn.append(stream.id, version, stored, pending.tags(change), id_of)

        record = Record(version, stored, stream.sealer, body)
        past = join(root.past, record.past) if append.source else root.past
        pending.advance(Root(version, time, cells, weight, tags_after, record, past), record)
        append.version = version

    def _new_key(self, stream: Stream, expires: int | None, version: int) -> DataKey:
        """Return a data key from a version on, kept before where a try failed."""
        ring = self._streams.ring
        kept = ring.keys(stream.id)
        epoch = max(kept, default=0)
        key = kept.get(epoch)
        if key is not None and key.since == version:
            return key
        if stream.is_erased and any(old and old.since < version for old in kept.values()):
            # Of a state that was erased by somebody who was killed before this was done.
            ring.destroy({stream.id: version - 1})
        return ring.new_key(stream.id, epoch + 1, version, expires)

    def commit(self) -> set[bytes]:
        """Make it durable, then visible; return the streams written to.

        Raises:
            StoreFailure: as a turn's ``commit`` does.
            OutcomeUnknown: it is durable, and what came of it can't be shown.
        """
        self._streams.ring.keep_new()
        started = perf_counter()
        written = self._turn.commit()
        self._count(written, perf_counter() - started)
        try:
            self._show(written)
        except Exception as error:
            for stream in self._pending:
                stream.freshness = -1  # it is read again, by whoever needs it next
            raise OutcomeUnknown(
                f"what was written can't be read ({error}); find out why, then retry with the same "
                "event id"
            ) from error
        return written

    def _show(self, written: Collection[bytes]) -> None:
        """Make what was committed visible."""
        ring = self._streams.ring
        for stream, pending in self._pending.items():
            if stream.id in written and pending.records:
                with stream.lock:
                    if pending.new_key is not None:
                        stream.load_keys(ring.keys(stream.id), pending.new_key.epoch)
                    self._streams.aids.history.observe(stream, pending.records)
                    self._streams.advance(stream, pending.root, pending.records)
                self._streams.aids.snapshots.consider(stream)

    def _count(self, written: set[bytes], seconds: float) -> None:
        """Count what was written."""
        tally, events = self._streams.tally, 0
        for stream, pending in self._pending.items():
            if stream.id in written:
                events += len(pending.records)
                tally.packed_bytes += pending.packed_bytes
                for record in pending.records:
                    kind = record.body[TYPE] if len(record.body) > TYPE else None
                    tally.events[kind or EventType.CHANGED] += 1
                    tally.stored_bytes += len(record.stored)
        tally.batch_events.note(events)
        tally.commit_seconds.note(seconds)


def _is_there(pending: Pending, append: Append, *, certainly: bool) -> bool:
    """Tell whether an event with the id of an append is there, and have the append say where."""
    if append.event_id is None:
        return False
    append.version = pending.find_id(append.event_id, certainly=certainly)
    return append.version > 0
