"""Forks, late writes, readers at once: each checkpoint is what its parent and its step made."""

from __future__ import annotations

import asyncio
import operator
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypedDict

import pytest

import statecore

pytest.importorskip("langgraph.checkpoint.base", reason="needs statecore[langgraph]")

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from statecore.integrations.langgraph import StatecoreSaver
from statecore.manager import StateManager
from tests.conftest import KEY

CONFIG: Any = {"configurable": {"thread_id": "thread"}}
CONFIG_OF_FIRST: Any = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}


class State(TypedDict):
    items: Annotated[list[Any], operator.add]
    other: Any


def opened(**options: Any) -> Any:
    return StatecoreSaver.from_conn_string(":memory:", key=KEY, **options)


def two_steps(saver: StatecoreSaver) -> Any:
    graph = StateGraph(State)
    graph.add_node("a", lambda _: {"items": ["a"]})
    graph.add_node("b", lambda _: {"items": ["b"]})
    graph.add_edge(START, "a")
    graph.add_edge("a", "b")
    return graph.compile(checkpointer=saver)


def past_of(graph: Any) -> Any:
    graph.invoke({"items": ["1"], "other": 1}, CONFIG)
    return next(each for each in graph.get_state_history(CONFIG) if each.next == ("b",)).config


def update(number: int) -> dict[str, Any]:
    return {"items": [number]} if number % 2 else {"other": number}


def expected(number: int) -> dict[str, Any]:
    added = [number] if number % 2 else []
    return {"items": ["1", "a", *added], "other": 1 if number % 2 else number}


def test_forks_from_one_checkpoint_at_once_don_t_mix() -> None:
    with opened() as saver:
        graph = two_steps(saver)
        past = past_of(graph)

        def fork(number: int) -> Any:
            made = graph.update_state(past, update(number), as_node="a")
            return graph.get_state(made).values

        with ThreadPoolExecutor(8) as pool:
            values = list(pool.map(fork, range(40)))

        assert values == [expected(number) for number in range(40)]


def test_forks_by_coroutines_at_once_don_t_mix() -> None:
    async def run(saver: StatecoreSaver) -> Any:
        graph = two_steps(saver)
        past = await asyncio.to_thread(past_of, graph)
        results = await asyncio.gather(*(graph.ainvoke(None, past) for _ in range(12)))
        history = [each async for each in graph.aget_state_history(CONFIG)]
        return results, len(history)

    with opened() as saver:
        results, length = asyncio.run(run(saver))

    assert all(result == {"items": ["1", "a", "b"], "other": 1} for result in results)
    assert length == 4 + 2 * 12


@pytest.mark.parametrize("is_same_parent", [True, False])
def test_a_name_that_is_taken_gets_a_number(*, is_same_parent: bool) -> None:
    with statecore.open("memory:", key=KEY) as store, StatecoreSaver(store) as saver:
        graph = two_steps(saver)
        first = past_of(graph)
        second = first if is_same_parent else past_of(graph)
        made = []
        for number, past in ((2, first), (3, second)):
            named = {"configurable": {**past["configurable"], "branch": "alt"}}
            before = graph.get_state(past).values
            values = graph.get_state(graph.update_state(named, update(number), as_node="a")).values
            made.append(values == {**before, **({"other": 2} if number == 2 else {})} or values)

        assert made[0] is True
        assert made[1] == {**before, "items": [*before["items"], 3]}
        assert {branch.name for branch in store.manager("thread").branches()} == {"alt", "alt-2"}


