"""Where the parts of a checkpoint stand in a thread's state. Pure.

A thread is an agent. The channels of its graph are keys of that name; what else a checkpoint says
stands under keys of our own, and so do the channels of subgraphs:

    lg:checkpoint[/namespace]          the checkpoint, but for its channels' values
    lg:writes[/namespace]              what tasks wrote since one of them, which it names
    lg:late/id[/namespace]             what they wrote when others had come after theirs
    lg:channel/namespace/name          a channel of a subgraph
    lg:run/id                          there are checkpoints of a run
    lg:hidden                          which checkpoints were deleted or pruned
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, unquote
from uuid import UUID

from statecore.agent_state import AgentState
from statecore.change import Change, Patch
from statecore.operations import REMOVE, Operation, Put
from statecore.packed import thaw, to_bytes
from statecore.values import Value, pack, same

# On disk. Never rename.
_OURS: Final = "lg:"
HIDDEN: Final = _OURS + "hidden"
_CHECKPOINT: Final = _OURS + "checkpoint"

_NOTHING: Final = object()
_FIXED: Final = frozenset({str, int})  # what is the same object is the same value
_KNOWN_MAX: Final = 512
_known: Final[dict[bytes, tuple[dict[str, Any], Envelope]]] = {}  # what was read last, by bytes
_VERSION_WITH_TIME: Final = 6
_GREGORIAN: Final = datetime(1582, 10, 15, tzinfo=UTC)  # from which such UUIDs count
_MICROSECOND: Final = timedelta(microseconds=1)


def checkpoint_key(namespace: str) -> str:
    """Return the key of a namespace's checkpoint."""
    return f"{_CHECKPOINT}/{namespace}" if namespace else _CHECKPOINT


def namespace_of(key: str) -> str | None:
    """Return the namespace whose checkpoint stands under a key; ``None`` of any other key."""
    if key == _CHECKPOINT:
        return ""
    return key[len(_CHECKPOINT) + 1 :] if key.startswith(_CHECKPOINT + "/") else None


def writes_key(namespace: str) -> str:
    """Return the key of what tasks wrote since a namespace's checkpoint."""
    return f"{_OURS}writes/{namespace}" if namespace else _OURS + "writes"


def late_key(namespace: str, checkpoint_id: str) -> str:
    """Return the key of what tasks wrote after a checkpoint that others came after."""
    key = f"{_OURS}late/{checkpoint_id}"
    return f"{key}/{namespace}" if namespace else key


def channel_key(namespace: str, name: str) -> str:
    """Return the key of a channel."""
    if not namespace and not name.startswith(_OURS):
        return name
    return f"{_OURS}channel/{quote(namespace, safe=':|-')}/{name}"


def run_key(run_id: str) -> str:
    """Return the key that says that there are checkpoints of a run."""
    return f"{_OURS}run/{quote(run_id)}"


def runs_in(state: AgentState) -> set[str]:
    """Return the runs that there are checkpoints of."""
    prefix = run_key("")
    return {unquote(key.removeprefix(prefix)) for key in state if key.startswith(prefix)}


@dataclass(frozen=True, slots=True)
class Envelope:
    """A checkpoint, but for its channels' values, as it is recorded."""

    id: str
    parent: str | None
    channels: list[str]  # those that have values
    rest: dict[str, Any]  # of the checkpoint, as values
    metadata: dict[str, Any]  # as values
    newest: str | None = None  # the greatest id of the branch, once it was not the last one
    _fields: dict[str, Any] = field(default_factory=dict, init=False, compare=False, repr=False)

    def fields(self) -> dict[str, Any]:
        """Return it as a value: each step records those fields, of any depth, that changed."""
        if not self._fields:  # asked for twice: to record it, and to know it again
            self._fields.update(self._made_fields())
        return self._fields

    def _made_fields(self) -> dict[str, Any]:
        rest = dict(self.rest)
        # The id as it stands in the event's own id, too, so that it compresses to nothing.
        parent = None if self.parent is None else tight(self.parent)
        fields = {
            "h": [self.id, parent, _tight_time(rest.pop("ts", None), self.id)],
            "v": rest.pop("channel_versions", {}),
            "s": rest.pop("versions_seen", {}),
            "u": rest.pop("updated_channels", None),
            "c": self.channels,
            "r": rest,
            "m": self.metadata,
        }
        if fields["u"] == _last_updated(fields["v"]):
            fields["u"] = True
        return fields if self.newest is None else {**fields, "n": self.newest}

    @classmethod
    def of(cls, state: AgentState, namespace: str) -> Envelope | None:
        """Return a namespace's last checkpoint in a state; ``None`` where there is none."""
        packed = state.packed(checkpoint_key(namespace))
        return None if packed is None else _read(to_bytes(packed))[1]

    @classmethod
    def read(cls, kept: Any) -> Envelope:
        """Return the checkpoint that a value tells."""
        checkpoint_id, parent, ts = kept["h"]
        rest = {
            **kept["r"],
            "ts": _time_after(checkpoint_id, ts) if type(ts) is int else ts,
            "channel_versions": kept["v"],
            "versions_seen": kept["s"],
            "updated_channels": _last_updated(kept["v"]) if kept["u"] is True else kept["u"],
        }
        parent = None if parent is None else str(parent)
        return cls(checkpoint_id, parent, kept["c"], rest, kept["m"], kept.get("n"))

    @property
    def greatest(self) -> str:
        """The greatest id of its namespace on the branch."""
        return self.newest or self.id

    def following(self, before: Envelope | None) -> Envelope:
        """Return it as it is recorded behind another of its namespace."""
        if before is None or (before.newest is None and self.id >= before.id):
            return self
        return replace(self, newest=max(self.id, before.greatest))


