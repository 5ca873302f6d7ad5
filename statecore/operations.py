"""What can be done to one key: each operation applies, merges with the next, and inverts.

An operation meets the packed value of its key, or ``None`` where the key is missing, and gives
the new one. A missing key counts as an empty list to ``Extend``, as zero to ``Add``, as an empty
map to ``Patch``.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Final, Protocol, TypeAlias, TypeGuard

from statecore.errors import OperationMismatch, Path
from statecore.packed import (
    Packed,
    extend_list,
    is_list,
    join_list,
    lay_open,
    list_items,
    same_packed,
    split_list,
    thaw,
)
from statecore.values import Value, pack

Number: TypeAlias = int | float | Decimal

_DIGITS_MAX: Final = 4096
_PREVIEW_WIDTH: Final = 100
_GLANCES: Final = (
    (6, 6, 60),
    (5, 5, 40),
    (4, 4, 30),
    (3, 3, 24),
    (3, 2, 24),
    (2, 2, 16),
    (2, 1, 16),
)
_EXACT: Final = Context(
    prec=_DIGITS_MAX,
    Emax=MAX_EMAX,
    Emin=MIN_EMIN,
    traps=[Inexact, InvalidOperation, Overflow],
)


class Operation(Protocol):
    """One thing done to one key."""

    def apply(self, old: Packed | None) -> Packed | None:
        """Return the key's new packed value; ``None`` removes the key.

        Raises:
            OperationMismatch: the operation does not fit the old value.
        """

    def merge(self, later: Operation) -> Operation | None:
        """Return the one operation that does both, or ``None`` where there is none."""

    def invert(self, before: Packed | None) -> Operation:
        """Return what leads back to the value before."""


@dataclass(frozen=True, slots=True, eq=False)
class Put:
    """Set the key to a value, whatever it was."""

    packed: Packed

    @property
    def value(self) -> Value:
        """A fresh copy of the value."""
        return thaw(self.packed)

    def apply(self, old: Packed | None) -> Packed:
        return self.packed

    def merge(self, later: Operation) -> Operation:
        return put_or_remove(later.apply(self.packed))

    def invert(self, before: Packed | None) -> Operation:
        return put_or_remove(before)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Put) and same_packed(self.packed, other.packed)

    def __hash__(self) -> int:
        return hash(Put)  # equal maps may be packed in different orders

    def __str__(self) -> str:
        return f"= {_preview(self.packed)}"


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove the key, if it is there."""

    def apply(self, old: Packed | None) -> None:
        return None

    def merge(self, later: Operation) -> Operation:
        return put_or_remove(later.apply(None))

    def invert(self, before: Packed | None) -> Operation:
        return put_or_remove(before)

    def __str__(self) -> str:
        return "removed"


@dataclass(frozen=True, slots=True)
class Extend:
    """Append items to a list."""

    count: int
    items: bytes  # packed, one behind the other

    @classmethod
    def by(cls, items: list[Value], path: Path = ()) -> Extend:
        """Return the operation that appends these values."""
        return cls(*list_items(pack(list(items), path)))

    def apply(self, old: Packed | None) -> Packed:
        if old is None:
            return join_list(self.count, self.items)
        _require_list(old, "extend")
        return extend_list(old, self.count, self.items)

    def merge(self, later: Operation) -> Operation | None:
        if isinstance(later, Extend):
            return Extend(self.count + later.count, self.items + later.items)
        return None

    def invert(self, before: Packed | None) -> Operation:
        if before is None:
            return REMOVE
        return Splice(list_items(before)[0], self.count, 0, b"")

    def __str__(self) -> str:
        return f"+ {_preview(join_list(self.count, self.items))}"


@dataclass(frozen=True, slots=True)
class Splice:
    """Replace ``delete`` items of a list from index ``at`` on by other items."""

    at: int
    delete: int
    count: int
    items: bytes  # packed, one behind the other

    @classmethod
    def by(cls, at: int, delete: int, items: list[Value], path: Path = ()) -> Splice:
        """Return the operation that replaces items; indexes count from 0 and are not negative."""
        if at < 0 or delete < 0:
            raise OperationMismatch(f"splice at {at}, delete {delete}: neither can be negative")
        return cls(at, delete, *list_items(pack(list(items), path)))

    def apply(self, old: Packed | None) -> Packed:
        items = [] if old is None else split_list(_require_list(old, "splice"))
        if self.at + self.delete > len(items):
            reach = f"items {self.at} to {self.at + self.delete}"
            raise OperationMismatch(f"splice reaches {reach} of a list of {len(items)}")
        rest = items[: self.at], items[self.at + self.delete :]
        count = len(items) - self.delete + self.count
        return join_list(count, b"".join((*rest[0], self.items, *rest[1])))

    def merge(self, later: Operation) -> Operation | None:
        return None

    def invert(self, before: Packed | None) -> Operation:
        if before is None:
            return REMOVE
        gone = split_list(before)[self.at : self.at + self.delete]
        return Splice(self.at, self.count, self.delete, b"".join(gone))

    def __str__(self) -> str:
        into = _preview(join_list(self.count, self.items))
        return f"[{self.at}:{self.at + self.delete}] = {into}"


