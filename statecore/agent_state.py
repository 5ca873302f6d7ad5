"""An agent's state at one version: a mapping to read, and who made it so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from statecore.change import Change, Patch
from statecore.conflict import find_unresolved
from statecore.errors import Path
from statecore.events import Event, Kind, to_time
from statecore.operations import Operation, Splice, put_or_remove
from statecore.packed import Packed, split_list, split_map, thaw, to_bytes
from statecore.state import Root, changed_keys
from statecore.values import Unresolved, Value


class AgentState(Mapping[str, Value]):
    """The whole state of an agent at a version.

    Reading a key gives a fresh value, which is yours to change; nothing you do changes the state.
    Keys come in alphabetical order. Keys that the handle it comes from may not read are left
    out, as if they were not there; ``is_filtered`` says that some are.
    """

    __slots__ = ("_load", "_root", "_sees", "branch", "generation", "id", "kind")

    def __init__(
        self,
        agent_id: str,
        branch: str,
        kind: Kind | None,
        root: Root,
        load: Callable[[Root], Event | None],
        sees: Callable[[str], bool] | None = None,
        generation: int = 0,
    ) -> None:
        self.id = agent_id
        self.branch = branch
        self.generation = generation
        """Which of the branches it is that had this name in turn."""
        self.kind = kind
        self._root = root
        self._load = load
        self._sees = sees

    @property
    def version(self) -> int:
        """The number of the last event this state holds; 0 before the first."""
        return self._root.version

    @property
    def timestamp(self) -> datetime | None:
        """When the last event was recorded, in UTC; ``None`` before the first."""
        return to_time(self._root.time) if self._root.version else None

    @property
    def event(self) -> Event | None:
        """The event that led here, read now: who, why and what; ``None`` before the first.

        ``None``, too, where all it did may not be read.
        """
        return self._load(self._root) if self._root.version else None

    @property
    def is_filtered(self) -> bool:
        """Whether there are keys that may not be read, and are left out."""
        return self._sees is not None and not all(map(self._sees, self._root.cells))

    @property
    def data(self) -> dict[str, Value]:
        """All keys and values, fresh."""
        return dict(self)

    @property
    def metadata(self) -> dict[str, Any]:
        """Who made this version, why, and whatever the writer added."""
        event = self.event
        if event is None:
            return {}
        known = {
            "event_id": event.id,
            "actor": event.actor,
            "reason": event.reason,
            "cause": event.cause,
        }
        return {**event.metadata, **known}

    @property
    def touched(self) -> frozenset[str]:
        """The keys that the last event touched, where that event was at hand; else none."""
        last = self._root.last
        touched = changed_keys([last]) if last is not None else ()
        return frozenset(touched if self._sees is None else filter(self._sees, touched))

    @property
    def root(self) -> Root:
        """What it is made of."""
        return self._root

    def packed(self, key: str) -> Packed | None:
        """Return the packed value of a key, the same object as long as nobody touches the key."""
        cell = self._root.cells.get(key)
        return cell[1] if cell and (self._sees is None or self._sees(key)) else None

    @property
    def conflicts(self) -> dict[Path, Unresolved]:
        """What is in conflict, by path: what sides made of it, and what they started from."""
        return {
            path: unresolved
            for key in self
            for path, unresolved in find_unresolved(self._root.cells[key][1], (key,))
        }

    def decided(self, key: str, path: Path, packed: Packed | None) -> Change:
        """Return the change that puts a packed value at a path within a key's value."""
        return Change({key: _nested(to_bytes(self._root.cells[key][1]), path, packed)})

    def __getitem__(self, key: str) -> Value:
        packed = self._root.cells[key][1]
        if self._sees is not None and not self._sees(key):
            raise KeyError(key)
        return thaw(packed)

    def __iter__(self) -> Iterator[str]:
        keys: Iterable[str] = self._root.cells
        return iter(sorted(keys if self._sees is None else filter(self._sees, keys)))

    def __len__(self) -> int:
        return len(self._root.cells) if self._sees is None else sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        return key in self._root.cells and (self._sees is None or self._sees(str(key)))

    def __repr__(self) -> str:
        return f"<AgentState {self.id} version {self.version}: {len(self)} keys>"


def _nested(inside: bytes, path: Path, packed: Packed | None) -> Operation:
    """Return the operation that puts a value at a path within another."""
    if not path:
        return put_or_remove(packed)
    place, *rest = path
    if isinstance(place, str):
        field = split_map(inside)[place]
        return Patch(Change({place: _nested(field, tuple(rest), packed)}))
    item = _nested(split_list(inside)[place], tuple(rest), packed).apply(split_list(inside)[place])
    return Splice(place, 1, 0 if item is None else 1, b"" if item is None else to_bytes(item))
