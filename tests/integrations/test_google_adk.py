"""The session service of Google's ADK: its contract, what a store adds, and an agent's story."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import statecore
from statecore.errors import (
    BranchExists,
    DamagedRecord,
    InputError,
    StoreClosed,
    UnsupportedValue,
    WrongKey,
)
from tests.conftest import KEY, environment
from tests.test_damage import tamper

pytest.importorskip("google.adk", reason="needs statecore[google-adk]")

from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events import Event, EventActions
from google.adk.sessions.base_session_service import GetSessionConfig
from google.genai import types

from statecore.integrations.google_adk import StatecoreSessionService
from tests.integrations import travel_adk
from tests.integrations.travel_adk import WHOSE

S1 = {**WHOSE, "session_id": "s1"}

Work = Callable[[StatecoreSessionService], Awaitable[None]]


def with_service(work: Work) -> None:
    async def run() -> None:
        async with StatecoreSessionService("memory:") as service:
            await work(service)

    asyncio.run(run())


def changes(author: str = "user", time: float | None = None, **delta: Any) -> Event:
    actions = EventActions(state_delta={key.replace("__", ":"): delta[key] for key in delta})
    stamp = {} if time is None else {"timestamp": time}
    return Event(author=author, invocation_id="i1", actions=actions, **stamp)


async def ids(service: StatecoreSessionService, **whose: str) -> list[str]:
    return [session.id for session in (await service.list_sessions(**whose)).sessions]


class TestSessions:
    def test_what_is_created_is_found_and_listed_until_it_is_deleted(self) -> None:
        async def work(service: StatecoreSessionService) -> None:
            made = await service.create_session(**WHOSE, state={"a": [1, 2.5, None]})

            assert made.state == {"a": [1, 2.5, None]}
            found = await service.get_session(**WHOSE, session_id=made.id)
            assert found == made
            assert await ids(service, app_name="travel") == [made.id]
            assert await ids(service, app_name="travel", user_id="bob") == []
            assert await ids(service, app_name="trav") == []
            await service.delete_session(**WHOSE, session_id=made.id)
            await service.delete_session(**WHOSE, session_id="never there")
            assert await service.get_session(**WHOSE, session_id=made.id) is None
            assert await ids(service, app_name="travel") == []

        with_service(work)

    def test_names_of_any_kind_are_told_apart(self) -> None:
        async def work(service: StatecoreSessionService) -> None:
            names = [("a/b", "c", "d"), ("a", "b/c", "d"), ("a%2Fb", "c", "d"), ("ä", "", "🚀")]
            for app, user, name in names:
                await service.create_session(app_name=app, user_id=user, session_id=name)

            for app, user, name in names:
                sessions = (await service.list_sessions(app_name=app)).sessions
                assert [(s.app_name, s.user_id, s.id) for s in sessions] == [(app, user, name)]

        with_service(work)

    def test_an_id_is_given_once_however_many_ask(self) -> None:
        async def work(service: StatecoreSessionService) -> None:
            made = await asyncio.gather(
                *(service.create_session(**S1, state={"n": n}) for n in range(9)),
                return_exceptions=True,
            )

            winners = [each for each in made if not isinstance(each, BaseException)]
            assert len(winners) == 1
            assert sum(isinstance(each, AlreadyExistsError) for each in made) == 8
            found = await service.get_session(**S1)
            assert found is not None
            assert found.state == winners[0].state

        with_service(work)

    def test_the_session_that_was_updated_last_is_listed_last(self) -> None:
        async def work(service: StatecoreSessionService) -> None:
            first = await service.create_session(**WHOSE, session_id="a")
            await service.create_session(**WHOSE, session_id="b")
            assert await ids(service, **WHOSE) == ["a", "b"]

            await service.append_event(first, changes(time=first.last_update_time + 60))

            assert await ids(service, **WHOSE) == ["b", "a"]

        with_service(work)

    def test_a_deleted_id_can_be_used_again(self) -> None:
        async def work(service: StatecoreSessionService) -> None:
            old = await service.create_session(**S1, state={"a": 1})
            await service.append_event(old, changes(b=2))
            await service.delete_session(**S1)

            new = await service.create_session(**S1)

            assert (new.state, new.events) == ({}, [])
            with pytest.raises(StaleSessionError):
                await service.append_event(old, changes(b=3))

        with_service(work)


class TestEvents:
    def test_an_event_comes_back_as_it_was(self) -> None:
        async def work(service: StatecoreSessionService) -> None:
            session = await service.create_session(**S1)
            blob = types.Part(inline_data=types.Blob(data=b"\x00\xff", mime_type="image/png"))
            event = Event(
                author="agent",
                invocation_id="i1",
                content=types.Content(role="model", parts=[types.Part(text="Grüße 🚀"), blob]),
                long_running_tool_ids={"t1"},
                actions=EventActions(artifact_delta={"f": 1}, transfer_to_agent="b", escalate=True),
                error_code="E",
                branch="a.b",
            )

            await service.append_event(session, event)

            found = await service.get_session(**S1)
            assert found is not None
            assert found.events == [event]
            assert found == session

        with_service(work)

    def test_one_event_holds_the_event_and_what_it_changed(self) -> None:
        async def work(service: StatecoreSessionService) -> None:
            session = await service.create_session(**S1)
            await service.append_event(session, changes("agent", a=1, b={"c": None}))

            state = await service.state(**S1)
            assert await state.version() == 2
            event = [event async for event in state.history()][-1]
            assert (event.actor, event.cause) == ("agent", "i1")
            assert set(event.change.operations) == {"events", "state:a", "state:b", "updated"}

        with_service(work)

    def test_what_is_shared_reaches_others_and_what_is_temporary_nobody(self) -> None:
        async def work(service: StatecoreSessionService) -> None:
            given = {"app:a": 1, "user:u": 2, "own": 3, "state:odd": 4, "temp:t": 5}
            session = await service.create_session(**S1, state=given)
            assert session.state == {"app:a": 1, "user:u": 2, "own": 3, "state:odd": 4}

            await service.append_event(session, changes(app__a=6, user__u=7, own=8, temp__t=9))

            assert session.state["temp:t"] == 9
            found = await service.get_session(**S1)
            assert found is not None
            assert found.state == {"app:a": 6, "user:u": 7, "own": 8, "state:odd": 4}
            assert "temp:t" not in found.events[0].actions.state_delta
            same_user = await service.create_session(**WHOSE)
            assert same_user.state == {"app:a": 6, "user:u": 7}
            other = await service.create_session(app_name="travel", user_id="bob")
            assert other.state == {"app:a": 6}
            assert await service.get_user_state(**WHOSE) == {"u": 7}
            assert await service.get_user_state(app_name="x", user_id="y") == {}

        with_service(work)

    def test_those_asked_for_are_returned(self) -> None:
        async def work(service: StatecoreSessionService) -> None:
            session = await service.create_session(**S1)
            for number in range(5):
                await service.append_event(session, changes(time=float(number), n=number))

            async def numbers(**config: Any) -> list[float]:
                found = await service.get_session(**S1, config=GetSessionConfig(**config))
                assert found is not None
                assert found.state == {"n": 4}
                return [event.timestamp for event in found.events]

            assert await numbers(num_recent_events=2) == [3, 4]
            assert await numbers(num_recent_events=0) == []
            assert await numbers(num_recent_events=99) == [0, 1, 2, 3, 4]
            assert await numbers(after_timestamp=2.0) == [2, 3, 4]
            assert await numbers(after_timestamp=2.0, num_recent_events=1) == [4]

        with_service(work)

    def test_a_partial_event_is_not_kept(self) -> None:
        async def work(service: StatecoreSessionService) -> None:
            session = await service.create_session(**S1)
            await service.append_event(session, Event(author="a", partial=True))

            assert await service.get_session(**S1) == session
            assert session.events == []

        with_service(work)

    def test_a_retry_is_recognised(self) -> None:
        async def work(service: StatecoreSessionService) -> None:
            session = await service.create_session(**S1)
            before = session.model_copy(deep=True)
            event = changes(a=1)
            await service.append_event(session, event.model_copy(deep=True))

            await service.append_event(before, event.model_copy(deep=True))  # the answer was lost
            await service.append_event(session, event.model_copy(deep=True))

            found = await service.get_session(**S1)
            assert found == session == before
            assert len(session.events) == 1

        with_service(work)

    def test_of_two_who_continue_from_the_same_point_one_wins(self) -> None:
        async def work(service: StatecoreSessionService) -> None:
            await service.create_session(**S1)
            both = [await service.get_session(**S1) for _ in range(2)]
            assert both[0] is not None
            assert both[1] is not None
            await service.append_event(both[0], changes(a=1, app__x=1))

            with pytest.raises(StaleSessionError):
                await service.append_event(both[1], changes(a=2, app__x=2))

            assert both[1].events == []
            found = await service.get_session(**S1)
            assert found is not None
            assert found.state == {"a": 1, "app:x": 1}
            await service.append_event(found, changes(a=3))

        with_service(work)

    def test_without_a_session_there_is_nothing_to_append_to(self) -> None:
        async def work(service: StatecoreSessionService) -> None:
            session = await service.create_session(**S1)
            await service.delete_session(**S1)

            with pytest.raises(SessionNotFoundError):
                await service.append_event(session, changes(a=1))

        with_service(work)

    def test_what_json_can_not_hold_is_refused_and_nothing_recorded(self) -> None:
        async def work(service: StatecoreSessionService) -> None:
            with pytest.raises(UnsupportedValue):
                await service.create_session(**S1, state={"a": object()})
            assert await service.get_session(**S1) is None

        with_service(work)


DIES_BETWEEN = """
import asyncio, os, sys
import statecore
from google.adk.events import Event, EventActions
from statecore.integrations.google_adk import StatecoreSessionService

