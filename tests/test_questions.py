"""The questions one asks of a history, over every backend."""

from __future__ import annotations

from typing import Any

import pytest

import statecore
from statecore import (
    EMPTY,
    BlockingManager,
    BranchExists,
    BranchNotFound,
    InputError,
    VersionNotFound,
)
from statecore.bisection import Bisection, Look


@pytest.fixture
def told(agent: BlockingManager) -> BlockingManager:
    """A state with a history of 100 events, in which ``total`` is wrong from version 61 on."""
    for number in range(1, 101):
        with agent.transaction(actor=f"actor {number % 3}", reason=f"step {number}") as tx:
            tx.extend("log", [f"entry {number}"])
            if number % 10 == 1:
                tx.add("total", 1 if number != 61 else 100)
                tx.patch("plan", {"step": number, "same": "ever"})
    return agent


def test_blame_names_the_event_that_made_it_so(told: BlockingManager) -> None:
    assert told.blame("total").version == 91
    assert told.blame("total", at=90).version == 81
    assert told.blame("plan", ("step",)).version == 91
    assert told.blame("plan", ("same",)).version == 1
    assert told.blame("log", (41,)).reason == "step 42"
    assert told.blame("nothing") is None
    assert told.blame("plan", ("nothing",)) is None


def test_blame_is_not_fooled_by_writing_the_same_again(agent: BlockingManager) -> None:
    agent.set_state("k", 1, actor="who did it")
    agent.set_state("k", 1, actor="who did nothing")

    assert agent.blame("k").actor == "who did it"


def test_blame_follows_a_value_through_merges_to_where_it_was_made(agent: BlockingManager) -> None:
    agent.patch("plan", {"by": "train", "days": 1})
    idea, other = agent.branch("idea"), agent.branch("other")
    made = idea.patch("plan", {"by": "boat"}, actor="ann")
    other.merge(idea)
    agent.patch("plan", {"days": 2}, actor="bob")
    merged = agent.merge(other, actor="carl").version

    assert agent.blame("plan", ("by",)).version == merged
    found = agent.blame("plan", ("by",), follow=True)
    assert (found.branch, found.version, found.actor) == ("idea", made, "ann")
    assert agent.blame("plan", ("days",), follow=True).actor == "bob"
    assert agent.blame("plan", follow=True).actor == "carl", "the whole is made of both"


def test_blame_follows_what_was_picked_deleted_or_restored(agent: BlockingManager) -> None:
    agent.set_state("k", 1, actor="ann")
    agent.set_state("gone", 1)
    idea = agent.branch("idea")
    idea.set_state("k", 2, actor="bob")
    idea.delete_state("gone", actor="bob")
    agent.cherry_pick(idea, idea.version() - 1)
    agent.merge(idea)

    assert agent.blame("k", follow=True).actor == "bob"
    assert agent.blame("gone", follow=True).actor == "bob"
    agent.restore(2)
    assert agent.blame("k", follow=True).version == 1


def test_a_merge_that_made_something_new_is_to_blame_itself(agent: BlockingManager) -> None:
    idea = agent.branch("idea")
    idea.add("n", 1)
    agent.add("n", 2)
    version = agent.merge(idea).version

    assert agent.blame("n", follow=True).version == version


def test_two_branches_are_compared(agent: BlockingManager) -> None:
    agent.set_state("same", 1)
    idea = agent.branch("idea")
    idea.set_state("k", {"a": 1, "b": 2})
    agent.set_state("k", {"a": 1, "b": 3})
    agent.set_state("new", None)

    change = idea.diff_from("main")

    assert str(change) == str(EMPTY.patch("k", {"b": 2}).remove("new"))
    assert not agent.diff_from(agent).touches_anything
    assert agent.diff_from(idea, at=1) == EMPTY.put("k", {"a": 1, "b": 3}).put("new", None)
    agent.apply(change)
    assert agent.at() == idea.at()


def test_branches_of_two_agents_are_not_compared(store: statecore.BlockingStore) -> None:
    with pytest.raises(InputError, match="another agent"):
        store.manager("one").diff_from(store.manager("two"))
    with pytest.raises(InputError, match="another agent"):
        store.manager("one").cherry_pick(store.manager("two"), 1)


def test_the_history_of_a_place_within_a_value(told: BlockingManager) -> None:
    assert [e.version for e in told.history_at("plan", ("step",))] == list(range(1, 101, 10))
    assert [e.version for e in told.history_at("plan", ("same",))] == [1]


def test_bisect_finds_the_first_bad_version(told: BlockingManager) -> None:
    looks = []

    def is_good(state: Look) -> bool:
        looks.append(state.version)
        return state["total"] < 100

    found = told.bisect(1, 100, is_good)

    assert (found.first_bad, found.last_good, found.is_certain) == (61, 60, True)
    assert len(looks) <= 6  # the versions between two touches of the key are one look


