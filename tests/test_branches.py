"""Branches over every backend: fork, merge, take back, decide."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import statecore
from statecore import (
    BlockingManager,
    BlockingStore,
    BranchExists,
    BranchNotFound,
    Erased,
    EventType,
    InputError,
    MergeConflict,
    MissingActor,
    Moment,
    UnresolvedWarning,
)
from tests.conftest import KEY, Clock


@pytest.fixture
def forked(agent: BlockingManager) -> tuple[BlockingManager, BlockingManager]:
    """Main at version 3, and a branch that began there."""
    agent.set_state("goal", "fly")
    agent.set_state("plan", {"steps": [1], "who": "me"})
    agent.add("n", 10)
    return agent, agent.branch("idea")


# Forking


def test_a_fork_begins_with_the_state_at_its_fork_point(agent: BlockingManager) -> None:
    agent.set_state("n", 1)
    agent.tag("first")
    agent.set_state("n", 2)
    agent.delete_state("n")

    assert agent.branch("by version", at=1).at().data == {"n": 1}
    assert agent.branch("by tag", at="first").at().data == {"n": 1}
    assert agent.branch("by time", at=agent.at(3).timestamp).at().data == {"n": 2}
    assert agent.branch("now").at().data == {}
    assert agent.branch("from nothing", at=0).at().data == {}


def test_neither_side_sees_what_the_other_writes(forked: Any) -> None:
    main, idea = forked
    main.set_state("goal", "sail")
    idea.set_state("goal", "walk")
    idea.delete_state("plan")

    assert main.at().data == {"goal": "sail", "n": 10, "plan": {"steps": [1], "who": "me"}}
    assert idea.at().data == {"goal": "walk", "n": 10}
    assert (main.version(), idea.version()) == (4, 5)


def test_forks_of_forks_three_deep_stay_apart(forked: Any) -> None:
    main, idea = forked
    idea.set_state("a", 1)
    deeper = idea.branch("deeper")
    deeper.set_state("b", 2)
    deepest = deeper.branch("deepest")
    deepest.set_state("c", 3)
    for number, branch in enumerate((main, idea, deeper, deepest)):
        branch.set_state("late", number)

    assert [list(b.at()) for b in (main, idea, deeper, deepest)] == [
        ["goal", "late", "n", "plan"],
        ["a", "goal", "late", "n", "plan"],
        ["a", "b", "goal", "late", "n", "plan"],
        ["a", "b", "c", "goal", "late", "n", "plan"],
    ]
    assert deepest.value_at("a", deepest.version()) == 1
    assert deepest.value_at("goal", 1) == "fly"
    assert deepest.branch("shallow", at=2).at().data == main.at(2).data


def test_a_fork_shares_the_history_up_to_its_fork(forked: Any) -> None:
    main, idea = forked
    main.set_state("goal", "not in the idea's history")
    idea.set_state("goal", "walk", reason="cheaper")

    assert [event.version for event in idea.history()] == [1, 2, 3, 4]
    assert [event.version for event in idea.history(newest_first=True)] == [4, 3, 2, 1]
    assert [event.version for event in idea.history("goal")] == [1, 4]
    assert [event.reason for event in idea.history(since=3)] == ["cheaper"]
    assert str(idea.diff(1)) == str(idea.diff(1, 4))
    assert idea.at(2).data == main.at(2).data


def test_an_old_expected_version_holds_across_the_fork(forked: Any) -> None:
    _, idea = forked
    idea.set_state("other", 1)

    assert idea.set_state("goal", "walk", expected_version=1) == 5
    with pytest.raises(statecore.WrongExpectedVersion):
        idea.set_state("plan", {}, expected_version=1)


def test_a_branch_asked_for_again_is_the_same(forked: Any) -> None:
    main, idea = forked
    idea.set_state("x", 1)

    assert main.branch("idea").get_state("x") == 1
    assert main.branch("idea", at=3).get_state("x") == 1
    assert idea.branch("main").version() == 3
    with pytest.raises(BranchExists, match="began at"):
        main.branch("idea", at=2)
    with pytest.raises(BranchNotFound):
        main.branch("ieda", create=False)


@pytest.mark.parametrize("name", ["", "x" * 1025, "\ud800"])
def test_a_name_that_cannot_be_one_is_refused(agent: BlockingManager, name: str) -> None:
    with pytest.raises(InputError):
        agent.branch(name)


def test_branches_are_listed_described_and_deleted(forked: Any) -> None:
    main, _ = forked
    main.branch("second", at=1, description="go by train")

    first, second = main.branches()
    assert (first.name, first.fork, first.actor) == ("idea", Moment("main", 0, 3), "planner")
    assert (second.fork.version, second.description) == (1, "go by train")

    main.delete_branch("second")
    assert [branch.name for branch in main.branches()] == ["idea"]
    with pytest.raises(BranchNotFound):
        main.delete_branch("second")
    again = main.branch("second")
    assert again.version() == 3
    again.set_state("new", True)
    assert main.branches()[1].generation == 1


def test_a_branch_can_be_described_anew(forked: Any) -> None:
    main, _ = forked
    main.branch("try", description="cheap", actor="ann")
    (before,) = [known for known in main.branches() if known.name == "try"]

    main.describe_branch("try", "on foot", actor="bob")

    (after,) = [known for known in main.branches() if known.name == "try"]
    assert after == replace(before, description="on foot")
    assert after.actor == "ann"
    main.delete_branch("try")
    with pytest.raises(BranchNotFound):
        main.describe_branch("try", "gone")
    main.branch("try", actor="bob")
    (again,) = [known for known in main.branches() if known.name == "try"]
    assert (again.actor, again.generation, again.description) == ("bob", 1, None)


def test_a_branch_of_a_shared_state_is_made_by_somebody(store: BlockingStore) -> None:
    store.manager("board", actor="ann", kind="shared").set_state("k", 1)
    nobody = store.manager("board")

    for act in (
        lambda: nobody.branch("idea"),
        lambda: nobody.set_strategy("*", "max"),
        lambda: store.manager("new", kind="shared").branch("idea"),
    ):
        with pytest.raises(MissingActor):
            act()

    assert nobody.branches() == []
    nobody.branch("idea", actor="bob")
    assert nobody.branch("idea").branch_name == "idea", "to ask for it is not to write"
    with pytest.raises(MissingActor):
        nobody.delete_branch("idea")


def test_a_deleted_branch_of_the_same_name_is_another(forked: Any) -> None:
    main, idea = forked
    idea.set_state("x", "old")
    main.delete_branch("idea")

    new = main.branch("idea", at=1)

    assert new.at().data == {"goal": "fly"}
    assert idea.get_state("x") == "old"


def test_branches_are_no_agents_of_their_own(store: BlockingStore) -> None:
    store.manager("a").set_state("n", 1)
    store.manager("a").branch("b").set_state("n", 2)

    assert [birth.agent_id for birth in store.agents()] == ["a"]


def test_an_agent_that_only_ever_wrote_to_a_branch_is_an_agent(store: BlockingStore) -> None:
    store.manager("only planned").branch("idea").set_state("k", 1)
    store.manager("plain").set_state("k", 1)
    store.manager("ruled").set_strategy("*", "max")

    assert [(birth.agent_id, birth.branch) for birth in store.agents()] == [
        ("only planned", "idea"),
        ("plain", "main"),
    ]

    store.manager("only planned").set_state("k", 1)
    assert [(birth.agent_id, birth.branch) for birth in store.agents()] == [
        ("only planned", "main"),
        ("plain", "main"),
    ]


def test_branches_last(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("a")
        for number in range(600):
            agent.set_state(f"k{number % 50}", number)
        idea = agent.branch("idea", at=300)
        for number in range(600):
            idea.set_state(f"k{number % 50}", -number)
        unused = agent.branch("unused", at=299)
        expected = [idea.at(version).data for version in (1, 299, 300, 301, 700, 900)]
        assert unused.version() == 299

    with statecore.open(path, key=KEY) as store:
        agent = store.manager("a")
        idea = agent.branch("idea", create=False)
        assert [idea.at(version).data for version in (1, 299, 300, 301, 700, 900)] == expected
        assert agent.branch("unused", create=False).at().data == agent.at(299).data
        assert idea.value_at("k1", 250) == agent.value_at("k1", 250)


def test_a_branch_of_a_temporary_state_ends_with_it(path: Path, clock: Clock) -> None:
    with statecore.open(path, key=KEY, clock=clock) as store:
        agent = store.manager("session", kind="temporary", ttl=timedelta(seconds=60))
        agent.set_state("secret", 1)
        idea = agent.branch("idea")
        idea.set_state("more", 2)
        untouched = agent.branch("untouched")
        clock.tick(61)
        for branch in (agent, idea, untouched):
            with pytest.raises(Erased):
                branch.at()
        store.clean_up()
        for branch in (agent, idea, untouched):
            with pytest.raises(Erased):
                branch.at(1)


def test_a_branch_of_a_temporary_state_not_yet_written_ends_too(path: Path, clock: Clock) -> None:
    with statecore.open(path, key=KEY, clock=clock) as store:
        branch = store.manager("agent", kind="temporary", ttl=60).branch("idea")
        branch.set_state("k", 1)
        clock.tick(61)

        with pytest.raises(Erased):
            branch.get_state("k")
        store.clean_up()
        assert store.agents() == []


# Merging


def test_merging_brings_in_what_the_other_side_did(forked: Any) -> None:
    main, idea = forked
    idea.set_state("found", 3)
    idea.add("n", 5)
    main.add("n", 1)
    main.patch("plan", {"who": "you"})
    idea.patch("plan", {"steps": [1, 2]})

    result = main.merge(idea, reason="it worked")

    assert main.at().data == {
        "found": 3,
        "goal": "fly",
        "n": 16,
        "plan": {"steps": [1, 2], "who": "you"},
    }
    assert result.version == main.version() == 6
    assert (result.conflicts, result.keys_both) == ({}, ("n", "plan"))
    event = main.at().event
    assert (event.type, event.reason) == (EventType.MERGED, "it worked")
    assert event.parents == (Moment("idea", 0, 6),)


def test_a_merge_back_after_a_merge_is_a_fast_forward(forked: Any) -> None:
    main, idea = forked
    idea.set_state("goal", "walk")
    main.set_state("x", 1)
    main.merge(idea)

    result = idea.merge(main)

    assert idea.at().data == main.at().data
    assert result.conflicts == {}
    assert str(result.change) == "x = 1"


def test_merging_twice_does_nothing_the_second_time(forked: Any) -> None:
    main, idea = forked
    idea.add("n", 1)
    main.merge(idea)
    before = main.version()

    assert main.merge(idea).version is None
    assert main.version() == before
    idea.add("n", 1)
    main.merge(idea)
    assert main.get_state("n") == 12


def test_additions_are_counted_once_through_any_criss_cross(forked: Any) -> None:
    main, idea = forked
    main.add("n", 1)
    idea.add("n", 2)
    idea_before = idea.version()
    idea.merge(main)
    main.merge(idea, at=idea_before)  # a criss-cross: both took in the other's first
    main.add("n", 4)
    idea.add("n", 8)

    main.merge(idea)
    idea.merge(main)

    assert main.get_state("n") == idea.get_state("n") == 10 + 1 + 2 + 4 + 8


def test_additions_are_counted_once_where_three_states_are_in_common(
    agent: BlockingManager,
) -> None:
    one = agent.branch("one")
    one.add("n", 1)
    two = one.branch("two")
    two.add("n", 2)
    three = two.branch("three")
    three.add("n", 4)

    amount = 4
    for left, right in ((one, agent), (one, three), (agent, two), (two, three)):
        amount *= 2
        left.add("n", amount)
        amount *= 2
        right.add("n", amount)
        before = left.version()
        result = left.merge(right)
        right.merge(left, before)

    assert len(result.bases) == 3
    assert two.get_state("n") == three.get_state("n") == 2 * amount - 1


def test_what_both_changed_is_kept_as_a_conflict(forked: Any) -> None:
    main, idea = forked
    main.set_state("goal", "sail")
    idea.set_state("goal", "walk")

    result = main.merge(idea)

    (found,) = main.conflicts().values()
    assert list(result.conflicts) == [("goal",)]
    assert (found.sides, found.bases) == (["sail", "walk"], ["fly"])
    with pytest.warns(UnresolvedWarning):
        assert main.get_state("goal") == "sail"


def test_the_same_conflict_comes_of_merging_either_way(agent: BlockingManager) -> None:
    agent.set_state("goal", "fly")
    here, there = agent.branch("here"), agent.branch("there")
    here.set_state("goal", "sail")
    there.delete_state("goal")
    here_before, there_before = here.version(), there.version()

    here.merge(there, at=there_before)
    there.merge(here, at=here_before)

    assert here.conflicts() == there.conflicts()
    assert not here.merge(there).conflicts or here.conflicts() == there.conflicts()


def test_a_conflict_is_decided_by_an_event(forked: Any) -> None:
    main, idea = forked
    main.set_state("goal", "sail")
    idea.set_state("goal", "walk")
    main.patch("plan", {"who": "a"})
    idea.patch("plan", {"who": "b"})
    main.merge(idea)
    assert list(main.conflicts()) == [("goal",), ("plan", "who")]

    main.resolve("goal", "drive", reason="neither")
    main.resolve("plan", path=("who",), pick=1)

    assert main.conflicts() == {}
    assert main.at().data == {"goal": "drive", "n": 10, "plan": {"steps": [1], "who": "b"}}
    assert main.at().event.type == EventType.RESOLVED
    with pytest.raises(InputError, match="nothing is in conflict"):
        main.resolve("goal", 1)
    idea.merge(main)
    assert idea.at().data == main.at().data


def test_a_decision_can_be_remembered(agent: BlockingManager) -> None:
    agent.set_state("goal", "fly")
    one, two = agent.branch("one"), agent.branch("two")
    one.set_state("goal", "sail")
    two.set_state("goal", "walk")
    agent.merge(one)
    third = agent.branch("third")
    agent.merge(two)
    agent.resolve("goal", "drive", remember=True)

    assert list(third.merge(two, dry_run=True).conflicts) == [("goal",)]
    assert third.merge(two, reuse=True).conflicts == {}
    assert third.get_state("goal") == "drive"


def test_a_dry_run_tells_and_does_nothing(forked: Any) -> None:
    main, idea = forked
    idea.set_state("goal", "walk")

    result = main.merge(idea, dry_run=True)

    assert str(result.change) == "goal = 'walk'"
    assert result.bases == (Moment("main", 0, 3),)
    assert (result.keys_ours, result.keys_theirs, result.keys_both) == (0, 1, ())
    assert main.version() == 3


@pytest.mark.parametrize(
    ("way", "goal"),
    [("ours", "sail"), ("theirs", "walk"), (lambda path, *sides: list(sides), "fly sail walk")],
)
def test_conflicts_can_be_decided_at_once(forked: Any, way: Any, goal: str) -> None:
    main, idea = forked
    main.set_state("goal", "sail")
    idea.set_state("goal", "walk")

    main.merge(idea, on_conflict=way)

    found = main.get_state("goal")
    assert (" ".join(found) if isinstance(found, list) else found) == goal
    assert main.conflicts() == {}


def test_conflicts_can_be_refused_all_at_once(forked: Any) -> None:
    main, idea = forked
    for branch in forked:
        branch.set_state("goal", branch.branch_name)
        branch.patch("plan", {"who": branch.branch_name})

    with pytest.raises(MergeConflict) as refused:
        main.merge(idea, on_conflict="raise")

    assert list(refused.value.conflicts) == [("goal",), ("plan", "who")]
    assert main.version() == 5
    with pytest.raises(InputError, match="on_conflict is"):
        main.merge(idea, on_conflict="whatever")


def test_strategies_are_recorded_and_count(forked: Any) -> None:
    main, idea = forked
    main.set_strategy("log*", "append")
    main.set_strategy("*", "latest")
    main.extend("log", ["main"])
    idea.extend("log", ["idea"])
    main.set_state("goal", "first")
    idea.set_state("goal", "last")

    assert main.merge(idea).conflicts == {}

    assert main.get_state("log") == ["main", "idea"]
    assert main.get_state("goal") == "last"
    assert idea.strategies() == {"log*": "append", "*": "latest"}
    with pytest.raises(InputError, match="strategies are"):
        main.set_strategy("*", "magic")
    main.set_strategy("*", None)
    assert main.strategies() == {"log*": "append"}


def test_a_function_can_be_the_strategy_and_its_result_is_recorded(forked: Any) -> None:
    main, idea = forked
    main.set_state("goal", "sail")
    idea.set_state("goal", "walk")

    main.merge(idea, strategies={"goal": lambda base, ours, theirs: [base, ours, theirs]})

    assert main.get_state("goal") == ["fly", "sail", "walk"]


def test_branches_of_another_agent_are_not_merged(store: BlockingStore) -> None:
    one, other = store.manager("one"), store.manager("other")
    one.set_state("n", 1)
    other.set_state("n", 1)

    with pytest.raises(InputError, match="another agent"):
        one.merge(other)


# Taking back


def test_reverting_an_event_keeps_what_came_after(agent: BlockingManager) -> None:
    agent.set_state("goal", "fly")
    agent.add("n", 5, reason="a mistake")
    agent.add("n", 2)
    agent.set_state("goal", "sail")

    result = agent.revert(2)

    assert agent.at().data == {"goal": "sail", "n": 2}
    assert agent.at().event.takes_back == (2,)
    agent.revert(result.version)
    assert agent.get_state("n") == 7


def test_reverting_what_others_built_on_is_a_conflict(agent: BlockingManager) -> None:
    agent.set_state("goal", "fly")
    agent.set_state("goal", "sail")
    agent.set_state("goal", "walk")

    result = agent.revert(2)

    assert list(result.conflicts) == [("goal",)]
    assert result.conflicts["goal",].sides == ["fly", "walk"]


def test_an_appended_item_can_be_taken_back_from_the_middle(agent: BlockingManager) -> None:
    for item in "abcd":
        agent.extend("list", [item])

    agent.revert(2)

    assert agent.get_state("list") == ["a", "c", "d"]


def test_the_work_of_one_actor_can_be_taken_back(agent: BlockingManager) -> None:
    agent.set_state("goal", "fly", actor="good")
    for number in range(5):
        agent.add("n", number, actor="bad")
        agent.extend("list", [number], actor="good" if number % 2 else "bad")
        agent.set_state(f"k{number}", number, actor="bad")

    result = agent.revert(by="bad")

    assert agent.at().data == {"goal": "fly", "list": [1, 3], "n": 0} or agent.at().data == {
        "goal": "fly",
        "list": [1, 3],
    }
    assert result.conflicts == {}


def test_a_range_can_be_taken_back(agent: BlockingManager) -> None:
    for number in range(6):
        agent.set_state(f"k{number}", number)

    agent.revert(since=1, until=4)

    assert list(agent.at()) == ["k0", "k4", "k5"]


def test_a_clear_can_be_taken_back(agent: BlockingManager) -> None:
    agent.set_state("a", 1)
    agent.set_state("b", 2)
    agent.clear_state()
    agent.set_state("c", 3)

    agent.revert(3)

    assert agent.at().data == {"a": 1, "b": 2, "c": 3}


def test_restoring_makes_the_state_what_it_was(agent: BlockingManager) -> None:
    agent.set_state("a", [1, 2])
    agent.tag("good")
    agent.extend("a", [3])
    agent.set_state("b", 1)

    agent.restore("good", reason="oops")

    assert agent.at().data == {"a": [1, 2]}
    assert agent.at().event.type == EventType.RESTORED
    assert agent.version() == 5
    assert agent.restore("good").version is None  # nothing to do


def test_undo_and_redo_are_each_actors_own(agent: BlockingManager) -> None:
    agent.set_state("a", 1, actor="ann")
    agent.set_state("b", 1, actor="bob")
    agent.set_state("a", 2, actor="ann")

    agent.undo(by="ann")
    assert agent.at().data == {"a": 1, "b": 1}
    agent.undo(by="ann")
    assert agent.at().data == {"b": 1}
    assert agent.undo(by="ann") is None
    agent.redo(by="ann")
    assert agent.at().data == {"a": 1, "b": 1}
    agent.redo(by="ann")
    assert agent.at().data == {"a": 2, "b": 1}
    assert agent.redo(by="ann") is None
    agent.undo(by="ann")
    agent.set_state("c", 1, actor="ann")
    assert agent.redo(by="ann") is None  # an act of one's own ends what could be redone
    agent.undo(by="bob")
    assert agent.at().data == {"a": 1, "c": 1}


def test_events_of_another_branch_can_be_done_here(forked: Any) -> None:
    main, idea = forked
    idea.set_state("x", 1)
    idea.add("n", 5)
    idea.extend("log", ["idea"])
    main.add("n", 100)
    main.extend("log", ["main"])

    result = main.cherry_pick(idea, 5, 6)

    assert main.at().data["n"] == 115
    assert main.get_state("log") == ["main", "idea"]
    assert "x" not in main.at()
    assert main.at().event.parents == (Moment("idea", 0, 5), Moment("idea", 0, 6))
    assert result.conflicts == {}
    with pytest.raises(InputError, match="has events 1 to"):
        main.cherry_pick(idea, 99)


def test_a_picked_event_that_does_not_fit_is_a_conflict(forked: Any) -> None:
    main, idea = forked
    idea.set_state("goal", "walk")
    main.set_state("goal", "sail")

    assert list(main.cherry_pick("idea", 4).conflicts) == [("goal",)]


def test_reverting_what_is_not_there_says_so(agent: BlockingManager) -> None:
    agent.set_state("a", 1)

    with pytest.raises(InputError, match="has no event 2"):
        agent.revert(2)
    with pytest.raises(InputError, match="say what to revert"):
        agent.revert()


def test_a_branch_can_be_rebased(forked: Any) -> None:
    main, idea = forked
    idea.set_state("x", 1, actor="thinker", reason="because")
    idea.add("n", 5)
    idea.tag("a tag")
    main.set_state("goal", "sail")
    main.add("n", 1)

    new = idea.rebase(onto="main")

    assert new.at().data == {**main.at().data, "n": 16, "x": 1}
    assert [event.actor for event in new.history(since=5)] == ["thinker", "planner"]
    assert main.branches()[0].fork == Moment("main", 0, 5)
    assert main.branch("idea").at().data == new.at().data
    assert "goal" in idea.at(3)
    assert main.merge(new).change == new.diff(5)
    with pytest.raises(InputError):
        main.rebase()


def test_keys_that_may_conflict_are_told_before_they_do(forked: Any) -> None:
    main, idea = forked
    for branch in forked:
        branch.set_state("goal", branch.branch_name)
        branch.extend("log", ["x"])
    main.set_strategy("log", "append")

    assert main.contested() == {"goal": ["idea"]}
    assert idea.contested() == {"goal": ["main"]}


def test_an_agent_is_erased_on_every_branch(store: statecore.BlockingStore) -> None:
    agent, other = store.manager("erased"), store.manager("kept")
    other.set_state("key", 1)
    agent.set_state("key", 1)
    fork = agent.branch("fork", 1)
    fork.set_state("key", 2)
    agent.delete_branch("fork")
    again = agent.branch("fork", 1)  # of another generation
    again.set_state("key", 3)

    store.erase("erased")
    store.erase("never there")

    for gone in (agent, fork, again):
        with pytest.raises(statecore.Erased):
            gone.get_state("key")
        with pytest.raises(statecore.Erased):
            gone.at(1)
    assert other.get_state("key") == 1
    assert [birth.agent_id for birth in store.agents()] == ["kept"]

    agent.set_state("new", 1)
    assert agent.at().data == {"new": 1}
    assert agent.branches() == []
    assert agent.branch("fork").at().data == {"new": 1}


def test_states_of_many_versions_are_those_of_each(agent: statecore.BlockingManager) -> None:
    for number in range(1, 150):
        agent.set_state(f"k{number % 7}", number)
    fork = agent.branch("fork", 100)
    fork.set_state("k0", "forked")

    for manager, last in ((agent, 149), (fork, 101)):
        states = manager.states(90)
        assert [state.version for state in states] == list(range(91, last + 1))
        for state in states:
            assert state.data == manager.at(state.version).data
            assert state.touched == set(
                next(iter(manager.history(since=state.version - 1))).change.operations
            )
    assert agent.states(149) == []


def test_an_event_is_found_by_the_id_its_caller_chose(agent: statecore.BlockingManager) -> None:
    assert agent.find_event("mine") == 0
    agent.set_state("key", 1)
    agent.set_state("key", 2, event_id="mine")
    fork = agent.branch("fork")
    fork.set_state("key", 3, event_id="on the fork")

    assert (agent.find_event("mine"), fork.find_event("mine")) == (2, 0)
    assert (agent.find_event("on the fork"), fork.find_event("on the fork")) == (0, 3)


def test_what_one_side_left_alone_since_several_bases_is_the_others_to_say(
    agent: statecore.BlockingManager,
) -> None:
    agent.set_state("key", 1)
    agent.set_strategy("key", "max")
    one, other = agent.branch("one"), agent.branch("other")
    one.set_state("key", 5)
    other.set_state("key", 3)
    before = one.version()
    one.merge(other)  # leaves 5, by the strategy: this touches nothing
    other.merge(one, before)
    other.set_state("key", 0)

    assert len(one.merge(other).bases) == 2
    assert one.get_state("key") == 0


def test_a_side_with_a_conflict_in_it_can_be_picked(agent: statecore.BlockingManager) -> None:
    agent.set_state("key", {"in": 0})
    one, other, third = (agent.branch(name) for name in ("one", "other", "third"))
    one.patch("key", {"in": 1})
    other.patch("key", {"in": 2})
    third.set_state("key", "none")
    one.merge(other)
    one.merge(third)
    ((path, conflict),) = one.conflicts().items()
    at = next(at for at, side in enumerate(conflict.sides) if side != "none")

    one.resolve("key", path=path[1:], pick=at)

    assert [side for each in one.conflicts().values() for side in each.sides] != []
