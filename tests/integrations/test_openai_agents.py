"""The session of the OpenAI Agents SDK: its contract, what a store adds, and an agent's story."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import statecore
from statecore.errors import (
    BranchExists,
    BranchNotFound,
    DamagedRecord,
    Expired,
    InputError,
    StoreClosed,
    UnsupportedValue,
    VersionNotFound,
    WrongKey,
)
from tests.conftest import KEY, Clock, environment
from tests.test_damage import tamper

agents = pytest.importorskip("agents", reason="needs statecore[openai-agents]")

from statecore.integrations.openai_agents import StatecoreSession  # noqa: E402
from tests.integrations import travel_openai  # noqa: E402

DAMAGE = "UPDATE events SET state = substr(state, 1, length(state) - 1) || x'00' WHERE position = 3"
ITEMS: list[Any] = [
    {"role": "user", "content": "Grüße 🚀"},
    {"type": "function_call", "call_id": "1", "name": "f", "arguments": '{"a": [1, 2.5, null]}'},
    {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "n": 1.0}]},
    {"role": "assistant", "content": [{"type": "output_text", "text": "x", "logprobs": None}]},
]


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def answer(text: str) -> Any:
    return {"role": "assistant", "content": text}


async def talk(session: StatecoreSession, *texts: str) -> None:
    """Have a turn for each text, of two events."""
    for text in texts:
        await session.add_items([user(text)])
        await session.add_items([answer(text.upper())])


def test_it_is_a_session_of_the_sdk() -> None:
    async def work() -> None:
        async with StatecoreSession("u", "memory:") as session:
            assert isinstance(session, agents.memory.Session)
            assert await session.get_items() == []
            assert await session.pop_item() is None

            await session.add_items(ITEMS)

            assert await session.get_items() == ITEMS
            assert await session.pop_item() == ITEMS[-1]
            assert await session.get_items() == ITEMS[:-1]
            await session.clear_session()
            assert await session.get_items() == []

    asyncio.run(work())


def test_a_limit_is_of_the_last_items_and_its_default_is_set() -> None:
    async def work() -> None:
        settings = agents.memory.SessionSettings(limit=2)
        async with StatecoreSession("u", "memory:", session_settings=settings) as session:
            await session.add_items(ITEMS)

            assert await session.get_items() == ITEMS[2:]
            assert await session.get_items(3) == ITEMS[1:]
            assert await session.get_items(9) == ITEMS
            assert await session.get_items(0) == []
            with pytest.raises(InputError):
                await session.get_items(-1)

    asyncio.run(work())


def test_what_is_added_at_once_is_one_event_that_holds_no_more() -> None:
    async def work() -> None:
        async with StatecoreSession("u", "memory:", actor="planner") as session:
            await session.add_items(ITEMS)
            await session.add_items([])
            await session.add_items([user("one"), answer("two")])

            events = [event async for event in (await session.state()).history()]
            assert [event.version for event in events] == [1, 2]
            assert events[1].actor == "planner"
            assert "one" in str(events[1])
            assert "Grüße" not in str(events[1])

    asyncio.run(work())


def test_what_can_not_be_recorded_is_refused_and_nothing_of_it_added() -> None:
    async def work() -> None:
        async with StatecoreSession("u", "memory:") as session:
            with pytest.raises(UnsupportedValue):
                await session.add_items([user("fine"), {"role": "user", "content": object()}])
            assert await session.get_items() == []

    asyncio.run(work())


def test_however_many_pop_at_once_each_gets_another_item() -> None:
    async def work() -> None:
        async with StatecoreSession("u", "memory:") as session:
            await session.add_items([user(str(number)) for number in range(30)])

            popped = await asyncio.gather(*(session.pop_item() for _ in range(40)))

            texts = [item["content"] for item in popped if item is not None]
            assert sorted(texts, key=int) == [str(number) for number in range(30)]
            assert await session.get_items() == []

    asyncio.run(work())


WRITER = """
import asyncio, sys
import statecore
from statecore.integrations.openai_agents import StatecoreSession

async def work(path, name):
    async with StatecoreSession("u", statecore.open(path, key=bytes(range(32)))) as session:
        for number in range(50):
            await session.add_items([{"role": "user", "content": f"{name} {number}"}])

