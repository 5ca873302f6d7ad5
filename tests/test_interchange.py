"""Interchange: states and changes leave as JSON and come back the same; patches of both RFCs."""

from __future__ import annotations

import copy
import json
import warnings
from datetime import UTC, datetime
from decimal import Decimal
from math import isnan
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecore.change import CLEAR, EMPTY, Change, pack_state
from statecore.conflict import sum_terms
from statecore.errors import InputError, LimitExceeded, OperationMismatch
from statecore.interchange import (
    PatchFailed,
    change_from_data,
    change_to_data,
    from_json,
    from_json_patch,
    from_merge_patch,
    state_from_json,
    state_to_json,
    to_json,
    to_json_patch,
)
from statecore.operations import Put
from statecore.packed import to_bytes
from statecore.typed_json import freeze, thaw_exposed
from statecore.values import Unresolved, UnresolvedWarning, expose, pack, same
from tests.strategies import KEYS, STATES, TEXTS, VALUES, changes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
).map(lambda data: json.loads(json.dumps(data).replace("Infinity", "1")))


def one_nan(value: Any) -> Any:
    """The value with the usual bits for every float that is no number: JSON knows only one."""
    if isinstance(value, dict):
        return {key: one_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [one_nan(item) for item in value]
    return float("nan") if isinstance(value, float) and isnan(value) else value


@st.composite
def conflicts(draw: st.DrawFn) -> Any:
    """A value in conflict, or, where its terms cancel, a plain one."""
    terms = st.none() | VALUES.map(one_nan).map(pack)
    sides, base = draw(st.lists(terms, min_size=2, max_size=2)), draw(terms)
    packed = sum_terms(sides, [base])
    return None if packed is None else expose(to_bytes(packed))


EXPOSED = st.recursive(
    VALUES | conflicts(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=4,
)


@st.composite
def steps(draw: st.DrawFn) -> tuple[dict[str, Any], Change]:
    """A state, and a change that fits it."""
    state = draw(STATES)
    return state, draw(changes(state))


def after(state: dict[str, Any], change: Change) -> dict[str, Any]:
    packed = {key: freeze(value) for key, value in state.items()}
    return {key: thaw_exposed(value) for key, value in change.apply(packed).items()}


def document(state: dict[str, Any]) -> Any:
    return json.loads(state_to_json(state))


# Values and states


@given(EXPOSED)
def test_json_keeps_every_value_and_its_type(value: Any) -> None:
    assert same(from_json(json.loads(json.dumps(to_json(value)))), value)


@given(st.dictionaries(KEYS | st.just("$map"), EXPOSED, max_size=4))
def test_a_state_comes_back_the_same(state: dict[str, Any]) -> None:
    text = state_to_json(state)

    assert same(state_from_json(text), state)
    assert list(json.loads(text)) == list(state)


def test_a_conflict_stands_there_with_all_its_sides() -> None:
    packed = sum_terms([pack(2), None], [pack(1)])
    assert packed is not None

    data = to_json(thaw_exposed(packed))

    assert data == {"$conflict": {"sides": [{"value": 2}, {}], "bases": [{"value": 1}]}}
    assert freeze(from_json(data)) == packed


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"sides": [], "bases": []},
        {"sides": [{"value": 1}], "bases": []},
        {"sides": [{"value": 1}, {"value": 2}], "bases": []},
        {"sides": [{"value": 1}, {"value": 2}], "bases": [{"value": 2}]},
        {"sides": [{}, {}], "bases": [{}]},
        {"sides": [{"v": 1}, {}], "bases": [{}]},
        {"sides": [1, {}], "bases": [{}]},
        {"sides": [[], {"value": 1}], "bases": [{}]},
        {"sides": [{"value": 1}, {"value": 2}], "bases": [{"value": 3}], "more": 1},
        None,
    ],
)
def test_what_is_no_conflict_is_refused(content: Any) -> None:
    with pytest.raises(InputError, match=r"does not hold what \$conflict says"):
        from_json({"$conflict": content})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[1]", "a state is a map, not list"),
        ("{", "the state is not JSON"),
        ('{"n": NaN}', r'NaN is written {"\$float": "nan"}'),
        ('{"n": 1e999}', "too large for a float"),
        ('{"n": 1, "n": 2}', "a key stands twice"),
        ('{"n": {"a": 1, "a": 1}}', "a key stands twice"),
        ('{"n": {"$decimal": 0.1}}', r"does not hold what \$decimal says"),
        ('{"at": {"$datetime": "2026-01-01T00:00:00"}}', "at: a datetime needs a time zone"),
        ('{"t": ["\\ud800"]}', r"t\[0\]: the text holds a lone surrogate"),
        ('{"\\ud800": 1}', "lone surrogate"),
        (json.dumps({"k" * 1025: 1}), "the key is 1,025 bytes"),
        ('{"d": ' + "[" * 65 + "]" * 65 + "}", "depth"),
        ('{"d": ' + "[" * 700 + "]" * 700 + "}", "nested too deeply|depth"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_text_that_is_no_state_is_refused(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        state_from_json(text)


# Changes as data


@given(steps())
def test_a_change_comes_back_from_its_data(step: tuple[Any, Change]) -> None:
    _, change = step
    data = change_to_data(change)

    sent = json.loads(json.dumps(to_json(data)))

    assert change_from_data(data) == change
    assert to_json(change_to_data(change_from_data(from_json(sent)))) == sent


def test_the_data_of_a_change_has_every_value_in_full() -> None:
    words = ["x" * 1000]
    change = (
        EMPTY.put("a", Decimal("1.50")).remove("b").extend("c", words).splice("d", 1, 2, [None])
        .add("e", 0.5).add("e", 0.25).patch("f", EMPTY.add("n", 2))
        .splice("g", 0, 1).extend("g", [1])
    )  # fmt: skip

    assert change_to_data(change) == {
        "cleared": False,
        "operations": [
            {"key": "a", "operation": "put", "value": Decimal("1.50")},
            {"key": "b", "operation": "remove"},
            {"key": "c", "operation": "extend", "items": words},
            {"key": "d", "operation": "splice", "at": 1, "delete": 2, "items": [None]},
            {"key": "e", "operation": "add", "amounts": [0.5, 0.25]},
            {
                "key": "f",
                "operation": "patch",
                "change": {
                    "cleared": False,
                    "operations": [{"key": "n", "operation": "add", "amounts": [2]}],
                },
            },
            {
                "key": "g",
                "operation": "steps",
                "steps": [
                    {"operation": "splice", "at": 0, "delete": 1, "items": []},
                    {"operation": "extend", "items": [1]},
                ],
            },
        ],
    }
    assert change_to_data(CLEAR) == {"cleared": True, "operations": []}


def test_a_change_that_makes_a_conflict_can_be_sent() -> None:
    both = sum_terms([pack(1), pack(2)], [pack(0)])
    assert both is not None
    change = Change({"k": Put(both)})

    with warnings.catch_warnings():
        warnings.simplefilter("error", UnresolvedWarning)
        data = change_to_data(change)

    assert isinstance(data["operations"][0]["value"], Unresolved)
    assert change_from_data(data) == change


def put(**parts: Any) -> dict[str, Any]:
    return {"cleared": False, "operations": [{"key": "k", **parts}]}


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"cleared": 1, "operations": []},
        {"cleared": False, "operations": {}},
        {"cleared": False, "operations": [], "more": 1},
        {"cleared": False, "operations": [None]},
        {"cleared": False, "operations": [{"operation": "remove"}]},
        {"cleared": False, "operations": [{"key": 1, "operation": "remove"}]},
        {"cleared": False, "operations": [{"key": "k", "operation": "remove"}] * 2},
        {"cleared": False, "operations": [{"key": "\ud800", "operation": "remove"}]},
        {"cleared": False, "operations": [{"key": "k" * 1025, "operation": "remove"}]},
        put(),
        put(operation="burn"),
        put(operation=["put"], value=1),
        put(operation="put"),
        put(operation="put", value=1, items=[]),
        put(operation="put", value={1}),
        put(operation="remove", value=1),
        put(operation="extend", items="ab"),
        put(operation="splice", at=-1, delete=0, items=[]),
        put(operation="splice", at=True, delete=0, items=[]),
        put(operation="splice", at=0, delete=0, items=[], more=1),
        put(operation="add", amounts=[]),
        put(operation="add", amounts=["1"]),
        put(operation="add", amounts=[True]),
        put(operation="add", amounts=[Decimal("NaN")]),
        put(operation="patch", change={}),
        put(operation="patch", change=put(operation="burn")),
        put(operation="steps", steps=[]),
        put(operation="steps", steps=[{"operation": "burn"}]),
        put(operation="steps", steps=[{"operation": "remove", "key": "k"}]),
    ],
    ids=repr,
)
def test_data_that_is_no_change_is_refused(data: Any) -> None:
    with pytest.raises(InputError):
        change_from_data(data)


