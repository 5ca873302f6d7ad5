"""What takes how many bytes in a store: by table, by state, and by key within a state."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from statecore.codec.wire import rows
from statecore.errors import DamagedRecord, Erased, InputError, NewerFormat
from statecore.packed import to_bytes
from statecore.recorders import EVERYTHING
from statecore.stream import Stream, StreamName
from statecore.streams import Streams

_PAGE = 500


@dataclass(frozen=True, slots=True)
class StateSize:
    """What one state takes."""

    agent_id: str | None
    """``None`` where its first event can't be opened: it was erased, or is damaged."""
    branch: str
    stream: str
    """Its pseudonym, as it stands in the file."""
    events: int
    archived: int
    """Of these, whose bodies are in archives."""
    events_bytes: int
    snapshots_bytes: int
    history_bytes: int
    """Of the key history, which tells which events touched a key."""

    @property
    def bytes_in_all(self) -> int:
        """All of it together."""
        return self.events_bytes + self.snapshots_bytes + self.history_bytes


@dataclass(frozen=True, slots=True)
class KeySize:
    """What one key of a state takes."""

    key: str
    now_bytes: int
    """Of its value as it is, before compression; 0 where it is not there any more."""
    events: int
    """That touched it."""
    events_bytes: int
    """Of what these did to it, before compression."""


@dataclass(slots=True)
class StoreSizes:
    """What takes how many bytes in a store."""

    tables: dict[str, int] = field(default_factory=dict)
    free: int = 0
    """In pages that are not used: what compacting gives back at least."""
    states: list[StateSize] = field(default_factory=list)
    """The largest first."""


def measure(streams: Streams) -> StoreSizes:
    """Return what takes how many bytes in a store's file.

    Raises:
        InputError: it has none.
    """
    upkeep = streams.log.upkeep
    if upkeep is None:
        raise InputError("this store has no file to be measured")
    sizes = upkeep.sizes()
    found = []
    for stream, (events, *in_bytes) in sizes.streams.items():
        try:
            birth = streams.birth_of(stream)
        except (DamagedRecord, Erased, NewerFormat):
            birth = None
        who, branch = (birth.agent_id, birth.branch) if birth else (None, "")
        found.append(StateSize(who, branch, stream.hex(), events, *in_bytes))
    found.sort(key=lambda each: -each.bytes_in_all)
    return StoreSizes(sizes.tables, sizes.free, found)


def measure_keys(streams: Streams, name: StreamName) -> list[KeySize]:
    """Return what each key of a state takes, and took, the largest first; of events that are here.

    Raises:
        DamagedRecord, Erased: its events can't be read.
    """
    stream = streams.open(name)
    root = streams.refresh(stream)
    events: Counter[str] = Counter()
    in_bytes: Counter[str] = Counter()
    version = max(stream.first_own - 1, stream.horizon)
    while found := _rows_after(streams, stream, version):
        for version, _, stored in found:
            for key, _, _, argument in rows(stream.sealer.open(version, stored).operations):
                events[key] += 1
                in_bytes[key] += len(key) + _weight(argument)
    sizes = []
    for key in events.keys() | root.cells.keys():
        cell = root.cells.get(key)
        now = len(to_bytes(cell[1])) if cell else 0
        sizes.append(KeySize(key, now, events[key], in_bytes[key]))
    return sorted(sizes, key=lambda each: (-each.events_bytes, each.key))


def _rows_after(streams: Streams, stream: Stream, version: int) -> list[tuple[int, int, bytes]]:
    return streams.log.read(stream.id, version, EVERYTHING, _PAGE)


def _weight(argument: object) -> int:
    """Return the bytes in the argument of an operation."""
    match argument:
        case bytes() | str():
            return len(argument)
        case tuple() | list():
            return sum(map(_weight, argument))
    return 1