class Mortal(StatecoreSessionService):
    async def _carry_over(self, app_name, user_id, manager):
        if "state:own" in await manager.at():
            os._exit(9)
        await super()._carry_over(app_name, user_id, manager)

async def work(path):
    async with Mortal(statecore.open(path, key=bytes(range(32)))) as service:
        given = {"app:n": 1, "user:m": 1}
        session = await service.create_session(
            app_name="travel", user_id="alice", session_id="s1", state=given
        )
        actions = EventActions(state_delta={"app:n": 2, "user:m": 2, "own": 2})
        await service.append_event(session, Event(author="user", actions=actions))

asyncio.run(work(sys.argv[1]))
"""


def test_what_is_shared_outlives_a_process_that_dies_before_it_was_carried_over(
    path: Path,
) -> None:
    command = [sys.executable, "-c", DIES_BETWEEN, str(path)]
    assert subprocess.run(command, env=environment(), check=False).returncode == 9

    async def work() -> None:
        async with StatecoreSessionService(statecore.open(path, key=KEY)) as service:
            assert await service.get_user_state(**WHOSE) == {"m": 1}
            for _ in range(2):
                found = await service.get_session(**S1)
                assert found is not None
                assert found.state == {"app:n": 2, "user:m": 2, "own": 2}
            assert await service.get_user_state(**WHOSE) == {"m": 2}
            assert await service.store.manager("google-adk/travel/alice").version() == 2

    asyncio.run(work())


class TestWhatCanNotBeReadIsNotMissing:
    def test_with_another_key(self, path: Path) -> None:
        async def work(key: bytes) -> None:
            async with StatecoreSessionService(statecore.open(path, key=key)) as service:
                await service.create_session(**S1)

        asyncio.run(work(KEY))
        with pytest.raises(WrongKey):
            asyncio.run(work(bytes(32)))

    def test_where_it_was_changed_by_other_hands(self, path: Path) -> None:
        async def write() -> None:
            async with StatecoreSessionService(statecore.open(path, key=KEY)) as service:
                session = await service.create_session(**S1)
                for number in range(3):
                    await service.append_event(session, changes(n=number))

        async def read() -> None:
            async with StatecoreSessionService(statecore.open(path, key=KEY)) as service:
                with pytest.raises(DamagedRecord):
                    await service.get_session(**S1)
                with pytest.raises(DamagedRecord):
                    await service.list_sessions(app_name="travel")

        asyncio.run(write())
        cut = "UPDATE events SET state = substr(state, 1, length(state) - 1) || x'00'"
        tamper(path, f"{cut} WHERE position = 3")
        asyncio.run(read())

    def test_where_an_event_is_none_of_adks(self) -> None:
        async def work(service: StatecoreSessionService) -> None:
            await service.create_session(**S1)
            await (await service.state(**S1)).extend("events", [{"author": ["payload"]}])

            with pytest.raises(DamagedRecord, match="an event of google-adk") as caught:
                await service.get_session(**S1)
            assert "payload" not in str(caught.value)

        with_service(work)

    def test_before_the_store_is_open(self) -> None:
        with pytest.raises(StoreClosed):
            asyncio.run(StatecoreSessionService("memory:").list_sessions(app_name="travel"))


class TestTimeTravel:
    def test_a_session_can_be_read_as_it_was_also_a_deleted_one(self) -> None:
        async def work(service: StatecoreSessionService) -> None:
            session = await service.create_session(**S1)
            await service.append_event(session, changes(a=1))
            await service.append_event(session, changes(a=2))
            await service.delete_session(**S1)

            past = await service.session_at(2, **S1)

            assert past.state == {"a": 1}
            assert past.events == session.events[:1]
            with pytest.raises(SessionNotFoundError):
                await service.session_at(0, **S1)

        with_service(work)

    def test_a_fork_is_a_session_that_goes_its_own_way(self) -> None:
        async def work(service: StatecoreSessionService) -> None:
            session = await service.create_session(**S1, state={"app:x": 1})
            await service.append_event(session, changes(a=1))
            version = await (await service.state(**S1)).version()
            await service.append_event(session, changes(a=2))

            fork = await service.fork_session("retry", **S1, at=version)

            assert fork.id == "s1~retry"
            assert fork.state == {"a": 1, "app:x": 1}
            await service.append_event(fork, changes(a=3, app__x=4))
            found = await service.get_session(**WHOSE, session_id="s1~retry")
            assert found is not None
            assert found.model_dump() == fork.model_dump()
            original = await service.get_session(**S1)
            assert original is not None
            assert original.state == {"a": 2, "app:x": 4}
            assert await ids(service, **WHOSE) == ["s1", "s1~retry"]
            with pytest.raises(BranchExists):
                await service.fork_session("retry", **S1)
            await service.delete_session(**WHOSE, session_id="s1~retry")
            assert await ids(service, **WHOSE) == ["s1"]
            with pytest.raises(SessionNotFoundError):
                await service.append_event(fork, changes(a=5))

        with_service(work)

    def test_a_session_can_not_be_given_the_id_of_a_fork(self) -> None:
        async def work(service: StatecoreSessionService) -> None:
            with pytest.raises(InputError, match="fork_session"):
                await service.create_session(**WHOSE, session_id="s1~retry")
            assert await service.get_session(**WHOSE, session_id="s1~retry") is None

        with_service(work)


def test_a_run_dies_half_way_resumes_is_rewound_and_forked(path: Path) -> None:
    command = [sys.executable, "-m", "tests.integrations.travel_adk", str(path)]
    assert subprocess.run(command, env=environment(), check=False).returncode == 9

    async def go_on() -> None:
        async with StatecoreSessionService(statecore.open(path, key=KEY)) as service:
            runner = travel_adk.runner(service)
            left = await service.get_session(**S1)
            assert left is not None
            assert travel_adk.texts(left.events) == ["Rome", "There are 3 flights to Rome.", "Oslo"]
            assert left.state == {"last": "Oslo", "user:asked": ["Rome", "Oslo"]}

            await travel_adk.ask(runner, "s1", "Oslo")
            resumed = await service.get_session(**S1)
            assert resumed is not None
            assert travel_adk.texts(resumed.events)[-1] == "There are 3 flights to Oslo."

            version = await (await service.state(**S1)).version()
            died = next(e for e in left.events if travel_adk.texts([e]) == ["Oslo"])
            rewind = {"rewind_before_invocation_id": died.invocation_id}
            await runner.rewind_async(user_id="alice", session_id="s1", **rewind)
            rewound = await service.get_session(**S1)
            assert rewound is not None
            assert rewound.state["last"] == "Rome"

            fork = await service.fork_session("before", **S1, at=version)
            assert fork.state["last"] == "Oslo"
            await travel_adk.ask(runner, fork.id, "Riga")
            ended = await service.get_session(**WHOSE, session_id=fork.id)
            assert ended is not None
            assert ended.state["last"] == "Riga"
            assert await service.get_session(**S1) != ended
            after = await service.get_session(**S1)
            assert after is not None
            assert after.state["last"] == "Rome"

    asyncio.run(go_on())