def test_data_without_an_end_is_refused() -> None:
    data = put(operation="patch", change=None)
    data["operations"][0]["change"] = data

    with pytest.raises(InputError, match="nested too deeply"):
        change_from_data(data)


# JSON Patch


@given(steps())
def test_another_implementation_does_the_same_with_our_patch(step: tuple[Any, Change]) -> None:
    jsonpatch = pytest.importorskip("jsonpatch")
    state, change = step

    patch = json.loads(json.dumps(to_json_patch(change, state)))

    assert same(jsonpatch.apply_patch(document(state), patch), document(after(state, change)))


@given(steps())
def test_our_patch_read_again_is_the_change(step: tuple[Any, Change]) -> None:
    state, change = step

    again = from_json_patch(to_json_patch(change, state), state)

    assert same(after(state, again), after(state, change))


@given(st.dictionaries(TEXTS, JSON, max_size=4), st.dictionaries(TEXTS, JSON, max_size=4))
def test_we_do_the_same_with_a_patch_of_another_implementation(one: Any, other: Any) -> None:
    jsonpatch = pytest.importorskip("jsonpatch")
    state = state_from_json(json.dumps({"s": to_json(one), "m": [to_json(one)]}))
    target = {"s": to_json(other), "m": [to_json(other), 1]}
    patch = jsonpatch.make_patch(document(state), target).patch

    change = from_json_patch(patch, state)

    assert same(document(after(state, change)), jsonpatch.apply_patch(document(state), patch))


