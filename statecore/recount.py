"""The indexes of a stream made again from its events: which versions touched a key, and the ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from statecore.codec import Record
from statecore.codec.record import CLEARED, EVENT_ID
from statecore.recorders.sqlite.touches import Postings, add_posting
from statecore.state import changed_keys
from statecore.stream import Stream, clear_tag, id_tag


@dataclass(slots=True)
class Recount:
    """What the indexes of one stream are to hold, by tags that tell nothing of keys and ids."""

    touches: dict[bytes, list[Postings]] = field(default_factory=dict)
    ids: dict[bytes, int] = field(default_factory=dict)

    def take_in(self, stream: Stream, records: Iterable[Record]) -> None:
        """Take in events, in order."""
        for record in records:
            tags = [stream.tag(key) for key in changed_keys([record])]
            if CLEARED in record.extras:
                tags.append(clear_tag(stream.tag_key))
            for tag in tags:
                self._touch(tag, record.version)
            if EVENT_ID in record.extras:
                self.ids[id_tag(stream.tag_key, record.extras[EVENT_ID])] = record.version

    def _touch(self, tag: bytes, version: int) -> None:
        rows = self.touches.setdefault(tag, [])
        last = rows[-1] if rows else None
        postings = add_posting(last, version)
        if last is not None and postings[0] == last[0]:
            rows[-1] = postings
        else:
            rows.append(postings)

    @property
    def rows(self) -> dict[tuple[bytes, int], tuple[int, bytes]]:
        """The rows of the key history: count and distances, by tag and first version."""
        return {
            (tag, first): (count, distances)
            for tag, postings in self.touches.items()
            for first, _, count, distances in postings
        }


def recount(stream: Stream, records: Sequence[Record]) -> Recount:
    """Return what the indexes of a stream are to hold, from all its events that can be read."""
    made = Recount()
    made.take_in(stream, records)
    return made
