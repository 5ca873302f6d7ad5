"""The laws of merging, and the traps that lose updates elsewhere."""

from __future__ import annotations

import math
from binascii import crc32
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from statecore.change import CLEAR, EMPTY, Change, pack_state
from statecore.conflict import find_unresolved, is_unresolved, sum_terms
from statecore.diff import diff
from statecore.merging import Merged, Rules, merge3
from statecore.operations import put_or_remove
from statecore.packed import same_packed, thaw
from statecore.strategies import named
from statecore.values import UnresolvedWarning, expose, pack, same
from tests.strategies import KEYS, STATES, VALUES, changes

NAN = float("nan")
MISSING = "missing"


def merged(base: Any, ours: Change, theirs: Change, rules: Rules | None = None) -> dict[str, Any]:
    """The state after a merge, conflicts exposed."""
    outcome = merge3(pack_state(base), ours, theirs, rules or Rules())
    state = outcome.change.apply(ours.apply(pack_state(base)))
    return {key: expose(bytes_of(value)) for key, value in state.items()}


def bytes_of(packed: Any) -> bytes:
    return packed if isinstance(packed, bytes) else packed.items()


def same_states(one: Any, other: Any) -> bool:
    return one.keys() == other.keys() and all(same_packed(one[key], other[key]) for key in one)


@st.composite
def forks(draw: st.DrawFn, sides: int = 2) -> tuple[Any, list[Change]]:
    """A base, and what so many sides do to it."""
    base = draw(STATES)
    return base, [draw(changes(base)) for _ in range(sides)]


# Laws


@given(forks())
def test_merging_is_symmetric(fork: tuple[Any, list[Change]]) -> None:
    base, (ours, theirs) = pack_state(fork[0]), fork[1]

    here = merge3(base, ours, theirs).change.apply(ours.apply(base))
    there = merge3(base, theirs, ours).change.apply(theirs.apply(base))

    assert same_states(here, there)


@given(forks(sides=1))
def test_what_one_side_left_alone_comes_from_the_other(fork: tuple[Any, list[Change]]) -> None:
    base, (change,) = pack_state(fork[0]), fork[1]
    after = change.apply(base)

    assert same_states(merge3(base, EMPTY, change).change.apply(base), after)
    assert not merge3(base, change, EMPTY).change.touches_anything
    assert not merge3(base, change, EMPTY).conflicts


@given(forks())
def test_keys_that_neither_touched_stay(fork: tuple[Any, list[Change]]) -> None:
    base, (ours, theirs) = pack_state(fork[0]), fork[1]

    after = merge3(base, ours, theirs).change.apply(ours.apply(base))

    for key in base.keys() - ours.operations.keys() - theirs.operations.keys():
        if not ours.cleared and not theirs.cleared:
            assert same_packed(after[key], base[key])


@given(forks())
def test_no_side_is_lost(fork: tuple[Any, list[Change]]) -> None:
    """Each key holds what a side made of it, something built on both, or both as a conflict."""
    base, (ours, theirs) = pack_state(fork[0]), fork[1]
    outcome = merge3(base, ours, theirs)
    mine, others = ours.apply(base), theirs.apply(base)

    after = outcome.change.apply(mine)

    for key in after.keys() | mine.keys() | others.keys():
        sides = [side.get(key) for side in (base, mine, others)]
        if same_packed(sides[0], sides[1]) and not same_packed(sides[0], sides[2]):
            if ours.operations.get(key) is None and not ours.cleared:
                assert same_packed(after.get(key), sides[2])
        elif not same_packed(sides[1], sides[2]) and same_packed(after.get(key), sides[1]):
            assert same_packed(sides[0], sides[2]) or key in outcome.both


@given(forks(sides=1))
def test_merging_a_change_with_itself_changes_nothing(fork: tuple[Any, list[Change]]) -> None:
    base, (change,) = pack_state(fork[0]), fork[1]
    to_values = diff(base, change.apply(base))  # what adds up is done twice, on purpose
    puts = {key: put_or_remove(op.apply(base.get(key))) for key, op in to_values.operations.items()}

    outcome = merge3(base, Change(puts), Change(puts))

    assert not outcome.change.touches_anything
    assert not outcome.conflicts


@given(forks(sides=3))
def test_the_order_of_disjoint_merges_does_not_matter(fork: tuple[Any, list[Change]]) -> None:
    base = pack_state(fork[0])
    parts = [
        Change(
            {key: op for key, op in change.operations.items() if crc32(key.encode()) % 3 == part}
        )
        for part, change in enumerate(fork[1])
    ]

    def all_in(order: tuple[int, ...]) -> Any:
        done, state = EMPTY, base
        for at in order:
            step = merge3(base, done, parts[at]).change
            done, state = done.then(step), step.apply(state)
        return state

    orders = permutations(range(3))
    first = all_in(next(orders))
    assert all(same_states(all_in(order), first) for order in orders)


