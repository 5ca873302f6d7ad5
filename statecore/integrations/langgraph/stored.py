"""What LangGraph stored, taken apart without making its objects: no class of a user's is imported.

An object stays the bytes that its serializer made. So what can't be made here, for want of a class
or of trust, comes through as it is, and comparing is comparing bytes.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgpack
import ormsgpack
from langgraph.checkpoint.serde.base import CipherProtocol, SerializerProtocol

from statecore.errors import Damage, InputError, WrongKey
from statecore.packed import is_list, is_map

_MSGPACK: Final = "msgpack"
_KNOWN_MAX: Final = 16  # checkpoints, of which the next one's lists may have grown


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it was serialized."""

    name: str  # the serializer's, of its format
    data: bytes


class AsStored(SerializerProtocol):
    """Serializes what was taken apart: objects as the bytes they came as."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Return the name of the format, and the bytes."""
        if type(obj) is Stored:
            return obj.name, obj.data
        if obj is None or type(obj) is bytes:
            return ("null", b"") if obj is None else ("bytes", obj)
        return _MSGPACK, ormsgpack.packb(obj, default=_extension, option=ormsgpack.OPT_NON_STR_KEYS)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Return what the bytes are, its objects not made."""
        return taken_apart(*data)


def taken_apart(name: str, data: bytes) -> Any:
    """Return what was serialized, with each object in it as ``Stored``.

    Raises:
        ValueError: the bytes are not of that format.
    """
    match name:
        case "null":
            return None
        case "bytes":
            return data
        case "msgpack":
            return ormsgpack.unpackb(data, ext_hook=_stored, option=ormsgpack.OPT_NON_STR_KEYS)
        case "json":
            return _of_json(json.loads(data))
    return Stored(name, data)


def _stored(code: int, data: bytes) -> Stored:
    return Stored(_MSGPACK, msgpack.packb(msgpack.ExtType(code, bytes(data))))


def _extension(thing: Any) -> Any:
    if type(thing) is not Stored or thing.name != _MSGPACK:
        raise TypeError(f"{type(thing).__name__} is nothing that was stored")
    return ormsgpack.unpackb(thing.data, ext_hook=ormsgpack.Ext)


def _of_json(value: Any, depth: int = 3) -> Any:
    """Keep what has objects in it as text, but take apart what that is a field or an item of."""
    if not _has_objects(value):
        return value
    if type(value) is list and depth:
        return [_of_json(item, 0) for item in value]
    if depth and not _is_object(value):
        return {name: _of_json(field, depth - 1) for name, field in value.items()}
    return Stored("json", json.dumps(value).encode())


def _has_objects(value: Any) -> bool:
    if type(value) is list:
        return any(map(_has_objects, value))
    return type(value) is dict and (_is_object(value) or any(map(_has_objects, value.values())))


def _is_object(value: dict[str, Any]) -> bool:
    return "lc" in value


class _Seen(NamedTuple):
    """A list, and the packed items it came as."""

    packed: bytes
    items: list[Any]


class Reader:
    """Takes rows apart; a list that grew has the very items that it had in the parent's row."""

    def __init__(self, cipher: CipherProtocol | None) -> None:
        """Read what was encrypted with a cipher, too, where there is one."""
        self._cipher = cipher
        self._known: OrderedDict[tuple[str, str], dict[str, _Seen]] = OrderedDict()

    def value(self, what: str, name: str, data: bytes) -> Any:
        """Return what a row holds.

        Args:
            what: names the row in errors.
            name: of its serialization.
            data: the serialized bytes.

        Raises:
            WrongKey: the cipher does not open it.
            Damage: it is not what it says.
        """
        try:
            return taken_apart(*self._opened(what, name, data))
        except ValueError as error:
            raise Damage(f"{what} of the old database does not parse: {error}") from error

    def checkpoint(
        self, what: str, namespace: str, parent: str | None, name: str, data: bytes
    ) -> dict[str, Any]:
        """Return a checkpoint; raises as ``value`` does, and InputError where it was pickled."""
        name, data = self._opened(what, name, data)
        if name != _MSGPACK:
            return _mapping(what, self.value(what, name, data))
        known = self._known.get((namespace, parent or ""), {})
        try:
            made, lists = _Parts(data, known).checkpoint()
        except (ValueError, msgpack.UnpackException) as error:
            raise Damage(f"{what} of the old database does not parse") from error
        self._known[namespace, str(made.get("id"))] = lists
        while len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
        return _mapping(what, made)

    def _opened(self, what: str, name: str, data: bytes) -> tuple[str, bytes]:
        name, _, cipher = name.partition("+")
        if not cipher:
            return name, data
        if self._cipher is None or cipher != "aes":
            raise InputError(f"{what} was encrypted by {cipher}, which can't be read here")
        try:
            return name, self._cipher.decrypt(cipher, data)
        except ValueError as error:
            raise WrongKey(f"LANGGRAPH_AES_KEY does not open {what} of the old database") from error


def _mapping(what: str, made: Any) -> dict[str, Any]:
    if type(made) is Stored:
        raise InputError(
            f"{what} was serialized as {made.name}, which can't be read without running its code"
        )
    if type(made) is not dict or type(made.get("channel_values")) is not dict:
        raise Damage(f"{what} of the old database is not a checkpoint")
    return made


class _Parts:
    """One checkpoint's msgpack, read from its beginning to its end."""

    def __init__(self, data: bytes, known: Mapping[str, _Seen]) -> None:
        self._data = data
        self._known = known
        self._reader = msgpack.Unpacker(
            ext_hook=_stored, strict_map_key=False, max_buffer_size=len(data) or 1
        )
        self._reader.feed(data)

    def checkpoint(self) -> tuple[dict[str, Any], dict[str, _Seen]]:
        """Return the checkpoint, and its channels' lists."""
        made, lists = {}, dict[str, _Seen]()
        for _ in range(self._reader.read_map_header()):
            name = self._reader.unpack()
            if name == "channel_values" and is_map(self._following()):
                made[name] = self._channels(lists)
            else:
                made[name] = self._reader.unpack()
        return made, lists

    def _channels(self, lists: dict[str, _Seen]) -> dict[str, Any]:
        values = {}
        for _ in range(self._reader.read_map_header()):
            name = self._reader.unpack()
            if is_list(self._following()):
                lists[name] = self._list(self._known.get(name))
                values[name] = lists[name].items
            else:
                values[name] = self._reader.unpack()
        return values

    def _list(self, known: _Seen | None) -> _Seen:
        """Return a list; of what it has of a known one, only the bytes are compared."""
        count, start = self._reader.read_array_header(), self._reader.tell()
        items: list[Any] = []
        if known and count >= len(known.items) and self._data.startswith(known.packed, start):
            self._reader.read_bytes(len(known.packed))
            items += known.items
        items += [self._reader.unpack() for _ in range(count - len(items))]
        return _Seen(self._data[start : self._reader.tell()], items)

    def _following(self) -> bytes:
        at = self._reader.tell()
        return self._data[at : at + 1] or b"\0"
