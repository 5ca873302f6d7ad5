"""Values: what goes in comes out equal and of the same type, or is refused with the path."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given

from statecore.errors import LimitExceeded, UnsupportedValue
from statecore.values import DEPTH_MAX, EVENT_BYTES_MAX, check_key, pack, same, unpack
from tests.strategies import VALUES

DISTINCT = [
    None, False, 0, 0.0, -0.0, math.nan, Decimal(0), Decimal("0.0"), "", b"", [], {}, "0", b"0",
    1, True, 1.0, Decimal(1), "1", [1], [True], [1.0], {"": 1}, {"": True}, 2**53, 2**53 + 1,
    float(2**53), 2**64, -(2**63) - 1, UUID(int=0), datetime(1970, 1, 1, tzinfo=UTC),
    Decimal("NaN"), Decimal("sNaN"), Decimal("-0"), math.inf, Decimal("Infinity"),
]  # fmt: skip


def unsupported(value: Any) -> str:
    with pytest.raises((UnsupportedValue, LimitExceeded)) as caught:
        pack(value, ("plan",))
    return str(caught.value)


@given(VALUES)
def test_a_value_comes_back_the_same(value: Any) -> None:
    assert same(unpack(pack(value)), value)


@given(VALUES, VALUES)
def test_sameness_is_equality_that_is_strict_in_types(left: Any, right: Any) -> None:
    assert same(left, left)
    assert same(left, right) == same(right, left)
    if same(left, right):
        assert type(left) is type(right)
        assert repr(pack(left)) == repr(pack(right)) or isinstance(left, dict | list)


def test_values_that_python_calls_equal_stay_apart() -> None:
    for at, left in enumerate(DISTINCT):
        for right in DISTINCT[at + 1 :]:
            assert not same(left, right), (left, right)
            assert pack(left) != pack(right)


def test_maps_in_another_order_are_the_same() -> None:
    assert same({"a": 1, "b": [2]}, {"b": [2], "a": 1})


def test_a_local_time_keeps_its_offset() -> None:
    moment = datetime(2026, 7, 1, 9, tzinfo=timezone(timedelta(hours=5, minutes=30)))

    back = unpack(pack(moment))

    assert back == moment
    assert back.utcoffset() == moment.utcoffset()


def test_an_ambiguous_local_time_is_refused() -> None:
    # In a fold Python holds it unequal to the same moment in any other zone (PEP 495).
    message = unsupported(datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")))

    assert message == "plan: this local time is ambiguous; convert it to UTC first"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((1, 2), "plan: tuple: use a list"),
        ({"steps": [{"at": {1, 2}}]}, "plan['steps'][0]['at']: set: use a sorted list"),
        ({"a": {1: "x"}}, "plan['a']: map keys are strings, not int (1)"),
        ({math.nan: 1}, "plan: map keys are strings, not float (nan)"),
        ({b"a": 1}, "plan: map keys are strings, not bytes (b'a')"),
        ({"when": datetime(2026, 1, 1)}, "plan['when']: a datetime needs a time zone"),  # noqa: DTZ001
        (date(2026, 1, 1), "plan: date: use an aware datetime"),
        (["ok", "\ud800"], "plan[1]: the text holds a lone surrogate"),
        ({"\ud800": 1}, "plan['\\ud800']: the text holds a lone surrogate"),
        (object(), "plan: object: not a value type of statecore"),
        (type("Text", (str,), {})("x"), "plan: Text: not a value type of statecore"),
        pytest.param(
            2 ** (8 * 5000), "the integer is 5,001 bytes; the limit is 1,024 bytes", id="huge"
        ),
    ],
)
def test_what_cannot_come_back_is_refused_with_its_path(value: Any, message: str) -> None:
    assert unsupported(value).startswith(message)


def test_depth_is_limited_and_cycles_end_there() -> None:
    nested: list[Any] = []
    for _ in range(DEPTH_MAX - 1):
        nested = [nested]
    cycle: list[Any] = []
    cycle.append(cycle)

    assert same(unpack(pack(nested)), nested)
    assert unsupported([nested]) == "the value's depth is 65 levels; the limit is 64 levels"
    assert unsupported(cycle) == "the value's depth is 65 levels; the limit is 64 levels"


def test_size_is_limited() -> None:
    assert "the limit is 16,777,216 bytes" in unsupported(b"x" * (EVENT_BYTES_MAX + 1))


def test_a_model_goes_in_as_its_data() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Step(pydantic.BaseModel):  # type: ignore[misc,name-defined]
        name: str
        tags: Any = None

    assert unpack(pack([Step(name="book")])) == [{"name": "book", "tags": None}]
    assert (
        unsupported({"s": Step(name="x", tags={1})}) == "plan['s']['tags']: set: use a sorted list"
    )


@pytest.mark.parametrize("key", ["", "a/b", "~", "ключ", "x" * 1024])
def test_any_short_string_is_a_key(key: str) -> None:
    check_key(key)


@pytest.mark.parametrize("key", [1, None, math.nan, "\ud800", "x" * 1025, b"a"])
def test_a_bad_key_is_refused(key: Any) -> None:
    with pytest.raises((UnsupportedValue, LimitExceeded)):
        check_key(key)


@pytest.mark.parametrize(
    "packed",
    [b"", b"\xc1", b"\x92\x01", b"\x01\x02", b"\xc7\x01\x01x", b"\xd4\x63x", b"\x91" * 5000],
)
def test_bytes_that_are_no_value_are_refused(packed: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the contract is ValueError
        unpack(packed)