@given(EXPOSED, EXPOSED)
def test_a_patch_may_bring_in_a_conflict_and_take_it_out(one: Any, other: Any) -> None:
    for value, new in ((one, other), (other, one)):
        change = Change({"k": Put(freeze(new))})

        patch = to_json_patch(change, {"k": value})

        assert same(after({"k": value}, from_json_patch(patch, {"k": value})), {"k": new})


def test_a_patch_says_what_was_done_where() -> None:
    state = {
        "a/b": 1, "~": [1, 2, 3, 4], "": {"x": {"y": 1}}, "gone": 0, "n": 1, "log": ["a"], "t": 1,
        "list": [1, 2],
    }  # fmt: skip
    change = (
        EMPTY.put("a/b", 2).splice("~", 1, 2, ["b"]).patch("", EMPTY.patch("x", {"y~/": 2}))
        .remove("gone").remove("never").add("n", 2).extend("log", ["b"]).put("new", None)
        .splice("list", 1, 0, [8, 9]).put("t", datetime(2026, 1, 1, tzinfo=UTC))
    )  # fmt: skip

    patch = to_json_patch(change, state)

    assert patch == [
        {"op": "replace", "path": "/a~1b", "value": 2},
        {"op": "replace", "path": "/~0/1", "value": "b"},
        {"op": "remove", "path": "/~0/2"},
        {"op": "add", "path": "//x/y~0~1", "value": 2},
        {"op": "remove", "path": "/gone"},
        {"op": "replace", "path": "/n", "value": 3},
        {"op": "add", "path": "/log/-", "value": "b"},
        {"op": "add", "path": "/new", "value": None},
        {"op": "add", "path": "/list/1", "value": 8},
        {"op": "add", "path": "/list/2", "value": 9},
        {"op": "replace", "path": "/t", "value": {"$datetime": "2026-01-01T00:00:00+00:00"}},
    ]
    assert to_json_patch(CLEAR.put("k", 1), state) == [
        {"op": "replace", "path": "", "value": {"k": 1}}
    ]


