"""Rules over time and place: branches, what was once, migrations, processes, kinds of state."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import statecore
from statecore import (
    EMPTY,
    BlockingManager,
    BlockingStore,
    InputError,
    ValidationFailed,
)
from statecore.recorders.sqlite.log import SqliteLog
from tests.conftest import KEY, Clock, environment, opening
from tests.test_validation import SECRET, even, refused

# Branches and time


def test_rules_hold_on_every_branch(agent: BlockingManager) -> None:
    agent.set_state("n", 1)
    early = agent.branch("early")
    agent.set_schema("n", {"type": "integer"})

    assert refused(early.set_state, "n", "x") == [("n",)]
    assert refused(agent.branch("late").set_state, "n", "x") == [("n",)]
    assert early.schemas() == agent.schemas()


def test_no_way_back_leads_to_what_is_not_valid_now(agent: BlockingManager) -> None:
    agent.set_state("n", "text")
    agent.set_state("n", 1)
    agent.set_schema("n", {"type": "integer"})

    assert refused(agent.restore, 1) == [("n",)]
    assert refused(agent.undo) == [("n",)]
    assert refused(agent.revert, 2) == [("n",)]
    assert refused(agent.what_if, "other", replace={2: {"n": "y"}}) == [("n",)]
    assert agent.version() == 2
    assert agent.branches() == []


def test_a_merge_that_would_violate_rules_is_refused_whole(agent: BlockingManager) -> None:
    agent.set_reference("ref", (), "user/*")
    agent.set_state("user/a", 1)
    idea = agent.branch("idea")
    idea.set_state("ref", "user/a")
    idea.set_state("else", 1)
    agent.delete_state("user/a")

    assert refused(agent.merge, idea) == [("ref",)]
    assert agent.at().data == {}
    assert refused(idea.merge, agent) == [("ref",)]
    agent.set_state("user/a", 2)
    assert agent.merge(idea).version is not None


def test_a_conflict_is_exempt_until_it_is_resolved(agent: BlockingManager) -> None:
    agent.set_schema("n", {"type": "integer"})
    agent.set_state("n", 1)
    idea = agent.branch("idea")
    agent.set_state("n", 2)
    idea.set_state("n", 3)
    agent.merge(idea)

    assert agent.check() == []
    assert refused(agent.resolve, "n", "x") == [("n",)]
    agent.resolve("n", pick=0)
    assert agent.check() == []


def test_which_rules_held_when(agent: BlockingManager) -> None:
    agent.set_state("n", 1)
    agent.set_schema("n", {"type": "integer"}, actor="ada", reason="at last")
    between = agent.at().timestamp
    agent.constrain("n", even)
    agent.set_state("n", 2)
    agent.set_schema("n", {"type": "number"})
    agent.set_reference("doc", (), "n")
    agent.set_state("n", 2.0)
    agent.tag("now")

    assert [agent.rules(at).version for at in (0, 1, 2, 3, "now", None)] == [0, 0, 2, 4, 4, 4]
    assert agent.schemas(2)["n"].schema == {"type": "integer"}
    assert agent.schemas("now")["n"].schema == {"type": "number"}
    assert agent.rules(between).version <= 1
    assert agent.rules().references[0].version == 4


def test_a_branch_knows_which_rules_held_at_its_versions_and_migrates_by_itself(
    agent: BlockingManager,
) -> None:
    agent.set_state("n", "1")
    early = agent.branch("early", at=1)
    early.set_state("m", "2")
    agent.set_schema("?", {"type": "integer"})
    early.set_state("k", 3)
    agent.set_state("k", 3)

    assert [early.rules(at).version for at in (0, 1, 2, 3)] == [0, 0, 0, 1]
    assert early.migrate("?", int) == 2
    assert early.at().data == {"k": 3, "m": 2, "n": 1}
    assert [each.path for each in agent.check()] == [("n",)]
    assert agent.migrate("?", int) == 1


def test_a_rebase_that_would_violate_rules_leaves_the_branch_as_it_was(
    agent: BlockingManager,
) -> None:
    agent.set_state("n", 1)
    idea = agent.branch("idea")
    idea.set_state("m", 1)
    idea.set_state("n", "text")
    agent.set_schema("n", {"type": "integer"})
    agent.set_state("m", 2)

    assert refused(idea.rebase) == [("n",)]
    assert agent.branch("idea").at().data == {"m": 1, "n": "text"}


def test_values_that_are_there_already_stay_and_are_found(agent: BlockingManager) -> None:
    agent.apply(EMPTY.put("n", "x").put("doc", "gone").put("m", 3))
    agent.set_schema("n", {"type": "integer"})
    agent.constrain("m", even)
    agent.set_reference("doc", (), "user/*")

    assert agent.get_state("n") == "x"
    assert [each.path for each in agent.check()] == [("doc",), ("m",), ("n",)]
    agent.set_state("other", 1)


# Migration


def test_values_are_brought_up_to_their_schema_once(agent: BlockingManager) -> None:
    agent.apply(EMPTY.put("n/1", "1").put("n/2", "2").put("m", "3"))
    agent.set_schema("n/*", {"type": "integer"})
    agent.set_state("n/3", 30)

    assert agent.migrate("n/*", int, keys_max=1, actor="clerk") == 2
    assert agent.at().data == {"m": "3", "n/1": 1, "n/2": 2, "n/3": 30}
    assert [event.actor for event in agent.history(since=2)] == ["clerk", "clerk"]
    assert agent.at().event.reason == "brought up to schema 'n/*', version 1"
    assert agent.migrate("n/*", lambda value: value + 1) == 0
    assert agent.check() == []


def test_a_migration_goes_on_where_it_failed(agent: BlockingManager) -> None:
    agent.apply(EMPTY.put("n/1", "1").put("n/2", "x").put("n/3", "3"))
    agent.set_schema("n/*", {"type": "integer"})

    with pytest.raises(ValueError, match="invalid literal"):
        agent.migrate("n/*", int, keys_max=1)
    assert refused(agent.migrate, "n/*", lambda value: 1.5, keys_max=1) == [("n/2",)]
    assert agent.at().data == {"n/1": 1, "n/2": "x", "n/3": "3"}
    assert agent.migrate("n/*", len, keys_max=1) == 2
    assert agent.at().data == {"n/1": 1, "n/2": 1, "n/3": 1}


def test_a_migration_sees_what_others_write_meanwhile(agent: BlockingManager) -> None:
    agent.apply(EMPTY.put("n/1", "1").put("n/2", "2"))
    agent.set_schema("n/*", {"type": "integer"})

    def upcast(value: Any) -> int:
        if agent.get_state("n/2") == "2":
            agent.set_state("n/2", 20)
        return int(value)

    assert agent.migrate("n/*", upcast) == 1
    assert agent.at().data == {"n/1": 1, "n/2": 20}


def test_a_migration_needs_a_schema_and_is_many_events(agent: BlockingManager) -> None:
    with pytest.raises(InputError, match="no schema is set for 'n'"):
        agent.migrate("n", int)
    with pytest.raises(InputError, match="several events"):
        agent.migrate("n", int, event_id="once")


# Processes


def python(script: str, *arguments: object) -> int:
    """Run a script in a process of its own; return its exit code."""
    begin = "import os, sys, statecore\nfrom statecore import *\nfrom tests.conftest import KEY\n"
    command = [sys.executable, "-W", "error", "-c", begin + script, *map(str, arguments)]
    return subprocess.run(command, env=environment(), check=False, timeout=60).returncode


def test_a_rule_of_another_process_holds_from_the_next_write_on(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("a")
        agent.set_state("n", 1)
        script = """
