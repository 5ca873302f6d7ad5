"""The state of one stream at one version: folding records into it, and deciding the next one.

Pure. A root is the whole state at a version, in a persistent map (a hash array mapped trie, from
``immutables``): the roots of all versions share what did not change, so keeping one costs next to
nothing, and one that a reader holds is never changed by a writer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from immutables import Map

from statecore.change import Change
from statecore.codec import Record
from statecore.codec.record import CLEARED, PAST, TAG, TYPE
from statecore.codec.wire import (
    EXTEND,
    PUT,
    REMOVED,
    STRIDE,
    Wire,
    apply,
    rows,
    whole_value,
    write_operation,
)
from statecore.diff import grown
from statecore.errors import DamagedRecord, OperationMismatch, TagExists
from statecore.events import EventType, Line, Past, join
from statecore.operations import Operation, Put
from statecore.packed import Packed, is_list, to_bytes

Cell: TypeAlias = tuple[int, Packed]
"""A key's value, behind the version that last touched the key."""

_CELL_BYTES: Final = 16  # what a cell weighs beside its key and value
_WHOLE_BYTES_MAX: Final = 32  # a new value this small is recorded beside the operation
_GROWN_BYTES_MIN: Final = 128  # shorter lists are recorded whole


class Tag(NamedTuple):
    """The name of a version; a version of ``None`` gives the name up."""

    name: str
    version: int | None
    replace: bool = False


NO_PAST: Final[Past] = {}


class Root:
    """The whole state of a stream at a version. Never changed once made."""

    __slots__ = ("cells", "last", "past", "tags", "time", "version", "weight")

    def __init__(
        self,
        version: int,
        time: int,
        cells: Map[str, Cell],
        weight: int,
        tags: Mapping[str, int],
        last: Record | None,
        past: Past = NO_PAST,
    ) -> None:
        self.version = version
        self.time = time  # of the last event, in microseconds since 1970, UTC
        self.cells = cells
        self.weight = weight  # bytes of all keys and values
        self.tags = tags
        self.last = last  # the last event, where it was at hand
        self.past = past  # what it has taken in of other branches


NOTHING: Final[Map[str, Cell]] = Map()


def empty(version: int = 0) -> Root:
    """Return the root of a stream that is empty, or was erased, at a version."""
    return Root(version, 0, NOTHING, 0, {}, None)


def fold(root: Root, records: Iterable[Record]) -> Root:
    """Return the root after these records, which follow it one by one.

    Raises:
        DamagedRecord: a record does not follow, or does not fit the state it meets.
    """
    record = root.last
    version, weight, tags, past = root.version, root.weight, root.tags, root.past
    cells = root.cells.mutate()
    for record in records:
        version += 1
        if record.version != version:
            raise DamagedRecord(f"version {version} is missing: {record.version} is in its place")
        body = record.body
        if len(body) > TYPE:
            weight, tags, cells, past = _begin(record, weight, tags, cells, past)
        operations = body[0]
        # Nearly every event has one operation: taken apart at once, not slice by slice.
        alone = len(operations) == STRIDE
        for key, code, _, argument in (operations,) if alone else rows(operations):
            old = cells.get(key)
            new: Any = argument if code == PUT else _apply(record, code, argument, old)
            if new is not None:
                cells[key] = (version, new)
                weight += len(new) - len(old[1]) if old else len(new) + len(key) + _CELL_BYTES
            elif old is not None:
                weight -= len(old[1]) + len(key) + _CELL_BYTES
                del cells[key]
    if record is root.last:
        return root
    assert record is not None
    return Root(version, record.time, cells.finish(), weight, tags, record, past)


def forked(root: Root, line: Line) -> Root:
    """Return the root that a fork of a branch begins with."""
    past = join(root.past, {line: root.version})
    return Root(root.version, root.time, root.cells, root.weight, root.tags, root.last, past)


def _begin(record: Record, weight: int, tags: Mapping[str, int], cells: Any, past: Past) -> Any:
    """Do what an event does beside its operations."""
    extras = record.extras
    if record.type == EventType.ERASED:
        return 0, {}, NOTHING.mutate(), NO_PAST
    if CLEARED in extras:
        weight, cells = 0, NOTHING.mutate()
    if TAG in extras:
        name, version = extras[TAG]
        tags = name_version(tags, Tag(name, version, replace=True))
    if PAST in extras:
        past = join(past, record.past)
    return weight, tags, cells, past