def test_a_map_that_looks_like_a_form_is_replaced_whole() -> None:
    plain, form = {"m": {"a": 1, "$uuid": "x"}}, {"m": {"$uuid": "x"}}

    into = to_json_patch(EMPTY.patch("m", EMPTY.remove("a")), plain)
    out_of = to_json_patch(EMPTY.patch("m", {"a": 1}), form)

    assert into == [{"op": "replace", "path": "/m", "value": {"$map": {"$uuid": "x"}}}]
    assert out_of == [{"op": "replace", "path": "/m", "value": {"$uuid": "x", "a": 1}}]


def test_a_change_that_does_not_fit_makes_no_patch() -> None:
    with pytest.raises(OperationMismatch, match="n: extend needs a list"):
        to_json_patch(EMPTY.put("k", 1).extend("n", [1]), {"n": 1})


# The cases of RFC 6902, appendix A, by its numbers; the values are ours.
APPENDIX: list[tuple[str, Any, list[dict[str, Any]], Any]] = [
    ("A.1", {"a": 1}, [{"op": "add", "path": "/b", "value": 2}], {"a": 1, "b": 2}),
    ("A.2", {"l": [1, 3]}, [{"op": "add", "path": "/l/1", "value": 2}], {"l": [1, 2, 3]}),
    ("A.3", {"a": 1, "b": 2}, [{"op": "remove", "path": "/a"}], {"b": 2}),
    ("A.4", {"l": [1, 2, 3]}, [{"op": "remove", "path": "/l/1"}], {"l": [1, 3]}),
    ("A.5", {"a": 1, "b": 2}, [{"op": "replace", "path": "/a", "value": 9}], {"a": 9, "b": 2}),
    (
        "A.6",
        {"from": {"x": 1, "y": 2}, "to": {"z": 3}},
        [{"op": "move", "from": "/from/y", "path": "/to/w"}],
        {"from": {"x": 1}, "to": {"z": 3, "w": 2}},
    ),
    (
        "A.7",
        {"l": ["a", "b", "c", "d"]},
        [{"op": "move", "from": "/l/1", "path": "/l/3"}],
        {"l": ["a", "c", "d", "b"]},
    ),
    (
        "A.8",
        {"a": "x", "l": ["a", 2, "c"]},
        [{"op": "test", "path": "/a", "value": "x"}, {"op": "test", "path": "/l/1", "value": 2}],
        {"a": "x", "l": ["a", 2, "c"]},
    ),
    ("A.9", {"a": "x"}, [{"op": "test", "path": "/a", "value": "y"}], None),
    ("A.10", {"a": 1}, [{"op": "add", "path": "/m", "value": {"n": {}}}], {"a": 1, "m": {"n": {}}}),
    ("A.11", {"a": 1}, [{"op": "add", "path": "/b", "value": 2, "why": "x"}], {"a": 1, "b": 2}),
    ("A.12", {"a": 1}, [{"op": "add", "path": "/b/c", "value": 2}], None),
    ("A.14", {"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    ("A.15", {"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": "10"}], None),
    ("A.16", {"l": [1]}, [{"op": "add", "path": "/l/-", "value": [2, 3]}], {"l": [1, [2, 3]]}),
    ("copy", {"a": [1]}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": [1], "b": [1]}),
    ("whole", {"a": 1}, [{"op": "add", "path": "", "value": {"b": 1}}], {"b": 1}),
    ("whole test", {"a": 1}, [{"op": "test", "path": "", "value": {"a": 1.0}}], {"a": 1}),
    ("in itself", {}, [{"op": "copy", "from": "", "path": "/a"}], {"a": {}}),
]


@pytest.mark.parametrize(("patch", "state", "expected"), [
    pytest.param(patch, state, expected, id=name) for name, state, patch, expected in APPENDIX
])  # fmt: skip
def test_patches_do_what_the_rfc_says(patch: Any, state: Any, expected: Any) -> None:
    if expected is None:
        with pytest.raises(PatchFailed):
            from_json_patch(patch, state)
        return

    change = from_json_patch(patch, state)

    assert same(after(state, change), expected)


def test_a_failed_test_names_its_place_and_nothing_is_done() -> None:
    state: dict[str, Any] = {"a": {"b": [1]}, "n": 1}
    patch: list[dict[str, Any]] = [
        {"op": "add", "path": "/a/b/-", "value": {}},
        {"op": "add", "path": "/a/b/1/deep", "value": 1},
        {"op": "test", "path": "/n", "value": 2},
    ]
    before = copy.deepcopy((state, patch))

    with pytest.raises(PatchFailed, match=r"operation 2 .* '/n': the test failed") as failed:
        from_json_patch(patch, state)

    assert (failed.value.number, failed.value.pointer) == (2, "/n")
    assert (state, patch) == before


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (None, "an operation is a map"),
        ({}, "operations are add, remove"),
        ({"op": ["add"]}, "operations are add, remove"),
        ({"op": "burn", "path": "/a"}, "not 'burn'"),
        ({"op": "add", "value": 1}, "add needs 'path'"),
        ({"op": "add", "path": "/a"}, "add needs 'value'"),
        ({"op": "move", "path": "/a"}, "move needs 'from'"),
        ({"op": "remove", "path": "a"}, "begins with '/'"),
        ({"op": "remove", "path": None}, "begins with '/'"),
        ({"op": "copy", "path": "/a", "from": 1}, "begins with '/'"),
        ({"op": "remove", "path": "/never"}, "nothing is at '/never'"),
        ({"op": "replace", "path": "/l/2", "value": 1}, "nothing is at '/l/2'"),
        ({"op": "replace", "path": "/l/-", "value": 1}, "nothing is at '/l/-'"),
        ({"op": "add", "path": "/l/3", "value": 1}, "nothing can be put at '/l/3'"),
        ({"op": "add", "path": "/l/01", "value": 1}, "nothing can be put"),
        ({"op": "add", "path": "/l/-1", "value": 1}, "nothing can be put"),
        ({"op": "add", "path": "/l/1e0", "value": 1}, "nothing can be put"),
        ({"op": "add", "path": "/l/\u0661", "value": 1}, "nothing can be put"),
        ({"op": "add", "path": "/n/x", "value": 1}, "nothing can be put"),
        ({"op": "test", "path": "/n", "value": True}, "the test failed"),
        ({"op": "test", "path": "/n", "value": "1"}, "the test failed"),
        ({"op": "move", "from": "/m", "path": "/m/x"}, "into itself"),
        ({"op": "move", "from": "", "path": "/x"}, "into itself"),
    ],
)
def test_a_step_that_cannot_be_done_is_refused(step: Any, told: str) -> None:
    with pytest.raises(PatchFailed, match=told):
        from_json_patch([step], {"l": [1, 2], "n": 1, "m": {}})


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({"op": "remove", "path": ""}, "a state is a map"),
        ({"op": "replace", "path": "", "value": [1]}, "a state is a map"),
        ({"op": "add", "path": "/k", "value": {"$uuid": 1}}, r"what \$uuid says"),
        ({"op": "add", "path": "/k", "value": {"x": (1,)}}, "tuple: use a list"),
        ({"op": "add", "path": "/" + "k" * 1025, "value": 1}, "the key is 1,025 bytes"),
    ],
)
def test_what_a_patch_makes_must_be_a_state(step: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        from_json_patch([step], {"n": 1})


def test_a_patch_of_copies_of_copies_is_refused_in_time() -> None:
    double = [{"op": "copy", "from": "", "path": f"/{number}"} for number in range(60)]

    with pytest.raises(LimitExceeded, match="what the patch copies"):
        from_json_patch(double, {"a": 1})


def test_types_survive_a_patch() -> None:
    state = {"cost": Decimal("1.50"), "ids": [UUID(int=1)], "raw": b"\xff"}
    patch = [
        {"op": "test", "path": "/cost", "value": {"$decimal": "1.50"}},
        {"op": "move", "from": "/raw", "path": "/moved"},
        {"op": "add", "path": "/ids/0", "value": {"$uuid": str(UUID(int=2))}},
    ]

    change = from_json_patch(patch, state)

    assert after(state, change) == {
        "cost": Decimal("1.50"),
        "ids": [UUID(int=2), UUID(int=1)],
        "moved": b"\xff",
    }
    assert "cost" not in change.operations


# JSON Merge Patch: the cases of RFC 7396, appendix A, that a state can meet


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"l": ["a", "b"]}, {"l": ["c", "d"]}, {"l": ["c", "d"]}),
        ({"a": "b"}, {"a": {"b": "c"}}, {"a": {"b": "c"}}),
        ({"a": "foo"}, {"a": None}, {}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({"l": [1, 2]}, {"l": {"a": "b", "c": None}}, {"l": {"a": "b"}}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": 1}, {"l": [None, {"b": None}]}, {"a": 1, "l": [None, {"b": None}]}),
    ],
)
def test_merge_patches_do_what_the_rfc_says(target: Any, patch: Any, expected: Any) -> None:
    assert same(after(target, from_merge_patch(patch, target)), expected)


