"""The body of a stored event: what is sealed, as msgpack, and the upcasters of older bodies.

The body is a tuple: operations, actor, reason, type, and a map of extras by one-letter names. Of
its end only as much is there as says something (docs/format.md).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

import msgpack

from statecore.codec.numbers import read_number
from statecore.codec.wire import STRIDE, Wire, read_change, rows
from statecore.events import Archive, Birth, Event, EventType, Kind, Moment, Past, event_id, to_time
from statecore.values import unpack

FORMAT: Final = 1  # On disk. Never renumber.

Body: TypeAlias = tuple[Any, ...]
Upcaster: TypeAlias = Callable[[Body], Body]

# From the body of format n to that of n + 1, one step at a time. Never remove one: the frozen
# vectors under tests/vectors hold a store to every format there ever was.
UPCASTERS: Final[Mapping[int, Upcaster]] = {}

# The entries of a body. On disk. Never renumber.
OPERATIONS: Final = 0
ACTOR: Final = 1
REASON: Final = 2
TYPE: Final = 3
EXTRAS: Final = 4
_ENTRIES: Final = 5

# The names of extras. On disk. Never rename.
EVENT_ID, METADATA, CAUSE, BIRTH, TAG, CLEARED = "i", "m", "c", "b", "t", "x"
PARENTS, PAST, TAKES_BACK, ARCHIVES = "p", "v", "u", "h"


class Headers(Protocol):
    """Reads the headers of stored events."""

    def writer_of(self, stored: bytes) -> tuple[bytes, int]:
        """Return the prefix of the writer of a stored event, and its number of the event."""


class Record:
    """A stored event, opened: as little work as replay needs, the rest when asked."""

    __slots__ = ("_headers", "body", "stored", "version")

    def __init__(self, version: int, stored: bytes, headers: Headers, body: Body) -> None:
        self.version = version
        self.stored = stored
        self._headers = headers
        self.body = body

    @property
    def time(self) -> int:
        """When it was recorded, in microseconds since 1970, UTC."""
        return read_time(self.stored)

    @property
    def operations(self) -> Wire:
        """The flat tuple of operations."""
        return self.body[OPERATIONS]  # type: ignore[no-any-return]

    @property
    def actor(self) -> str | None:
        """Who did it."""
        return self._entry(ACTOR)  # type: ignore[no-any-return]

    @property
    def reason(self) -> str | None:
        """Why."""
        return self._entry(REASON)  # type: ignore[no-any-return]

    @property
    def type(self) -> int:
        """The number of the event's type."""
        return self._entry(TYPE) or EventType.CHANGED

    @property
    def extras(self) -> Mapping[str, Any]:
        """What there is more to say, by one-letter names."""
        return self._entry(EXTRAS) or _NOTHING

    def _entry(self, at: int) -> Any:
        return self.body[at] if at < len(self.body) else None

    @property
    def event_id(self) -> str:
        """The id the caller chose, or the writer's own."""
        return self.extras.get(EVENT_ID) or event_id(*self._headers.writer_of(self.stored))

    @property
    def birth(self) -> Birth | None:
        """What the first event of a stream says of it."""
        birth = self.extras.get(BIRTH)
        return read_birth(birth) if birth else None

    @property
    def parents(self) -> tuple[Moment, ...]:
        """The moments of other branches that a merge took in."""
        return tuple(Moment(*parent) for parent in self.extras.get(PARENTS, ()))

    @property
    def past(self) -> Past:
        """All that came in with them, these moments themselves included."""
        return {(name, generation): at for name, generation, at in self.extras.get(PAST, ())}

    @property
    def is_clear(self) -> bool:
        """Whether it cleared the state before its operations."""
        return CLEARED in self.extras

    def touched_before(self, key: str) -> int | None:
        """Return the version that touched a key before this one did, 0 for none; ``None`` where
        this one did not."""
        for name, _, distance, _ in rows(self.operations):
            if name == key:
                return self.version - distance if distance else 0
        return None

    @property
    def archives(self) -> tuple[Archive, ...]:
        """All archives that bodies of the stream are in, oldest first; by an event that says so."""
        found = self.extras.get(ARCHIVES, ((), b""))[0]
        made = (Archive(*archive) for archive in found)
        return tuple(each._replace(event=each.event or self.version) for each in made)

    @property
    def horizon_root(self) -> bytes:
        """The state at the horizon of the last of them, packed."""
        return self.extras.get(ARCHIVES, ((), b""))[1]  # type: ignore[no-any-return]

    def event(self, agent_id: str, branch: str, position: int) -> Event:
        """Return the event for people to read."""
        extras = self.extras
        tag = extras.get(TAG)
        metadata = extras.get(METADATA)
        return Event(
            agent_id=agent_id,
            branch=branch,
            version=self.version,
            position=position,
            id=self.event_id,
            type=EventType(self.type),
            time=to_time(self.time),
            actor=self.actor,
            reason=self.reason,
            cause=extras.get(CAUSE),
            change=read_change(self.operations, cleared=self.is_clear),
            touched={
                key: self.version - distance if distance else 0
                for key, _, distance, _ in rows(self.operations)
            },
            metadata=unpack(metadata) if metadata else {},
            tag=(tag[0], tag[1]) if tag else None,
            parents=self.parents,
            takes_back=tuple(extras.get(TAKES_BACK, ())),
        )