def _last_updated(versions: Mapping[str, Any]) -> list[str]:
    """Return the channels with the last version: those that a step of the framework updated."""
    try:
        last = max(versions.values(), default=None)
    except TypeError:  # of several types, which only a foreign framework would mix
        return []
    return sorted(name for name, version in versions.items() if version == last)


def fields_in(state: AgentState, namespace: str) -> Mapping[str, Any]:
    """Return a namespace's last checkpoint in a state as it is recorded; not to be changed."""
    packed = state.packed(checkpoint_key(namespace))
    return {} if packed is None else _read(to_bytes(packed))[0]


def remember(state: AgentState, namespace: str, made: Envelope) -> None:
    """Know what was just recorded, so that it need not be read."""
    packed = state.packed(checkpoint_key(namespace))
    if packed is not None:
        _keep(to_bytes(packed), (made.fields(), made))


def _read(packed: bytes) -> tuple[dict[str, Any], Envelope]:
    known = _known.get(packed)
    if known is None:
        fields: Any = thaw(packed)
        known = _keep(packed, (fields, Envelope.read(fields)))
    return known


def _keep(packed: bytes, known: tuple[dict[str, Any], Envelope]) -> tuple[dict[str, Any], Envelope]:
    if len(_known) >= _KNOWN_MAX:
        _known.clear()
    _known[packed] = known
    return known


def change_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> Change:
    """Return what leads from one map to another, field by field."""
    gone = () if before.keys() <= after.keys() else [key for key in before if key not in after]
    operations: dict[str, Operation] = dict.fromkeys(gone, REMOVE)
    for key, new in after.items():
        old, kind = before.get(key, _NOTHING), type(new)
        if old is new and kind in _FIXED:
            continue  # most are, of many versions
        if type(old) is kind and kind is dict:
            inner = change_between(old, new)
            if inner.operations:
                operations[key] = Patch(inner)
        elif not same(old, new):
            operations[key] = Put(pack(new))
    return Change(operations)


@dataclass(slots=True)
class Hidden:
    """Which checkpoints of a thread were deleted or pruned, by namespace."""

    before: dict[str, str] = field(default_factory=dict)  # all whose id is less than this
    ids: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, state: AgentState) -> Hidden:
        """Return what a thread's state says."""
        packed = state.packed(HIDDEN)
        if packed is None:
            return cls()
        kept: Any = thaw(packed)
        return cls(kept["before"], kept["ids"])

    def value(self) -> Value:
        """Return it as a value."""
        return {"before": self.before, "ids": self.ids}

    def __contains__(self, place: tuple[str, str]) -> bool:
        namespace, checkpoint_id = place
        gone: list[str] = self.ids.get(namespace, [])
        return checkpoint_id < self.before.get(namespace, "") or checkpoint_id in gone


def rest_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint without its id and its channels' values."""
    return {name: part for name, part in checkpoint.items() if name not in ("id", "channel_values")}


@lru_cache(maxsize=1024)
def tight(text: str) -> UUID | str:
    """Return an id in 16 bytes, where it is one that comes back the same."""
    try:
        made = UUID(text)
    except ValueError:
        return text
    return made if str(made) == text else text


def _tight_time(text: Any, checkpoint_id: str) -> Any:
    """Return a time as microseconds since its checkpoint's id was made, where that can be told.

    Ids are UUIDs of version 6 (RFC 9562), which begin with the time they were made at.
    """
    try:
        made = datetime.fromisoformat(text)
        since = (made - _time_of(checkpoint_id)) // _MICROSECOND
    except (TypeError, ValueError):
        return text
    return since if _time_after(checkpoint_id, since) == text else text


def _time_after(checkpoint_id: str, microseconds: int) -> str:
    return (_time_of(checkpoint_id) + timedelta(microseconds=microseconds)).isoformat()


@lru_cache(maxsize=1024)
def _time_of(checkpoint_id: str) -> datetime:
    """Return when an id was made, to the microsecond.

    Raises:
        ValueError: it does not say.
    """
    known = tight(checkpoint_id)  # which is asked for again, as the next one's parent
    made = UUID(known) if isinstance(known, str) else known
    if made.version != _VERSION_WITH_TIME:
        raise ValueError("no UUID of version 6")
    high, rest = made.int >> 80, made.int >> 64 & 0x0FFF
    return _GREGORIAN + timedelta(microseconds=(high << 12 | rest) // 10)