@given(st.lists(VALUES, min_size=1, max_size=3), VALUES)
def test_terms_that_are_added_and_taken_away_cancel(values: list[Any], extra: Any) -> None:
    packed = [pack(value) for value in values]

    assert same_packed(sum_terms([*packed, pack(extra)], packed), pack(extra))


@given(VALUES, VALUES, VALUES, VALUES)
def test_conflicts_of_conflicts_are_flat_and_symmetric(a: Any, b: Any, c: Any, base: Any) -> None:
    packed = [pack(value) for value in (a, b, c)]
    start = pack(base)

    first = sum_terms([sum_terms(packed[:2], [start]), packed[2]], [start])
    second = sum_terms([packed[0], sum_terms(packed[1:], [start])], [start])

    assert same_packed(first, second)
    if first is not None and is_unresolved(first):
        for term in expose(bytes_of(first)).adds:
            assert term is None or not is_unresolved(term)


@given(VALUES, VALUES, VALUES)
def test_a_conflict_resolved_on_one_side_stays_resolved(base: Any, mine: Any, other: Any) -> None:
    both = sum_terms([pack(mine), pack(other)], [pack(base)])
    if both is None or not is_unresolved(both):
        return

    outcome = merge3({"k": both}, EMPTY.put("k", "decided"), EMPTY.put("other", 1))

    after = outcome.change.apply(pack_state({"k": "decided"}))
    assert same_states(after, pack_state({"k": "decided", "other": 1}))
    assert not outcome.conflicts


# Traps


@pytest.mark.parametrize(
    ("base", "mine", "other", "after"),
    [
        (1, True, 1, True),
        (1, 1.0, 1, 1.0),
        (True, 1, True, 1),
        (0.0, -0.0, 0.0, -0.0),
        (NAN, NAN, 1, 1),
        ({}, MISSING, {}, MISSING),
        (None, MISSING, None, MISSING),
        (MISSING, None, MISSING, None),
        (MISSING, {}, MISSING, {}),
        (1, MISSING, MISSING, MISSING),
        ("x", "y", "y", "y"),
        (2**53, 2**53 + 1, 2**53, 2**53 + 1),
        (2**64, 2**64 + 1, 2**64 + 1, 2**64 + 1),
        (Decimal("1.0"), Decimal("1.00"), Decimal("1.0"), Decimal("1.00")),
    ],
    ids=str,
)
@pytest.mark.parametrize("key", ["k", "", "a/b", "~"])
def test_values_that_look_alike_are_told_apart(
    base: Any, mine: Any, other: Any, after: Any, key: str
) -> None:
    state = {} if base == MISSING else {key: base}

    def to(value: Any) -> Change:
        return EMPTY.remove(key) if value == MISSING else EMPTY.put(key, value)

    for one, two in ((mine, other), (other, mine)):
        found = merged(state, to(one), to(two))
        assert repr(found.get(key, MISSING)) == repr(after)


@pytest.mark.parametrize(
    ("base", "mine", "other"),
    [(1, True, 1.0), (0, 0.0, -0.0), ("", None, {}), (1, 2, MISSING), (MISSING, 1, True)],
    ids=str,
)
def test_what_both_changed_differently_is_a_conflict(base: Any, mine: Any, other: Any) -> None:
    state = {} if base == MISSING else {"k": base}

    def to(value: Any) -> Change:
        return EMPTY.remove("k") if value == MISSING else EMPTY.put("k", value)

    outcome = merge3(pack_state(state), to(mine), to(other))

    (found,) = outcome.conflicts.values()
    sides = [MISSING if term is None else thaw(term) for term in found.adds]
    assert sorted(map(repr, sides)) == sorted(map(repr, (mine, other)))


def test_equal_increments_are_both_counted() -> None:
    plus = EMPTY.add("n", 1)

    assert merged({"n": 1}, plus, plus) == {"n": 3}
    assert merged({}, plus, plus) == {"n": 2}
    assert merged({"m": {"n": 1}}, EMPTY.patch("m", plus), EMPTY.patch("m", plus)) == {
        "m": {"n": 3}
    }
    floats = EMPTY.add("n", 0.1), EMPTY.add("n", 0.2)
    assert merged({"n": 1e16}, *floats) == {"n": math.fsum([1e16, 0.1, 0.2])}


def test_equal_appends_are_not_taken_for_one() -> None:
    hello = EMPTY.extend("list", ["hello"])

    outcome = merge3(pack_state({"list": []}), hello, hello)

    assert list(outcome.conflicts) == [("list",)]


