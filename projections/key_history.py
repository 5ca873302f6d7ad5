"""The key history: which versions touched a key, by keyed tags that tell nothing of its name.

Where the log keeps indexes they are written in the same transaction as the events; elsewhere the
history is folded from the events in memory. Both answer alike.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable

from statecore.codec import Record
from statecore.codec.record import CLEARED, EVENT_ID
from statecore.recorders import KeptHistory, last_of
from statecore.state import changed_keys
from statecore.stream import Stream, clear_tag, id_tag


class StoredKeyHistory:
    """The history that the log keeps."""

    refuses_known_ids = True

    def __init__(self, kept: KeptHistory) -> None:
        self._kept = kept

    def last_touched(self, stream: Stream, key: str, at: int) -> tuple[int, int]:
        return self._kept.last_touched(stream.id, stream.tag(key), at)

    def touched(self, stream: Stream, key: str, after: int, until: int) -> list[int]:
        return self._kept.touched(stream.id, stream.tag(key), after, until)

    def last_cleared(self, stream: Stream, at: int) -> int:
        return self._kept.last_touched(stream.id, clear_tag(stream.tag_key), at)[0]

    def cleared(self, stream: Stream, after: int, until: int) -> list[int]:
        return self._kept.touched(stream.id, clear_tag(stream.tag_key), after, until)

    def find_id(self, stream: Stream, event_id: str) -> int:
        return self._kept.find_id(stream.id, id_tag(stream.tag_key, event_id))

    def observe(self, stream: Stream, records: Iterable[Record]) -> None:
        """Nothing to take in: it was written with the events."""

    def forget(self, stream_id: bytes) -> None:
        """Nothing to forget: tags of a key that was destroyed stand for nothing."""


class _Folded:
    """The history of one stream."""

    def __init__(self) -> None:
        self.version = 0
        self.touches: defaultdict[str, list[int]] = defaultdict(list)
        self.clears: list[int] = []
        self.ids: dict[str, int] = {}

    def take_in(self, record: Record) -> None:
        if record.version <= self.version:
            return
        self.version = record.version
        if CLEARED in record.extras:
            self.clears.append(record.version)
        if EVENT_ID in record.extras:
            self.ids[record.extras[EVENT_ID]] = record.version
        for key in changed_keys([record]):
            self.touches[key].append(record.version)


class FoldedKeyHistory:
    """The history folded in memory, from every event the engine opens."""

    refuses_known_ids = False

    def __init__(self) -> None:
        self._streams: defaultdict[bytes, _Folded] = defaultdict(_Folded)

    def last_touched(self, stream: Stream, key: str, at: int) -> tuple[int, int]:
        return last_of(self._streams[stream.id].touches.get(key, []), at)

    def touched(self, stream: Stream, key: str, after: int, until: int) -> list[int]:
        return _between(self._streams[stream.id].touches.get(key, []), after, until)

    def cleared(self, stream: Stream, after: int, until: int) -> list[int]:
        return _between(self._streams[stream.id].clears, after, until)

    def last_cleared(self, stream: Stream, at: int) -> int:
        return last_of(self._streams[stream.id].clears, at)[0]

    def find_id(self, stream: Stream, event_id: str) -> int:
        return self._streams[stream.id].ids.get(event_id, 0)

    def observe(self, stream: Stream, records: Iterable[Record]) -> None:
        folded = self._streams[stream.id]
        for record in records:
            folded.take_in(record)

    def forget(self, stream_id: bytes) -> None:
        self._streams.pop(stream_id, None)


def _between(versions: list[int], after: int, until: int) -> list[int]:
    return versions[bisect_right(versions, after) : bisect_right(versions, until)]
