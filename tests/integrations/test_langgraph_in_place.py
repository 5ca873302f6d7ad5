"""Objects that were changed where they stand, and written: what is recorded is what they are."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, TypedDict

import pytest

import statecore

pytest.importorskip("langgraph.checkpoint.base", reason="needs statecore[langgraph]")

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Overwrite

from statecore.errors import InputError, LimitExceeded
from statecore.integrations.langgraph import StatecoreSaver, changes, noted
from tests.conftest import KEY

CONFIG: Any = {"configurable": {"thread_id": "thread"}}
DURABILITIES: Any = ["sync", "async", "exit"]


@pytest.fixture(params=[0.0, 0.01, 60.0], ids=["at once", "flushed", "held"])
def saver(request: pytest.FixtureRequest) -> Any:
    with (
        statecore.open("memory:", key=KEY) as store,
        StatecoreSaver(store, linger_seconds=request.param) as saver,
    ):
        yield saver


def graph_of(state: Any, saver: StatecoreSaver, *nodes: Callable[..., Any]) -> Any:
    builder = StateGraph(state)
    before = START
    for node in nodes:
        builder.add_node(node.__name__, node)
        builder.add_edge(before, node.__name__)
        before = node.__name__
    return builder.compile(checkpointer=saver)


def texts(messages: Any) -> list[str]:
    return [message.content for message in messages]


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_message_that_its_caller_edits_and_gives_back(
    saver: StatecoreSaver, durability: Any
) -> None:
    def answer(state: Any) -> Any:
        return {"messages": [AIMessage("ok", id=f"a{len(state['messages'])}")]}

    graph = graph_of(MessagesState, saver, answer)
    first = {"messages": [HumanMessage("my card is 4111", id="h")]}
    out = graph.invoke(first, CONFIG, durability=durability)
    out["messages"][0].content = "[redacted]"
    out = graph.invoke({"messages": out["messages"]}, CONFIG, durability=durability)

    assert texts(out["messages"]) == ["[redacted]", "ok", "ok"]
    assert texts(graph.get_state(CONFIG).values["messages"]) == texts(out["messages"])


def test_a_message_that_was_read_edited_and_put_as_an_update(saver: StatecoreSaver) -> None:
    graph = graph_of(MessagesState, saver, named("answer", lambda _: {}))
    graph.invoke({"messages": [HumanMessage("my card is 4111", id="h")]}, CONFIG)
    messages = graph.get_state(CONFIG).values["messages"]
    messages[0].content = "[redacted]"
    graph.update_state(CONFIG, {"messages": messages})

    assert texts(graph.get_state(CONFIG).values["messages"]) == ["[redacted]"]


def named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    function.__name__ = name
    return function


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_node_edits_an_old_message_while_another_takes_its_time(
    saver: StatecoreSaver, durability: Any
) -> None:
    def edit(state: Any) -> Any:
        state["messages"][0].content += "!"
        return {"messages": [state["messages"][0]]}

    builder = StateGraph(MessagesState)
    builder.add_node("edit", edit)
    builder.add_node("slow", lambda _: time.sleep(0.05) or {})
    builder.add_edge(START, "edit")
    builder.add_edge(START, "slow")
    graph: Any = builder.compile(checkpointer=saver)
    graph.invoke({"messages": [HumanMessage("said", id="h")]}, CONFIG, durability=durability)
    out = graph.invoke({"messages": [HumanMessage("more")]}, CONFIG, durability=durability)

    assert texts(out["messages"]) == ["said!!", "more"]
    assert texts(graph.get_state(CONFIG).values["messages"]) == texts(out["messages"])


@dataclass(slots=True)
class InSlots:
    item: Any


@dataclass
class InAttributes:
    item: Any


class InTuple(NamedTuple):
    item: Any


def first_replaced(items: list[Any], what: Any) -> list[Any]:
    """Put what is wrapped in the place of the first item, or add what is not."""
    if isinstance(what, list):
        return items + what
    if isinstance(what, tuple) and not isinstance(what, InTuple):
        item = what[0]
    elif isinstance(what, dict):
        item = what["deep"]["er"]
    else:
        item = what.item
    return [item, *items[1:]]


class Replacing(TypedDict):
    items: Annotated[list[Any], first_replaced]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state, item: Overwrite(state["items"]),
        lambda state, item: {"__overwrite__": state["items"]},
        lambda state, item: (item,),
        lambda state, item: {"deep": {"er": item}},
        lambda state, item: InSlots(item),
        lambda state, item: InAttributes(item),
        lambda state, item: InTuple(item),
    ],
    ids=["Overwrite", "overwrite map", "tuple", "map", "slots", "attributes", "named"],
)
def test_an_old_item_is_found_in_whatever_it_is_written(
    saver: StatecoreSaver, wrap: Callable[..., Any]
) -> None:
    def edit(state: Any) -> Any:
        item = state["items"][0]
        item["n"] = 99
        return {"items": wrap(state, item)}

    graph = graph_of(Replacing, saver, edit)
    out = graph.invoke({"items": [{"n": 1}, {"n": 2}]}, CONFIG, durability="sync")

    assert out["items"] == [{"n": 99}, {"n": 2}]
    assert graph.get_state(CONFIG).values == out


def upserted(left: list[Any], right: list[Any]) -> list[Any]:
    for new in right:
        for old in left:
            if old["id"] == new["id"]:
                old.update(new)
                break
        else:
            left.append(new)
    return left


class Todos(TypedDict):
    todos: Annotated[list[Any], upserted]


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("more", [[], [{"id": 3, "status": "open"}]])
def test_a_reducer_that_changes_its_items_in_place(
    saver: StatecoreSaver, durability: Any, more: list[Any]
) -> None:
    graph = graph_of(
        Todos, saver, named("work", lambda _: {"todos": [{"id": 1, "status": "done"}, *more]})
    )
    first = {"todos": [{"id": 1, "status": "open"}, {"id": 2, "status": "open"}]}
    out = graph.invoke(first, CONFIG, durability=durability)

    assert out["todos"][0] == {"id": 1, "status": "done"}
    assert graph.get_state(CONFIG).values == out


class Items(TypedDict):
    items: Annotated[list[Any], operator.add]


def test_a_list_that_grew_unseen_and_was_forgotten(
    saver: StatecoreSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_LISTS_MAX", 2)
    others = graph_of(Items, saver, named("other", lambda _: {"items": ["n"]}))

    def one(state: Any) -> Any:
        state["items"].append("x")
        for number in range(4):
            others.invoke({"items": [1]}, {"configurable": {"thread_id": f"other {number}"}})
        return {}

    graph = graph_of(
        Items, saver, one, named("two", lambda _: {}), named("three", lambda _: {"items": ["y"]})
    )
    out = graph.invoke({"items": ["0"]}, CONFIG, durability="sync")

    assert out == {"items": ["0", "x", "y"]}
    assert graph.get_state(CONFIG).values == out


def test_what_was_written_is_not_forgotten_in_favour_of_others(
    saver: StatecoreSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noted, "_STEPS_MAX", 2)

    def edit(state: Any) -> Any:
        state["items"][0]["n"] = 2
        return {"items": [state["items"][0]]}

    def last(_: Any) -> Any:
        for number in range(4):  # between what was written and the checkpoint behind it
            config: Any = {"configurable": {"thread_id": f"other {number}", "checkpoint_ns": ""}}
            made = saver.put(config, empty_checkpoint(), {}, {})
            saver.put_writes(made, [("x", number)], "task")
        return {}

    builder = StateGraph(Items)
    builder.add_node("edit", edit)
    builder.add_node("last", lambda _: time.sleep(0.05) or last(_))
    builder.add_edge(START, "edit")
    builder.add_edge(START, "last")
    graph: Any = builder.compile(checkpointer=saver)
    out = graph.invoke({"items": [{"n": 1}]}, CONFIG, durability="sync")

    assert out == {"items": [{"n": 2}, {"n": 2}]}
    assert graph.get_state(CONFIG).values == out


def test_an_id_that_another_object_had_before_hides_nothing() -> None:
    old, notes = {"n": 1}, noted.Noted()
    wrapper = [{"n": 2}]
    notes.add([("items", wrapper)], "first task")
    wrapper[:] = [old]  # the same id, as if the object there before were gone

    notes.add([("items", wrapper)], "second task")

    assert notes.has_any({id(old)})


@pytest.mark.parametrize("depth", [40, 47, 48, 49, 60, 61, 62, 63, 64, 65, 100])
def test_values_of_any_depth_are_taken(saver: StatecoreSaver, depth: int) -> None:
    deep: Any = "bottom"
    for number in range(depth):
        deep = [deep] if number % 2 else {"in": deep}

    graph = graph_of(Items, saver, named("work", lambda _: {"items": [deep]}))
    graph.invoke({"items": [deep]}, CONFIG)

    assert graph.get_state(CONFIG).values == {"items": [deep, deep]}


def test_what_can_t_be_recorded_holds_up_nothing_else() -> None:
    with statecore.open("memory:", key=KEY) as store:
        saver = StatecoreSaver(store, linger_seconds=60)
        made = []
        for name in ("too much", "other"):
            config: Any = {"configurable": {"thread_id": name, "checkpoint_ns": ""}}
            made.append(saver.put(config, empty_checkpoint(), {}, {}))
        for number in range(3):  # none too large, but all of them are
            saver.put_writes(made[0], [("x", "z" * 7_000_000)], f"task {number}")
        saver.put_writes(made[1], [("x", "small")], "task")

        with pytest.raises(LimitExceeded):
            saver.flush()

        another = StatecoreSaver(store)
        found = another.get_tuple(made[1])
        assert found
        assert found.pending_writes == [("task", "x", "small")]
        found = saver.get_tuple(made[0])  # still held
        assert found
        assert len(found.pending_writes or ()) == 3


def test_after_the_last_run_was_hidden_the_thread_goes_on(saver: StatecoreSaver) -> None:
    graph = graph_of(Items, saver, named("a", lambda _: {"items": ["a"]}))
    graph.invoke({"items": ["1"]}, {**CONFIG, "metadata": {"run_id": "first"}})
    graph.invoke({"items": ["2"]}, {**CONFIG, "metadata": {"run_id": "second"}})
    saver.delete_for_runs(["second"])

    assert graph.get_state(CONFIG).values == {"items": ["1", "a"]}
    assert graph.invoke({"items": ["3"]}, CONFIG) == {"items": ["1", "a", "3", "a"]}
    assert graph.get_state(CONFIG).values == {"items": ["1", "a", "3", "a"]}


@pytest.mark.parametrize("is_pruned", [False, True])
def test_a_thread_is_copied_into_one_that_is_there(
    saver: StatecoreSaver, *, is_pruned: bool
) -> None:
    graph = graph_of(Items, saver, named("a", lambda _: {"items": ["a"]}))
    source: Any = {"configurable": {"thread_id": "source"}}
    graph.invoke({"items": ["of the source"]}, source)
    graph.invoke({"items": ["1"]}, CONFIG)
    own = len(list(graph.get_state_history(CONFIG)))
    if is_pruned:
        saver.prune(["thread"])
        own = 1

    saver.copy_thread("source", "thread")

    copied = list(graph.get_state_history(source))
    assert len(list(graph.get_state_history(CONFIG))) == own + len(copied)
    last = {**CONFIG["configurable"], **copied[0].config["configurable"], "thread_id": "thread"}
    assert graph.get_state({"configurable": last}).values == copied[0].values
    assert graph.invoke({"items": ["2"]}, CONFIG) == {"items": ["1", "a", "2", "a"]}


def test_listing_asks_as_the_framework_s_savers_do(saver: StatecoreSaver) -> None:
    config: Any = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}
    saver.put(config, empty_checkpoint(), {"source": "loop", "step": 1}, {})

    assert len(list(saver.list(config, filter={"user": None}))) == 1
    assert len(list(saver.list(config, filter={"step": None}))) == 0
    with pytest.raises(InputError, match="thread_id"):
        list(saver.list({"configurable": {}}))
