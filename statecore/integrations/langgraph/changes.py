"""What a checkpoint changes of its thread's state: what was added to a list, not the list.

A list is known to have grown where it begins with the very objects that the one before had, so
that nothing old is compared or serialized. What a task wrote is looked at anew, wherever it stands:
a task may have changed an old object, and written it again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from operator import is_
from typing import Any, Final, Protocol

from statecore.agent_state import AgentState
from statecore.change import Change, Patch
from statecore.diff import difference
from statecore.integrations.langgraph import layout
from statecore.integrations.langgraph.layout import Envelope
from statecore.integrations.langgraph.objects import Objects
from statecore.operations import REMOVE, Extend, Operation, Put
from statecore.packed import Packed, is_list, same_packed
from statecore.values import pack

_LISTS_MAX: Final = 4096


class Base(Protocol):
    """What a checkpoint is put upon."""

    @property
    def state(self) -> AgentState:
        """The state of its branch."""

    @property
    def envelope(self) -> Envelope | None:
        """Its parent, if that is the last checkpoint there."""


class Grown:
    """A list as it was last seen, and the packed value it then was."""

    __slots__ = ("ids", "items", "packed")

    def __init__(self, packed: Packed, items: list[Any]) -> None:
        self.packed = packed
        self.items = items
        self.ids = set(map(id, items))

    def more(self, items: list[Any], packed: Packed) -> Grown:
        """Return what is seen now, where the list grew."""
        self.ids.update(map(id, items[len(self.items) :]))
        self.items, self.packed = items, packed
        return self


class Growth:
    """Knows lists again, a bounded number of them."""

    def __init__(self) -> None:
        self._lists: OrderedDict[tuple[str, str, str], Grown] = OrderedDict()

    def of(self, thread_id: str, branch: str, written: Collection[Any]) -> Growing:
        """Return what is known of one branch of a thread, for a step that wrote some objects."""
        return Growing(self._lists, (thread_id, branch), written)

    def forget(self, thread_id: str) -> None:
        """Know nothing of a thread any more."""
        for key in [key for key in self._lists if key[0] == thread_id]:
            self._lists.pop(key, None)


class Growing:
    """What is known of the lists on one branch of a thread."""

    def __init__(
        self,
        lists: OrderedDict[tuple[str, str, str], Grown],
        place: tuple[str, str],
        written: Collection[Any],
    ) -> None:
        self._lists = lists
        self._place = place
        self._written = set(map(id, written))
        self._grew: set[str] = set()

    def added(self, key: str, old: Packed | None, items: list[Any]) -> list[Any] | None:
        """Return what a list has behind its old items; ``None`` where that can't be told."""
        known = self._lists.get((*self._place, key))
        if known is None or known.packed is not old or len(items) < len(known.items):
            return None
        if not self._written.isdisjoint(known.ids) or not all(map(is_, known.items, items)):
            return None
        self._grew.add(key)
        return items[len(known.items) :]

    def learn(self, state: AgentState, lists: Mapping[str, list[Any]]) -> None:
        """Know lists again by what they are in a state; nobody changes them from now on."""
        for key, items in lists.items():
            packed, place = state.packed(key), (*self._place, key)
            known = self._lists.get(place)
            if packed is None or (known is not None and known.packed is packed):
                continue
            if not is_list(packed):
                continue  # a serialized tuple, say, which comes back as a list
            grew = known is not None and key in self._grew
            self._lists[place] = (
                known.more(items, packed) if known and grew else Grown(packed, items)
            )
            self._lists.move_to_end(place)
        while len(self._lists) > _LISTS_MAX:
            self._lists.popitem(last=False)


def change_of(
    namespace: str,
    envelope: Envelope,
    before: Envelope | None,
    base: Base,
    values: Mapping[str, Any],
    objects: Objects,
    growing: Growing,
) -> tuple[Change, dict[str, list[Any]]]:
    """Return what a checkpoint changes, and its lists by key.

    Args:
        namespace: of the checkpoint.
        envelope: the checkpoint, but for its channels' values.
        before: the one that is there now.
        base: where it goes.
        values: of its channels.
        objects: turns objects into values.
        growing: knows lists again.
    """
    state, operations = base.state, dict[str, Operation]()
    lists: dict[str, list[Any]] = {}
    unchanged = _unchanged(envelope, base.envelope)
    for name, thing in values.items():
        if type(thing) is not list and name in unchanged:
            continue
        key = layout.channel_key(namespace, name)
        if type(thing) is list:
            # A reducer may go on with the list itself, even while this is recorded.
            thing = lists[key] = thing.copy()  # noqa: PLW2901
            if name in unchanged:
                continue
        old = state.packed(key)
        operation = _operation(key, old, thing, objects, growing)
        if operation is not None:
            operations[key] = operation
    for name in before.channels if before else ():
        if name not in values:
            operations[layout.channel_key(namespace, name)] = REMOVE
    key, fields = layout.checkpoint_key(namespace), envelope.fields()
    if before is None:
        operations[key] = Put(pack(fields))
    else:
        operations[key] = Patch(layout.change_between(layout.fields_in(state, namespace), fields))
    run = envelope.metadata.get("run_id")
    if isinstance(run, str) and state.packed(layout.run_key(run)) is None:
        operations[layout.run_key(run)] = Put(pack(value=True))
    return Change(operations), lists


def says_nothing(change: Change) -> bool:
    """Tell whether a checkpoint is already there, to the letter."""
    return all(
        isinstance(operation, Patch) and not operation.change.operations
        for operation in change.operations.values()
    )


def _unchanged(envelope: Envelope, before: Envelope | None) -> set[str]:
    """Return the channels that have a value, of the version that they had in the parent."""
    if before is None:
        return set()
    old: dict[str, Any] = before.rest.get("channel_versions", {})
    new: dict[str, Any] = envelope.rest.get("channel_versions", {})
    known = {name for name, version in new.items() if name in old and version == old[name]}
    return known.intersection(before.channels)


def _operation(
    key: str, old: Packed | None, thing: Any, objects: Objects, growing: Growing
) -> Operation | None:
    """Return what leads from an old value to a new one; ``None`` where it is the same."""
    if type(thing) is list:
        added = growing.added(key, old, thing)
        if added is not None:
            items = [objects.packed(item) for item in added]
            return Extend(len(items), b"".join(items)) if items else None
    new = objects.packed(thing)
    if old is None:
        return Put(new)
    return None if same_packed(old, new) else difference(old, new)
