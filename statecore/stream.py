"""A stream: the keys, the current root and the tags of one agent's state on one branch.

Its root is replaced, never changed, so readers need no lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Protocol

from statecore.codec import Record, Sealer
from statecore.errors import Archived, Erased, Expired, KindMismatch, MissingActor
from statecore.events import Archive, Birth, EventType, Kind, Moment, to_time
from statecore.keys import DataKey
from statecore.keys.ring import LOG_EPOCH
from statecore.packed import Packed
from statecore.state import Root, empty

_TAGS_CACHED_MAX: Final = 100_000
STALE: Final = -2


MAIN: Final = "main"


class StreamName(NamedTuple):
    """Whose state, and on which branch; the generation tells those apart that had one name."""

    agent_id: str
    branch: str = MAIN
    generation: int = 0

    def __str__(self) -> str:
        return self.agent_id if self.branch == MAIN else f"{self.agent_id}@{self.branch}"


class Stream:
    """One stream, open. Only the sequencer and ``Streams.refresh`` set its root."""

    def __init__(self, name: StreamName, stream_id: bytes, keys: dict[int, DataKey | None]) -> None:
        self.name = name
        self.id = stream_id
        self.keys = keys  # by epoch; ``None`` where one was destroyed
        self.root: Root = empty()
        self.origin: Moment | None = None  # where it is to fork, until its first event says so
        self.parent: Stream | None = None  # which it shares its history with, up to its fork
        self.fork = 0
        self.has_lost_its_past = False  # what it forked from was erased
        self.birth: Birth | None = None
        self.archives: tuple[Archive, ...] = ()  # of its main branch, oldest first
        self.missing: tuple[Archive, ...] = ()  # those of them that are not at hand
        self.freshness = STALE
        self.key: DataKey | None = None  # of new events; none before the first and once erased
        self.is_erased = False
        self.is_shared = False
        self.expires: int | None = None  # microseconds since 1970, UTC
        self.guarded = False  # whether it must be asked before each reading
        self.weight_since_snapshot = 0
        self.snapshot_version = 0  # of the last one we know of
        self.lock = threading.Lock()
        self.sealer: Sealer
        self._tags: dict[str, bytes] = {}
        self._alive: list[DataKey] = []  # by epoch
        self._first = 0

    def load_keys(self, keys: Mapping[int, DataKey | None], current: int | None = None) -> None:
        """Know the log's key and these, and no others; the one of new events, where it is known.

        That is the one of the last event: a newer one that was kept may be of a turn that failed.
        """
        self.keys |= keys  # first, so that who reads at this moment misses none
        for epoch in self.keys.keys() - keys.keys() - {LOG_EPOCH}:
            del self.keys[epoch]
        self._tags.clear()
        alive = [key for epoch, key in sorted(self.keys.items()) if key and epoch != LOG_EPOCH]
        self._alive = alive
        self._first = min((key.since for key in alive), default=0)
        self.use_key(max(self.keys) if current is None else current)

    def use_key(self, epoch: int) -> None:
        """Seal new events with the key of an epoch; with none, if that was destroyed."""
        self.key = self.keys.get(epoch) if epoch != LOG_EPOCH else None

    @property
    def first_version(self) -> int:
        """The first version that can be read: those before were erased."""
        return self.first_own if self.parent is None else self.parent.first_version

    @property
    def first_own(self) -> int:
        """The first version of its own, that no parent has."""
        return self._first or self.root.version + 1

    @property
    def horizon(self) -> int:
        """The version before which events are in archives that are not at hand; 0 for none.

        Of a fork, that of what it shares: only main branches are archived, and its own events are
        all here.
        """
        if self.parent is not None:
            return min(self.parent.horizon, self.fork + 1)
        missing = self.missing
        return missing[-1].horizon if missing else 0

    def horizon_before(self, version: int) -> int:
        """Return the last horizon up to a version, whether what is before is at hand or not.

        The state there stands in an event, so that no archive is needed for what is behind it.
        """
        if self.parent is not None:
            return self.parent.horizon_before(min(version, self.fork))
        last = self.archives[-1].horizon if self.archives else 0
        return last if last <= version else self.horizon

    @property
    def first_here(self) -> int:
        """The first version whose event is here."""
        return max(self.first_version, self.horizon)

    def require_here(self, version: int) -> None:
        """Refuse a version before those that are here.

        Raises:
            Archived: names the archive, and the first version there is.
        """
        owner = self.owner(version)
        missing = owner.missing
        name = next((each.name for each in missing if version < each.horizon), None)
        if name is not None:
            first = missing[-1].horizon
            raise Archived(
                f"{self.name}: version {version} was archived in {name}, the first one here is "
                f"{first}: to read before, give its archives (archives=, STATECORE_ARCHIVES)",
                name,
                first,
            )

    @property
    def is_settled_empty(self) -> bool:
        """Whether it was found without any event before, and is no fork."""
        return self.freshness != STALE and self.key is None and self.origin is None

    @property
    def nature(self) -> Birth | None:
        """What its first event says of it, or will: a fork takes after its parent."""
        return self.birth or (self.parent.nature if self.parent else None)

    def owner(self, version: int) -> Stream:
        """Return the stream whose event a version is: itself, or one it forked from."""
        stream = self
        while stream.parent is not None and version <= stream.fork:
            stream = stream.parent
        return stream

    def descends_from(self, stream_id: bytes) -> bool:
        """Tell whether it shares history with a stream."""
        parent = self.parent
        while parent is not None and parent.id != stream_id:
            parent = parent.parent
        return parent is not None

    @property
    def tag_key(self) -> DataKey:
        """The data key that makes the tags: the oldest there is, whatever keys came after it."""
        return self._alive[0]

    def tag(self, key: str) -> bytes:
        """Return the tag that stands for a key in indexes."""
        tag = self._tags.get(key)
        if tag is None:
            if len(self._tags) >= _TAGS_CACHED_MAX:
                self._tags.clear()
            tag = self._tags[key] = key_tag(self.tag_key, key)
        return tag

    def require_readable(self, now: int) -> None:
        """Refuse to read what was erased or has expired, rather than to show it as empty.

        Raises:
            Expired, Erased: says which.
        """
        if self.has_lost_its_past:
            raise Erased(f"{self.name}: what it forked from was erased; nothing of it is left")
        if self.is_erased:
            when = to_time(self.root.time)
            raise Erased(f"{self.name} was erased at {when}; writing to it starts anew")
        if self.has_expired(now):
            raise Expired(f"{self.name} has expired; writing to it starts anew")

    def require_kind(self, wanted: Kind | None, actor: str | None) -> None:
        """Refuse to write to a state of another kind, or to a shared one without saying who.

        Raises:
            KindMismatch, MissingActor: says which.
        """
        kind = self.nature.kind if self.nature else wanted
        if wanted is not None and kind != wanted:
            raise KindMismatch(f"{self.name} is {kind}, not {wanted}")
        if kind == Kind.SHARED and actor is None:
            raise MissingActor(f"{self.name} is shared: say who writes, with actor=")

    def settle(self) -> None:
        """Note whether the state is over, or may be, after its root or its birth changed."""
        last = self.root.last
        self.is_erased = self.has_lost_its_past or (
            self.root.version > 0
            and (
                (self.key is None and self.parent is None)
                or (last is not None and last.type == EventType.ERASED)
            )
        )
        birth = self.nature
        self.expires = birth.expires if birth and not self.is_erased else None
        self.guarded = self.is_erased or self.expires is not None
        self.is_shared = birth is not None and birth.kind == Kind.SHARED

    def has_expired(self, now: int) -> bool:
        """Tell whether its time to live has ended."""
        return self.expires is not None and self.expires <= now


def key_tag(data_key: DataKey, key: str) -> bytes:
    """Return the tag that stands for a key of a state in indexes."""
    return data_key.tag(b"k" + key.encode())


def id_tag(data_key: DataKey, event_id: str) -> bytes:
    """Return the tag that stands for the id of an event in indexes."""
    return data_key.tag(b"i" + event_id.encode())


def clear_tag(data_key: DataKey) -> bytes:
    """Return the tag that stands for all keys at once."""
    return data_key.tag(b"c")


class KeyHistory(Protocol):
    """Which versions touched a key. A clear touches every key at once and is asked for apart."""

    @property
    def refuses_known_ids(self) -> bool:
        """Whether a turn commits nothing where the id of one of its events is there already."""

    def last_touched(self, stream: Stream, key: str, at: int) -> tuple[int, int]:
        """Return the last version up to ``at`` that touched a key, 0 for none, and a version from
        ``at`` on until which it certainly is the last."""

    def touched(self, stream: Stream, key: str, after: int, until: int) -> list[int]:
        """Return the versions that touched a key, oldest first."""

    def last_cleared(self, stream: Stream, at: int) -> int:
        """Return the last version up to ``at`` that cleared the state; 0 for none."""

    def cleared(self, stream: Stream, after: int, until: int) -> list[int]:
        """Return the versions that cleared the state, oldest first."""

    def find_id(self, stream: Stream, event_id: str) -> int:
        """Return the version of the event with an id that its caller chose; 0 for none."""

    def observe(self, stream: Stream, records: Iterable[Record]) -> None:
        """Take in events as they are folded, in order."""

    def forget(self, stream_id: bytes) -> None:
        """Forget a stream, whose events will be folded anew, or can't be read any more."""


