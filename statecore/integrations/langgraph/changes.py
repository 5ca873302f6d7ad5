"""What a checkpoint changes of its thread's state: what was added to a list, not the list.

A list is known to have grown where it begins with the very objects that the one before had, and
has as many behind them as tasks wrote, so that nothing old is compared or serialized. Where that
does not fit, all of it is: a task may have changed an old object and written it again, and a
reducer may have changed one in place of adding what was written.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from operator import is_
from typing import Any, Final, Protocol

from statecore.agent_state import AgentState
from statecore.change import Change, Patch
from statecore.diff import difference
from statecore.integrations.langgraph import layout
from statecore.integrations.langgraph.layout import Envelope
from statecore.integrations.langgraph.noted import Noted
from statecore.integrations.langgraph.objects import Objects
from statecore.operations import REMOVE, Extend, Operation, Put
from statecore.packed import Packed, is_list, list_count, same_packed
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

    def grow(self, added: list[Any], packed: Packed) -> None:
        """Take in what the list has behind its old items now."""
        self.ids.update(map(id, added))
        self.items += added  # a copy of a long one would touch every object in it
        self.packed = packed


class Growth:
    """Knows lists again, a bounded number of them."""

    def __init__(self) -> None:
        self._lists: OrderedDict[tuple[str, str, str], Grown] = OrderedDict()

    def of(self, thread_id: str, branch: str, noted: Noted | None) -> Growing:
        """Return what is known of one branch of a thread, for a step.

        Args:
            thread_id: the thread.
            branch: where its lists are.
            noted: what tasks wrote in the step; ``None`` where nobody was told.
        """
        return Growing(self._lists, (thread_id, branch), noted)

    def forget(self, thread_id: str) -> None:
        """Know nothing of a thread any more."""
        for key in [key for key in list(self._lists) if key[0] == thread_id]:
            self._lists.pop(key, None)


class Growing:
    """What is known of the lists on one branch of a thread."""

    def __init__(
        self,
        lists: OrderedDict[tuple[str, str, str], Grown],
        place: tuple[str, str],
        noted: Noted | None,
    ) -> None:
        self._lists = lists
        self._place = place
        self._noted = noted
        self._grew: dict[str, tuple[Grown, Packed | None, list[Any]]] = {}
        self._seen: dict[str, list[Any]] = {}

    def knows(self, key: str, packed: Packed | None) -> bool:
        """Tell whether the list of a value was seen."""
        known = self._lists.get((*self._place, key))
        return known is not None and known.packed is packed

    def added(
        self, key: str, channel: str, old: Packed | None, items: list[Any]
    ) -> list[Any] | None:
        """Return what a list has behind its old items; ``None`` where that can't be told."""
        known, noted = self._lists.get((*self._place, key)), self._noted
        if known is None or noted is None or known.packed is not old:
            return None
        more = items[len(known.items) :]  # first: a reducer may go on with the list meanwhile
        if not noted.accounts_for(channel, len(more)) or noted.has_any(known.ids):
            return None
        if len(items) < len(known.items) or not all(map(is_, known.items, items)):
            return None
        self._grew[key] = known, old, more
        return more

    def see(self, key: str, items: list[Any]) -> None:
        """Take note of a list, which nobody changes from now on."""
        self._seen[key] = items

    def learn(self, state: AgentState) -> None:
        """Know the lists again, that grew or were seen, by what they are in a state."""
        for key, (known, before, more) in self._grew.items():
            packed, place = state.packed(key), (*self._place, key)
            if packed is None or self._lists.get(place) is not known or known.packed is not before:
                self._lists.pop(place, None)  # others went on meanwhile
                continue
            known.grow(more, packed)
            self._lists.move_to_end(place)
        for key, items in self._seen.items():
            packed, place = state.packed(key), (*self._place, key)
            # A serialized tuple, say, comes back as a list.
            if packed is None or self.knows(key, packed) or not is_list(packed):
                continue
            if list_count(packed) != len(items):  # changed in place, by somebody who wrote nothing
                continue
            self._lists[place] = Grown(packed, items)
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
) -> Change:
    """Return what a checkpoint changes.

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
    unchanged = _unchanged(envelope, base.envelope)
    for name, thing in values.items():
        if type(thing) is not list and name in unchanged:
            continue
        operation: Operation | None = None
        key = layout.channel_key(namespace, name)
        old = state.packed(key)
        if type(thing) is not list:
            operation = _difference(old, thing, objects)
        elif name not in unchanged:
            operation = _growth(key, name, old, thing, objects, growing)
        elif not growing.knows(key, old):
            growing.see(key, thing.copy())
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
    return Change(operations)


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


def _growth(
    key: str, name: str, old: Packed | None, items: list[Any], objects: Objects, growing: Growing
) -> Operation | None:
    """Return what leads from an old list to a new one; ``None`` where it is the same."""
    added = growing.added(key, name, old, items)
    if added is None:
        items = items.copy()  # a reducer may go on with the list itself, even while it is recorded
        growing.see(key, items)
        return _difference(old, items, objects)
    if not added:
        return None
    return Extend(len(added), b"".join([objects.packed(item) for item in added]))


def _difference(old: Packed | None, thing: Any, objects: Objects) -> Operation | None:
    """Return what leads from an old value to a new one; ``None`` where it is the same."""
    new = objects.packed(thing)
    if old is None:
        return Put(new)
    return None if same_packed(old, new) else difference(old, new)