def test_a_value_set_to_what_it_was_gives_way() -> None:
    assert merged({"k": 1}, EMPTY.put("k", 1), EMPTY.put("k", 2)) == {"k": 2}


def test_changed_and_changed_back_gives_way() -> None:
    there_and_back = EMPTY.put("k", 5).put("k", 1)

    assert merged({"k": 1}, there_and_back, EMPTY.put("k", 2)) == {"k": 2}
    assert merged({"k": 1}, EMPTY.add("k", 1).add("k", -1), EMPTY.add("k", 2)) == {"k": 3}


def test_delete_against_delete_is_no_conflict() -> None:
    assert merged({"k": 1}, EMPTY.remove("k"), EMPTY.remove("k")) == {}


def test_delete_against_change_is_a_conflict() -> None:
    outcome = merge3(pack_state({"k": 1}), EMPTY.remove("k"), EMPTY.put("k", 2))

    assert list(outcome.conflicts) == [("k",)]


def test_a_clear_against_a_change_is_a_conflict_of_that_key_only() -> None:
    outcome = merge3(pack_state({"k": 1, "l": 2}), CLEAR, EMPTY.put("k", 2))

    assert list(outcome.conflicts) == [("k",)]


def test_fields_of_a_map_are_merged_one_by_one() -> None:
    base = {"plan": {"goal": "fly", "steps": [1], "who": {"a": 1}}}
    ours = EMPTY.patch("plan", {"goal": "sail"})
    theirs = EMPTY.put("plan", {"goal": "fly", "steps": [1, 2], "who": {"a": 1, "b": 2}})

    after = merged(base, ours, theirs)

    assert after == {"plan": {"goal": "sail", "steps": [1, 2], "who": {"a": 1, "b": 2}}}


def test_a_conflict_in_a_map_is_as_deep_as_it_goes() -> None:
    base = {"plan": {"goal": "fly", "n": 1}}
    ours, theirs = EMPTY.patch("plan", {"goal": "sail"}), EMPTY.patch("plan", {"goal": "walk"})

    outcome = merge3(pack_state(base), ours, theirs)

    assert list(outcome.conflicts) == [("plan", "goal")]


def test_changes_of_a_list_that_do_not_meet_are_both_done() -> None:
    base = {"l": [1, 2, 3, 4, 5]}

    assert merged(base, EMPTY.splice("l", 0, 1), EMPTY.extend("l", [6])) == {"l": [2, 3, 4, 5, 6]}
    assert merged(base, EMPTY.splice("l", 1, 1, ["b"]), EMPTY.splice("l", 3, 1, ["d"])) == {
        "l": [1, "b", 3, "d", 5]
    }


def test_reading_a_conflict_gives_its_winner_and_says_so() -> None:
    state = pack_state({"k": 1})
    outcome = merge3(state, EMPTY.put("k", 3), EMPTY.put("k", 2))
    packed = outcome.change.apply(EMPTY.put("k", 3).apply(state))["k"]

    with pytest.warns(UnresolvedWarning, match="in conflict"):
        assert thaw(packed) == 2


# Strategies


def by(name: str, pattern: str = "*") -> Rules:
    return Rules(((pattern, named(name)),))


@pytest.mark.parametrize(
    ("name", "base", "mine", "other", "after"),
    [
        ("max", 1, 5, 3, 5),
        ("min", 1, 5, 3, 3),
        ("max", "a", "b", "c", "c"),
        ("sum", 10, 12, 15, 17),
        ("sum", Decimal("1.5"), Decimal("2.5"), Decimal("1.0"), Decimal("2.0")),
        ("union", ["a", "b"], ["a", "b", "c"], ["b", "d"], ["b", "c", "d"]),
        ("append", ["a"], ["a", "b"], ["a", "c"], ["a", "b", "c"]),
        ("append", ["a"], ["a", "b"], ["a", "b"], ["a", "b", "b"]),
        ("text", "1\n2\n3\n4\n", "1\nzwei\n3\n4\n", "1\n2\n3\nvier\n", "1\nzwei\n3\nvier\n"),
        (
            "objects",
            [{"id": 1, "n": 1, "m": 1}, {"id": 2}],
            [{"id": 1, "n": 2, "m": 1}, {"id": 2}, {"id": 3}],
            [{"id": 1, "n": 1, "m": 2}, {"id": 4}],
            [{"id": 1, "n": 2, "m": 2}, {"id": 3}, {"id": 4}],
        ),
    ],
    ids=str,
)
def test_strategies_decide(name: str, base: Any, mine: Any, other: Any, after: Any) -> None:
    ours, theirs = EMPTY.put("k", mine), EMPTY.put("k", other)

    assert merged({"k": base}, ours, theirs, by(name)) == {"k": after}
    assert merged({"k": base}, theirs, ours, by(name)) == {"k": after}