asyncio.run(work(*sys.argv[1:]))
"""


def test_processes_that_write_one_session_lose_nothing(path: Path) -> None:
    async def read() -> list[str]:
        async with StatecoreSession("u", statecore.open(path, key=KEY)) as session:
            return [item["content"] for item in await session.get_items()]  # type: ignore[misc]

    commands = [[sys.executable, "-c", WRITER, str(path), name] for name in "ab"]
    processes = [subprocess.Popen(command, env=environment()) for command in commands]
    assert [process.wait(60) for process in processes] == [0, 0]

    texts = asyncio.run(read())

    assert len(texts) == 100
    for name in "ab":
        own = [text for text in texts if text.startswith(name)]
        assert own == [f"{name} {number}" for number in range(50)]


def test_a_cancelled_addition_has_an_outcome_when_its_caller_learns_of_it(path: Path) -> None:
    async def work() -> None:
        async with StatecoreSession("u", statecore.open(path, key=KEY)) as session:
            await session.add_items([user("first")])
            adding = asyncio.create_task(session.add_items([user("second")]))
            await asyncio.sleep(0)

            adding.cancel()

            with pytest.raises(asyncio.CancelledError):
                await adding
            assert await session.get_items() == [user("first"), user("second")]

    asyncio.run(work())


class TestWhatCanNotBeReadIsNotEmpty:
    def test_with_another_key(self, path: Path) -> None:
        async def work(key: bytes) -> None:
            async with StatecoreSession("u", statecore.open(path, key=key)) as session:
                await session.add_items(ITEMS)

        asyncio.run(work(KEY))
        with pytest.raises(WrongKey):
            asyncio.run(work(bytes(32)))

    def test_when_its_time_is_over(self, clock: Clock) -> None:
        async def work() -> None:
            async with StatecoreSession("u", statecore.open(clock=clock), ttl=60) as session:
                await talk(session, "a")
                clock.tick(61)

                for attempt in (
                    session.get_items(),
                    session.add_items(ITEMS),
                    session.pop_item(),
                    session.items_at(1),
                    session.turns(),
                    session.rewind(turn=1),
                    session.undo(),
                    session.fork("f"),
                ):
                    with pytest.raises(Expired):
                        await attempt
                await session.clear_session()
                assert await session.get_items() == []
                clock.tick(61)
                with pytest.raises(Expired):
                    await session.get_items()

        asyncio.run(work())

    def test_where_it_was_changed_by_other_hands(self, path: Path) -> None:
        async def work(*texts: str) -> list[Any]:
            async with StatecoreSession("u", statecore.open(path, key=KEY)) as session:
                await talk(session, *texts)
                return await session.get_items()

        asyncio.run(work("a", "b"))
        tamper(path, DAMAGE)

        with pytest.raises(DamagedRecord):
            asyncio.run(work())

    def test_where_there_is_no_such_branch(self) -> None:
        async def work() -> None:
            async with StatecoreSession("u", "memory:", branch="no") as session:
                with pytest.raises(BranchNotFound):
                    await session.get_items()
                with pytest.raises(BranchNotFound):
                    await session.switch("neither")

        asyncio.run(work())

    def test_before_the_store_is_open_and_after(self, path: Path) -> None:
        async def work() -> None:
            session = StatecoreSession("u", statecore.open(path, key=KEY))
            with pytest.raises(StoreClosed):
                await session.get_items()
            async with session:
                await session.add_items(ITEMS)
            with pytest.raises(StoreClosed):
                await session.get_items()

        asyncio.run(work())


class TestTimeTravel:
    def test_the_past_can_be_read(self) -> None:
        async def work() -> None:
            async with StatecoreSession("u", "memory:") as session:
                await talk(session, "a")
                before = datetime.now(UTC)
                await (await session.state()).tag("good")
                await session.clear_session()

                assert await session.get_items() == []
                assert await session.items_at(1) == [user("a")]
                assert await session.items_at("good") == [user("a"), answer("A")]
                assert await session.items_at(before) == [user("a"), answer("A")]
                with pytest.raises(VersionNotFound):
                    await session.items_at(99)

        asyncio.run(work())

    def test_a_turn_begins_with_what_the_user_said(self) -> None:
        async def work() -> None:
            async with StatecoreSession("u", "memory:") as session:
                await session.add_items([{"role": "system", "content": "Be kind."}])
                await talk(session, "a", "b")

                turns = await session.turns()

                assert [(t.number, t.start, t.content) for t in turns] == [(1, 1, "a"), (2, 3, "b")]

        asyncio.run(work())

    def test_going_back_is_an_event_and_can_be_undone(self) -> None:
        async def work() -> None:
            async with StatecoreSession("u", "memory:") as session:
                await talk(session, "a", "b", "c")

                assert await session.rewind(turn=2) == 7
                assert await session.get_items() == [user("a"), answer("A")]
                assert await session.undo()
                assert len(await session.get_items()) == 6
                assert await session.rewind(at=4) == 9
                assert [turn.content for turn in await session.turns()] == ["a", "b"]
                assert await session.rewind(at=9) == 9
                for wrong in ({}, {"turn": 1, "at": 1}, {"turn": 3}, {"turn": 0}):
                    with pytest.raises(InputError):
                        await session.rewind(**wrong)

        asyncio.run(work())

    def test_with_nothing_done_there_is_nothing_to_undo(self) -> None:
        async def work() -> None:
            async with StatecoreSession("u", "memory:") as session:
                assert not await session.undo()

        asyncio.run(work())


class TestBranches:
    def test_a_fork_and_what_it_came_from_do_not_see_each_other(self) -> None:
        async def work() -> None:
            async with StatecoreSession("u", "memory:") as session:
                await talk(session, "a", "b")

                fork = await session.fork("other", turn=2)
                await talk(fork, "c")
                await talk(session, "d")

                assert [turn.content for turn in await fork.turns()] == ["a", "c"]
                assert [turn.content for turn in await session.turns()] == ["a", "b", "d"]
                early = await session.fork("early", at=1)
                assert await early.get_items() == [user("a")]

        asyncio.run(work())

    def test_one_switches_between_branches(self) -> None:
        async def work() -> None:
            async with StatecoreSession("u", "memory:") as session:
                await talk(session, "a")
                await session.fork("other")

                await session.switch("other")
                await talk(session, "b")

                assert [turn.content for turn in await session.turns()] == ["a", "b"]
                await session.switch("main")
                assert [turn.content for turn in await session.turns()] == ["a"]
                await (await session.state()).merge("other")
                assert [turn.content for turn in await session.turns()] == ["a", "b"]

        asyncio.run(work())

    def test_the_name_of_a_branch_that_went_on_is_taken(self) -> None:
        async def work() -> None:
            async with StatecoreSession("u", "memory:") as session:
                await talk(session, "a", "b")
                await session.fork("untouched")
                await session.fork("untouched")
                await session.fork("cut", turn=2)

                with pytest.raises(BranchExists):
                    await session.fork("cut", turn=2)
                with pytest.raises(BranchExists):
                    await session.fork("untouched", at=1)

        asyncio.run(work())


def test_a_store_given_open_stays_open_and_holds_other_things_too() -> None:
    async def work() -> None:
        async with statecore.open() as store:
            async with StatecoreSession("u", store) as session:
                await session.add_items(ITEMS)
            await store.manager("u").set_state("mood", "fine")
            await session.clear_session()
            assert await store.manager("u").get_state("mood") == "fine"

    asyncio.run(work())


@pytest.fixture
def _loop() -> Iterator[None]:
    """The event loop that ``run_sync`` takes, closed afterwards, which it leaves to others."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.mark.usefixtures("_loop")