with statecore.open(sys.argv[1], key=KEY) as store:
    store.manager("a").set_schema("n", {"type": "integer"})
    store.manager("a").constrain("n", lambda n: n > 0, name="positive")
"""
        assert python(script, path) == 0

        assert refused(agent.set_state, "n", "x") == [("n",)]
        assert agent.set_state("n", -1) == 2  # the function is known to the other process only
        agent.set_schema("n", None)
        assert agent.set_state("n", "x") == 3


def test_rules_are_there_when_a_store_is_opened_again(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        store.manager("a").set_schema("n", int)
        store.manager("a").constrain("n", even)
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("a")
        assert refused(agent.set_state, "n", "x") == [("n",)]
        agent.set_state("n", 1)
        assert agent.constrain("n", even) == 2

        assert refused(agent.set_state, "n", 1) == [("n",)]
        assert [each.path for each in agent.check()] == [("n",)]


def test_a_migration_goes_on_after_its_process_died(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("a")
        for at in range(10):
            agent.set_state(f"n/{at}", str(at))
        agent.set_schema("n/*", {"type": "integer"})
    script = """
with statecore.open(sys.argv[1], key=KEY) as store:
    store.manager("a").migrate("n/*", lambda n: os._exit(7) if n == "6" else int(n), keys_max=2)
