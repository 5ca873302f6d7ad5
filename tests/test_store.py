"""What a store promises its users, on every backend: reading, writing, the past, the four kinds."""

from __future__ import annotations

import asyncio
import copy
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import statecore
from statecore import EMPTY, BlockingManager, BlockingStore, Kind, Position
from statecore.errors import (
    Erased,
    Expired,
    InputError,
    KindMismatch,
    MissingActor,
    OperationMismatch,
    StoreClosed,
    TagExists,
    TagNotFound,
    UnsupportedValue,
    VersionNotFound,
)
from tests.conftest import KEY, Clock, opening

EVERYTHING: dict[str, Any] = {
    "none": None, "bool": True, "int": 2**70, "float": -0.0, "str": "ü", "bytes": b"\x00\xff",
    "datetime": datetime(2026, 11, 22, 12, tzinfo=UTC), "decimal": Decimal("1.50"),
    "uuid": UUID(int=7), "list": [1, [2, {"x": None}]], "map": {"": {"a/b": [], "~": {}}},
}  # fmt: skip


def test_what_is_set_comes_back(agent: BlockingManager) -> None:
    for version, (key, value) in enumerate(EVERYTHING.items(), 1):
        assert agent.set_state(key, value) == version

    for key, value in EVERYTHING.items():
        assert repr(agent.get_state(key)) == repr(value)
    assert agent.at().data == EVERYTHING
    assert agent.version() == len(EVERYTHING)


def test_a_missing_key_gives_the_default(agent: BlockingManager) -> None:
    assert agent.get_state("nothing") is None
    assert agent.get_state("nothing", []) == []
    assert agent.version() == 0
    assert dict(agent.at()) == {}
    assert agent.at().timestamp is None
    assert agent.at().metadata == {}


def test_what_is_read_is_the_callers_to_change(agent: BlockingManager) -> None:
    value = {"steps": [{"done": False}]}
    agent.set_state("plan", value)
    value["steps"][0]["done"] = True
    agent.get_state("plan")["steps"].append("mine")
    agent.at()["plan"].clear()

    assert agent.get_state("plan") == {"steps": [{"done": False}]}


def test_each_operation_does_what_it_says(agent: BlockingManager) -> None:
    agent.extend("l", [1])
    agent.extend("l", [2, 3])
    agent.add("n", 5)
    agent.add("n", -7)
    agent.add("d", Decimal("0.10"))
    agent.patch("m", {"a": 1, "b": 2})
    agent.patch("m", EMPTY.remove("a").extend("c", ["x"]).patch("d", {"e": None}))
    agent.set_state("gone", 1)
    agent.delete_state("gone")
    agent.delete_state("never there")
    agent.apply(EMPTY.splice("l", 0, 2, ["new"]).put("k", 1))

    assert agent.at().data == {
        "l": ["new", 3], "n": -2, "d": Decimal("0.10"), "k": 1,
        "m": {"b": 2, "c": ["x"], "d": {"e": None}},
    }  # fmt: skip
    agent.clear_state()
    assert agent.at().data == {}
    assert agent.version() == 12


def test_an_operation_that_does_not_fit_writes_nothing(agent: BlockingManager) -> None:
    agent.set_state("n", 1)

    with pytest.raises(OperationMismatch, match="n: extend needs a list, not int"):
        agent.extend("n", [1])
    with pytest.raises(OperationMismatch, match="n: add float to int"):
        agent.add("n", 1.0)
    with pytest.raises(UnsupportedValue, match="plan\\['who'\\]: set"):
        agent.set_state("plan", {"who": {1}})

    assert agent.version() == 1


