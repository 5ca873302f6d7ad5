"""The algebra: every law as a property, and the traps by name."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecore.change import CLEAR, EMPTY, Change, pack_state
from statecore.diff import diff
from statecore.errors import OperationMismatch
from statecore.operations import Add, Extend, Put, Splice, Steps
from statecore.values import same
from tests.strategies import STATES, changes, unpack_state


def after(state: dict[str, Any], change: Change) -> dict[str, Any]:
    return unpack_state(change.apply(pack_state(state)))


@st.composite
def runs(draw: st.DrawFn, length: int) -> tuple[dict[str, Any], list[Change]]:
    """A state and changes that fit one after the other."""
    state = start = draw(STATES)
    run = []
    for _ in range(length):
        run.append(draw(changes(state)))
        state = after(state, run[-1])
    return start, run


@given(runs(2))
def test_applying_a_composition_is_applying_in_turn(run: tuple[Any, list[Change]]) -> None:
    state, (one, two) = run

    assert same(after(state, one.then(two)), after(after(state, one), two))


@given(runs(3))
def test_composition_is_associative(run: tuple[Any, list[Change]]) -> None:
    _, (one, two, three) = run

    assert one.then(two).then(three) == one.then(two.then(three))


@given(runs(1))
def test_the_empty_change_is_the_identity(run: tuple[Any, list[Change]]) -> None:
    state, (change,) = run

    assert EMPTY.then(change) == change == change.then(EMPTY)
    assert same(after(state, EMPTY), state)


@given(STATES, STATES)
def test_a_difference_leads_from_one_state_to_the_other(one: Any, other: Any) -> None:
    assert same(after(one, diff(pack_state(one), pack_state(other))), other)


@given(runs(2))
def test_a_difference_of_related_states_leads_there_too(run: tuple[Any, list[Change]]) -> None:
    state, (one, two) = run
    middle = after(state, one)
    end = after(middle, two)

    assert same(after(middle, diff(pack_state(middle), pack_state(end))), end)
    assert not diff(pack_state(end), pack_state(end)).touches_anything


@given(runs(1))
def test_an_inverse_leads_back(run: tuple[Any, list[Change]]) -> None:
    state, (change,) = run

    inverse = change.invert(pack_state(state))

    assert same(after(after(state, change), inverse), state)


@given(st.data())
def test_changes_that_commute_do_commute(data: st.DataObject) -> None:
    state = data.draw(STATES)
    one, other = data.draw(changes(state)), data.draw(changes(state))
    try:
        onward, back = after(after(state, one), other), after(after(state, other), one)
    except OperationMismatch:
        return

    assert one.commutes(other) == other.commutes(one)
    if one.commutes(other):
        assert same(onward, back)


@given(st.data())
def test_applying_leaves_the_state_before_as_it_was(data: st.DataObject) -> None:
    state = data.draw(STATES)
    packed = pack_state(state)

    data.draw(changes(state)).apply(packed)

    assert same(unpack_state(packed), state)


def test_increments_merge_and_commute_but_not_floats() -> None:
    one = EMPTY.add("n", 1)

    assert one.then(one) == EMPTY.add("n", 2)
    assert one.commutes(one)
    assert not EMPTY.add("n", 0.1).commutes(EMPTY.add("n", 0.2))
    assert after({"n": 0.1}, EMPTY.add("n", 0.2).then(EMPTY.add("n", 0.3)))["n"] == 0.1 + 0.2 + 0.3


def test_equal_puts_do_not_commute() -> None:
    # Two agents that both take a lock by setting it must not both believe they have it.
    assert not EMPTY.put("lock", True).commutes(EMPTY.put("lock", True))


@pytest.mark.parametrize(
    ("value", "amount"),
    [(1, 1.0), (True, 1), (1.0, 1), (Decimal(1), 1), ("1", 1), ([], 1), (None, 1)],
)
def test_numbers_are_added_to_their_own_type_only(value: Any, amount: Any) -> None:
    with pytest.raises(OperationMismatch, match=r"^n: add"):
        after({"n": value}, EMPTY.add("n", amount))


@pytest.mark.parametrize("amount", [True, "1", None, Decimal("NaN"), Decimal("Infinity")])
def test_what_is_no_number_cannot_be_added(amount: Any) -> None:
    with pytest.raises(OperationMismatch):
        EMPTY.add("n", amount)


def test_decimal_sums_are_exact() -> None:
    tiny, huge = Decimal("1e-50"), Decimal("1e50")

    assert after({"n": huge}, EMPTY.add("n", tiny))["n"] == Decimal(
        "1" + "0" * 50 + "." + "0" * 49 + "1"
    )
    with pytest.raises(OperationMismatch, match="digits"):
        after({"n": Decimal("1e5000")}, EMPTY.add("n", Decimal("1e-5000")))


def test_a_missing_key_counts_as_empty() -> None:
    change = EMPTY.extend("l", [1]).add("n", Decimal("2.50")).patch("m", EMPTY.put("x", None))

    assert same(after({}, change), {"l": [1], "n": Decimal("2.50"), "m": {"x": None}})


def test_nested_mismatches_name_the_whole_path() -> None:
    change = EMPTY.patch("plan", EMPTY.patch("day", EMPTY.extend("steps", [1])))

    with pytest.raises(
        OperationMismatch, match=r"^plan: day: steps: extend needs a list, not int$"
    ):
        after({"plan": {"day": {"steps": 5}}}, change)


def test_a_splice_beyond_the_end_is_refused() -> None:
    with pytest.raises(OperationMismatch, match="items 1 to 3 of a list of 2"):
        after({"l": [1, 2]}, EMPTY.splice("l", 1, 2))
    with pytest.raises(OperationMismatch, match="negative"):
        EMPTY.splice("l", -1, 0)


def test_a_list_that_grew_differs_by_what_was_added() -> None:
    old = {"l": [{"n": n} for n in range(1000)]}
    new = {"l": [*old["l"], {"n": 1000}]}

    assert diff(pack_state(old), pack_state(new)) == EMPTY.extend("l", [{"n": 1000}])


def test_a_prefix_that_is_only_equal_to_python_is_no_prefix() -> None:
    change = diff(pack_state({"l": [1, 1.0]}), pack_state({"l": [1, True, 2]}))

    assert same(after({"l": [1, 1.0]}, change), {"l": [1, True, 2]})
    assert not isinstance(change.operations["l"], Extend)


def test_one_item_changed_in_a_long_list_is_a_splice() -> None:
    old = {"l": list(range(1000))}
    new = {"l": [*range(500), -1, *range(501, 1000)]}

    assert diff(pack_state(old), pack_state(new)) == EMPTY.splice("l", 500, 1, [-1])


def test_one_field_changed_in_a_large_map_is_a_patch() -> None:
    old = {"m": {str(n): "x" * 50 for n in range(50)}}
    new = {"m": {**old["m"], "7": "y"}}

    assert diff(pack_state(old), pack_state(new)) == EMPTY.patch("m", {"7": "y"})


def test_absence_none_and_emptiness_are_different() -> None:
    states: list[dict[str, Any]] = [{}, {"a": None}, {"a": {}}, {"a": []}, {"a": ""}]

    for one in states:
        for other in states:
            change = diff(pack_state(one), pack_state(other))
            assert same(after(one, change), other)
            assert change.touches_anything == (one is not other)


def test_a_clear_forgets_what_came_before() -> None:
    assert EMPTY.put("a", 1).then(CLEAR).put("b", 2) == CLEAR.put("b", 2)
    assert CLEAR.remove("a") == CLEAR
    assert same(after({"a": 1, "b": [1]}, CLEAR.extend("b", [2])), {"b": [2]})


def test_operations_that_do_not_merge_are_kept_as_steps() -> None:
    change = EMPTY.extend("l", [1, 2]).splice("l", 0, 1).extend("l", [3]).extend("l", [4])

    assert isinstance(change.operations["l"], Steps)
    assert len(change.operations["l"].operations) == 3
    assert after({"l": [0]}, change) == {"l": [1, 2, 3, 4]}


def test_equality_of_operations_is_strict() -> None:
    assert EMPTY.put("a", 1) != EMPTY.put("a", True)
    assert EMPTY.put("a", {"x": 1, "y": 2}) == EMPTY.put("a", {"y": 2, "x": 1})
    assert EMPTY.add("a", 1) != EMPTY.add("a", 1.0)
    assert len({Put(b"\x01"), Put(b"\x01"), Add((1,)), Splice(0, 0, 0, b"")}) == 3


def test_a_change_prints_a_line_for_each_operation() -> None:
    change = (
        EMPTY.put("plan", {"goal": "fly"}).remove("draft").extend("messages", ["hi"])
        .add("tokens", 512).add("cost", Decimal("-0.02")).splice("steps", 1, 2, ["x"])
        .patch("profile", {"name": "Ada"})
    )  # fmt: skip

    assert str(change).splitlines() == [
        "cost -0.02",
        "draft removed",
        "messages + ['hi']",
        "plan = {'goal': 'fly'}",
        "profile:",
        "  name = 'Ada'",
        "steps [1:3] = ['x']",
        "tokens +512",
    ]
