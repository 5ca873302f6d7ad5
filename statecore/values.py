"""What a value may be, its packed form, its limits, and when two values are the same.

A value is ``None``, ``bool``, ``int``, ``float``, ``str``, ``bytes``, an aware ``datetime``,
``Decimal``, ``UUID``, a list of values, or a map from strings to values. A pydantic model goes in
as its data. What goes in comes out equal and of the same type, or is refused with the path.

At rest a value is its **packed** form: msgpack bytes (https://msgpack.org, with the extension
types below). Bytes can't change, so states of different versions share them freely, and every
read unpacks a fresh value that the caller owns.
"""

from __future__ import annotations

import struct
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgpack

from statecore.errors import InputError, LimitExceeded, Path, UnsupportedValue

Value: TypeAlias = Any
"""User data: one of the types above."""

DEPTH_MAX: Final = 64
KEY_BYTES_MAX: Final = 1024
EVENT_BYTES_MAX: Final = 16 * 1024 * 1024
INT_BYTES_MAX: Final = 1024  # any of them prints within Python's own limit of digits

# On disk. Never renumber.
_EXT_DATETIME: Final = 1
_EXT_DECIMAL: Final = 2
_EXT_UUID: Final = 3
_EXT_INT: Final = 4
_EXT_CONFLICT: Final = 5

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - local time is stored beside its offset
_MICROSECOND: Final = timedelta(microseconds=1)
_DATETIME: Final = struct.Struct(">qi")  # microseconds of local time, UTC offset in seconds

_ATOMS: Final = frozenset({type(None), bool, int, float, str, bytes, datetime, Decimal, UUID})
_EXACT: Final = frozenset({type(None), bool, int, str, bytes, UUID})  # equal is the same


def pack(value: Value, path: Path = ()) -> bytes:
    """Pack a value into bytes that nobody can change any more.

    Raises:
        UnsupportedValue: it holds something that could not come back the same; names the path.
        LimitExceeded: it is nested too deeply, or too large for an event.
    """
    try:
        if type(value) not in _ATOMS:
            _check_shape(value, DEPTH_MAX)
        packed: bytes = _packers.packer.pack(value)
    except (_Fault, ValueError, OverflowError, TypeError) as error:
        raise _explain(value, path) from error
    if len(packed) > EVENT_BYTES_MAX:
        raise LimitExceeded("the packed value", len(packed), EVENT_BYTES_MAX, "bytes")
    return packed