@dataclass(frozen=True, slots=True, eq=False)
class Add:
    """Add to a number of the same type.

    Sums of ``int`` and of ``Decimal`` are exact, so their additions commute and merge into one.
    Sums of ``float`` depend on the order, so the amounts are kept and added in turn.
    """

    amounts: tuple[Number, ...]

    @classmethod
    def by(cls, amount: Number) -> Add:
        """Return the operation that adds this amount."""
        if not _is_number(amount):
            raise OperationMismatch(f"add takes a number, not {type(amount).__name__}")
        if isinstance(amount, Decimal) and not amount.is_finite():
            raise OperationMismatch("add takes a finite Decimal")
        return cls((amount,))

    @property
    def exact(self) -> bool:
        """Whether the order of additions makes no difference."""
        return all(type(amount) is not float for amount in self.amounts)

    def apply(self, old: Packed | None) -> Packed:
        total = type(self.amounts[0])(0) if old is None else lay_open(old)
        for amount in self.amounts:
            if not _is_number(total) or type(total) is not type(amount):
                held, given = type(total).__name__, type(amount).__name__
                raise OperationMismatch(f"add {given} to {held}: the types must be the same")
            total = _add(total, amount)
        return pack(total)

    def merge(self, later: Operation) -> Operation | None:
        if not isinstance(later, Add):
            return None
        if type(self.amounts[-1]) is not type(later.amounts[0]):
            return None
        if self.exact and later.exact:
            return Add((_add(self.amounts[0], later.amounts[0]),))
        return Add(self.amounts + later.amounts)

    def invert(self, before: Packed | None) -> Operation:
        if before is not None and type(self.amounts[0]) is int:
            return Add((-self.amounts[0],))
        return put_or_remove(before)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Add) and pack(list(self.amounts)) == pack(list(other.amounts))

    def __hash__(self) -> int:
        return hash(self.amounts)

    def __str__(self) -> str:
        text = " ".join(f"{amount:+}" for amount in self.amounts)
        return text if len(text) <= _PREVIEW_WIDTH else f"{text[:67]}...{text[-30:]}"


@dataclass(frozen=True, slots=True)
class Steps:
    """Operations in turn that no single one can do; neighbours are merged where they can be."""

    operations: tuple[Operation, ...]

    def apply(self, old: Packed | None) -> Packed | None:
        for operation in self.operations:
            old = operation.apply(old)
        return old

    def merge(self, later: Operation) -> Steps:
        *rest, last = self.operations
        following = later.operations if isinstance(later, Steps) else (later,)
        both = last.merge(following[0])
        middle = (last, following[0]) if both is None else (both,)
        return Steps((*rest, *middle, *following[1:]))

    def invert(self, before: Packed | None) -> Operation:
        return put_or_remove(before)

    def __str__(self) -> str:
        return ", then ".join(map(str, self.operations))


REMOVE: Final = Remove()


def put_or_remove(packed: Packed | None) -> Operation:
    """Return what leads to this packed value, or to the key's absence."""
    return REMOVE if packed is None else Put(packed)


def combine(first: Operation, second: Operation) -> Operation:
    """Return the operation that does both in turn; combining is associative."""
    if isinstance(second, Put | Remove):
        return second
    if isinstance(first, Put | Remove):
        return first.merge(second)
    steps = first if isinstance(first, Steps) else Steps((first,))
    both = steps.merge(second)
    return both if len(both.operations) > 1 else both.operations[0]


def kind_of(packed: Packed) -> str:
    """Return the name of a packed value's type, for people to read."""
    return type(lay_open(packed)).__name__


def _is_number(value: object) -> TypeGuard[Number]:
    return type(value) in (int, float, Decimal)


def _add(left: Number, right: Number) -> Number:
    if isinstance(left, Decimal) and isinstance(right, Decimal):
        try:
            return _EXACT.add(left, right)
        except (Inexact, InvalidOperation, Overflow) as error:
            raise OperationMismatch(f"the sum needs more than {_DIGITS_MAX:,} digits") from error
    return left + right  # type: ignore[operator]  # the caller saw to it that the types agree


def _require_list(packed: Packed, verb: str) -> Packed:
    if not is_list(packed):
        raise OperationMismatch(f"{verb} needs a list, not {kind_of(packed)}")
    return packed


def _preview(packed: Packed) -> str:
    """Return a value on one line: less of it, and less deep, the more there is."""
    value, text = lay_open(packed), ""  # a conflict shows as one
    for levels, items, width in _GLANCES:
        glance = reprlib.Repr()
        glance.maxlevel, glance.maxdict, glance.maxlist = levels, items, items
        glance.maxstring = glance.maxother = width
        text = glance.repr(value)
        if len(text) <= _PREVIEW_WIDTH:
            break
    return text