"""
    assert python(script, path) == 7

    with statecore.open(path, key=KEY) as store:
        agent = store.manager("a")
        before = [agent.get_state(f"n/{at}") for at in range(10)]
        assert before == [0, 1, 2, 3, 4, 5, "6", "7", "8", "9"]
        assert agent.migrate("n/*", int, keys_max=3) == 4
        assert [agent.get_state(f"n/{at}") for at in range(10)] == list(range(10))


def test_who_lacks_the_extra_writes_nothing_a_schema_is_for(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        store.manager("a").set_schema("n", {"type": "integer"})
    script = """
sys.modules["jsonschema"] = None
with statecore.open(sys.argv[1], key=KEY) as store:
    store.manager("other").set_state("n", "x")
    try:
        store.manager("a").set_state("n", 1)
    except InputError as error:
        sys.exit(5 if "statecore[schema]" in str(error) else 1)
"""
    assert python(script, path) == 5


def test_where_there_are_no_rules_writing_asks_for_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    for name in ("read", "read_log", "version"):
        monkeypatch.setattr(SqliteLog, name, _counted(getattr(SqliteLog, name), name, asked))
    with (
        statecore.open(path, key=KEY) as store,
        statecore.open(path, key=KEY) as others,
    ):
        agent, other = store.manager("a"), others.manager("b")
        agent.set_state("n", 0)
        other.set_state("n", 0)
        agent.set_state("n", 1)
        asked.clear()
        for n in range(5):
            agent.set_state("n", n)
        assert asked == []

        other.set_state("n", 1)
        asked.clear()
        agent.set_state("n", 6)
        # One of them to look for a policy, one for rules.
        assert asked == ["read_log", "read", "version", "version"]


def _counted(method: Any, name: str, asked: list[str]) -> Any:
    def call(*arguments: Any, **options: Any) -> Any:
        asked.append(name)
        return method(*arguments, **options)

    return call


# What may hold rules


def test_a_shared_state_says_who_set_its_rules(store: BlockingStore) -> None:
    board = store.manager("board", kind="shared", actor="ada")
    board.set_schema("n", {"type": "integer"})

    assert refused(store.manager("board", kind="shared", actor="bob").set_state, "n", SECRET)
    assert board.set_state("n", 1) == 1


def test_the_rules_of_a_runtime_state_stay_in_memory(store: BlockingStore) -> None:
    draft = store.manager("draft", kind="runtime")
    draft.set_schema("n", {"type": "integer"})
    assert refused(draft.set_state, "n", SECRET) == [("n",)]
    draft.set_state("n", 1)

    durable = store.persist(draft)
    assert durable.schemas() == {}
    durable.set_schema("n", {"type": "string"})
    assert refused(store.persist, draft) == [("n",)]


def test_the_rules_of_a_temporary_state_end_with_it(
    backend: str, tmp_path: Path, clock: Clock
) -> None:
    with opening(backend, tmp_path, clock=clock) as store:
        guest = store.manager("guest", kind="temporary", ttl=10)
        with pytest.raises(InputError, match="write to it first"):
            guest.set_schema("n", {"type": "integer"})
        guest.set_state("n", 1)
        guest.set_schema("n", {"type": "integer"})
        assert refused(guest.set_state, "n", SECRET) == [("n",)]

        clock.tick(11)
        with pytest.raises(InputError, match="write to it first"):
            guest.set_schema("n", {"type": "string"})
        guest.set_state("n", "begun anew")

        assert guest.check() == []
        assert guest.get_state("n") == "begun anew"


def test_both_faces_keep_the_same_rules() -> None:
    async def story() -> list[Any]:
        async with statecore.open("memory:") as store:
            agent = store.manager("a")
            await agent.set_schema("n", {"type": "integer"})
            await agent.constrain("n", even)
            await agent.set_reference("owner", (), "user/*")
            with pytest.raises(ValidationFailed) as caught:
                await agent.apply(statecore.EMPTY.put("n", 1.5).put("owner", SECRET))
            await agent.set_state("n", 2)
            migrated = await agent.migrate("n", lambda n: n + 2)
            return [
                [each.path for each in caught.value.violations],
                await agent.check(),
                (await agent.rules()).version,
                migrated,
            ]

    assert asyncio.run(story()) == [[("n",), ("n",), ("owner",)], [], 3, 0]