def test_a_script_without_an_event_loop_has_sessions_too() -> None:
    with statecore.open() as store:
        session = StatecoreSession("user-1", store)

        for place in ("Rome", "Oslo"):
            result = agents.Runner.run_sync(travel_openai.agent(), place, session=session)
            assert result.final_output == f"There are 3 flights to {place}."

        assert len(store.manager("user-1").get_state("items")) == 8


def test_a_run_dies_half_way_resumes_is_rewound_and_forked(path: Path) -> None:
    command = [sys.executable, "-m", "tests.integrations.travel_openai", str(path)]
    assert subprocess.run(command, env=environment(), check=False).returncode == 9

    async def go_on() -> None:
        agent = travel_openai.agent()
        async with StatecoreSession("user-1", statecore.open(path, key=KEY)) as session:
            assert [turn.content for turn in await session.turns()] == ["Rome", "Oslo"]
            left = len(await session.get_items())

            resumed = await agents.Runner.run(agent, "Oslo", session=session)
            assert resumed.final_output == "There are 3 flights to Oslo."
            assert len(await session.get_items()) == left + 4

            fork = await session.fork("elsewhere", turn=2)
            await session.rewind(turn=3)
            await agents.Runner.run(agent, "Riga", session=fork)

            assert [turn.content for turn in await session.turns()] == ["Rome", "Oslo"]
            assert [turn.content for turn in await fork.turns()] == ["Rome", "Riga"]
            seen = agent.model.inputs[-1]
            assert "Oslo" not in str(seen)
            assert "3 flights to Rome" in str(seen)

    asyncio.run(go_on())
