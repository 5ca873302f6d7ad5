"""Python objects as values: what JSON has as it is, all else by the framework's own serializer.

An object that no value can hold becomes a map of one field, the serializer's name for the format
behind a prefix, with the serialized bytes. A map that only looks like one is serialized, too.
"""

from __future__ import annotations

from typing import Any, Final

import ormsgpack
from langgraph.checkpoint.serde.base import SerializerProtocol

from statecore.errors import LimitExceeded, UnsupportedValue
from statecore.packed import Packed, Rope, thaw, to_bytes
from statecore.values import Value, pack, unpack_special

_MARK: Final = "lc:"  # on disk
_MARK_BYTES: Final = _MARK.encode()
_PLAIN: Final = frozenset({str, int, float, bool, type(None), bytes})


class Objects:
    """Turns objects into values and back, with one serializer."""

    def __init__(self, serde: SerializerProtocol) -> None:
        self._serde = serde

    def value(self, thing: Any) -> Value:
        """Return the value of an object; it shares nothing that can change with it."""
        kind = type(thing)
        if kind in _PLAIN:
            return thing
        if kind is list:
            return [self.value(item) for item in thing]
        if kind is dict and all(type(key) is str for key in thing) and not _is_marked(thing):
            return {key: self.value(item) for key, item in thing.items()}
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
