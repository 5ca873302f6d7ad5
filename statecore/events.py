"""The event: one recorded change of one agent's state, with who, when and why.

Types are named in the past tense. The registry is fixed: a stored record only ever says a small
number, and never the name of anything to import.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from statecore.change import EMPTY, Change
from statecore.values import Value, printable

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_UUID_VERSION: Final = 8
_VERSION_AT: Final = 14  # where the text of a UUID says its version


class EventType(IntEnum):
    """What happened. On disk. Never renumber."""

    CHANGED = 1  # operations on keys
    TAGGED = 2  # a version got a name, or lost it
    ERASED = 3  # the data key was destroyed; the state starts anew after it
    MERGED = 4  # what another branch did came in
    REVERTED = 5  # the effect of events was taken back
    UNDONE = 6  # the same, of an actor's last act
    REDONE = 7  # an undoing was taken back
    PICKED = 8  # what single events of another branch did was done here, too
    RESTORED = 9  # the state became what it was at a version
    RESOLVED = 10  # a conflict was decided
    REKEYED = 11  # from here on new events are sealed with a new data key
    ARCHIVED = 12  # the bodies of events before a version were moved to an archive


EXPIRED: Final = "its time to live ended"  # why, in the event that says that a state was erased


class Kind(StrEnum):
    """How long a state lives and who writes it. On disk. Never rename."""

    PERSISTENT = "persistent"  # durable when the call returns
    RUNTIME = "runtime"  # in memory only, gone with the process, never on a disk
    SHARED = "shared"  # one state written by many; every event says by whom
    TEMPORARY = "temporary"  # has a time to live; at its end the data key is destroyed


class Moment(NamedTuple):
    """A version of a branch. The generation tells branches apart that had a name in turn."""

    branch: str
    generation: int
    version: int

    @property
    def line(self) -> Line:
        """Which branch it is."""
        return self.branch, self.generation


Line: TypeAlias = tuple[str, int]
"""A branch, by name and generation."""

Past: TypeAlias = Mapping[Line, int]
"""What a state has taken in of each branch: all events up to a version (a version vector)."""


class Archive(NamedTuple):
    """Which bodies went to an archive, and to which."""

    first: int
    """The first version whose body is there."""
    horizon: int
    """The version before which they are."""
    event: int
    """The version of the event that said so first; in that event itself 0."""
    name: str
    """That the file had when it was made."""
    digest: bytes
    """SHA-256 of the file."""


def covers(archives: Sequence[Archive], first: int, last: int) -> bool:
    """Tell whether the bodies of all versions from one to another went to archives.

    Of all archives of a state, oldest first, of which each goes on where the one before ends.
    """
    return bool(archives) and archives[0].first <= first and last < archives[-1].horizon


def join(one: Past, other: Past) -> Past:
    """Return the past that holds both."""
    if not other:
        return one
    return {line: max(one.get(line, 0), other.get(line, 0)) for line in {**one, **other}}


def meet(one: Past, other: Past) -> Past:
    """Return the past that both have in common."""
    return {line: min(one[line], other[line]) for line in one.keys() & other.keys()}


@dataclass(frozen=True, slots=True)
class Birth:
    """What the first event of a stream says of it."""

    agent_id: str
    branch: str
    kind: Kind
    expires: int | None = None  # microseconds since 1970, UTC
    generation: int = 0
    fork: Moment | None = None  # where it began, if it is a fork
    subject: str | None = None  # whose personal data it holds


@dataclass(frozen=True, slots=True)
class Event:
    """One immutable, atomic state transition, as it was recorded.

    ``touched`` names, for each key, the version that last touched it before this event (0: none),
    ``position`` is the place in the whole log, ``metadata`` whatever the writer added. ``parents``
    are the moments of other branches that came in, ``takes_back`` the versions of the
    events whose effect this one undid.
    """

    agent_id: str
    branch: str
    version: int
    position: int
    id: str
    type: EventType
    time: datetime
    actor: str | None = None
    reason: str | None = None
    cause: str | None = None
    change: Change = EMPTY
    touched: Mapping[str, int] = field(default_factory=dict)
    metadata: Mapping[str, Value] = field(default_factory=dict)
    tag: tuple[str, int | None] | None = None
    parents: tuple[Moment, ...] = ()
    takes_back: tuple[int, ...] = ()
    is_filtered: bool = False
    """Whether there is more to it, such as keys, that the handle it was read by may not see."""

    def __str__(self) -> str:
        who = f" {printable(self.actor)}" if self.actor else ""
        why = f" ({printable(self.reason)})" if self.reason else ""
        what = f"tag {printable(self.tag[0])}" if self.tag else "\n".join(self.change.lines("  "))
        return f"{self.version} {self.time:%Y-%m-%d %H:%M:%S}{who}{why}\n{what}".rstrip()


def event_id(prefix: bytes, sequence: int) -> str:
    """Return the id of the event a writer numbered so: a UUID of version 8 (RFC 9562).

    The prefix is the writer's random 12 bytes, so ids never meet and cost a number to store.
    """
    raw = bytearray(prefix + sequence.to_bytes(4, "big"))
    raw[6] = 0x80 | raw[6] & 0x0F
    raw[8] = 0x80 | raw[8] & 0x3F
    return str(UUID(bytes=bytes(raw)))


def is_own_id(text: str) -> bool:
    """Tell whether an id looks like one that ``event_id`` returns."""
    if text[_VERSION_AT : _VERSION_AT + 1] != "8":
        return False  # as most do not, and parsing takes longer
    try:
        return UUID(text).version == _UUID_VERSION
    except ValueError:
        return False


def to_time(microseconds: int) -> datetime:
    """Return the moment that many microseconds after 1970, UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


def to_microseconds(moment: datetime) -> int:
    """Return the microseconds since 1970, UTC, of an aware datetime."""
    return (moment - _EPOCH) // _MICROSECOND
