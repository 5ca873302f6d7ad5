"""What is derived of a stream, made again from its events, and held against what is kept of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from statecore.codec import Record
from statecore.codec.record import CLEARED, EVENT_ID
from statecore.errors import Damage
from statecore.packed import to_bytes
from statecore.recorders import Indexes
from statecore.recorders.sqlite.touches import Postings, add_posting, versions
from statecore.state import Root, changed_keys
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


def compare_rows(kept: Indexes, made: Indexes, since: int) -> Iterator[tuple[str, str, int]]:
    """Yield of each index what it is, what is wrong with it, if anything, and how many rows it has.

    Args:
        kept: the rows that are there.
        made: those that the events make.
        since: the first version concerned: of what was erased, tags stand for nothing any more.
    """
    for what, found, wanted in (
        ("the key history", _touches(kept), _touches(made)),
        ("the ids", {*kept.ids.items()}, {*made.ids.items()}),
    ):
        # Each has its version second; what stands there in place of one is nobody's.
        there = {row for row in found if type(row[1]) is not int or row[1] >= since}
        missing, extra = len(wanted - there), len(there - wanted)
        text = f"{missing} rows of {what} are missing or wrong, {extra} are not of its events"
        yield what, text if missing or extra else "", len(wanted)


def _touches(indexes: Indexes) -> set[tuple[object, ...]]:
    return {(*place, *row) for place, row in indexes.touches.items()}


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
