"""What graphs and savers beside ours have shown to go wrong, each as small as it can be."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("langgraph.checkpoint.base", reason="needs statecore[langgraph]")

from langgraph.checkpoint.base import Checkpoint, empty_checkpoint
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from statecore.integrations.langgraph import StatecoreSaver
from statecore.integrations.langgraph.flusher import Flusher
from statecore.values import same

KEY = b"k" * 32


class Attempts(TypedDict):
    steps: Annotated[list[str], operator.add]
    attempt: int


@pytest.fixture(params=[0.0, 60.0], ids=["at once", "held"])
def saver(request: pytest.FixtureRequest) -> Iterator[StatecoreSaver]:
    linger = request.param
    with StatecoreSaver.from_conn_string(":memory:", key=KEY, linger_seconds=linger) as saver:
        yield saver


def config(number: int | None = None) -> Any:
    there = {"thread_id": "thread", "checkpoint_ns": ""}
    return {"configurable": there if number is None else {**there, "checkpoint_id": id_of(number)}}


def id_of(number: int) -> str:
    return f"1f000000-0000-6000-8000-{number:012}"


def put(saver: StatecoreSaver, number: int, parent: int | None = None, **values: Any) -> None:
    checkpoint: Checkpoint = empty_checkpoint()
    checkpoint["id"] = id_of(number)
    checkpoint["channel_values"] = values
    checkpoint["channel_versions"] = dict.fromkeys(values, number)
    saver.put(config(parent), checkpoint, {"step": number}, checkpoint["channel_versions"])


def writes(saver: StatecoreSaver, number: int) -> Any:
    found = saver.get_tuple(config(number))
    assert found is not None
    return found.pending_writes


def value(saver: StatecoreSaver, channel: str) -> Any:
    found = saver.get_tuple(config())
    assert found is not None
    return found.checkpoint["channel_values"][channel]


def test_a_map_that_changed_twice_is_read(saver: StatecoreSaver) -> None:
    @entrypoint(checkpointer=saver)
    def echo(said: str, *, previous: Any) -> Any:
        return {"previous": previous and previous["said"], "said": said}

    answers = [echo.invoke(said, config()) for said in ("one", "two", "three")]

    assert [answer["previous"] for answer in answers] == [None, "one", "two"]


def test_what_failed_is_told_of_its_own_checkpoint_only(saver: StatecoreSaver) -> None:
    def work(state: Attempts) -> dict[str, Any]:
        if state["attempt"] == 1:
            raise RuntimeError("not yet")
        return {"steps": ["worked"]}

    builder = StateGraph(Attempts)
    builder.add_node("work", work)
    builder.add_edge(START, "work")
    graph = builder.compile(checkpointer=saver)
    with pytest.raises(RuntimeError):
        graph.invoke({"steps": [], "attempt": 1}, config())

    graph.invoke({"steps": [], "attempt": 2}, config())

    told = [[task.error for task in each.tasks] for each in graph.get_state_history(config())]
    assert told == [[], [None], [None], ["RuntimeError('not yet')"], [None]]


def test_a_checkpoint_without_writes_leaves_those_of_its_grandparent(saver: StatecoreSaver) -> None:
    put(saver, 1)
    saver.put_writes(config(1), [("__error__", "failed")], "task")
    put(saver, 2, parent=1)

    put(saver, 3, parent=2)

    assert writes(saver, 1) == [("task", "__error__", "failed")]
    assert writes(saver, 2) == []
    assert writes(saver, 3) == []


def test_the_first_of_what_a_task_wrote_counts_and_the_last_error(saver: StatecoreSaver) -> None:
    put(saver, 1)
    for said in ("first", "last"):
        saver.put_writes(config(1), [("channel", said)], "task")
        saver.put_writes(config(1), [("__error__", said)], "task")

    assert writes(saver, 1) == [("task", "__error__", "last"), ("task", "channel", "first")]


def test_an_interrupt_that_came_before_its_checkpoint_gives_way_to_the_next(
    saver: StatecoreSaver,
) -> None:
    put(saver, 1)
    saver.put_writes(config(2), [("__interrupt__", "first")], "task")
    put(saver, 2, parent=1)

    saver.put_writes(config(2), [("__interrupt__", "second")], "task")
    before = writes(saver, 2)
    put(saver, 3, parent=2)

    assert before == writes(saver, 2) == [("task", "__interrupt__", "second")]


def test_what_was_written_before_a_fork_stays_with_the_checkpoint(saver: StatecoreSaver) -> None:
    put(saver, 1)
    put(saver, 2, parent=1)
    saver.put_writes(config(1), [("channel", "again")], "task")

    put(saver, 3, parent=1)

    assert writes(saver, 1) == [("task", "channel", "again")]
    history = saver.get_delta_channel_history(config=config(3), channels=["channel"])
    assert history["channel"]["writes"] == [("task", "channel", "again")]


def test_a_tuple_read_back_as_a_list_can_grow(saver: StatecoreSaver) -> None:
    put(saver, 1, channel=("one",))
    items = value(saver, "channel")

    put(saver, 2, parent=1, channel=[*items, "two"])

    assert value(saver, "channel") == ["one", "two"]


def test_metadata_is_found_by_names_and_by_paths(saver: StatecoreSaver) -> None:
    for number, level in ((1, "public"), (2, "private")):
        checkpoint = {**empty_checkpoint(), "id": id_of(number)}
        metadata: Any = {"access-level": level, "user": {"level": level}, "a.b": number}
        saver.put(config(), checkpoint, metadata, {})

    def found(**wanted: Any) -> list[str]:
        return [each.checkpoint["id"] for each in saver.list(None, filter=wanted)]

    assert found(**{"access-level": "public"}) == [id_of(1)]
    assert found(**{"user.level": "private"}) == [id_of(2)]
    assert found(**{"user.level": "private", "a.b": 1}) == []
    assert found(**{"a.b": 1}) == [id_of(1)]
    assert found(**{"user.level.more": "private"}) == found(**{"user.": 1}) == []
    assert found(a=None) == found(**{"user.age": None}) == [id_of(2), id_of(1)]


def test_two_interrupts_of_one_node_are_answered_in_turn(saver: StatecoreSaver) -> None:
    def ask(state: Attempts) -> dict[str, Any]:
        return {"steps": [interrupt("first?"), interrupt("second?")]}

    builder = StateGraph(Attempts)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    graph = builder.compile(checkpointer=saver)

    graph.invoke({"steps": [], "attempt": 1}, config())
    graph.invoke(Command(resume="one"), config())
    asked = graph.get_state(config()).interrupts
    done = graph.invoke(Command(resume="two"), config())

    assert [each.value for each in asked] == ["second?"]
    assert done["steps"] == ["one", "two"]


def test_what_was_written_is_found_where_another_namespace_forked(saver: StatecoreSaver) -> None:
    inner = {"configurable": {"thread_id": "thread", "checkpoint_ns": "inner"}}
    put(saver, 1)
    checkpoint: Checkpoint = empty_checkpoint()
    parent: Any = inner
    for number in (2, 3):
        parent = saver.put(parent, {**checkpoint, "id": id_of(number)}, {}, {})
    put(saver, 4, parent=1)
    saver.put_writes(config(4), [("channel", "said")], "task")
    forked: Any = {"configurable": {**inner["configurable"], "checkpoint_id": id_of(2)}}

    saver.put(forked, {**checkpoint, "id": id_of(5)}, {}, {})
    saver.put_writes(config(4), [("__error__", "failed")], "task")

    assert writes(saver, 4) == [("task", "__error__", "failed"), ("task", "channel", "said")]


class Growing(JsonPlusSerializer):
    """Serializes while a reducer goes on with a list."""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[str] = []

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        self.items.append("meanwhile")
        return super().dumps_typed(obj)


def test_what_a_list_got_while_it_was_recorded_is_recorded_next() -> None:
    serde = Growing()
    with StatecoreSaver.from_conn_string(":memory:", key=KEY, serde=serde) as saver:
        put(saver, 1, items=serde.items, thing=("serialized",))

        put(saver, 2, parent=1, items=[*serde.items, "then"])

        assert value(saver, "items") == ["meanwhile", "then"]


def test_a_bytearray_is_kept(saver: StatecoreSaver) -> None:
    put(saver, 1, channel=bytearray(b"bytes"))

    assert value(saver, "channel") == bytearray(b"bytes")


class ClosedMeanwhile(threading.Event):
    """What is held, in a flusher that is closed at the worst moment: when it forgets it."""

    closing: Callable[[], None]

    def clear(self) -> None:
        self.closing()
        super().clear()


def test_closing_ends_a_flusher_that_is_just_at_work() -> None:
    flusher = Flusher(lambda: False, 0)
    flusher._held = held = ClosedMeanwhile()

    def begin_to_close() -> None:
        flusher._closed.set()
        held.set()

    held.closing = begin_to_close
    flusher.attend()

    assert flusher._thread is not None
    flusher._thread.join(10)
    assert not flusher._thread.is_alive()


def long_list(count: int, odd: Any = None) -> list[Any]:
    """Return a list that is kept in chunks, and has one item of another kind."""
    return [{"text": f"{number:04} " + "x" * 200, "n": number} for number in range(count)] + [odd]


@pytest.mark.parametrize("odd", [{"nested": ["list"]}, {"flat": 1}, "text", None, ["list"]])
def test_who_changes_what_was_read_of_a_long_list_changes_it_for_nobody_else(
    saver: StatecoreSaver, odd: Any
) -> None:
    said = long_list(50, odd)
    for number in range(1, 4):
        said = [*said, {"text": "more", "n": True}]
        put(saver, number, number - 1 or None, messages=said)
    for _ in range(2):
        read = value(saver, "messages")
        assert read == said
        assert read[-1]["n"] is True
        read[0]["text"] = "changed"
        read[-1].clear()
        if isinstance(odd, dict | list):
            read[50].clear()
        read.clear()

    past = saver.get_tuple(config(2))

    assert past is not None
    assert past.checkpoint["channel_values"]["messages"] == said[:-1]
    assert value(saver, "messages") == said


def test_a_long_list_is_read_whole_from_any_of_its_checkpoints(saver: StatecoreSaver) -> None:
    lists = [long_list(40)]
    put(saver, 1, messages=lists[0])
    for number in range(2, 30):
        lists.append([*lists[-1], {"n": number}] if number % 7 else lists[-1][: 30 + number])
        put(saver, number, number - 1, messages=lists[-1])

    for number in [20, 3, 29, 1, 6, 7, 8, 14, 13, 28, 2]:
        found = saver.get_tuple(config(number))
        assert found is not None
        assert found.checkpoint["channel_values"]["messages"] == lists[number - 1]


ITEMS = st.sampled_from([1, True, 1.0, 0.0, -0.0, "a", {"n": 1}, {"n": True}, {"n": [1.0]}])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["append"] * 6 + ["in place", "replace", "drop", "same", "read", "go on"]),
        st.integers(0, 9),
        ITEMS,
    ),
    min_size=1,
    max_size=12,
)


@given(STEPS)
def test_a_list_comes_back_whatever_was_done_to_it(steps: list[tuple[str, int, Any]]) -> None:
    with StatecoreSaver.from_conn_string(":memory:", key=KEY) as saver:
        items: list[Any] = []
        for number, (what, at, item) in enumerate(steps, 1):
            if what == "in place":
                items.append(item)
            elif what == "append":
                items = [*items, item]
            elif what == "replace" and items:  # by what is perhaps equal, but not the same
                items = [*items[: at % len(items)], item, *items[at % len(items) + 1 :]]
            elif what == "drop":
                items = items[: at % (len(items) + 1)]
            elif what in ("read", "go on") and (found := saver.get_tuple(config())):
                read = found.checkpoint["channel_values"]["items"]
                items = read if what == "go on" else items
            put(saver, number, number - 1 or None, items=items)

            found = saver.get_tuple(config(number))
            assert found is not None
            assert same(found.checkpoint["channel_values"]["items"], items)
