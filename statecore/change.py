"""The algebra: a change is a small value that applies, composes, inverts and compares.

An event is one change, a snapshot is all changes so far composed into one, the difference of two
versions is the change between them, a restore is the change that leads back. Everything here is
pure. The laws, each a property test:

- applying a composition is applying in turn; composition is associative; ``EMPTY`` is its identity
- ``apply(a, diff(a, b)) == b``
- ``apply(apply(a, c), invert(c, a)) == a``
- two changes that ``commute`` lead to the same state in either order
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from statecore.errors import LimitExceeded, OperationMismatch, Path
from statecore.operations import (
    REMOVE,
    Add,
    Extend,
    Number,
    Operation,
    Put,
    Splice,
    Steps,
    combine,
    kind_of,
    put_or_remove,
)
from statecore.packed import Packed, is_map, join_list, join_map, split_map, thaw
from statecore.values import DEPTH_MAX, Value, check_key, depth_of, pack, printable

PackedState: TypeAlias = Mapping[str, Packed]

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Change:
    """A set of operations on keys, or a clear followed by these.

    Build one from ``EMPTY``: ``EMPTY.put("goal", "fly").extend("steps", ["book"]).add("cost", 3)``.
    Each method returns the change that does this one and then what the method says.
    """

    operations: Mapping[str, Operation]
    cleared: bool = False

    def put(self, key: str, value: Value) -> Change:
        """Set a key."""
        return self.operate(key, Put(pack(value, (key,))))

    def remove(self, key: str) -> Change:
        """Remove a key, if it is there."""
        return self.operate(key, REMOVE)

    def extend(self, key: str, items: Iterable[Value]) -> Change:
        """Append items to a list."""
        return self.operate(key, Extend.by(list(items), (key,)))

    def splice(self, key: str, at: int, delete: int, items: Iterable[Value] = ()) -> Change:
        """Replace ``delete`` items of a list from index ``at`` on."""
        return self.operate(key, Splice.by(at, delete, list(items), (key,)))

    def add(self, key: str, amount: Number) -> Change:
        """Add to a number of the same type."""
        return self.operate(key, Add.by(amount))

    def patch(self, key: str, change: Change | Mapping[str, Value]) -> Change:
        """Change fields of a nested map; a mapping sets the fields it names."""
        inner = as_change(change, (key,))
        levels = 1 + _depth(inner)
        if levels > DEPTH_MAX:
            raise LimitExceeded("the value's depth", levels, DEPTH_MAX, "levels")
        return self.operate(key, Patch(inner))

    def clear(self) -> Change:
        """Remove every key."""
        return CLEAR

    def operate(self, key: str, operation: Operation) -> Change:
        """Do one operation after this change."""
        check_key(key)
        change = Change({key: operation})
        return change if self is EMPTY else self.then(change)

    def then(self, later: Change) -> Change:
        """Return the change that does this one and then the other."""
        return compose((self, later))

    def apply(self, state: PackedState) -> dict[str, Packed]:
        """Return the state after this change.

        Raises:
            OperationMismatch: an operation does not fit the value it meets; names the key.
        """
        after = {} if self.cleared else dict(state)
        for key, operation in self.operations.items():
            packed = _at(key, operation.apply, after.get(key))
            if packed is None:
                after.pop(key, None)
            else:
                after[key] = packed
        return after

    def invert(self, before: PackedState) -> Change:
        """Return the change that leads back to the state before."""
        if self.cleared:
            added: dict[str, Operation] = dict.fromkeys(self.operations, REMOVE)
            return Change(added | {key: Put(packed) for key, packed in before.items()})
        return Change({key: op.invert(before.get(key)) for key, op in self.operations.items()})

    def commutes(self, other: Change) -> bool:
        """Tell whether both orders lead to the same state, whatever the state.

        Deliberately narrower than it could be: two equal ``Put`` do not commute here, since
        whoever takes a lock by setting it must learn that another took it first.
        """
        if not self.touches_anything or not other.touches_anything:
            return True
        if self.cleared or other.cleared:
            return False
        mine, theirs = self.operations, other.operations
        return all(
            operations_commute(mine[key], theirs[key]) for key in mine.keys() & theirs.keys()
        )

    @property
    def touches_anything(self) -> bool:
        """Whether this is anything but the empty change."""
        return self.cleared or bool(self.operations)

    def lines(self, indent: str = "") -> Iterator[str]:
        """Yield a line for each operation, keys in order, nested changes indented."""
        if self.cleared:
            yield f"{indent}cleared"
        for name, operation in sorted(self.operations.items()):
            key = printable(name)
            if isinstance(operation, Patch):
                yield f"{indent}{key}:"
                yield from operation.change.lines(indent + "  ")
            else:
                yield f"{indent}{key} {operation}"

    def __str__(self) -> str:
        return "\n".join(self.lines())


@dataclass(frozen=True, slots=True)
class Patch:
    """Change the fields of a nested map."""

    change: Change

    def apply(self, old: Packed | None) -> Packed:
        if old is None:
            fields = {}
        elif isinstance(old, bytes) and is_map(old):
            fields = split_map(old)
        else:
            raise OperationMismatch(f"patch needs a map, not {kind_of(old)}")
        return join_map(self.change.apply(fields))

    def merge(self, later: Operation) -> Operation | None:
        return Patch(self.change.then(later.change)) if isinstance(later, Patch) else None

    def invert(self, before: Packed | None) -> Operation:
        if not isinstance(before, bytes):
            return put_or_remove(before)
        return Patch(self.change.invert(split_map(before)))

    def __str__(self) -> str:
        return "{" + "; ".join(self.change.lines()) + "}"


EMPTY: Final = Change({})
CLEAR: Final = Change({}, cleared=True)


def compose(changes: Iterable[Change]) -> Change:
    """Return the one change that does all of these in turn."""
    operations: dict[str, Operation] = {}
    cleared = False
    for change in changes:
        if change.cleared:
            operations, cleared = dict(change.operations), True
            continue
        for key, operation in change.operations.items():
            first = operations.get(key, REMOVE if cleared else None)
            both = operation if first is None else _at(key, combine, first, operation)
            if cleared and both is REMOVE:
                operations.pop(key, None)
            else:
                operations[key] = both
    return Change(operations, cleared)


def as_change(change: Change | Mapping[str, Value], path: Path = ()) -> Change:
    """Return the change itself, or the one that sets what a mapping names."""
    if isinstance(change, Change):
        return change
    for key in change:
        check_key(key)
    return Change({key: Put(pack(value, (*path, key))) for key, value in change.items()})


def _depth(change: Change) -> int:
    """Return how many levels of lists and maps the deepest value has that a change brings."""
    return max((_depth_of_operation(each) for each in change.operations.values()), default=0)


def _depth_of_operation(operation: Operation) -> int:
    if isinstance(operation, Patch):
        return 1 + _depth(operation.change)
    if isinstance(operation, Put):
        return depth_of(operation.value)
    if isinstance(operation, Extend | Splice):
        return depth_of(thaw(join_list(operation.count, operation.items)))
    if isinstance(operation, Steps):
        return max(map(_depth_of_operation, operation.operations))
    return 0


def operations_commute(one: Operation, other: Operation) -> bool:
    """Tell whether two operations on the same key lead to the same value in either order."""
    if isinstance(one, Add) and isinstance(other, Add):
        return one.exact and other.exact
    if isinstance(one, Patch) and isinstance(other, Patch):
        return one.change.commutes(other.change)
    return False


def pack_state(state: Mapping[str, Value]) -> dict[str, Packed]:
    """Pack each value of a state."""
    for key in state:
        check_key(key)
    return {key: pack(value, (key,)) for key, value in state.items()}


def _at(key: str, act: Callable[..., _Result], *arguments: object) -> _Result:
    """Act, and put the key in front of what goes wrong."""
    try:
        return act(*arguments)
    except OperationMismatch as error:
        raise OperationMismatch(f"{key}: {error}") from error