def test_a_thread_that_many_go_on_with_at_once_keeps_each_checkpoint_whole() -> None:
    with opened() as saver:
        graph = two_steps(saver)
        graph.invoke({"items": ["0"], "other": 1}, CONFIG)

        with ThreadPoolExecutor(8) as pool:
            results = list(
                pool.map(lambda n: graph.invoke({"items": [n]}, CONFIG)["items"], range(40))
            )

        assert all(number in items for number, items in enumerate(results))
        history = {
            each.config["configurable"]["checkpoint_id"]: each
            for each in graph.get_state_history(CONFIG)
        }
        assert len(history) == 41 * 4
        for each in history.values():
            if each.parent_config is None:
                continue
            before = history[each.parent_config["configurable"]["checkpoint_id"]]
            items, old = each.values.get("items", []), before.values.get("items", [])
            assert items[: len(old)] == old
            assert len(items) <= len(old) + 1


def test_an_interrupted_step_is_whole_by_its_checkpoint_s_own_config() -> None:
    ran: Counter[str] = Counter()

    def pay(_: State) -> Any:
        ran["pay"] += 1
        return {"items": ["paid"]}

    with opened() as saver:
        builder = StateGraph(State)
        builder.add_node("pay", pay)
        for name in "xyz":
            builder.add_node(name, lambda _, name=name: {"items": [interrupt(name)]})
        for name in ("pay", *"xyz"):
            builder.add_edge(START, name)
        graph = builder.compile(checkpointer=saver)
        for number in range(12):  # on both sides of what is kept at hand
            graph.invoke({"items": [number]}, CONFIG, durability="sync")
            last = graph.get_state(CONFIG)
            by_id = graph.get_state(last.config)

            assert sorted(each.value for each in by_id.interrupts) == ["x", "y", "z"]
            assert by_id.tasks == last.tasks
            answers = {each.id: "ok" for each in last.interrupts}
            graph.invoke(Command(resume=answers), last.config, durability="sync")

    assert ran["pay"] == 12


def test_writes_that_take_longer_than_they_are_held_are_listed_and_read_the_same() -> None:
    with opened(linger_seconds=0.01) as saver:
        builder = StateGraph(State)
        builder.add_node("fast", lambda _: {"items": ["fast"]})
        builder.add_node("slow", lambda _: time.sleep(0.05) or {"items": ["slow"]})
        builder.add_edge(START, "fast")
        builder.add_edge(START, "slow")
        graph = builder.compile(checkpointer=saver)
        for number in range(12):
            graph.invoke({"items": [number]}, CONFIG, durability="sync")

        for each in graph.get_state_history(CONFIG):
            assert graph.get_state(each.config).tasks == each.tasks


def checkpoint(number: int) -> Any:
    made: Any = empty_checkpoint()
    made["id"] = f"1f000000-0000-6000-8000-{number:012}"
    return {**made, "channel_values": {"x": number}, "channel_versions": {"x": number}}


def test_writes_recorded_behind_the_next_checkpoint_are_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reached, go_on = threading.Event(), threading.Event()
    apply = StateManager.apply

    async def slowly(self: StateManager, *arguments: Any, **options: Any) -> int:
        if threading.current_thread().name == "statecore-flusher":
            reached.set()
            assert go_on.wait(30)
        return await apply(self, *arguments, **options)

    with (
        statecore.open("memory:", key=KEY) as store,
        StatecoreSaver(store, linger_seconds=0.01) as saver,
    ):
        first = saver.put(CONFIG_OF_FIRST, checkpoint(1), {}, {})
        monkeypatch.setattr(StateManager, "apply", slowly)
        saver.put_writes(first, [("x", "written")], "task")
        assert reached.wait(30)
        second = saver.put(first, checkpoint(2), {}, {})  # takes nothing along: it is on its way
        go_on.set()
        while saver._memory.buffer.peek("thread"):
            time.sleep(0.01)
        saver.put(second, checkpoint(3), {}, {})

        found = saver.get_tuple(first)
        assert found
        assert found.pending_writes == [("task", "x", "written")]
        listed = {
            each.checkpoint["id"]: each.pending_writes for each in saver.list(CONFIG_OF_FIRST)
        }
        assert listed == {
            checkpoint(1)["id"]: [("task", "x", "written")],
            checkpoint(2)["id"]: [],
            checkpoint(3)["id"]: [],
        }
