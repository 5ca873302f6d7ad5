"""What tasks wrote since a checkpoint: kept by task and index, in the order they are applied in."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from langgraph.checkpoint.base import WRITES_IDX_MAP, PendingWrite, writes_sort_key

from statecore.agent_state import AgentState
from statecore.integrations.langgraph.layout import late_key, tight, writes_key
from statecore.integrations.langgraph.objects import Objects
from statecore.packed import thaw
from statecore.values import Value


class Write(NamedTuple):
    """What a task wrote to a channel."""

    path: str
    channel: str
    value: Value


Place: TypeAlias = tuple[str, int]  # the task's id, and the index among its writes
Writes: TypeAlias = dict[Place, Write]


def written(
    writes: Sequence[tuple[str, Any]], task_id: str, path: str, objects: Objects
) -> tuple[Writes, bool]:
    """Return what a task wrote, and whether it replaces what it wrote to the same places before.

    Errors, interrupts and the like have places of their own, and the last of them counts; of
    other writes the first one does, since a task that runs again writes the same.
    """
    made = {
        (task_id, WRITES_IDX_MAP.get(channel, at)): Write(path, channel, objects.both(thing)[0])
        for at, (channel, thing) in enumerate(writes)
    }
    return made, is_special(writes)


def is_special(writes: Sequence[tuple[str, Any]]) -> bool:
    """Tell whether these are all errors, interrupts and the like."""
    return all(channel in WRITES_IDX_MAP for channel, _ in writes)


def joined(before: Mapping[Place, Write], more: Mapping[Place, Write], *, replace: bool) -> Writes:
    """Return the writes after more of them came."""
    return {**before, **more} if replace else {**more, **before}


def as_value(checkpoint_id: str, writes: Mapping[Place, Write]) -> Value:
    """Return what tasks wrote since a checkpoint as a value."""
    tasks: dict[str, Any] = {}
    for (task_id, at), (path, channel, value) in writes.items():
        task = tasks.setdefault(task_id, [tight(task_id), path, []])
        task[2].append([at, channel, value])
    return [tight(checkpoint_id), *tasks.values()]


def kept(state: AgentState, key: str, checkpoint_id: str) -> Writes:
    """Return what tasks wrote since a checkpoint, if that stands under a key."""
    packed = state.packed(key)
    if packed is None:
        return {}
    value: Any = thaw(packed)
    of, *tasks = value
    return _read(tasks) if str(of) == checkpoint_id else {}


def _read(tasks: list[Any]) -> Writes:
    return {
        (str(task_id), at): Write(path, channel, value)
        for task_id, path, each in tasks
        for at, channel, value in each
    }


def pending(
    namespace: str, checkpoint_id: str, last: AgentState, head: AgentState, held: Writes
) -> Writes:
    """Return all that tasks wrote since a checkpoint.

    Args:
        namespace: of the checkpoint.
        checkpoint_id: the checkpoint.
        last: the state with the next checkpoint of the namespace, or the head.
        head: the head of the thread, where late ones stand.
        held: those not recorded yet.
    """
    found = kept(last, writes_key(namespace), checkpoint_id)
    late = kept(head, late_key(namespace, checkpoint_id), checkpoint_id)
    return joined(joined(found, late, replace=True), held, replace=True)


def in_order(writes: Mapping[Place, Write], objects: Objects) -> list[PendingWrite]:
    """Return writes as the framework wants them, in the order in which they are applied."""
    places = sorted(writes, key=lambda place: writes_sort_key(writes[place].path, *place))
    return [
        (place[0], writes[place].channel, objects.restored(writes[place].value)) for place in places
    ]


class Held:
    """Writes not recorded yet."""

    __slots__ = ("since", "things", "writes")

    def __init__(self) -> None:
        self.writes: Writes = {}
        self.things: list[Any] = []  # what was written, to know it again
        self.since = time.monotonic()


Step: TypeAlias = tuple[str, str, str]  # thread, namespace, checkpoint


class Buffer:
    """Holds writes until their checkpoint's successor takes them along. Safe from any thread."""

    def __init__(self) -> None:
        self._held: dict[Step, Held] = {}
        self._lock = threading.Lock()

    def add(self, step: Step, writes: Writes, things: Iterable[Any], *, replace: bool) -> None:
        """Hold more writes of a checkpoint's tasks."""
        with self._lock:
            held = self._held.setdefault(step, Held())
            held.writes = joined(held.writes, writes, replace=replace)
            held.things += things

    def peek(self, step: Step) -> Writes:
        """Return what is held of a checkpoint's tasks."""
        with self._lock:
            held = self._held.get(step)
            return dict(held.writes) if held else {}

    def take(self, step: Step) -> Held:
        """Hold a checkpoint's writes no longer, and return them."""
        with self._lock:
            return self._held.pop(step, None) or Held()

    def put_back(self, step: Step, held: Held) -> None:
        """Hold writes again that could not be recorded."""
        if held.writes:
            with self._lock:
                now = self._held.setdefault(step, held)
                if now is not held:
                    now.writes = joined(held.writes, now.writes, replace=True)
                    now.things += held.things

    def due(self, seconds: float) -> list[Step]:
        """Return the checkpoints whose tasks' writes were held for so long."""
        limit = time.monotonic() - seconds
        with self._lock:
            return [step for step, held in self._held.items() if held.since <= limit]

    def forget(self, thread_id: str) -> None:
        """Hold nothing of a thread any more."""
        with self._lock:
            for step in [step for step in self._held if step[0] == thread_id]:
                del self._held[step]
