"""A segment of a backup: events in a row, and all that is kept of each, as bytes. Pure.

    magic · extent 160 · Zstandard frame of a msgpack map · SHA-256 of all before

Its format is in docs/backup-format.md. What a segment says of its extent can be read without the
rest; only the whole proves it.
"""

from __future__ import annotations

import hmac
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import accumulate, pairwise
from typing import Any, Final

import msgpack
import zstandard

from statecore.codec.numbers import read_number
from statecore.errors import Damage, InputError
from statecore.recorders.sqlite.copying import Copied
from statecore.recorders.sqlite.schema import TOPIC

# On disk. Never renumber.
MAGIC: Final = b"statecore backup segment 1\n"
_EXTENT: Final = struct.Struct(">16s6Q32s32s32x")
PREFIX_BYTES: Final = len(MAGIC) + _EXTENT.size
_DIGEST_BYTES: Final = 32
_PREFIX_INLINE: Final = 0x01  # of an event's first byte: its writer's prefix is in it
_TIME_BYTES: Final = 7

EVENTS_MAX: Final = 1 << 16
BYTES_MAX: Final = 16 * 1024 * 1024  # a last event may go over it, by as much as an event may weigh
_CONTENT_BYTES_MAX: Final = 256 * 1024 * 1024
_LEVEL: Final = 3

_NAME: Final = re.compile(r"([0-9]{20})-([0-9]{20})\.segment")
_PACKED: Final = (
    "streams", "stream", "positions", "versions", "states", "tags", "touched", "ids", "topics",
    "writers", "heads", "tracking",
)  # fmt: skip


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """What a segment is called by: the positions that it goes on from, and comes to."""

    after: int
    last: int

    def __str__(self) -> str:
        return f"{self.after:020d}-{self.last:020d}.segment"


def parse_name(text: str) -> Name | None:
    """Return the name of a segment; ``None`` if it is none."""
    found = _NAME.fullmatch(text)
    if found is None:
        return None
    name = Name(int(found[1]), int(found[2]))
    return name if name.after < name.last else None


@dataclass(frozen=True, slots=True)
class Extent:
    """Which part of which log a segment is."""

    log_id: bytes
    after: int
    """The position of the last event before it; 0 of none."""
    last: int
    """The position of its last event."""
    size_before: int
    """Leaves of the audit tree before it."""
    size: int
    """Leaves of the audit tree, its own included."""
    first_time: int
    """Of its first event of ours, in microseconds since 1970, UTC; where it holds none, that of the
    last one before."""
    last_time: int
    root_before: bytes
    root: bytes
    """Of the audit tree of ``size`` leaves."""

    @property
    def name(self) -> Name:
        """What the segment must be called."""
        return Name(self.after, self.last)


@dataclass(slots=True)
class Content:
    """What a segment holds."""

    events: list[Copied]
    writers: dict[int, bytes] = field(default_factory=dict)
    """The prefixes of those who sealed its events, by number."""
    heads: list[tuple[int, bytes]] = field(default_factory=list)
    """Signed heads of trees that end within it, by size."""
    tracking: list[tuple[str, int]] = field(default_factory=list)
    """How far projections of other applications have come."""


def writers_of(events: Sequence[Copied]) -> set[int]:
    """Return the numbers of those who sealed events."""
    found = set()
    for event in events:
        if event.is_ours and event.stored and not event.stored[0] & _PREFIX_INLINE:
            try:
                at = read_number(event.stored, 1)[1] + _TIME_BYTES
                found.add(read_number(event.stored, at)[0])
            except (LookupError, ValueError):
                continue  # it is no event of ours, and is told of by whoever verifies
    return found


def write_segment(extent: Extent, content: Content) -> bytes:
    """Return a segment."""
    frame = zstandard.ZstdCompressor(level=_LEVEL).compress(_pack(extent, content))
    prefix = MAGIC + _EXTENT.pack(
        extent.log_id,
        extent.after,
        extent.last,
        extent.size_before,
        extent.size,
        extent.first_time,
        extent.last_time,
        extent.root_before,
        extent.root,
    )
    digest = sha256(prefix)
    digest.update(frame)
    return b"".join((prefix, frame, digest.digest()))


