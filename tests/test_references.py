"""References between keys: held on every backend, never dangling where they must not."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import statecore
from statecore import (
    EMPTY,
    BlockingManager,
    BlockingStore,
    InputError,
    UnresolvedWarning,
    ValidationFailed,
)
from tests.conftest import opening
from tests.test_validation import refused


@pytest.fixture
def owned(agent: BlockingManager) -> BlockingManager:
    """Documents with an owner and readers, who must be there."""
    agent.set_reference("doc/*", ("owner",), "user/*")
    agent.set_reference("doc/*", ("readers", "name"), "user/*", on_delete="clear")
    agent.apply(EMPTY.put("user/a", 1).put("user/b", 2))
    agent.set_state("doc/1", {"owner": "user/a", "readers": [{"name": "user/b"}, {"name": None}]})
    return agent


def test_a_reference_must_lead_somewhere(owned: BlockingManager) -> None:
    version = owned.version()

    assert refused(owned.set_state, "doc/2", {"owner": "user/x"}) == [("doc/2", "owner")]
    assert refused(owned.set_state, "doc/2", {"owner": "doc/1"}) == [("doc/2", "owner")]
    assert refused(owned.set_state, "doc/2", {"owner": 5}) == [("doc/2", "owner")]
    readers = [{"name": "user/a"}, {"name": "user/x"}, {}]
    assert refused(owned.set_state, "doc/2", {"readers": readers}) == [
        ("doc/2", "readers", 1, "name")
    ]
    assert owned.version() == version
    both = EMPTY.put("doc/2", {"owner": "user/c"}).put("user/c", 3)
    assert owned.apply(both) == version + 1


def test_what_is_referred_to_can_t_be_deleted(owned: BlockingManager) -> None:
    assert refused(owned.delete_state, "user/a") == [("doc/1", "owner")]
    assert owned.get_state("user/a") == 1

    owned.apply(EMPTY.remove("user/a").remove("doc/1"))
    assert list(owned.at()) == ["user/b"]


def test_references_are_cleared_by_the_event_that_deletes(owned: BlockingManager) -> None:
    version = owned.delete_state("user/b", reason="left")

    readers = [{"name": None}, {"name": None}]
    assert owned.get_state("doc/1") == {"owner": "user/a", "readers": readers}
    assert owned.version() == version
    assert [event.version for event in owned.history("doc/1")][-1] == version
    owned.undo()
    assert owned.get_state("doc/1")["readers"][0] == {"name": "user/b"}


def test_names_in_a_list_are_taken_out_of_it(agent: BlockingManager) -> None:
    agent.set_reference("team", (), "user/*", on_delete="clear")
    agent.apply(EMPTY.put("user/a", 1).put("user/b", 2))
    agent.set_state("team", ["user/a", "user/b", "user/a"])
    agent.delete_state("user/a")

    assert agent.get_state("team") == ["user/b"]


def test_what_is_cleared_is_held_to_its_schema(agent: BlockingManager) -> None:
    agent.set_reference("boss", (), "user/*", on_delete="clear")
    agent.set_schema("boss", {"type": "string"})
    agent.set_state("user/a", 1)
    agent.set_state("boss", "user/a")

    assert refused(agent.delete_state, "user/a") == [("boss",)]


def test_kept_references_may_lead_nowhere_but_no_new_ones(agent: BlockingManager) -> None:
    agent.set_reference("team", (), "user/*", on_delete="keep")
    agent.set_state("user/a", 1)
    agent.set_state("team", ["user/a"])
    agent.delete_state("user/a")

    assert agent.get_state("team") == ["user/a"]
    assert agent.check() == []
    assert refused(agent.extend, "team", ["user/b"]) == [("team", 1)]


def test_clearing_a_state_takes_all_references_with_it(owned: BlockingManager) -> None:
    owned.clear_state()
    assert owned.at().data == {}

    change = statecore.CLEAR.put("doc/1", {"owner": "user/a"})
    assert refused(owned.apply, change) == [("doc/1", "owner")]


def test_a_reference_to_another_agent_is_looked_at_when_it_is_written(
    store: BlockingStore,
) -> None:
    desk, staff = store.manager("desk"), store.manager("staff")
    desk.set_reference("clerk", (), "person/*", agent="staff")
    assert refused(desk.set_state, "clerk", "person/1") == [("clerk",)]
    staff.set_state("person/1", "Ada")
    desk.set_state("clerk", "person/1")
    staff.delete_state("person/1")

    assert desk.get_state("clerk") == "person/1"
    assert refused(desk.set_state, "clerk", "person/2") == [("clerk",)]


@pytest.mark.parametrize(
    ("path", "options", "why"),
    [
        ("owner", {}, "a path is a tuple"),
        ((1.5,), {}, "a path is a tuple"),
        ((), {"on_delete": "burn"}, "refuse, clear, keep"),
        ((), {"on_delete": "clear", "agent": "other"}, "another agent's"),
    ],
)
def test_what_is_no_reference_is_refused(
    agent: BlockingManager, path: Any, options: Any, why: str
) -> None:
    with pytest.raises(InputError, match=why):
        agent.set_reference("doc/*", path, "user/*", **options)


def test_a_reference_is_replaced_and_taken_back(owned: BlockingManager) -> None:
    assert owned.set_reference("doc/*", ("owner",), "user/*", on_delete="clear") == 3
    assert owned.set_reference("doc/*", ("readers", "name"), None) == 4

    rules = owned.rules()
    assert [(each.path, each.on_delete) for each in rules.references] == [(("owner",), "clear")]
    owned.delete_state("user/b")
    assert owned.get_state("doc/1")["readers"][0] == {"name": "user/b"}


# Laws

NAMES = st.sampled_from([f"user/{letter}" for letter in "abc"] + ["user/", "nobody"])
STEPS = st.one_of(
    st.tuples(st.just("set"), NAMES, st.sampled_from([1, 2, "text"])),
    st.tuples(st.just("set"), st.just("team"), st.lists(NAMES, max_size=3) | NAMES | st.none()),
    st.tuples(st.just("set"), st.sampled_from(["doc/1", "doc/2"]),
              st.fixed_dictionaries({"owner": NAMES | st.none()})),
    st.tuples(st.just("delete"), NAMES | st.sampled_from(["team", "doc/1"])),
    st.tuples(st.just("clear")),
    st.tuples(st.sampled_from(["undo", "fork", "merge", "switch"])),
    st.tuples(st.just("restore"), st.integers(0, 12)),
)  # fmt: skip


def do(here: BlockingManager, there: BlockingManager, step: Any) -> None:
    name, *arguments = step
    if name == "set":
        here.set_state(*arguments)
    elif name == "delete":
        here.delete_state(*arguments)
    elif name == "clear":
        here.clear_state()
    elif name == "undo":
        here.undo()
    elif name == "merge":
        here.merge(there)
    elif name == "restore":
        here.restore(min(arguments[0], here.version()))


@given(
    st.lists(STEPS, max_size=20),
    st.sampled_from(["refuse", "clear"]),
    st.sampled_from(["refuse", "clear"]),
)
@settings(max_examples=150)
def test_no_accepted_write_leads_to_what_check_finds_and_no_refused_one_is_recorded(
    steps: list[Any], of_docs: Any, of_team: Any
) -> None:
    with opening("memory", Path()) as store, warnings.catch_warnings():
        warnings.simplefilter("ignore", UnresolvedWarning)
        here = store.manager("a", actor="me")
        here.set_schema("user/*", {"type": "integer"})
        here.set_reference("doc/*", ("owner",), "user/*", on_delete=of_docs)
        here.set_reference("team", (), "user/*", on_delete=of_team)
        there = here.branch("other")
        for step in steps:
            if step[0] in ("fork", "switch"):
                here, there = there, here
            before = here.version(), here.at().data
            try:
                do(here, there, step)
            except ValidationFailed:
                assert (here.version(), here.at().data) == before
            assert here.check() == []
            _require_no_dangling(here)


def _require_no_dangling(agent: BlockingManager) -> None:
    state = agent.at()
    torn = {path[0] for path in state.conflicts}
    named: list[Any] = []
    for key in state:
        if key.startswith("doc/") and key not in torn:
            named.append(state[key]["owner"])
        elif key == "team" and key not in torn:
            named += state[key] if isinstance(state[key], list) else [state[key]]
    assert {name for name in named if name is not None} <= set(state)