_NOTHING: Final[Mapping[str, Any]] = {}


_NO_MORE: Final[tuple[Any, ...]] = (
    None,
    None,
    None,
    None,
    0,
    None,
    None,
)  # where a birth says less


def write_birth(birth: Birth) -> list[Any]:
    """Return a birth as an extra."""
    entries: list[Any] = [birth.agent_id, birth.branch, str(birth.kind), birth.expires]
    if birth.generation or birth.fork or birth.subject is not None:
        entries += [birth.generation, list(birth.fork) if birth.fork else None]
    if birth.subject is not None:
        entries.append(birth.subject)
    return entries


def read_birth(entries: Sequence[Any]) -> Birth:
    """Return the birth that an extra tells of."""
    agent_id, branch, kind, expires, generation, fork, subject = [
        *entries,
        *_NO_MORE[len(entries) :],
    ]
    origin = Moment(*fork) if fork else None
    return Birth(agent_id, branch, Kind(kind), expires, generation, origin, subject)


def read_time(stored: bytes) -> int:
    """Return the time in the header of a stored event, in microseconds since 1970, UTC."""
    at = read_number(stored, 1)[1]
    return int.from_bytes(stored[at : at + 7], "big")


def make_body(
    operations: Wire,
    actor: str | None = None,
    reason: str | None = None,
    type: int = EventType.CHANGED,  # noqa: A002 - the name of the field
    extras: Mapping[str, Any] | None = None,
) -> Body:
    """Return a body, without what says nothing at its end."""
    if extras:
        return (operations, actor, reason, None if type == EventType.CHANGED else type, extras)
    if type != EventType.CHANGED:
        return (operations, actor, reason, type)
    if reason is not None:
        return (operations, actor, reason)
    return (operations,) if actor is None else (operations, actor)


def pack_body(body: Body) -> bytes:
    """Pack a body."""
    return _packers.packer.pack(body)  # type: ignore[no-any-return]


class _Packers(threading.local):
    """One packer a thread: making one allocates a buffer that costs more than most packing."""

    def __init__(self) -> None:
        self.packer = msgpack.Packer()


_packers = _Packers()


def unpack_body(packed: bytes, number: int = FORMAT) -> Body:
    """Unpack a body of any format there ever was, in today's shape.

    Raises:
        ValueError: the bytes are no body.
    """
    try:
        body = msgpack.unpackb(packed, use_list=False)
    except (msgpack.UnpackException, OverflowError) as error:
        raise ValueError(f"not a packed body: {type(error).__name__}") from error
    if number != FORMAT:
        body = upcast(body, number, UPCASTERS, FORMAT)
    if type(body) is not tuple or not 0 < len(body) <= _ENTRIES or len(body[0]) % STRIDE:
        raise ValueError("not a body")
    return body


def upcast(body: Body, number: int, upcasters: Mapping[int, Upcaster], to: int) -> Body:
    """Turn an old body into today's, one step at a time."""
    for step in range(number, to):
        body = upcasters[step](body)
    return body