def test_a_transaction_is_one_event_or_none(agent: BlockingManager) -> None:
    agent.set_state("n", 1)
    with agent.transaction(reason="tool result", metadata={"tool": "search"}) as tx:
        tx.set("n", tx.get("n") + 1)
        tx.add("n", 1)
        tx.extend("l", ["a"])
        tx.extend("l", ["b"])
        tx.patch("m", {"x": 1})
        tx.splice("l", 0, 1)
        tx.delete("nothing")
        assert tx.get("n") == 3
        assert tx.get("l") == ["b"]
        assert tx.get("nothing", "default") == "default"

    assert tx.version == 2
    state = agent.at()
    assert state.data == {"n": 3, "l": ["b"], "m": {"x": 1}}
    assert state.metadata["reason"] == "tool result"
    assert state.metadata["tool"] == "search"
    with pytest.raises(ZeroDivisionError), agent.transaction() as failing:
        failing.set("n", 9)
        raise ZeroDivisionError
    with agent.transaction() as idle:
        idle.get("n")
    assert idle.version is None
    assert agent.version() == 2


def test_a_transaction_can_clear_first(agent: BlockingManager) -> None:
    agent.set_state("old", 1)
    with agent.transaction() as tx:
        tx.clear()
        tx.set("new", 2)
        assert tx.get("old") is None
        tx.extend("old", ["again"])

    assert agent.at().data == {"new": 2, "old": ["again"]}
    assert agent.at(1).data == {"old": 1}