def test_bisect_over_whole_states_looks_at_few_of_them(told: BlockingManager) -> None:
    looks = []

    def is_good(state: Look) -> bool:
        looks.append(state.version)
        return sum(1 for key in state if key == "log") and len(state["log"]) < 38

    assert told.bisect(1, 100, is_good).first_bad == 38
    assert len(looks) <= 2 + 7


def test_bisect_passes_over_what_cannot_be_judged(told: BlockingManager) -> None:
    def is_good(state: Look) -> bool | None:
        size = len(state["log"])
        return None if 40 <= size < 60 else size < 50

    found = told.bisect(1, 100, is_good)

    assert (found.last_good, found.first_bad, found.is_certain) == (39, 60, False)


def test_a_bisection_can_be_replayed(told: BlockingManager) -> None:
    found = told.bisect(1, 100, lambda state: len(state["log"]) < 77)

    def never(state: Look) -> bool:
        raise AssertionError("it was judged before")

    again = told.bisect(1, 100, never, steps=found.steps)

    assert isinstance(again, Bisection)
    assert again.first_bad == 77


def test_bisect_refuses_ends_that_are_not_what_they_should_be(told: BlockingManager) -> None:
    with pytest.raises(InputError, match="is not good"):
        told.bisect(1, 100, lambda state: False)
    with pytest.raises(InputError, match="is not bad"):
        told.bisect(1, 100, lambda state: True)
    with pytest.raises(InputError, match="not before"):
        told.bisect(5, 5, lambda state: True)


def test_a_cursor_steps_either_way(told: BlockingManager) -> None:
    told.tag("a tag")
    told.clear_state()
    told.set_state("after", 1)
    cursor = told.cursor()
    for version in range(cursor.version, 0, -1):
        state = cursor.state
        assert (state.version, state.data) == (version, told.at(version).data)
        assert cursor.event.version == version
        cursor.back()
    assert cursor.event is None
    with pytest.raises(VersionNotFound, match="before 0"):
        cursor.back()
    assert cursor.forward(50).data == told.at(50).data
    assert cursor.back(20).data == told.at(30).data
    cursor.forward(told.version() - 30)
    with pytest.raises(VersionNotFound, match="no version after"):
        cursor.forward()


def test_a_cursor_crosses_a_fork(told: BlockingManager) -> None:
    idea = told.branch("idea", at=50)
    idea.set_state("x", 1)

    cursor = idea.cursor()

    assert cursor.back(2).data == told.at(49).data
    assert cursor.forward(2).data == idea.at().data


def test_what_if_some_events_had_not_happened(told: BlockingManager) -> None:
    without = told.what_if("without", skip=[61])

    assert without.left_out == {}
    assert without.branch.get_state("total") == 9
    assert len(without.branch.get_state("log")) == 99
    assert told.get_state("total") == 109
    assert without.branch.version() == 61
    with pytest.raises(BranchExists):
        told.what_if("without", skip=[61])


def test_what_if_an_event_had_done_something_else(told: BlockingManager) -> None:
    other = told.what_if("other", replace={61: statecore.EMPTY.add("total", 1)})

    assert other.branch.get_state("total") == 10
    assert str(other.branch.diff(60)).startswith("log")


def test_what_no_longer_fits_is_left_out_and_said(agent: BlockingManager) -> None:
    agent.set_state("list", [1])
    agent.apply(statecore.EMPTY.splice("list", 0, 1, ["one"]))
    agent.set_state("n", 5)

    found = agent.what_if("without", skip=[1])

    assert list(found.left_out) == [2]
    assert found.branch.at().data == {"n": 5}


def test_what_if_needs_something_to_change(told: BlockingManager) -> None:
    for wrong in ({"skip": []}, {"skip": [0]}, {"skip": [999]}):
        with pytest.raises(InputError, match="say which"):
            told.what_if("wrong", **wrong)
    with pytest.raises(BranchNotFound):
        told.branch("wrong", create=False)


def test_texts_are_found_in_a_state_and_in_its_history(agent: BlockingManager) -> None:
    agent.set_state("plan", {"goal": "fly to Porto", "steps": ["book", "pack for Porto"]})
    agent.set_state("other", "nothing")
    agent.delete_state("plan")
    agent.extend("notes", [{"text": "Porto was fine"}])

    assert agent.search("Porto") == {("notes", 0, "text"): "Porto was fine"}
    assert set(agent.search("Porto", at=2)) == {("plan", "goal"), ("plan", "steps", 1)}
    assert agent.search("oth") == {("other",): "nothing"}
    assert [event.version for event in agent.search_history("Porto")] == [1, 4]
    assert [event.version for event in agent.search_history("Porto", "notes")] == [4]


def test_keys_missing_and_none_are_told_apart_when_judged(agent: BlockingManager) -> None:
    agent.set_state("k", None)
    agent.set_state("x", 1)
    agent.delete_state("k")
    seen: list[Any] = []

    def is_there(state: Look) -> bool:
        seen.append("k" in state)
        return "k" in state

    assert agent.bisect(1, 3, is_there).first_bad == 3