def name_version(tags: Mapping[str, int], tag: Tag) -> Mapping[str, int]:
    """Return the tags after a version got a name, or a name was given up.

    Raises:
        TagExists: the name is another version's, and is not to be moved.
    """
    if tag.version is None:
        return {name: version for name, version in tags.items() if name != tag.name}
    if not tag.replace and tags.get(tag.name, tag.version) != tag.version:
        raise TagExists(
            f"the tag {tag.name!r} names version {tags[tag.name]}; replace=True moves it"
        )
    return {**tags, tag.name: tag.version}


def _apply(record: Record, code: int, argument: Any, old: Cell | None) -> Packed | None:
    """Return the value after an operation that is no Put."""
    if code == REMOVED:
        return None
    whole = whole_value(code, argument)
    if whole is not None:
        return whole
    try:
        return apply(code, argument, old[1] if old else None)
    except (OperationMismatch, ValueError, TypeError) as error:
        raise DamagedRecord(f"version {record.version} does not fit its state: {error}") from error


def decide(
    root: Root, change: Change, touched_before: Callable[[str], int]
) -> tuple[Wire, Map[str, Cell], int]:
    """Return the operations to record for a change, and the cells and weight after it.

    Args:
        root: the state the change meets.
        change: what is to be done.
        touched_before: tells the version that last touched a key that is not there; 0 for none.

    Raises:
        OperationMismatch: an operation does not fit; names the key.
    """
    version = root.version + 1
    cells, weight = (NOTHING, 0) if change.cleared else (root.cells, root.weight)
    wire: list[Any] = []
    for key, operation in change.operations.items():
        before = root.cells.get(key)
        old = None if before is None or change.cleared else before[1]
        try:
            code, argument, new = _record(operation, old)
        except OperationMismatch as error:
            raise OperationMismatch(f"{key}: {error}") from error
        last = touched_before(key) if before is None else before[0]
        wire += (key, code, version - last if last else 0, argument)
        if old is not None:
            weight -= len(old) + len(key) + _CELL_BYTES
        if new is not None:
            cells = cells.set(key, (version, new))
            weight += len(new) + len(key) + _CELL_BYTES
        elif old is not None:
            cells = cells.delete(key)
    return tuple(wire), cells, weight


def _record(operation: Operation, old: Packed | None) -> tuple[int, Any, Packed | None]:
    """Return how an operation is recorded, and the value after it.

    A list that visibly grew is recorded as what was added; a small value after an operation that
    builds on the old one is recorded beside it, so that reading needs no older event.
    """
    if type(operation) is Put:
        packed = to_bytes(operation.packed)
        if old is not None and len(packed) > _GROWN_BYTES_MIN and is_list(old) and is_list(packed):
            extend = grown(old, packed)
            if extend is not None:
                return EXTEND, (extend.count, extend.items), extend.apply(old)
        return PUT, packed, packed
    code, argument = write_operation(operation)
    new = apply(code, argument, old)
    if code != REMOVED and new is not None and len(new) <= _WHOLE_BYTES_MAX:
        argument = (*argument, to_bytes(new))
    return code, argument, new


def values_of(root: Root) -> dict[str, Packed]:
    """Return the packed value of each key."""
    return {key: cell[1] for key, cell in root.cells.items()}


def changed_keys(records: Iterable[Record]) -> Iterator[str]:
    """Yield the key of each operation of these records."""
    for record in records:
        yield from record.operations[::STRIDE]


def step_back(root: Root, before: Record, cells: Mapping[str, Cell | None]) -> Root:
    """Return the root before its last event, from that before it and the cells it replaced."""
    weight, after = root.weight, root.cells
    for key, cell in cells.items():
        gone = after.get(key)
        if gone is not None:
            weight -= len(gone[1]) + len(key) + _CELL_BYTES
        if cell is not None:
            after = after.set(key, cell)
            weight += len(cell[1]) + len(key) + _CELL_BYTES
        elif gone is not None:
            after = after.delete(key)
    return Root(root.version - 1, before.time, after, weight, root.tags, before, root.past)
