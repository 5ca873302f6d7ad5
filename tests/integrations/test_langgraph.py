"""LangGraph's checkpointer: its contract, one event a step, forks, conflicts, faults."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
import pytest

pytest.importorskip("langgraph.checkpoint.base", reason="needs the extra langgraph")
pytest.importorskip("langgraph.graph", reason="needs langgraph itself")

from langgraph.checkpoint.base import CheckpointTuple, empty_checkpoint
from langgraph.types import Command, interrupt

import statecore
from statecore.integrations.langgraph import StatecoreSaver
from tests.conftest import KEY
from tests.integrations.graphs import CONFIG, ROUNDS, Talk, run_until_killed, talk

KILLS = int(os.environ.get("STATECORE_KILLS", "16"))


@pytest.fixture
def saver(path: Path) -> Iterator[StatecoreSaver]:
    with StatecoreSaver.from_conn_string(str(path), key=KEY) as opened:
        yield opened


def put(
    saver: StatecoreSaver, config: Any, values: dict[str, Any], step: int, **metadata: Any
) -> Any:
    """Put a checkpoint in which every channel has the step for its version."""
    checkpoint: Any = {
        **empty_checkpoint(),
        "channel_values": values,
        "channel_versions": dict.fromkeys(values, step),
    }
    said: Any = {"source": "loop", "step": step, "parents": {}, **metadata}
    return saver.put(config, checkpoint, said, dict.fromkeys(values, step))


def new(thread_id: str = "t", namespace: str = "") -> Any:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace}}


def latest(saver: StatecoreSaver, thread_id: str = "t") -> CheckpointTuple:
    found = saver.get_tuple(new(thread_id))
    assert found is not None
    return found


# The framework's contract


class Sync(StatecoreSaver):
    """Shows the blocking face to those who ask for the other."""

    async def aget_tuple(self, config: Any) -> Any:
        return self.get_tuple(config)

    async def alist(self, config: Any, **options: Any) -> AsyncIterator[CheckpointTuple]:
        for found in self.list(config, **options):
            yield found

    async def aput(self, *arguments: Any) -> Any:
        return self.put(*arguments)

    async def aput_writes(self, *arguments: Any, **options: Any) -> None:
        self.put_writes(*arguments, **options)

    async def adelete_thread(self, thread_id: str) -> None:
        self.delete_thread(thread_id)

    async def adelete_for_runs(self, run_ids: Any) -> None:
        self.delete_for_runs(run_ids)

    async def acopy_thread(self, *threads: str) -> None:
        self.copy_thread(*threads)

    async def aprune(self, thread_ids: Any, **options: Any) -> None:
        self.prune(thread_ids, **options)


@pytest.mark.parametrize("face", [StatecoreSaver, Sync])
@pytest.mark.parametrize("linger", [0, 0.05])
def test_it_conforms_with_every_capability(
    tmp_path: Path, face: type[StatecoreSaver], linger: float
) -> None:
    conformance = pytest.importorskip(
        "langgraph.checkpoint.conformance", reason="needs langgraph-checkpoint-conformance"
    )
    counter = iter(range(1000))

    @conformance.checkpointer_test(name=f"{face.__name__} {linger}")  # type: ignore[untyped-decorator]
    async def fresh() -> AsyncIterator[StatecoreSaver]:
        path = str(tmp_path / f"{next(counter)}.db")
        async with face.from_conn_string(path, key=KEY, linger_seconds=linger) as saver:
            yield saver

    report = asyncio.run(conformance.validate(fresh)).to_dict()

    failures = [name for each in report["results"].values() for name in each["failures"]]
    passed = sum(each["tests_passed"] for each in report["results"].values())
    assert (failures, report["conformance_level"]) == ([], "FULL")
    assert passed >= 81


# One event a step


def test_a_step_is_one_event_that_says_only_what_it_added(
    saver: StatecoreSaver, path: Path
) -> None:
    config, said = new(), []
    for step in range(1, 200):
        more = [{"role": "user", "content": f"{step}" * 50}]
        said = [*said, *more]
        if step > 1:
            saver.put_writes(config, [("said", more)], f"task-{step}")
        config = put(saver, config, {"said": said, "step": step}, step)

    with statecore.open(path, key=KEY) as store:
        agent = store.manager("t")
        assert agent.version() == 199
        assert len(agent.get_state("said")) == 199
        written = [len(str(event.change)) for event in agent.history(since=100)]
    assert max(written) < 2 * min(written)
    found = latest(saver)
    assert found.checkpoint["channel_values"]["said"] == said
    assert found.parent_config is not None


def test_an_old_item_that_a_task_changed_and_wrote_again_is_recorded(
    saver: StatecoreSaver,
) -> None:
    first, second = {"id": 1, "text": "draft"}, {"id": 2, "text": "other"}
    config = put(saver, new(), {"said": [first, second]}, 1)
    first["text"] = "final"
    saver.put_writes(config, [("said", [first])], "editor")
    put(saver, config, {"said": [first, second]}, 2)

    assert latest(saver).checkpoint["channel_values"]["said"][0]["text"] == "final"


def test_a_list_that_was_changed_by_its_reducer_in_place_grows_all_the_same(
    saver: StatecoreSaver,
) -> None:
    said: list[Any] = [{"n": 0}]
    config = put(saver, new(), {"said": said}, 1)
    for step in range(2, 20):
        said.append({"n": step})
        config = put(saver, config, {"said": said}, step)

    assert latest(saver).checkpoint["channel_values"]["said"] == said


@pytest.mark.parametrize(
    "thing",
    [
        (1, 2),
        {1: "a"},
        {"lc:msgpack": b"no message"},
        {"a": {1, 2}},
        "\ud800",
        b"\x00",
        float("inf"),
        [[[]]],
        {"": {"~": None, "a/b": [True, 1, 1.0]}},
    ],
)
def test_things_come_back_as_the_serializer_has_them(saver: StatecoreSaver, thing: Any) -> None:
    config = put(saver, new(), {"thing": thing, "things": [thing]}, 1)
    saver.put_writes(config, [("thing", thing)], "task")

    found = latest(saver)
    values = found.checkpoint["channel_values"]
    expected = saver.serde.loads_typed(saver.serde.dumps_typed(thing))  # of a tuple it makes a list
    assert [type(values["thing"]), values["thing"]] == [type(expected), expected]
    assert values["things"] == [expected]
    assert found.pending_writes == [("task", "thing", expected)]


def test_what_is_read_is_the_readers_own(saver: StatecoreSaver) -> None:
    put(saver, new(), {"said": [{"text": "a"}], "plan": {"goal": "b"}}, 1)
    values = latest(saver).checkpoint["channel_values"]
    values["said"][0]["text"] = values["plan"]["goal"] = "changed"
    values["said"].append("more")

    values = latest(saver).checkpoint["channel_values"]
    assert values == {"said": [{"text": "a"}], "plan": {"goal": "b"}}


# Writes


def test_writes_come_in_the_order_in_which_they_are_applied(saver: StatecoreSaver) -> None:
    config = put(saver, new(), {"a": 1}, 1)
    saver.put_writes(config, [("a", 3), ("b", 4)], "0-task", "~2")
    saver.put_writes(config, [("a", 1), ("b", 2)], "1-task", "~1")

    expected = [("1-task", "a", 1), ("1-task", "b", 2), ("0-task", "a", 3), ("0-task", "b", 4)]
    assert latest(saver).pending_writes == expected
    saver.flush()
    assert latest(saver).pending_writes == expected
    put(saver, config, {"a": 2}, 2)
    assert latest(saver).pending_writes == []
    past = saver.get_tuple(config)
    assert past is not None
    assert past.pending_writes == expected


def test_an_interrupt_is_durable_at_once_with_all_that_was_held(path: Path) -> None:
    opening = StatecoreSaver.from_conn_string(str(path), key=KEY, linger_seconds=60)
    with opening as saver:
        config = put(saver, new(), {"a": 1}, 1)
        saver.put_writes(config, [("a", 2)], "done")
        with StatecoreSaver.from_conn_string(str(path), key=KEY) as other:
            assert latest(other).pending_writes == []
            saver.put_writes(config, [("__interrupt__", "ask")], "asking")
            found = latest(other).pending_writes
    assert found == [("asking", "__interrupt__", "ask"), ("done", "a", 2)]


def test_what_is_held_is_recorded_soon_by_itself(path: Path) -> None:
    opening = StatecoreSaver.from_conn_string(str(path), key=KEY, linger_seconds=0.01)
    with opening as saver, statecore.open(path, key=KEY) as store:
        config = put(saver, new(), {"a": 1}, 1)
        agent = store.manager("t")
        events = agent.watch(since=1)
        saver.put_writes(config, [("a", 2)], "task")
        assert "lg:writes" in next(events).change.operations
    with StatecoreSaver.from_conn_string(str(path), key=KEY) as saver:
        assert latest(saver).pending_writes == [("task", "a", 2)]


def test_what_is_just_being_recorded_is_seen(path: Path) -> None:
    opening = StatecoreSaver.from_conn_string(str(path), key=KEY, linger_seconds=0.0001)
    with opening as saver:
        config = put(saver, new(), {"a": 1}, 1)
        for number in range(300):
            saver.put_writes(config, [("a", number)], f"task-{number:03}")
            found = latest(saver).pending_writes
            assert found is not None
            assert len(found) == number + 1


def test_writes_that_come_late_belong_to_their_own_step(saver: StatecoreSaver) -> None:
    first = put(saver, new(), {"a": 1}, 1)
    second = put(saver, first, {"a": 2}, 2)
    saver.put_writes(first, [("a", 9)], "late")
    saver.flush()
    saver.put_writes(first, [("b", 8)], "later")

    past = saver.get_tuple(first)
    assert past is not None
    assert past.pending_writes == [("late", "a", 9), ("later", "b", 8)]
    assert latest(saver).config == second
    assert latest(saver).pending_writes == []


# Forks and conflicts


def test_going_on_from_an_older_checkpoint_forks_the_thread(
    saver: StatecoreSaver, path: Path
) -> None:
    first = put(saver, new(), {"said": ["a"]}, 1)
    put(saver, first, {"said": ["a", "b"]}, 2)
    assert saver.get_tuple(first) is not None  # asked for by its id
    named = {"configurable": {**first["configurable"], "branch": "another-way"}}
    other = put(saver, named, {"said": ["a", "c"]}, 2)

    assert next(iter(saver.list(new()))).config == other
    assert len(list(saver.list(new()))) == 3
    assert latest(saver).checkpoint["channel_values"] == {"said": ["a", "c"]}
    more = put(saver, other, {"said": ["a", "c", "d"]}, 3)
    assert latest(saver).config == more
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("t")
        fork = agent.branch("another-way", create=False)
        assert agent.get_state("said") == ["a", "b"]
        assert fork.get_state("said") == ["a", "c", "d"]


def test_a_fork_that_was_merged_is_listed_once(saver: StatecoreSaver, path: Path) -> None:
    first = put(saver, new(), {"said": ["a"]}, 1)
    put(saver, first, {"said": ["a", "b"]}, 2)
    assert saver.get_tuple(first) is not None
    named = {"configurable": {**first["configurable"], "branch": "better"}}
    other = put(saver, named, {"said": ["a", "c"]}, 2)
    with statecore.open(path, key=KEY) as store:
        store.manager("t").merge("better", strategies={"*": "theirs"})

    assert [found.config for found in saver.list(new())].count(other) == 1
    assert latest(saver).checkpoint["channel_values"] == {"said": ["a", "c"]}


def test_of_two_processes_that_go_on_from_one_checkpoint_one_wins(path: Path) -> None:
    with (
        StatecoreSaver.from_conn_string(str(path), key=KEY) as one,
        StatecoreSaver.from_conn_string(str(path), key=KEY) as other,
    ):
        first = put(one, new(), {"said": ["a"]}, 1)
        assert latest(other).config == first
        second = put(one, first, {"said": ["a", "b"]}, 2)

        with pytest.raises(statecore.WrongExpectedVersion, match="elsewhere: read its latest"):
            put(other, first, {"said": ["a", "c"]}, 2)
        assert latest(other).config == second
        put(other, second, {"said": ["a", "b", "c"]}, 3)
        assert latest(one).checkpoint["channel_values"]["said"] == ["a", "b", "c"]

        assert other.get_tuple(first) is not None  # by its id: this fork is meant
        put(other, first, {"said": ["a", "z"]}, 2)
        assert len(list(one.list(new()))) == 4


def test_a_checkpoint_that_is_put_again_is_the_same_or_replaced(saver: StatecoreSaver) -> None:
    checkpoint: Any = {**empty_checkpoint(), "channel_values": {"a": 1}, "channel_versions": {}}
    metadata: Any = {"source": "loop", "step": 1}
    saver.put(new(), checkpoint, metadata, {})
    saver.put(new(), checkpoint, metadata, {})
    assert len(list(saver.list(new()))) == 1

    saver.put(new(), {**checkpoint, "channel_values": {"a": 2}}, metadata, {})
    assert [found.checkpoint["channel_values"] for found in saver.list(new())] == [{"a": 2}]


def test_hidden_checkpoints_still_rebuild_delta_channels(saver: StatecoreSaver) -> None:
    config = put(saver, new(), {"log": ["seed"]}, 1)
    for step in range(2, 6):
        saver.put_writes(config, [("log", step)], f"task-{step}")
        config = put(saver, config, {"a": step}, step)
    expected = {"writes": [(f"task-{n}", "log", n) for n in range(2, 6)], "seed": ["seed"]}

    assert saver.get_delta_channel_history(config=config, channels=["log"]) == {"log": expected}
    saver.prune(["t"])
    assert len(list(saver.list(new()))) == 1
    assert saver.get_delta_channel_history(config=new(), channels=["log"]) == {"log": expected}


def test_a_deleted_thread_is_gone_and_can_begin_anew(saver: StatecoreSaver, path: Path) -> None:
    first = put(saver, new(), {"secret": "sesame"}, 1)
    put(saver, first, {"secret": "sesame!"}, 2)
    put(saver, first, {"secret": "sesame?"}, 2)  # on a fork
    saver.delete_thread("t")

    assert saver.get_tuple(new()) is None
    assert saver.get_tuple(first) is None
    assert list(saver.list(None)) == []
    put(saver, new(), {"secret": "new"}, 1)
    assert latest(saver).checkpoint["channel_values"] == {"secret": "new"}
    assert len(list(saver.list(new()))) == 1


# Real graphs


def test_a_graph_runs_is_rewound_and_forked(saver: StatecoreSaver) -> None:
    graph = talk(saver)
    done = graph.invoke({"said": [], "rounds": 0}, CONFIG)
    assert len(done["said"]) == 2 * ROUNDS

    history = list(graph.get_state_history(CONFIG))
    assert len(history) == 2 * ROUNDS + 3
    past = next(each for each in history if each.values.get("rounds") == 2)
    again = graph.invoke(None, past.config)
    assert again == done
    assert len(list(graph.get_state_history(CONFIG))) > len(history)
    changed = graph.update_state(past.config, {"rounds": ROUNDS + 1}, as_node="begin")
    assert len(graph.invoke(None, changed)["said"]) < len(done["said"])


def test_a_graph_runs_in_tasks(path: Path) -> None:
    async def story() -> None:
        async with StatecoreSaver.from_conn_string(str(path), key=KEY) as saver:
            graph = talk(saver)
            configs: Any = [{"configurable": {"thread_id": f"{n}"}} for n in range(8)]
            start = {"said": [], "rounds": 0}
            done = await asyncio.gather(*(graph.ainvoke(start, config) for config in configs))
            assert [len(each["said"]) for each in done] == [2 * ROUNDS] * 8
            found = [each async for each in saver.alist(configs[3])]
            assert len(found) == 2 * ROUNDS + 3

    asyncio.run(story())


def test_a_graph_waits_for_an_answer(path: Path) -> None:
    from langgraph.graph import START, StateGraph

    def ask(state: Talk) -> dict[str, Any]:
        return {"said": [interrupt("well?")]}

    def build(saver: StatecoreSaver) -> Any:
        graph = StateGraph(Talk)
        graph.add_node("ask", ask)
        graph.add_edge(START, "ask")
        return graph.compile(checkpointer=saver)

    with StatecoreSaver.from_conn_string(str(path), key=KEY) as saver:
        build(saver).invoke({"said": [], "rounds": 0}, CONFIG)
    with StatecoreSaver.from_conn_string(str(path), key=KEY) as saver:
        graph = build(saver)
        assert graph.get_state(CONFIG).interrupts[0].value == "well?"
        assert graph.invoke(Command(resume={"yes": 1}), CONFIG)["said"] == [{"yes": 1}]


@pytest.mark.parametrize("at", range(KILLS))
def test_killed_at_any_write_a_graph_resumes_from_all_of_a_step_or_none(
    path: Path, at: int
) -> None:
    steps = 1 + at * 5
    was_killed = run_until_killed(path, steps)
    with StatecoreSaver.from_conn_string(str(path), key=KEY) as saver:
        graph = talk(saver)
        for state in graph.get_state_history(CONFIG):
            said, rounds = state.values.get("said", []), state.values.get("rounds", 0)
            assert len(said) in (2 * rounds, 2 * (rounds - 1), 0)
            assert len(said) % 2 == 0
        begun = saver.get_tuple(CONFIG) is not None
        done = graph.invoke(None if begun else {"said": [], "rounds": 0}, CONFIG)
    expected = [{"by": name, "in": n + 1} for n in range(ROUNDS) for name in ("ann", "bob")]
    assert done["said"] == expected
    assert was_killed or at > 0


# Several at once


def test_a_paused_list_blocks_nobody(saver: StatecoreSaver) -> None:
    config = new()
    for step in range(1, 40):
        config = put(saver, config, {"a": step}, step)
    paused = saver.list(new())
    next(paused)
    for step in range(40, 60):
        config = put(saver, config, {"a": step}, step)
    with StatecoreSaver.from_conn_string(":memory:") as another:
        put(another, new(), {"a": 1}, 1)
    assert len(list(paused)) == 38


def test_sixty_four_threads_write_at_once(saver: StatecoreSaver) -> None:
    graph, gate = talk(saver), threading.Barrier(64)

    def run(number: int) -> int:
        gate.wait()
        config: Any = {"configurable": {"thread_id": f"thread-{number}"}}
        return len(graph.invoke({"said": [], "rounds": 0}, config)["said"])

    with ThreadPoolExecutor(64) as pool:
        assert list(pool.map(run, range(64))) == [2 * ROUNDS] * 64
    assert len({found.config["configurable"]["thread_id"] for found in saver.list(None)}) == 64


# Attacks


def test_a_row_that_was_moved_is_found_out(path: Path) -> None:
    with StatecoreSaver.from_conn_string(str(path), key=KEY) as saver:
        config = new()
        for step in range(1, 6):
            config = put(saver, config, {"a": step}, step)
    database = apsw.Connection(str(path))
    (three,), (four,) = database.execute(
        "SELECT state FROM events WHERE position IN (4, 5) ORDER BY position"
    )
    for position, stored in ((4, four), (5, three)):
        database.execute("UPDATE events SET state = ? WHERE position = ?", (stored, position))
    database.close()

    with StatecoreSaver.from_conn_string(str(path), key=KEY) as saver:
        with pytest.raises(statecore.DamagedRecord, match="the seal does not fit"):
            saver.get_tuple(new())
        with pytest.raises(statecore.DamagedRecord):
            list(saver.list(new()))


def test_nothing_readable_is_in_the_files(tmp_path: Path) -> None:
    path = tmp_path / "agents.db"
    with StatecoreSaver.from_conn_string(str(path), key=KEY) as saver:
        config = put(saver, new("very-secret-thread", "hidden-namespace"), {"private": "s"}, 1)
        saver.put_writes(config, [("private", "whispered")], "covert-task")
        put(saver, config, {"private": "shouted"}, 2, note="classified")
        files = b"".join(file.read_bytes() for file in tmp_path.glob("agents.db*"))
    files += b"".join(file.read_bytes() for file in tmp_path.glob("agents.db*"))
    words = "very-secret-thread hidden-namespace private whispered covert-task shouted classified"
    for word in words.split():
        assert word.encode() not in files
        assert word.encode("utf-16-le") not in files


def test_the_wrong_key_is_an_error_and_never_an_empty_thread(path: Path) -> None:
    with StatecoreSaver.from_conn_string(str(path), key=KEY) as saver:
        put(saver, new(), {"a": 1}, 1)
    with (
        pytest.raises(statecore.WrongKey),
        StatecoreSaver.from_conn_string(str(path), key=bytes(32)),
    ):
        pass


def test_objects_come_back_only_if_they_are_allowed(saver: StatecoreSaver) -> None:
    messages = pytest.importorskip("langchain_core.messages", reason="needs langchain-core")
    said = [messages.HumanMessage("hello", id="1"), messages.AIMessage("hi", id="2")]
    put(saver, new(), {"messages": said}, 1)

    assert latest(saver).checkpoint["channel_values"]["messages"] == said
