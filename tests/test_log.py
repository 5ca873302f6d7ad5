"""The sequencer: one order, no lost update, no event twice, nothing acknowledged but durable."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import apsw
import pytest

import statecore
from statecore import EMPTY, BlockingManager, BlockingStore
from statecore.errors import (
    Conflict,
    OperationMismatch,
    OutcomeUnknown,
    RetriesExhausted,
    StoreBusy,
    StoreFull,
    WrongExpectedVersion,
)
from tests.conftest import KEY, opening


def test_an_expected_version_that_no_longer_holds_is_refused(agent: BlockingManager) -> None:
    agent.set_state("plan", 1)
    agent.set_state("plan", 2, expected_version=1)

    with pytest.raises(WrongExpectedVersion, match="expected version 1, is 2") as caught:
        agent.set_state("plan", 3, expected_version=1)

    assert [event.version for event in caught.value.events] == [2]
    assert agent.get_state("plan") == 2
    with pytest.raises(WrongExpectedVersion, match="expected version 9, is 2"):
        agent.set_state("plan", 3, expected_version=9)


def test_conflicts_are_of_keys_not_of_streams(agent: BlockingManager) -> None:
    agent.set_state("plan", 1)
    agent.set_state("other", 1)
    agent.add("tokens", 5)

    assert agent.set_state("plan", 2, expected_version=1) == 4
    assert agent.add("tokens", 5, expected_version=2) == 5  # additions commute
    assert agent.patch("map", {"a": 1}, expected_version=1) == 6
    assert agent.patch("map", {"b": 2}, expected_version=5) == 7  # other fields of the same map
    with pytest.raises(WrongExpectedVersion):
        agent.patch("map", {"a": 3}, expected_version=5)
    with pytest.raises(WrongExpectedVersion):
        agent.extend("tokens", [1], expected_version=2)
    assert agent.at().data == {"plan": 2, "other": 1, "tokens": 10, "map": {"a": 1, "b": 2}}


def test_an_expected_version_of_zero_means_that_the_key_was_never_there(
    agent: BlockingManager,
) -> None:
    agent.set_state("lock", "mine", expected_version=0)
    with pytest.raises(WrongExpectedVersion):
        agent.set_state("lock", "mine", expected_version=0)
    agent.delete_state("lock")

    with pytest.raises(WrongExpectedVersion):
        agent.set_state("lock", "mine", expected_version=0)
    assert agent.set_state("lock", "mine", expected_version=2) == 3
    assert agent.set_state("other", 1, expected_version=0) == 4


def test_a_clear_conflicts_with_everything(agent: BlockingManager) -> None:
    agent.set_state("a", 1)
    agent.clear_state()

    with pytest.raises(WrongExpectedVersion):
        agent.set_state("b", 1, expected_version=1)
    agent.set_state("c", 1)
    with pytest.raises(WrongExpectedVersion):
        agent.clear_state(expected_version=2)


def test_a_transaction_that_read_what_others_changed_is_refused(agent: BlockingManager) -> None:
    agent.set_state("stock", 1)
    with pytest.raises(Conflict), agent.transaction() as tx:
        if tx.get("stock") > 0:
            agent.set_state("stock", 0)  # somebody else
            tx.set("order", "placed")

    assert agent.at().data == {"stock": 0}


def test_a_transaction_that_read_other_keys_is_rebased(agent: BlockingManager) -> None:
    with agent.transaction() as tx:
        tx.get("a")
        agent.set_state("b", 1)
        tx.add("c", 1)

    assert agent.at().data == {"b": 1, "c": 1}
    assert tx.version == 2


def test_a_transaction_that_read_the_whole_state_conflicts_with_any_change(
    agent: BlockingManager,
) -> None:
    with pytest.raises(Conflict), agent.transaction() as tx:
        assert tx.state().version == 0
        agent.set_state("b", 1)
        tx.set("a", 1)


def test_a_transaction_that_only_writes_cannot_conflict(agent: BlockingManager) -> None:
    with agent.transaction() as tx:
        tx.extend("l", ["mine"])
        agent.extend("l", ["theirs"])

    assert agent.get_state("l") == ["theirs", "mine"]


def test_a_removed_key_is_remembered_as_touched(agent: BlockingManager) -> None:
    agent.set_state("a", 1)
    with pytest.raises(Conflict), agent.transaction() as tx:
        tx.get("a")
        agent.delete_state("a")
        tx.set("b", 1)


def test_an_update_that_loses_every_time_gives_up(agent: BlockingManager) -> None:
    calls = []

    def meddled(n: Any) -> int:
        calls.append(n)
        agent.set_state("n", len(calls))  # somebody else, every time
        return -1

    with pytest.raises(RetriesExhausted) as caught:
        agent.atomic_update("n", meddled, attempts=5)
    assert calls == [None, 1, 2, 3, 4]
    assert isinstance(caught.value.__cause__, WrongExpectedVersion)
    with pytest.raises(RetriesExhausted):
        agent.atomic_update("n", meddled, deadline_seconds=0)
    assert len(calls) == 6
    assert agent.get_state("n") == 6


def test_an_update_at_an_expected_version_is_not_tried_again(agent: BlockingManager) -> None:
    agent.set_state("n", 1)
    agent.set_state("n", 2)
    calls: list[Any] = []

    with pytest.raises(WrongExpectedVersion):
        agent.atomic_update("n", lambda n: calls.append(n) or 9, expected_version=1)
    assert calls == [2]


def test_a_default_stays_the_callers(agent: BlockingManager) -> None:
    default: list[int] = []

    agent.atomic_update("l", lambda items: items.append(1) or items, default=default)

    assert default == []
    assert agent.get_state("l") == [1]


def test_a_retry_with_the_same_id_does_nothing(agent: BlockingManager) -> None:
    assert agent.add("n", 1, event_id="payment-42") == 1
    agent.add("n", 10)
    assert agent.add("n", 1, event_id="payment-42") == 1
    assert agent.add("n", 1, event_id="payment-43") == 3

    assert agent.get_state("n") == 12
    assert next(iter(agent.history())).id == "payment-42"


def test_a_retry_is_known_whatever_would_refuse_it_now(agent: BlockingManager) -> None:
    agent.set_state("n", 1, event_id="set", expected_version=0)
    agent.extend("list", ["a"], event_id="extend")
    agent.set_state("list", "no list any more")

    assert agent.set_state("n", 1, event_id="set", expected_version=0) == 1
    assert agent.extend("list", ["a"], event_id="extend") == 2
    assert agent.get_state("list") == "no list any more"
    assert agent.version() == 3


def test_a_retry_takes_nobody_else_along(backend: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with opening(backend, tmp_path) as store:
            agents = [store.manager(f"agent-{number}") for number in range(20)]
            await asyncio.gather(*(agent.add("n", 1, event_id="first") for agent in agents))
            again = (agent.add("n", 1, event_id="first") for agent in agents[::3])
            others = (agent.add("n", 2) for agent in agents)
            await asyncio.gather(*again, *others)
            assert [await agent.get_state("n") for agent in agents] == [3] * len(agents)
            assert [await agent.version() for agent in agents] == [2] * len(agents)

    asyncio.run(work())


def test_what_a_retry_seems_to_do_answers_nobody(backend: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with opening(backend, tmp_path) as store:
            agent = store.manager("agent")
            await agent.set_state("list", [1], event_id="old")
            again = agent.set_state("list", [1], event_id="old")
            twice = [agent.add("n", 1, event_id="new") for _ in range(2)]
            mine = agent.set_state("list", [2], expected_version=1)
            assert await asyncio.gather(again, *twice, mine) == [1, 2, 2, 3]

            await agent.set_state("list", "no list any more")
            again = agent.set_state("list", [1], event_id="old")
            twice = [agent.extend("list", [3], event_id="never") for _ in range(2)]
            told = await asyncio.gather(again, *twice, return_exceptions=True)
            assert told[0] == 1
            assert [type(each) for each in told[1:]] == [OperationMismatch] * 2
            assert await agent.version() == 4
            assert await agent.find_event("never") == 0

    asyncio.run(work())


def test_what_is_written_behind_a_retry_can_be_read(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        store.manager("agent").add("n", 1, event_id="once")
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        assert agent.add("n", 1, event_id="once") == 1  # takes back that it began to write here
        agent.add("n", 10)
        store.manager("other").set_state("k", "v")
    with statecore.open(path, key=KEY) as store:
        assert [event.version for event in store.manager("agent").history()] == [1, 2]
        assert store.manager("agent").get_state("n") == 11
        assert store.manager("other").get_state("k") == "v"
    assert statecore.verify(path, depth="contents", key=KEY).findings == []


def test_ids_are_recognised_after_reopening(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        agent.add("n", 1, event_id="once")
        own = next(iter(agent.history())).id
        agent.add("n", 1)
        own = list(agent.history())[1].id
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")

        assert agent.add("n", 1, event_id="once") == 1
        assert agent.add("n", 1, event_id=own) == 2  # an id that the store had given
        assert agent.get_state("n") == 2


def test_the_same_id_twice_in_one_batch_is_one_event(backend: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with opening(backend, tmp_path) as store:
            agent = store.manager("agent")
            versions = await asyncio.gather(*(agent.add("n", 1, event_id="once") for _ in range(9)))
            assert set(versions) == {1}
            assert await agent.get_state("n") == 1

    asyncio.run(work())


def test_many_tasks_lose_no_update(backend: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with opening(backend, tmp_path) as store:
            agents = [store.manager(f"agent-{number % 3}") for number in range(30)]

            async def one(agent: statecore.StateManager) -> None:
                for _ in range(20):
                    await agent.atomic_update("n", lambda n: (n or 0) + 1)
                    await agent.add("sum", 1)
                    await agent.extend("l", [1])

            await asyncio.gather(*map(one, agents))
            for agent in agents[:3]:
                state = await agent.at()
                assert state["n"] == state["sum"] == len(state["l"]) == 200
                versions = [event.version async for event in agent.history()]
                assert versions == list(range(1, 601))

    asyncio.run(work())


def test_many_threads_lose_no_update(store: BlockingStore) -> None:
    agents = [store.manager(f"agent-{number % 2}") for number in range(8)]

    def one(agent: BlockingManager) -> None:
        for _ in range(50):
            agent.atomic_update("n", lambda n: (n or 0) + 1)
            agent.add("d", Decimal("0.01"))

    threads = [threading.Thread(target=one, args=(agent,)) for agent in agents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for agent in agents[:2]:
        assert agent.at().data == {"n": 200, "d": Decimal("2.00")}


def test_two_stores_on_one_file_share_it(path: Path) -> None:
    with statecore.open(path, key=KEY) as one, statecore.open(path, key=KEY) as two:
        mine, theirs = one.manager("agent"), two.manager("agent")
        for number in range(20):
            mine.atomic_update("n", lambda n: (n or 0) + 1)
            theirs.atomic_update("n", lambda n: (n or 0) + 1)
            assert mine.get_state("n") == theirs.get_state("n") == 2 * number + 2
        with pytest.raises(WrongExpectedVersion):
            mine.set_state("n", 0, expected_version=39)
        assert mine.at(7).data == theirs.at(7).data == {"n": 7}


def test_a_bad_append_in_a_batch_fails_alone(backend: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with opening(backend, tmp_path) as store:
            agent = store.manager("agent")
            await agent.set_state("text", "x")
            results = await asyncio.gather(
                *(agent.add("n", 1) for _ in range(5)),
                agent.extend("text", [1]),
                agent.set_state("plan", 1, expected_version=99),
                *(agent.add("n", 1) for _ in range(5)),
                return_exceptions=True,
            )
            failed = [result for result in results if isinstance(result, Exception)]
            assert len(failed) == 2
            assert await agent.get_state("n") == 10
            assert await agent.version() == 11

    asyncio.run(work())


def test_an_event_over_the_limit_is_refused(agent: BlockingManager) -> None:
    from statecore.errors import LimitExceeded

    agent.set_state("big", b"x" * (8 * 1024 * 1024))
    large = b"x" * (9 * 1024 * 1024)
    with pytest.raises(LimitExceeded, match=r"the event is .* the limit is 16,777,216 bytes"):
        agent.apply(EMPTY.put("one", large).put("two", large))

    assert agent.version() == 1
    assert len(agent.get_state("big")) == 8 * 1024 * 1024


def test_a_cancelled_task_disturbs_nobody(tmp_path: Path) -> None:
    async def work() -> None:
        async with opening("sqlite", tmp_path) as store:
            agent = store.manager("agent")
            tasks = [asyncio.create_task(agent.add("n", 1)) for _ in range(50)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            done = [result for result in results if isinstance(result, int)]
            assert len(done) >= 25
            assert (await agent.get_state("n")) >= len(done)

    asyncio.run(work())


def test_a_write_that_cannot_begin_in_time_is_given_up(path: Path) -> None:
    with statecore.open(path, key=KEY, write_seconds=0.2) as store:
        agent = store.manager("agent")
        agent.set_state("n", 1)
        held = statecore.open(path, key=KEY).blocking()
        datastore = held.store._engine.streams.log._datastore  # type: ignore[attr-defined]
        with datastore.hold(), pytest.raises(StoreBusy, match=r"within 0.2 seconds"):
            agent.set_state("n", 2)
        held.close()

        assert agent.get_state("n") == 1
        agent.set_state("n", 3)
        assert agent.version() == 2


def test_a_task_gives_up_too(path: Path) -> None:
    async def work() -> None:
        async with statecore.open(path, key=KEY, write_seconds=0.2) as store:
            agent = store.manager("agent")
            await agent.set_state("n", 1)
            held = statecore.open(path, key=KEY).blocking()
            datastore = held.store._engine.streams.log._datastore  # type: ignore[attr-defined]
            datastore.acquire()
            with pytest.raises(StoreBusy):
                await agent.set_state("n", 2)
            datastore.release()
            held.close()
            await agent.set_state("n", 3)
            assert await agent.version() == 2

    asyncio.run(work())


class FailingWriter:
    """A connection whose commits fail as the engine's would."""

    def __init__(self, writer: apsw.Connection, error: Exception) -> None:
        self._writer = writer
        self._error = error

    def execute(self, sql: str, *bindings: Any) -> Any:
        if sql == "COMMIT":
            raise self._error
        return self._writer.execute(sql, *bindings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


def failing(store: BlockingStore, error: Exception) -> Any:
    datastore = store.store._engine.streams.log._datastore  # type: ignore[attr-defined]
    return mock.patch.object(datastore, "_writer", FailingWriter(datastore._writer, error))


def test_a_full_disk_fails_the_write_and_not_the_store(file_store: BlockingStore) -> None:
    agent = file_store.manager("agent")
    agent.set_state("n", 1)

    with failing(file_store, apsw.FullError("disk full")), pytest.raises(StoreFull):
        agent.set_state("n", 2)

    assert agent.get_state("n") == 1
    assert agent.set_state("n", 3) == 2


def test_a_commit_of_unknown_outcome_ends_the_store(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        agent.set_state("n", 1)
        with failing(store, apsw.IOError("fsync")), pytest.raises(OutcomeUnknown, match="reopen"):
            agent.set_state("n", 2)
        for use in (lambda: agent.set_state("n", 3), lambda: agent.get_state("n")):
            with pytest.raises(OutcomeUnknown):
                use()
    with statecore.open(path, key=KEY) as store:
        assert store.manager("agent").get_state("n") == 1


def test_a_store_whose_first_write_failed_can_be_written_to(file_store: BlockingStore) -> None:
    agent = file_store.manager("agent")
    with failing(file_store, apsw.FullError("disk full")), pytest.raises(StoreFull):
        agent.set_state("n", 1)

    assert agent.set_state("n", 2) == 1
    assert agent.at().data == {"n": 2}