class UnresolvedWarning(UserWarning):
    """A value that is in conflict was read: what came back is only its provisional winner."""


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A value in conflict: what sides made of it, and what they started from (``conflict.py``).

    Each term is a packed value, ``None`` where the key is not there. There is one more of what
    sides made than of what they started from.
    """

    adds: tuple[bytes | None, ...]
    removes: tuple[bytes | None, ...]

    @property
    def sides(self) -> list[Value]:
        """What each side made of it; ``None`` too where a side removed it."""
        return [None if term is None else expose(term) for term in self.adds]

    @property
    def bases(self) -> list[Value]:
        """What they started from; ``None`` too where it was not there."""
        return [None if term is None else expose(term) for term in self.removes]

    @property
    def packed(self) -> bytes:
        """The conflict, packed."""
        return pack_exposed(self)

    @property
    def winner(self) -> bytes | None:
        """What reads as the value until somebody decides: the first one that is there."""
        return next((term for term in self.adds if term is not None), None)

    def __repr__(self) -> str:
        sides = " or ".join("nothing" if t is None else repr(expose(t)) for t in self.adds)
        return f"<unresolved: {sides}>"


def unpack(packed: bytes) -> Value:
    """Unpack a fresh value, owned by the caller; of one in conflict, the provisional winner.

    Raises:
        ValueError: the bytes are not one packed value.
    """
    return _unpack(packed, unpack_special)


def expose(packed: bytes) -> Value:
    """Unpack a value in which conflicts show as ``Unresolved``."""
    return _unpack(packed, _expose_special)


def pack_exposed(value: Value) -> bytes:
    """Pack what ``expose`` returned."""
    return _packers.packer.pack(value)  # type: ignore[no-any-return]


def _unpack(packed: bytes, special: Callable[[int, bytes], Value]) -> Value:
    try:
        return msgpack.unpackb(packed, ext_hook=special, strict_map_key=True)
    except (msgpack.UnpackException, struct.error, InvalidOperation, OverflowError) as error:
        raise ValueError(f"not a packed value: {type(error).__name__}") from error


def check_key(key: str) -> None:
    """Refuse a key that can't be one: any string of at most 1,024 bytes of UTF-8 can.

    Raises:
        UnsupportedValue: not a string, or not valid Unicode.
        LimitExceeded: too long.
    """
    if type(key) is not str:
        raise UnsupportedValue((), f"keys are strings, not {type(key).__name__} ({key!r})")
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise UnsupportedValue((), f"key {key!r} holds a lone surrogate") from error
    if size > KEY_BYTES_MAX:
        raise LimitExceeded("the key", size, KEY_BYTES_MAX, "bytes")


def check_text(what: str, text: object) -> None:
    """Refuse what is said beside a change, unless it is text.

    Raises:
        InputError: names what it is.
    """
    if type(text) is not str:
        raise InputError(f"the {what} is text, not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the {what} holds a lone surrogate") from error


def depth_of(value: Value) -> int:
    """Return how many levels of lists and maps a value has."""
    if type(value) not in (list, dict):
        return 0
    items = value.values() if type(value) is dict else value
    return 1 + max(map(depth_of, items), default=0)


def same(left: Value, right: Value) -> bool:
    """Tell whether two values are the same value: strict in type, sign of zero and NaN.

    ``1``, ``True`` and ``1.0`` are three values, ``0.0`` and ``-0.0`` are two, NaN is one. The
    order of a map's keys does not matter. A merge or a diff that is laxer loses updates.
    """
    kind = type(left)
    if kind is not type(right):
        return False
    if kind in _EXACT:
        return left == right  # type: ignore[no-any-return]
    if kind is dict:
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if kind is list:
        return len(left) == len(right) and all(map(same, left, right))
    if kind is Unresolved:
        return bool(left == right)
    if kind is float and left != left:  # noqa: PLR0124 - so is NaN, whatever its bits
        return bool(right != right)  # noqa: PLR0124
    return pack(left) == pack(right)


def printable(text: str) -> str:
    """Return text that can't act on a terminal: what does not print is escaped."""
    return text if text.isprintable() else repr(text)[1:-1]


class _Fault(Exception):
    """The shape is wrong somewhere; ``_explain`` finds out where."""


class _Packers(threading.local):
    """One packer a thread: making one allocates a buffer that costs more than most packing."""

    def __init__(self) -> None:
        self.packer = msgpack.Packer(default=_pack_special, strict_types=True)


def _check_shape(value: Value, depth: int) -> None:
    """Check keys and depth, which msgpack would let pass."""
    if depth == 0:
        raise _Fault
    kind = type(value)
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise _Fault
        value = value.values()
    elif kind is not list:
        if kind in _ATOMS or hasattr(kind, "model_dump"):
            return
        raise _Fault
    for item in value:
        if type(item) not in _ATOMS:
            _check_shape(item, depth - 1)


def _pack_special(value: Value) -> Value:
    kind = type(value)
    if kind is datetime:
        return msgpack.ExtType(_EXT_DATETIME, _pack_datetime(value))
    if kind is Decimal:
        return msgpack.ExtType(_EXT_DECIMAL, str(value).encode())
    if kind is UUID:
        return msgpack.ExtType(_EXT_UUID, value.bytes)
    if kind is int:  # beyond 64 bits
        size = value.bit_length() // 8 + 1
        if size > INT_BYTES_MAX:
            raise _Fault
        return msgpack.ExtType(_EXT_INT, value.to_bytes(size, "big", signed=True))
    if kind is Unresolved:
        terms = msgpack.packb([value.adds, value.removes])
        return msgpack.ExtType(_EXT_CONFLICT, terms)
    if hasattr(kind, "model_dump"):
        data = value.model_dump(mode="python")
        _check_shape(data, DEPTH_MAX)
        return data
    raise _Fault