def test_a_merge_patch_changes_fields_one_by_one() -> None:
    state = {"plan": {"goal": "fly", "at": {"day": 1, "hour": 2}}, "cost": Decimal(1)}
    patch = {"plan": {"at": {"hour": 3, "day": None}}, "cost": {"$decimal": "2"}}

    change = from_merge_patch(patch, state)

    assert change == EMPTY.patch("plan", EMPTY.patch("at", EMPTY.put("hour", 3).remove("day"))).put(
        "cost", Decimal(2)
    )


@pytest.mark.parametrize(
    "patch", [None, [], "x", {"\ud800": 1}, {"m": {"\ud800": 1}}, {"k": {"$uuid": "x"}}, {"k": {1}}]
)
def test_what_is_no_merge_patch_is_refused(patch: Any) -> None:
    with pytest.raises(InputError):
        from_merge_patch(patch, {"m": {}})


# Printing


def test_a_long_value_prints_on_one_line_with_less_of_it() -> None:
    message = {"role": "tool", "content": "found " * 100}
    change = EMPTY.extend("messages", [message] * 10).put("plan", {"a": {"b": {"c": [[[[1]]]]}}})
    change = change.put("big", {f"key {n}": {"x": "y" * 50} for n in range(99)}).add("n", 10**900)

    lines = list(change.lines())

    assert lines[2].startswith("n +1000")
    assert lines[3] == "plan = {'a': {'b': {'c': [[[[...]]]]}}}"
    assert all(len(line) < 120 for line in lines)
    assert lines[1].startswith("messages + [{'content': 'found")
    assert lines[1].endswith(", ...]")


def test_changes_of_states_print_and_apply_alike() -> None:
    state = {"goal": "fly", "steps": ["book"]}
    change = from_json_patch([{"op": "add", "path": "/steps/-", "value": "pack"}], state)

    assert str(change) == "steps + ['pack']"
    assert change.apply(pack_state(state)) == EMPTY.extend("steps", ["pack"]).apply(
        pack_state(state)
    )