@pytest.mark.parametrize("name", ["max", "min", "sum"])
@pytest.mark.parametrize(
    ("mine", "other"),
    [
        (NAN, 1.0),
        (0.0, -0.0),
        (Decimal("NaN"), Decimal(1)),
        (Decimal("sNaN"), Decimal(1)),
        (Decimal("-NaN"), Decimal("NaN")),
        (Decimal("NaN7"), Decimal("NaN")),
        (Decimal("1.0"), Decimal("1.00")),
        (Decimal("Infinity"), Decimal("-Infinity")),
    ],
    ids=str,
)
def test_numbers_without_an_order_are_merged_alike_from_either_side(
    name: str, mine: Any, other: Any
) -> None:
    base = {"k": type(mine)(2)}

    here = merged(base, EMPTY.put("k", mine), EMPTY.put("k", other), by(name))
    there = merged(base, EMPTY.put("k", other), EMPTY.put("k", mine), by(name))

    assert same(here, there)


def test_decimals_are_summed_exactly() -> None:
    large, larger, small = Decimal(10**30), Decimal(10**30 + 1), Decimal("0.001")

    found = merged({"k": large}, EMPTY.put("k", larger), EMPTY.add("k", small), by("sum"))

    assert found == {"k": Decimal("1000000000000000000000000000001.001")}


def test_strategies_leave_maps_with_a_conflict_inside_to_the_structural_rule() -> None:
    inside = merge3(pack_state({"k": {"a": 1}}), EMPTY.put("k", {"a": 2}), EMPTY.put("k", {"a": 3}))
    base = inside.change.apply(pack_state({"k": {"a": 2}}))
    ours, theirs = EMPTY.patch("k", {"b": 1}), EMPTY.patch("k", {"c": 1})

    for name in ("max", "sum", "text", "objects"):
        outcome = merge3(base, ours, theirs, by(name))  # a warning would be an error

        assert list(outcome.conflicts) == [("k", "a")]


def test_a_strategy_for_one_side_takes_that_side() -> None:
    ours, theirs = EMPTY.put("k", 2), EMPTY.put("k", 3)

    assert merged({"k": 1}, ours, theirs, by("ours")) == {"k": 2}
    assert merged({"k": 1}, ours, theirs, by("theirs")) == {"k": 3}


def test_the_latest_counts_by_time_then_by_event() -> None:
    base, ours, theirs = pack_state({"k": 1}), EMPTY.put("k", 2), EMPTY.put("k", 3)

    def outcome(mine: tuple[int, str], other: tuple[int, str]) -> Merged:
        return merge3(base, ours, theirs, by("latest"), (lambda _: mine, lambda _: other))

    assert outcome((2, "a"), (1, "z")).change == EMPTY
    assert outcome((1, "z"), (2, "a")).change == EMPTY.put("k", 3)
    assert outcome((1, "a"), (1, "b")).change == EMPTY.put("k", 3)


@pytest.mark.parametrize("name", ["max", "min", "sum", "union", "append", "text", "objects"])
def test_a_value_that_does_not_fit_its_strategy_falls_back(name: str) -> None:
    ours, theirs = EMPTY.put("k", b"2"), EMPTY.put("k", {"no": "fit"})

    outcome = merge3(pack_state({"k": None}), ours, theirs, by(name))

    assert list(outcome.conflicts) == [("k",)]


def test_strategies_are_chosen_by_pattern() -> None:
    rules = Rules((("count_*", named("max")), ("*", named("theirs"))))
    base = {"count_a": 1, "name": "x"}
    ours = EMPTY.put("count_a", 9).put("name", "ours")
    theirs = EMPTY.put("count_a", 5).put("name", "theirs")

    assert merged(base, ours, theirs, rules) == {"count_a": 9, "name": "theirs"}


@settings(max_examples=50)
@given(forks(), st.sampled_from(["max", "min", "union", "conflict"]))
def test_idempotent_strategies_are_symmetric(fork: tuple[Any, list[Change]], name: str) -> None:
    base, (ours, theirs) = pack_state(fork[0]), fork[1]

    here = merge3(base, ours, theirs, by(name)).change.apply(ours.apply(base))
    there = merge3(base, theirs, ours, by(name)).change.apply(theirs.apply(base))

    assert same_states(here, there)


@given(KEYS, VALUES)
@example("k", {"a": [1]})
def test_a_conflict_names_every_side(key: str, value: Any) -> None:
    both = sum_terms([pack(value), pack("other")], [pack("base")])
    if both is None or not is_unresolved(both):
        return

    ((path, found),) = find_unresolved(both, (key,))

    assert path == (key,)
    assert len(found.adds) == 2
