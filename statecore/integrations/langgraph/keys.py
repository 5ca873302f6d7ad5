"""Where an item of a LangGraph store lies in the state, so that namespaces are ranges of keys.

The key of the state is the namespace as a JSON list, a space, and the item's own key as it is:
``["users","123"] prefs``. That is unambiguous whatever they hold, and in order of the keys a
namespace is one range, all that are below it another.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from langgraph.store.base import InvalidNamespaceError

from statecore.errors import InputError
from statecore.manager import StateManager
from statecore.state import Root

Namespace: TypeAlias = tuple[str, ...]

Place: TypeAlias = tuple[Namespace, str]
"""Where an item is: its namespace and its key."""

_FIRST: Final = "["
_CHANGES_MAX: Final = 64  # events to read; beyond that sorting anew is no slower

_decoder = json.JSONDecoder()


def key_of(namespace: Namespace, key: str) -> str:
    """Return the key of the state that an item lies under.

    Raises:
        InvalidNamespaceError: a label is not text, or empty.
        InputError: the key is not text.
    """
    if type(key) is not str:
        raise InputError(f"the key of an item is text, not {type(key).__name__}")
    for label in namespace:
        if type(label) is not str or not label:
            raise InvalidNamespaceError(f"a label of a namespace is text, not {label!r}")
    return f"{_spell(namespace)} {key}"


def place_of(state_key: str) -> Place:
    """Return the namespace and the key of what lies under a key of the state."""
    labels, end = _decoder.raw_decode(state_key)
    return tuple(labels), state_key[end + 1 :]


def _spell(namespace: Namespace) -> str:
    return json.dumps(namespace, ensure_ascii=False, separators=(",", ":"))


def keys_below(keys: Sequence[str], prefix: Namespace) -> Iterator[str]:
    """Yield, of keys in order, those of the items in a namespace and below it."""
    if not prefix:
        yield from _range(keys, _FIRST)
        return
    spelled = _spell(prefix)
    yield from _range(keys, spelled[:-1] + ",")
    yield from _range(keys, spelled + " ")


def by_namespace(keys: Sequence[str]) -> Iterator[tuple[Namespace, Sequence[str]]]:
    """Yield, of keys in order, each namespace with the keys of its items."""
    at, end = _bounds(keys, _FIRST)
    while at < end:
        namespace, _ = place_of(keys[at])
        inside = _range(keys, _spell(namespace) + " ")
        yield namespace, inside
        at += len(inside)


def _range(keys: Sequence[str], start: str) -> Sequence[str]:
    """Return, of keys in order, those that begin so."""
    return keys[slice(*_bounds(keys, start))]


def _bounds(keys: Sequence[str], start: str) -> tuple[int, int]:
    after = start[:-1] + chr(ord(start[-1]) + 1)
    return bisect_left(keys, start), bisect_left(keys, after)


class SortedKeys:
    """The keys of the current state in order, kept up to date as others write. Thread-safe.

    A list that was given is never changed.
    """

    def __init__(self, manager: StateManager) -> None:
        self._manager = manager
        self._lock = threading.Lock()
        self._version = 0
        self._keys: list[str] = []

    def of(self, root: Root) -> Sequence[str]:
        """Return the keys of a root, which costs little for one a few events after the last."""
        with self._lock:
            if not self._version <= root.version <= self._version + _CHANGES_MAX:
                self._keys = sorted(root.cells)
            elif root.version > self._version:
                self._keys = self._after_changes(root)
            self._version = root.version
            return self._keys

    def _after_changes(self, root: Root) -> list[str]:
        timeline, stream = self._manager._engine.timeline, self._manager._stream
        if self._version < stream.first_here - 1:  # it was erased, or archived, since
            return sorted(root.cells)
        change = timeline.change_between(stream, self._version, root.version)
        if change.cleared:
            return sorted(root.cells)
        keys = self._keys
        for key in change.operations:
            at = bisect_left(keys, key)
            was_there = at < len(keys) and keys[at] == key
            if was_there == (key in root.cells):
                continue
            if keys is self._keys:
                keys = keys.copy()
            if was_there:
                del keys[at]
            else:
                insort(keys, key)
        return keys