def test_atomic_update_returns_what_it_set(agent: BlockingManager) -> None:
    assert agent.atomic_update("n", lambda n: (n or 0) + 1) == 1
    assert agent.atomic_update("n", lambda n: n + 1) == 2
    assert agent.atomic_update("l", lambda items: [*items, 1], default=[]) == [1]
    with pytest.raises(ZeroDivisionError):
        agent.atomic_update("n", lambda n: n // 0)

    assert agent.at().data == {"n": 2, "l": [1]}
    assert agent.version() == 3


def test_an_async_update_function_is_awaited(backend: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with opening(backend, tmp_path) as store:
            agent = store.manager("agent")

            async def slowly(n: Any) -> int:
                await asyncio.sleep(0)
                return (n or 0) + 1

            await asyncio.gather(*(agent.atomic_update("n", slowly) for _ in range(20)))
            assert await agent.get_state("n") == 20

    asyncio.run(work())


def test_the_blocking_face_refuses_to_wait_for_coroutines(agent: BlockingManager) -> None:
    class Elsewhere:
        def __await__(self) -> Any:
            yield

    async def slowly(n: Any) -> int:
        await Elsewhere()
        return 1

    with pytest.raises(RuntimeError, match="use `async with`"):
        agent.atomic_update("n", slowly)
    assert agent.version() == 0


def story(agent: BlockingManager) -> list[dict[str, Any]]:
    """Write some versions; return the state at each, beginning with the empty one."""
    states: list[dict[str, Any]] = [{}]
    changes = [
        EMPTY.put("a", 1).put("l", [1]),
        EMPTY.extend("l", [2]),
        EMPTY.put("b", {"x": 1}),
        EMPTY.remove("a"),
        EMPTY.add("n", 1),
        EMPTY.add("n", 1).patch("b", {"y": 2}),
        statecore.CLEAR.put("b", "new"),
        EMPTY.put("a", 2).extend("l", [9]),
        EMPTY.splice("l", 0, 1, [7, 8]),
    ]
    for change in changes:
        agent.apply(change)
        states.append(agent.at().data)
    return states


def test_every_past_state_and_value_is_there(agent: BlockingManager) -> None:
    states = story(agent)

    for version, expected in enumerate(states):
        assert agent.at(version).data == expected
        assert agent.at(version).version == version
        for key in ("a", "b", "l", "n", "never"):
            assert agent.value_at(key, version, "absent") == expected.get(key, "absent")


def test_a_past_state_stays_what_it_was(agent: BlockingManager) -> None:
    states = story(agent)
    past = [agent.at(version) for version in range(len(states))]
    kept = copy.deepcopy([state.data for state in past])

    story(agent)

    assert [state.data for state in past] == kept == states


def test_a_difference_leads_from_any_version_to_any_other(agent: BlockingManager) -> None:
    states = story(agent)
    from statecore.change import pack_state
    from tests.strategies import unpack_state

    for start, before in enumerate(states):
        for end, after in enumerate(states):
            change = agent.diff(start, end)
            assert unpack_state(change.apply(pack_state(before))) == after
    assert agent.diff(3) == agent.diff(3, len(states) - 1)


def test_a_state_says_what_it_is(agent: BlockingManager) -> None:
    agent.set_state("b", 1)
    agent.set_state("a", 2, reason="why", cause="msg-1", metadata={"k": [1]})

    state = agent.at()

    assert (state.id, state.branch, state.kind) == ("agent-7", "main", Kind.PERSISTENT)
    assert list(state) == ["a", "b"]
    assert len(state) == 2
    assert "a" in state
    assert "c" not in state
    with pytest.raises(KeyError):
        state["c"]
    assert state.event is not None
    assert state.metadata == {
        "event_id": state.event.id, "actor": "planner", "reason": "why", "cause": "msg-1", "k": [1],
    }  # fmt: skip
    assert repr(state) == "<AgentState agent-7 version 2: 2 keys>"


def test_times_lead_to_versions(backend: str, tmp_path: Path, clock: Clock) -> None:
    with opening(backend, tmp_path, clock=clock) as store:
        agent = store.manager("agent")
        times = []
        for number in range(5):
            clock.tick(10)
            agent.set_state("n", number)
            times.append(agent.at().timestamp)

        for number, time in enumerate(times):
            assert time is not None
            assert agent.at(time)["n"] == number
            assert agent.at(time + timedelta(seconds=9.999999))["n"] == number
            assert agent.at(time - timedelta(microseconds=1)).version == number
        assert agent.at(datetime(1970, 1, 2, tzinfo=UTC)).version == 0
        assert agent.at(datetime(9999, 1, 2, tzinfo=UTC)).version == 5
        with pytest.raises(InputError, match="time zone"):
            agent.at(datetime(2026, 1, 1))  # noqa: DTZ001


def test_time_never_goes_back(backend: str, tmp_path: Path, clock: Clock) -> None:
    with opening(backend, tmp_path, clock=clock) as store:
        agent, other = store.manager("agent"), store.manager("other")
        agent.set_state("n", 1)
        clock.tick(-3600)
        agent.set_state("n", 2)
        other.set_state("n", 3)
        clock.tick(7200)
        agent.set_state("n", 4)

        events = list(agent.history())
        assert [event.time for event in events] == sorted(event.time for event in events)
        assert next(iter(other.history())).time == events[1].time


def test_positions_lead_to_versions(agent: BlockingManager, store: BlockingStore) -> None:
    other = store.manager("other")
    for number in range(5):
        agent.set_state("n", number)
        other.set_state("n", number)
    events = list(agent.history())
    if events[0].position == 0:
        with pytest.raises(VersionNotFound, match="does not tell positions"):
            agent.at(Position(1))
        return

    for event in events:
        assert agent.at(Position(event.position)).version == event.version
        assert agent.at(Position(event.position + 1)).version == event.version
    assert agent.at(Position(0)).version == 0


def test_tags_name_versions(agent: BlockingManager) -> None:
    agent.set_state("n", 1)
    agent.set_state("n", 2)
    assert agent.tag("first", 1) == 1
    assert agent.tag("now", reason="before the risky part") == 3
    agent.set_state("n", 3)

    assert agent.at("first")["n"] == 1
    assert agent.at("now")["n"] == 2
    assert agent.tags() == {"first": 1, "now": 3}
    assert agent.tag("first", 1) == 1  # the same again
    with pytest.raises(TagExists, match="names version 1"):
        agent.tag("first")
    agent.tag("first", 2, replace=True)
    assert agent.at("first")["n"] == 2
    agent.untag("now")
    assert agent.tags() == {"first": 2}
    with pytest.raises(TagNotFound):
        agent.at("now")
    with pytest.raises(TagNotFound):
        agent.untag("now")
    with pytest.raises(InputError):
        agent.tag("")


@pytest.mark.parametrize("point", [-1, 4, 10**20])
def test_versions_outside_the_history_are_refused(agent: BlockingManager, point: int) -> None:
    for number in range(3):
        agent.set_state("n", number)

    for ask in (
        agent.at,
        agent.diff,
        lambda at: agent.value_at("n", at),
        lambda at: agent.diff(1, at),
    ):
        with pytest.raises(VersionNotFound, match="has versions 0 to 3"):
            ask(point)


@pytest.mark.parametrize("point", [True, 1.0, b"1", [1]])
def test_what_is_no_moment_is_refused(agent: BlockingManager, point: Any) -> None:
    agent.set_state("n", 1)

    with pytest.raises(InputError, match="a moment is"):
        agent.at(point)


def test_history_tells_who_did_what_when_and_why(agent: BlockingManager) -> None:
    agent.set_state("plan", {"goal": "fly"}, reason="user asked")
    agent.add("tokens", 512, actor="tool")
    agent.delete_state("plan", cause="event-1")

    first, second, third = agent.history()

    assert (first.version, first.actor, first.reason) == (1, "planner", "user asked")
    assert first.change == EMPTY.put("plan", {"goal": "fly"})
    assert (second.actor, second.change) == ("tool", EMPTY.add("tokens", 512))
    assert (third.cause, third.touched) == ("event-1", {"plan": 1})
    assert len({first.id, second.id, third.id}) == 3
    assert str(first).splitlines()[1] == "  plan = {'goal': 'fly'}"


def test_history_can_be_narrowed(agent: BlockingManager) -> None:
    for number in range(300):
        agent.set_state(f"k{number % 7}", number, actor=f"actor-{number % 3}")
    agent.clear_state(actor="cleaner")
    agent.set_state("k3", "again", actor="actor-0")

    def told(**narrowing: Any) -> list[int]:
        return [event.version for event in agent.history(**narrowing)]

    of_key = [n + 1 for n in range(300) if n % 7 == 3]
    assert told() == list(range(1, 303))
    assert told(newest_first=True) == list(range(302, 0, -1))
    assert told(key="k3") == [*of_key, 301, 302]
    assert told(key="k3", newest_first=True) == [302, 301, *reversed(of_key)]
    assert told(key="never") == [301]
    assert told(actor="actor-2") == [n + 1 for n in range(300) if n % 3 == 2]
    assert told(since=10, until=20) == list(range(11, 21))
    assert told(key="k3", actor="actor-0", since=100, until=200) == [
        n + 1 for n in range(100, 200) if n % 7 == 3 and n % 3 == 0
    ]
    assert told(since=302) == []


def test_history_leaves_out_what_comes_after_it_began(agent: BlockingManager) -> None:
    for number in range(3):
        agent.set_state("n", number)
    events = iter(agent.history())
    next(events)

    agent.set_state("n", 3)

    assert [event.version for event in events] == [2, 3]


def test_watching_yields_what_comes(backend: str, tmp_path: Path) -> None:
    async def work() -> list[int]:
        seen = []
        async with opening(backend, tmp_path) as store:
            agent = store.manager("agent")
            await agent.set_state("n", 0)

            async def watch(since: int | None) -> list[int]:
                versions = []
                async for event in agent.watch(since):
                    versions.append(event.version)
                    if event.version >= 50:
                        break
                return versions

            watchers = [asyncio.create_task(watch(since)) for since in (None, 0)]
            await asyncio.sleep(0.05)
            await asyncio.gather(*(agent.set_state("n", n) for n in range(1, 50)))
            seen = await asyncio.gather(*watchers)
        assert seen[0] == list(range(2, 51))
        assert seen[1] == list(range(1, 51))
        return seen[0]

    asyncio.run(work())


def test_watching_ends_with_the_store(backend: str, tmp_path: Path) -> None:
    store = opening(backend, tmp_path).blocking()
    agent = store.manager("agent")
    agent.set_state("n", 1)
    seen: list[int] = []
    began = threading.Event()

    def watch() -> None:
        for event in agent.watch(0):
            seen.append(event.version)
            began.set()

    thread = threading.Thread(target=watch)
    thread.start()
    assert began.wait(10)
    store.close()
    thread.join(10)

    assert not thread.is_alive()
    assert seen == [1]


def test_a_closed_store_says_so(backend: str, tmp_path: Path) -> None:
    store = opening(backend, tmp_path).blocking()
    agent = store.manager("agent")
    agent.set_state("n", 1)
    store.close()
    store.close()

    for use in (
        lambda: agent.set_state("n", 2),
        lambda: agent.get_state("n"),
        agent.at,
        lambda: list(agent.history()),
    ):
        with pytest.raises(StoreClosed):
            use()


def test_a_value_can_be_read_into_a_model(agent: BlockingManager) -> None:
    from pydantic import BaseModel, ValidationError

    class Plan(BaseModel):
        goal: str
        steps: list[str] = []

    agent.set_state("plan", Plan(goal="fly", steps=["book"]))

    assert agent.get_state("plan") == {"goal": "fly", "steps": ["book"]}
    assert agent.get_state("plan", into=Plan) == Plan(goal="fly", steps=["book"])
    agent.set_state("plan", {"goal": 1})
    with pytest.raises(ValidationError):
        agent.get_state("plan", into=Plan)


def test_agents_are_listed(store: BlockingStore) -> None:
    store.manager("one").set_state("n", 1)
    store.manager("two", kind="shared", actor="me").set_state("n", 1)
    store.manager("three", kind="runtime").set_state("n", 1)

    assert [(birth.agent_id, birth.kind) for birth in store.agents()] == [
        ("one", Kind.PERSISTENT),
        ("two", Kind.SHARED),
    ]
    assert store.statistics().streams == 2


@pytest.mark.parametrize("agent_id", ["", "x" * 1025, 5, None])
def test_a_bad_agent_id_is_refused(store: BlockingStore, agent_id: Any) -> None:
    with pytest.raises(InputError):
        store.manager(agent_id)


@pytest.mark.parametrize("agent_id", ["a@b", "a/b", "ключ", "main", " "])
def test_agents_do_not_mix(store: BlockingStore, agent_id: str) -> None:
    store.manager(agent_id).set_state("n", agent_id)
    store.manager(agent_id + "2").set_state("n", "other")

    assert store.manager(agent_id).at().data == {"n": agent_id}


# The four kinds


def test_a_shared_state_needs_to_know_who_writes(store: BlockingStore) -> None:
    board = store.manager("board", kind="shared", actor="one")
    board.set_state("n", 1)

    with pytest.raises(MissingActor):
        store.manager("board").set_state("n", 2)
    with pytest.raises(MissingActor):
        store.manager("other", kind="shared").set_state("n", 2)
    store.manager("board").set_state("n", 2, actor="two")

    assert [event.actor for event in board.history()] == ["one", "two"]


def test_a_state_keeps_its_kind(store: BlockingStore) -> None:
    store.manager("agent").set_state("n", 1)

    with pytest.raises(KindMismatch, match="agent is persistent, not shared"):
        store.manager("agent", kind="shared", actor="me").set_state("n", 2)
    with pytest.raises(InputError, match="kind is one of"):
        store.manager("agent", kind="eternal")


def test_a_runtime_state_has_it_all_but_stays_in_memory(store: BlockingStore) -> None:
    scratch = store.manager("agent", kind="runtime", actor="me")
    states = story(scratch)

    assert scratch.at(3).data == states[3]
    assert scratch.kind == Kind.RUNTIME
    assert store.manager("agent").version() == 0
    assert [birth.agent_id for birth in store.agents()] == []


def test_a_runtime_state_can_be_kept(store: BlockingStore) -> None:
    scratch = store.manager("agent", kind="runtime", actor="me")
    scratch.set_state("l", [1, 2])
    scratch.set_state("n", 1)

    kept = store.persist(scratch)

    assert kept.at().data == {"l": [1, 2], "n": 1}
    assert store.manager("agent").version() == 1
    with pytest.raises(InputError, match="durable already"):
        store.persist(kept)


def test_a_temporary_state_ends(backend: str, tmp_path: Path, clock: Clock) -> None:
    with opening(backend, tmp_path, clock=clock) as store:
        session = store.manager("session", kind="temporary", ttl=60)
        session.set_state("secret", "x")
        clock.tick(59)
        assert session.get_state("secret") == "x"
        clock.tick(1)

        with pytest.raises(Expired, match="session has expired"):
            session.get_state("secret")
        with pytest.raises(Expired):
            session.at(1)
        assert store.clean_up() == 1
        assert store.clean_up() == 0
        with pytest.raises(Erased, match="writing to it starts anew"):
            session.get_state("secret")
        assert [birth.agent_id for birth in store.agents()] == []


def test_a_temporary_state_starts_anew_when_written_to(
    backend: str, tmp_path: Path, clock: Clock
) -> None:
    with opening(backend, tmp_path, clock=clock) as store:
        session = store.manager("session", kind="temporary", ttl=timedelta(seconds=60))
        session.set_state("old", 1)
        session.set_state("old", 2, event_id="once")
        clock.tick(61)
        session.set_state("new", 1)

        assert session.at().data == {"new": 1}
        assert session.version() == 4
        with pytest.raises(Erased, match="before version 4 was erased"):
            session.at(2)
        with pytest.raises(Erased):
            session.value_at("old", 1)
        with pytest.raises(Erased):
            session.diff(1, 4)
        assert [event.version for event in session.history()] == [4]
        assert session.at(3).data == {}
        session.set_state("old", 3, event_id="once")  # that id went with the state it was in
        assert session.version() == 5
        clock.tick(61)
        assert session.atomic_update("n", lambda n: (n or 0) + 1) == 1
        assert session.at().data == {"n": 1}


def test_a_temporary_state_lives_on_after_the_clock_was_wrong(
    backend: str, tmp_path: Path, clock: Clock
) -> None:
    with opening(backend, tmp_path, clock=clock) as store:
        clock.tick(365 * 24 * 3600)
        store.manager("agent").set_state("n", 1)  # later events can't have earlier times than this
        clock.tick(-365 * 24 * 3600)
        session = store.manager("session", kind="temporary", ttl=60)
        for number in range(3):
            clock.tick(10)
            session.set_state(f"k{number}", number)

        assert session.at().data == {"k0": 0, "k1": 1, "k2": 2}
        clock.tick(40)
        with pytest.raises(Expired):
            session.get_state("k0")


def test_expiry_takes_the_key_with_it(path: Path, clock: Clock) -> None:
    with statecore.open(path, key=KEY, clock=clock) as store:
        session = store.manager("session", kind="temporary", ttl=5)
        session.set_state("secret", "x")
        keys = store.store._parts.engine.streams.ring
        stream_id = session.manager._stream.id
        assert keys.keys(stream_id)[1] is not None
        clock.tick(6)
        store.clean_up()
        assert keys.keys(stream_id) == {1: None}

    with statecore.open(path, key=KEY, clock=clock) as store:
        with pytest.raises(Erased):
            store.manager("session").get_state("secret")
        store.manager("session").set_state("fresh", 1)
        assert store.manager("session").at().data == {"fresh": 1}


def test_the_store_ends_temporary_states_by_itself(tmp_path: Path) -> None:
    with opening("sqlite", tmp_path) as store:
        session = store.manager("session", kind="temporary", ttl=1)
        erased = threading.Event()

        def watch() -> None:
            for event in session.watch(0):
                if event.type == statecore.EventType.ERASED:
                    erased.set()
                    return

        thread = threading.Thread(target=watch)
        thread.start()
        session.set_state("secret", "x")
        assert erased.wait(20)
        thread.join(20)


def test_only_a_temporary_state_has_a_time_to_live(store: BlockingStore) -> None:
    with pytest.raises(InputError, match="has a ttl"):
        store.manager("agent", ttl=5)
    with pytest.raises(InputError, match="has a ttl"):
        store.manager("agent", kind="temporary")