def unpack_special(code: int, data: bytes) -> Value:
    if code == _EXT_DATETIME:
        microseconds, offset = _DATETIME.unpack(data)
        zone = timezone(timedelta(seconds=offset)) if offset else UTC
        return (_EPOCH + timedelta(microseconds=microseconds)).replace(tzinfo=zone)
    if code == _EXT_DECIMAL:
        return Decimal(data.decode())
    if code == _EXT_UUID:
        return UUID(bytes=data)
    if code == _EXT_INT:
        return int.from_bytes(data, "big", signed=True)
    if code == _EXT_CONFLICT:
        message = "this value is in conflict; what is returned is the provisional winner"
        warnings.warn(message, UnresolvedWarning, stacklevel=4)
        winner = read_unresolved(data).winner
        return None if winner is None else unpack(winner)
    raise ValueError(f"unknown extension type {code}")


def _expose_special(code: int, data: bytes) -> Value:
    return read_unresolved(data) if code == _EXT_CONFLICT else unpack_special(code, data)


def read_unresolved(data: bytes) -> Unresolved:
    """Return the conflict that the data of an extension holds."""
    adds, removes = msgpack.unpackb(data, use_list=False)
    if len(adds) != len(removes) + 1:
        raise ValueError("not a conflict")
    return Unresolved(adds, removes)


def _pack_datetime(moment: datetime) -> bytes:
    offset = moment.utcoffset()
    if offset is None or offset.microseconds:
        raise _Fault
    # Equal must stay equal: Python holds a local time in a fold or gap unequal to every other
    # zone's time (PEP 495), so such a time would not come back equal to what went in.
    if moment.replace(tzinfo=timezone(offset)) != moment:
        raise _Fault
    local = moment.replace(tzinfo=None, fold=0) - _EPOCH
    return _DATETIME.pack(local // _MICROSECOND, offset // timedelta(seconds=1))


def _explain(value: Value, path: Path) -> InputError:
    """Find the first offending place and say what is wrong with it."""
    return _find_fault(value, path, DEPTH_MAX) or UnsupportedValue(path, "can't be recorded")


def _find_fault(value: Value, path: Path, depth: int) -> InputError | None:
    if depth == 0:
        return LimitExceeded("the value's depth", DEPTH_MAX + 1, DEPTH_MAX, "levels")
    kind = type(value)
    if hasattr(kind, "model_dump"):
        return _find_fault(value.model_dump(mode="python"), path, depth)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                what = f"map keys are strings, not {type(key).__name__} ({key!r})"
                return UnsupportedValue(path, what)
            fault = _find_fault(key, (*path, key), 1) or _find_fault(item, (*path, key), depth - 1)
            if fault:
                return fault
        return None
    if kind is list:
        faults = (_find_fault(item, (*path, at), depth - 1) for at, item in enumerate(value))
        return next(filter(None, faults), None)
    return _find_atom_fault(value, path)


def _find_atom_fault(value: Value, path: Path) -> InputError | None:
    kind = type(value)
    if kind is int and value.bit_length() // 8 + 1 > INT_BYTES_MAX:
        size = value.bit_length() // 8 + 1
        return LimitExceeded("the integer", size, INT_BYTES_MAX, "bytes")
    if kind is datetime and value.tzinfo is None:
        return UnsupportedValue(path, "a datetime needs a time zone, as in 2026-03-02T09:30:00Z")
    if kind is datetime:
        try:
            _pack_datetime(value)
        except _Fault:
            return UnsupportedValue(path, "this local time is ambiguous; convert it to UTC first")
    if kind is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            return UnsupportedValue(path, "the text holds a lone surrogate")
    if kind in _ATOMS:
        return None
    hint = _HINTS.get(kind.__name__, "not a value type of statecore")
    return UnsupportedValue(path, f"{kind.__name__}: {hint}")


_HINTS: Final = {
    "tuple": "use a list",
    "set": "use a sorted list",
    "frozenset": "use a sorted list",
    "date": "use an aware datetime or an ISO string",
    "bytearray": "use bytes",
    "ndarray": "use .tolist() or bytes",
}

_packers = _Packers()
