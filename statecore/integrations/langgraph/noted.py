"""What is known of the objects that tasks wrote since a checkpoint, once they are recorded, too.

Only their identities are kept, not they themselves.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

from langgraph.checkpoint.base import WRITES_IDX_MAP

_ATOMS: Final = frozenset({str, int, float, bool, type(None), bytes})
_REACHED_MAX: Final = 10_000  # objects; a task that wrote more may have written anything
_STEPS_MAX: Final = 4096

Place: TypeAlias = tuple[str, int]  # the task's id, and the index among its writes
Step: TypeAlias = tuple[str, str, str]  # thread, namespace, checkpoint


class Noted:
    """What tasks wrote in a step: which objects, and how many items to which channel."""

    __slots__ = ("_counts", "_has_everything", "_ids")

    def __init__(self) -> None:
        self._ids: set[int] = set()
        self._counts: dict[Place, tuple[str, int]] = {}
        self._has_everything = False

    def add(self, writes: Sequence[tuple[str, Any]], task_id: str) -> None:
        """Note what a task wrote. The same again, of a task that was repeated, counts once."""
        reached: set[int] = (
            set()
        )  # by itself: what was written before may be gone, its id another's
        for at, (channel, thing) in enumerate(writes):
            kind = type(thing)
            count = len(thing) if kind is list else 1
            self._counts[task_id, WRITES_IDX_MAP.get(channel, at)] = channel, count
            if kind not in _ATOMS and not _reach(thing, reached):
                self._has_everything = True
        self._ids |= reached

    def accounts_for(self, channel: str, added: int) -> bool:
        """Tell whether what was written to a channel may be what was added to its list.

        Who puts checkpoints without saying what was written is taken to have added to a list that
        is longer.
        """
        counts = [count for name, count in self._counts.values() if name == channel]
        return sum(counts) == added if counts else added > 0

    def has_any(self, ids: set[int]) -> bool:
        """Tell whether any of some objects was written, or may have been, by itself or within."""
        return self._has_everything or not self._ids.isdisjoint(ids)


class Notes:
    """What was noted of each step that no checkpoint came behind yet; a bounded number of them."""

    def __init__(self) -> None:
        self._steps: OrderedDict[Step, Noted] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, step: Step, writes: Sequence[tuple[str, Any]], task_id: str) -> list[str]:
        """Note what a task wrote; return the threads of which something was dropped for it."""
        with self._lock:
            self._steps.setdefault(step, Noted()).add(writes, task_id)
            self._steps.move_to_end(step)
            over = max(0, len(self._steps) - _STEPS_MAX)
            return [self._steps.popitem(last=False)[0][0] for _ in range(over)]

    def of(self, step: Step) -> Noted:
        """Return what was noted of a step."""
        with self._lock:
            return self._steps.get(step) or Noted()

    def drop(self, steps: Iterable[Step]) -> None:
        """Forget steps: their checkpoints have successors."""
        with self._lock:
            for step in steps:
                self._steps.pop(step, None)

    def forget(self, thread_id: str) -> None:
        """Forget all of a thread."""
        self.drop([step for step in list(self._steps) if step[0] == thread_id])


def _reach(thing: Any, ids: set[int]) -> bool:
    """Add the ids of all objects that an object leads to; tell whether these were all."""
    waiting, left = [thing], _REACHED_MAX
    while waiting:
        each = waiting.pop()
        if id(each) in ids:
            continue
        ids.add(id(each))
        waiting += [part for part in _parts(each) if type(part) not in _ATOMS]
        left -= 1
        if left < 0:
            return False
    return True


def _parts(thing: Any) -> Iterable[Any]:
    if isinstance(thing, dict):
        return thing.values()
    if isinstance(thing, (list, tuple, set, frozenset)):
        return thing
    return _attributes(thing)


def _attributes(thing: Any) -> Iterator[Any]:
    inner = getattr(thing, "__dict__", None)
    if type(inner) is dict:  # that of a class is none
        yield from inner.values()
    kind: Any = type(thing)
    for name in _slots(kind):
        yield getattr(thing, name, None)


@lru_cache(maxsize=1024)
def _slots(kind: Any) -> tuple[str, ...]:
    """Return the attributes of a class that lie in slots."""
    every = (getattr(each, "__slots__", ()) for each in kind.__mro__)
    return tuple(
        name
        for slots in every
        for name in ((slots,) if isinstance(slots, str) else slots)
        if not name.startswith("__")
    )
