"""Python objects as values: what JSON has as it is, all else by the framework's own serializer.

An object that no value can hold becomes a map of one field, the serializer's name for the format
behind a prefix, with the serialized bytes. A map that only looks like one is serialized, too.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, Final

import ormsgpack
from langgraph.checkpoint.serde.base import SerializerProtocol

from statecore.errors import LimitExceeded, UnsupportedValue
from statecore.packed import Packed, Rope, join_list, thaw, to_bytes
from statecore.values import Value, pack, unpack_special

_MARK: Final = "lc:"  # on disk
_MARK_BYTES: Final = _MARK.encode()
_LIBRARY_BYTES_MAX: Final = 64 * 1024 * 1024  # packed
_DEPTH_MAX: Final = 48  # a value has 64 levels at most, and stands some deep within an event
_NAMES: Final = frozenset({str})
_PLAIN: Final = frozenset({str, int, float, bool, type(None), bytes})


class Objects:
    """Turns objects into values and back, with one serializer."""

    def __init__(self, serde: SerializerProtocol) -> None:
        self._serde = serde

    def value(self, thing: Any, depth: int = 0) -> Value:
        """Return the value of an object; it shares nothing that can change with it."""
        kind = type(thing)
        if kind in _PLAIN:
            return thing
        if depth == _DEPTH_MAX:
            return self._serialized(thing)
        if kind is list:
            return [self.value(item, depth + 1) for item in thing]
        if kind is dict and _NAMES.issuperset(map(type, thing)) and not _is_marked(thing):
            if _PLAIN.issuperset(map(type, thing.values())):
                return thing.copy()
            return {key: self.value(item, depth + 1) for key, item in thing.items()}
        return self._serialized(thing)

    def packed(self, thing: Any) -> bytes:
        """Return the packed value of an object.

        Raises:
            LimitExceeded: it is too large.
        """
        return self.both(thing)[1]

    def both(self, thing: Any) -> tuple[Value, bytes]:
        """Return the value of an object, and that packed; raises as ``packed`` does."""
        try:
            value = self.value(thing)
            return value, pack(value)
        except (UnsupportedValue, LimitExceeded):  # a lone surrogate, say, or nested too deep
            value = self._serialized(thing)
            return value, pack(value)

    def thing(self, packed: Packed) -> Any:
        """Return the object of a packed value, a fresh one."""
        data = to_bytes(packed)
        if _MARK_BYTES in data:
            return self.restored(thaw(data))
        # The framework's own reader of the same format takes half as long.
        # It takes no subclass of bytes, but a view of one.
        return ormsgpack.unpackb(memoryview(data), ext_hook=unpack_special)

    def restored(self, value: Any) -> Any:
        """Return the object of a value."""
        if type(value) is list:
            return [self.restored(item) for item in value]
        if type(value) is not dict:
            return value
        if _is_marked(value):
            ((name, serialized),) = value.items()
            return self._serde.loads_typed((name.removeprefix(_MARK), serialized))
        return {key: self.restored(item) for key, item in value.items()}

    def _serialized(self, thing: Any) -> Value:
        name, serialized = self._serde.dumps_typed(thing)
        return {_MARK + name: bytes(serialized)}  # some give a bytearray


class Library:
    """Long lists as they were last read, so that reading them again costs a copy.

    Only lists of plain things, and of maps of those: what can't be changed is shared, and each
    reader gets maps of their own. A bounded number of bytes; safe from any thread.
    """

    def __init__(self) -> None:
        self._lists: OrderedDict[tuple[str, str, str], tuple[Rope, list[Any]]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def copy(self, place: tuple[str, str, str], packed: Rope, objects: Objects) -> list[Any]:
        """Return the list that a thread's branch has under a key, a fresh one."""
        longer, items = self._lists.get(place, (None, []))
        if longer is not None and longer.is_grown_from(packed):
            return _copied(items[: packed.count])
        added = None if longer is None else packed.grown_from(longer)
        if longer is None or added is None:
            items = objects.thing(packed)
            return _copied(items) if self._keep(place, packed, items) else items
        more = objects.thing(join_list(packed.count - longer.count, added))
        items = [*items, *more]
        kept = self._keep(place, packed, items, more)
        return _copied(items) if kept else objects.thing(packed)

    def _keep(
        self, place: tuple[str, str, str], packed: Rope, items: list[Any], more: Any = None
    ) -> bool:
        """Keep a list, if it is of things that can be copied; tell whether it is."""
        if not all(map(_is_flat, items if more is None else more)):
            return False
        with self._lock:
            before = self._lists.pop(place, None)
            self._bytes += len(packed) - (len(before[0]) if before else 0)
            self._lists[place] = packed, items
            while self._bytes > _LIBRARY_BYTES_MAX and len(self._lists) > 1:
                _, (dropped, _) = self._lists.popitem(last=False)
                self._bytes -= len(dropped)
        return True

    def forget(self, thread_id: str) -> None:
        """Forget the lists of a thread."""
        with self._lock:
            for place in [place for place in self._lists if place[0] == thread_id]:
                self._bytes -= len(self._lists.pop(place)[0])


class Copies:
    """Objects made of the values of one branch of a thread, for a caller of their own."""

    def __init__(self, library: Library, place: tuple[str, str], objects: Objects) -> None:
        self._library = library
        self._place = place
        self._objects = objects

    def thing(self, key: str, packed: Packed) -> Any:
        """Return the object of a key's packed value."""
        if isinstance(packed, Rope):
            return self._library.copy((*self._place, key), packed, self._objects)
        return self._objects.thing(packed)


def _is_flat(item: Any) -> bool:
    kind = type(item)
    return kind in _PLAIN or (kind is dict and _PLAIN.issuperset(map(type, item.values())))


def _copied(items: list[Any]) -> list[Any]:
    """Return flat things, the maps among them fresh."""
    return [item.copy() if type(item) is dict else item for item in items]


class Shelf:
    """Objects made of values, lists that grew out of one another made only once.

    They then share their items: for objects that are handed out together.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._lists: dict[str, tuple[Rope, list[Any]]] = {}

    def thing(self, key: str, packed: Packed) -> Any:
        """Return the object of a key's packed value."""
        if not isinstance(packed, Rope):
            return self._objects.thing(packed)
        longer, items = self._lists.get(key, (None, []))
        if longer is not None and longer.is_grown_from(packed):
            return items[: packed.count]
        items = self._objects.thing(packed)
        self._lists[key] = packed, items
        return items.copy()


def _is_marked(value: dict[str, Any]) -> bool:
    if len(value) != 1:
        return False
    ((key, inner),) = value.items()
    return key.startswith(_MARK) and type(inner) is bytes