def _pack(extent: Extent, content: Content) -> bytes:
    events, streams, tags = content.events, dict[bytes | str, int](), dict[bytes, int]()
    positions = [extent.after, *(event.position for event in events)]
    body: dict[str, Any] = {
        "stream": [streams.setdefault(event.stream, len(streams)) for event in events],
        "positions": [last - first for first, last in pairwise(positions)],
        "versions": [event.version for event in events],
        "states": [event.stored for event in events],
        "touched": [[tags.setdefault(tag, len(tags)) for tag in e.tags] for e in events],
        "ids": {at: event.id_tag for at, event in enumerate(events) if event.id_tag is not None},
        "topics": {at: event.topic for at, event in enumerate(events) if not event.is_ours},
        "writers": content.writers,
        "heads": dict(content.heads),
        "tracking": dict(content.tracking),
        "streams": list(streams),
        "tags": list(tags),
    }
    packed: bytes = msgpack.packb({key: body[key] for key in _PACKED})
    return packed


def read_extent(prefix: bytes) -> Extent:
    """Return what a segment says of its extent, from its first ``PREFIX_BYTES``. Proves nothing.

    Raises:
        Damage: it is no segment.
    """
    if len(prefix) < PREFIX_BYTES or not prefix.startswith(MAGIC):
        raise Damage("is no segment, or of a newer format")
    return Extent(*_EXTENT.unpack_from(prefix, len(MAGIC)))


def read_segment(data: bytes) -> tuple[Extent, Content]:
    """Return a segment, whole.

    Raises:
        Damage: it is none, or not as it was written.
    """
    extent = read_extent(data[:PREFIX_BYTES])
    require_whole(data)
    try:
        frame = data[PREFIX_BYTES:-_DIGEST_BYTES]
        if not 0 < zstandard.frame_content_size(frame) <= _CONTENT_BYTES_MAX:
            raise Damage("claims to hold too much")
        unpacked = zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
        body = msgpack.unpackb(unpacked, strict_map_key=False)
        content = _unpack(extent, body)
    except (zstandard.ZstdError, msgpack.UnpackException) as error:
        raise Damage(f"does not parse: {error}") from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise Damage(f"does not parse: {error}") from error
    return extent, content


def require_whole(data: bytes) -> None:
    """Refuse a segment that is not as it was written.

    Raises:
        Damage: its digest does not fit.
    """
    digest = sha256(memoryview(data)[:-_DIGEST_BYTES]).digest()
    if len(data) <= PREFIX_BYTES or not hmac.compare_digest(digest, data[-_DIGEST_BYTES:]):
        raise Damage("is cut short or was changed: its digest does not fit")


def _unpack(extent: Extent, body: dict[str, Any]) -> Content:
    streams, tags = body["streams"], body["tags"]
    topics, ids = body["topics"], body["ids"]
    positions = list(accumulate(body["positions"], initial=extent.after))[1:]
    columns = body["stream"], body["versions"], body["states"], body["touched"]
    events = [
        Copied(
            position,
            streams[stream],
            version,
            topics.get(at, TOPIC),
            stored,
            [tags[tag] for tag in touched],
            ids.get(at),
        )
        for at, (position, stream, version, stored, touched) in enumerate(
            zip(positions, *columns, strict=True)
        )
    ]
    leaves = len(events) - len(topics)
    if not events or positions[-1] != extent.last or leaves != extent.size - extent.size_before:
        raise Damage("does not hold what it says")
    if any(type(event.stored) is not bytes for event in events):
        raise Damage("holds an event that is no bytes")
    heads = sorted(body["heads"].items())
    return Content(events, body["writers"], heads, sorted(body["tracking"].items()))


def head_name(size: int) -> str:
    """Return what the file of a signed head is called, of a tree of so many leaves."""
    if size < 0:
        raise InputError("a tree has no negative size")
    return f"{size:020d}.head"
