"""The indexes of a stream made again from its events: which versions touched a key, and the ids."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from statecore.codec import Record
from statecore.codec.record import CLEARED, EVENT_ID
from statecore.errors import Damage
from statecore.recorders import Indexes
from statecore.recorders.sqlite.touches import Postings, add_posting, versions
from statecore.state import changed_keys
from statecore.stream import Stream, clear_tag, id_tag


class Recount:
    """What the indexes of one stream are to hold, by tags that tell nothing of keys and ids."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._touches: dict[bytes, list[Postings]] = {}
        self._ids: dict[bytes, int] = {}

    def go_on(self, kept: Indexes, since: int, until: int) -> None:
        """Go on from what is kept of versions from one up to another, whose events are not here."""
        rows = (row for row in kept.touches.items() if type(row[0][1]) is int)
        for (tag, first), postings in sorted(rows):
            with suppress(Damage, TypeError):  # such a row is not gone on from, and so replaced
                for version in versions(first, *postings):
                    if since <= version <= until:
                        self._touch(tag, version)
        known = ((tag, at) for tag, at in kept.ids.items() if type(at) is int)
        self._ids |= {tag: at for tag, at in known if since <= at <= until}

    def take_in(self, records: Iterable[Record]) -> None:
        """Take in events, in order."""
        stream = self._stream
        for record in records:
            for key in changed_keys([record]):
                self._touch(stream.tag(key), record.version)
            if CLEARED in record.extras:
                self._touch(clear_tag(stream.tag_key), record.version)
            if EVENT_ID in record.extras:
                tag = id_tag(stream.tag_key, record.extras[EVENT_ID])
                self._ids[tag] = record.version

    def _touch(self, tag: bytes, version: int) -> None:
        rows = self._touches.setdefault(tag, [])
        last = rows[-1] if rows else None
        postings = add_posting(last, version)
        if last is not None and postings[0] == last[0]:
            rows[-1] = postings
        else:
            rows.append(postings)

    def indexes(self) -> Indexes:
        """Return what the indexes are to hold."""
        touches = {
            (tag, first): (count, distances)
            for tag, rows in self._touches.items()
            for first, _, count, distances in rows
        }
        return Indexes(touches, self._ids)