class Snapshots(Protocol):
    """Roots kept to shorten replay."""

    def load(self, stream: Stream, until: int) -> Root | None:
        """Return the latest kept root up to a version."""

    def consider(self, stream: Stream) -> None:
        """Keep the current root, if events since the last kept one weigh as much as it does."""


class Roots(Protocol):
    """Roots of past versions, kept warm."""

    def nearest(self, stream_id: bytes, version: int) -> Root | None:
        """Return the latest one up to a version."""

    def keep(self, stream_id: bytes, root: Root) -> None:
        """Keep one."""

    def forget(self, stream_id: bytes) -> None:
        """Forget a stream, whose data key was destroyed."""


class Values(Protocol):
    """Values of keys over intervals of versions, kept warm."""

    def find(self, stream_id: bytes, key: str, version: int) -> tuple[bool, Packed | None]:
        """Return whether the value at a version is known, and the value."""

    def keep(
        self, stream_id: bytes, key: str, interval: tuple[int, int], packed: Packed | None
    ) -> None:
        """Remember a value from one version to another, both inclusive."""

    def forget(self, stream_id: bytes) -> None:
        """Forget a stream, whose data key was destroyed."""


class Aids(NamedTuple):
    """What makes answers faster. Never truth: each can be lost and had again from the log."""

    history: KeyHistory
    snapshots: Snapshots
    roots: Roots
    values: Values
