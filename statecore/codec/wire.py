"""Operations as plain tuples that msgpack can pack, and back.

An event's operations are one flat tuple of four entries each: key, code, distance, argument. The
distance leads back to the version that last touched the key (0: none did). The argument of an
operation that builds on the old value may be followed by the whole new value, where that is
small: then reading needs no older event.

Tuples, since the garbage collector looks only once at a tuple of plain values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from statecore.change import Change, Patch
from statecore.operations import REMOVE, Add, Extend, Operation, Put, Remove, Splice, Steps
from statecore.packed import Packed, Rope, fields_of, is_map, join_map, to_bytes
from statecore.values import pack, unpack

# On disk. Never renumber.
PUT: Final = 0
REMOVED: Final = 1
EXTEND: Final = 2
SPLICE: Final = 3
ADD: Final = 4
PATCH: Final = 5
STEPS: Final = 6

STRIDE: Final = 4
Wire: TypeAlias = tuple[Any, ...]

_LENGTH: Final = {EXTEND: 2, SPLICE: 4, ADD: 1, PATCH: 2, STEPS: 1}


def whole_value(code: int, argument: Any) -> bytes | None:
    """Return the whole new value that an argument carries, ``None`` where it carries none."""
    if code == PUT:
        return argument  # type: ignore[no-any-return]
    if code == REMOVED or len(argument) == _LENGTH[code]:
        return None
    return argument[-1]  # type: ignore[no-any-return]


def write_operation(operation: Operation) -> tuple[int, Any]:
    """Return the code and the argument of an operation."""
    writer = _WRITERS.get(type(operation))
    if writer is None:
        raise TypeError(f"not an operation: {type(operation).__name__}")
    return writer(operation)


def write_operations(change: Change) -> Wire:
    """Return the flat tuple of a change's operations, with distances of 0."""
    wire: list[Any] = []
    for key, operation in change.operations.items():
        code, argument = write_operation(operation)
        wire += (key, code, 0, argument)
    return tuple(wire)


def read_operation(code: int, argument: Any) -> Operation:
    """Return the operation of a code and an argument.

    Raises:
        ValueError: there is no such operation.
    """
    reader = _READERS.get(code)
    if reader is None:
        raise ValueError(f"no operation has the code {code}")
    return reader(argument)


def read_change(wire: Wire, *, cleared: bool) -> Change:
    """Return the change of a flat tuple of operations."""
    return Change({key: read_operation(code, arg) for key, code, _, arg in rows(wire)}, cleared)


def apply(code: int, argument: Any, old: Packed | None) -> Packed | None:
    """Return what an operation makes of a packed value.

    As ``read_operation(code, argument).apply(old)`` does, but a patch, which may hold many
    operations, is done as it stands.

    Raises:
        OperationMismatch, ValueError: it does not fit, or there is none of this code.
    """
    if code == PUT:
        return argument  # type: ignore[no-any-return]
    if code == REMOVED:
        return None
    if code != PATCH or isinstance(old, Rope) or not (old is None or is_map(old)):
        return read_operation(code, argument).apply(old)
    fields = {} if old is None or argument[0] else fields_of(old)
    for key, inner, _, its_argument in rows(argument[1]):
        packed = apply(inner, its_argument, fields.get(key))
        if packed is not None:
            fields[key] = packed
        else:
            fields.pop(key, None)
    return join_map(fields)


def rows(wire: Wire) -> Iterator[tuple[str, int, int, Any]]:
    """Yield key, code, distance and argument of each operation."""
    return zip(*(iter(wire),) * STRIDE, strict=True)


_WRITERS: Final[dict[type, Callable[[Any], tuple[int, Any]]]] = {
    Put: lambda put: (PUT, to_bytes(put.packed)),
    Remove: lambda _: (REMOVED, None),
    Extend: lambda extend: (EXTEND, (extend.count, extend.items)),
    Splice: lambda each: (SPLICE, (each.at, each.delete, each.count, each.items)),
    Add: lambda add: (ADD, (pack(list(add.amounts)),)),
    Patch: lambda patch: (PATCH, (patch.change.cleared, write_operations(patch.change))),
    Steps: lambda steps: (STEPS, (tuple(map(write_operation, steps.operations)),)),
}
_READERS: Final[dict[int, Callable[[Any], Operation]]] = {
    PUT: Put,
    REMOVED: lambda _: REMOVE,
    EXTEND: lambda argument: Extend(*argument[:2]),
    SPLICE: lambda argument: Splice(*argument[:4]),
    ADD: lambda argument: Add(tuple(unpack(argument[0]))),
    PATCH: lambda argument: Patch(read_change(argument[1], cleared=argument[0])),
    STEPS: lambda argument: Steps(tuple(read_operation(*step) for step in argument[0])),
}
