"""What tasks wrote since a checkpoint: kept by task and index, in the order they are applied in."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

from langgraph.checkpoint.base import WRITES_IDX_MAP, PendingWrite, writes_sort_key

from statecore.agent_state import AgentState
from statecore.integrations.langgraph.layout import late_key, tight, writes_key
from statecore.integrations.langgraph.noted import Place, Step
from statecore.integrations.langgraph.objects import Objects
from statecore.packed import Packed, thaw, to_bytes
from statecore.values import Value


class Write(NamedTuple):
    """What a task wrote to a channel."""

    path: str
    channel: str
    value: Value


Writes: TypeAlias = dict[Place, Write]


def written(writes: Sequence[tuple[str, Any]], task_id: str, path: str, objects: Objects) -> Writes:
    """Return what a task wrote."""
    return {
        (task_id, WRITES_IDX_MAP.get(channel, at)): Write(path, channel, objects.both(thing)[0])
        for at, (channel, thing) in enumerate(writes)
    }


def joined(before: Mapping[Place, Write], more: Mapping[Place, Write]) -> Writes:
    """Return the writes after more of them came.

    Errors, interrupts and the like have places below 0, and the last of them counts; of other
    writes the first one does, since a task that runs again writes the same.
    """
    special = {place: write for place, write in more.items() if place[1] < 0}
    return {**more, **before, **special}


def as_value(writes: Mapping[Place, Write], checkpoint_id: str) -> Value:
    """Return what tasks wrote since a checkpoint as a value, which names that."""
    tasks: dict[str, Any] = {}
    for (task_id, at), (path, channel, value) in writes.items():
        task = tasks.setdefault(task_id, [tight(task_id), path, []])
        task[2].append([at, channel, value])
    return [tight(checkpoint_id), *tasks.values()]


def kept(state: AgentState, namespace: str, checkpoint_id: str) -> Writes:
    """Return what tasks wrote since a checkpoint that stands by it, or by its child."""
    packed = state.packed(writes_key(namespace))
    if packed is None or not _may_name(packed, checkpoint_id):
        return {}
    value: Any = thaw(packed)
    return _read(value[1:]) if str(value[0]) == checkpoint_id else {}


def _may_name(packed: Packed, checkpoint_id: str) -> bool:
    """Tell whether packed writes may be those since a checkpoint: they say its id somewhere."""
    known = tight(checkpoint_id)
    return (known.encode() if isinstance(known, str) else known.bytes) in to_bytes(packed)


def late(state: AgentState, namespace: str, checkpoint_id: str) -> Writes:
    """Return what tasks wrote since a checkpoint when others had come after it."""
    packed = state.packed(late_key(namespace, checkpoint_id))
    value: Any = [] if packed is None else thaw(packed)
    return _read(value[1:])


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
    found = kept(last, namespace, checkpoint_id)
    found = joined(found, late(head, namespace, checkpoint_id))
    return joined(found, held)


def in_order(writes: Mapping[Place, Write], objects: Objects) -> list[PendingWrite]:
    """Return writes as the framework wants them, in the order in which they are applied."""
    places = sorted(writes, key=lambda place: writes_sort_key(writes[place].path, *place))
    return [
        (place[0], writes[place].channel, objects.restored(writes[place].value)) for place in places
    ]


class Held:
    """Writes not recorded yet."""

    __slots__ = ("since", "writes")

    def __init__(self) -> None:
        self.writes: Writes = {}
        self.since = time.monotonic()


class Buffer:
    """Holds writes until their checkpoint's successor takes them along. Safe from any thread."""

    def __init__(self) -> None:
        self._held: dict[Step, Held] = {}
        self._leaving: dict[Step, list[Held]] = {}  # being recorded
        self._lock = threading.Lock()

    def add(self, step: Step, writes: Writes) -> None:
        """Hold more writes of a checkpoint's tasks."""
        with self._lock:
            held = self._held.setdefault(step, Held())
            held.writes = joined(held.writes, writes)

    def peek(self, thread_id: str) -> dict[Step, Writes]:
        """Return what is held of a thread's tasks, or is just being recorded.

        Who reads the thread, too, asks here first: what is recorded in between is then seen twice,
        and not never.
        """
        found: dict[Step, Writes] = {}
        with self._lock:
            leaving = [(step, held) for step, each in self._leaving.items() for held in each]
            for step, held in (*leaving, *self._held.items()):
                if step[0] == thread_id:
                    found[step] = joined(found.get(step, {}), held.writes)
        return found

    @contextmanager
    def taken(self, step: Step) -> Iterator[Held]:
        """Take what is held of a checkpoint's tasks, to record it in the block.

        Until it is recorded it is seen here; where that fails, it is held again.
        """
        with self._lock:
            held = self._held.pop(step, None) or Held()
            self._leaving.setdefault(step, []).append(held)
        try:
            yield held
        except BaseException:
            self._put_back(step, held)
            raise
        finally:
            with self._lock:
                leaving = [each for each in self._leaving.pop(step, ()) if each is not held]
                if leaving:
                    self._leaving[step] = leaving

    def _put_back(self, step: Step, held: Held) -> None:
        if held.writes:
            with self._lock:
                now = self._held.setdefault(step, held)
                if now is not held:
                    now.writes = joined(held.writes, now.writes)

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
