"""An old database of LangGraph's SqliteSaver, brought in: all of it, once, and as it was."""

from __future__ import annotations

import json
import operator
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

import statecore
from tests.conftest import environment
from tests.test_cli import fails, run

pytest.importorskip("langgraph.graph", reason="langgraph is not installed")
pytest.importorskip("langgraph.checkpoint.sqlite", reason="its SqliteSaver is not installed")

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt

from statecore.integrations.langgraph import StatecoreSaver

KEY = statecore.new_key()
AES_KEY = "0123456789abcdef"


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    turns: Annotated[int, operator.add]


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECORE_KEY", KEY)
    monkeypatch.delenv("LANGGRAPH_AES_KEY", raising=False)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A database with forks, subgraphs, an interrupted run and one that failed."""
    path = tmp_path / "old.sqlite"
    with SqliteSaver.from_conn_string(str(path)) as saver:
        work(saver)
    return path


def work(saver: BaseCheckpointSaver[Any]) -> None:
    graph = agent().compile(checkpointer=saver)
    for thread in ("ada", "bob"):
        for turn in range(3):
            graph.invoke(said(f"{thread} {turn}"), config(thread))
    past = list(graph.get_state_history(config("ada")))
    for snapshot in past[2:5]:
        graph.update_state(snapshot.config, said("forked"), as_node="count")
    graph.invoke(None, graph.update_state(past[4].config, said("again"), as_node=START))
    graph.invoke(said("may I?"), config("ask"))
    with pytest.raises(ZeroDivisionError):
        graph.invoke(said("fail"), config("broken"))


def agent() -> Any:
    """An agent whose answer is a subgraph, that asks back when asked."""
    inner = StateGraph(State)
    inner.add_node("think", think)
    inner.add_node("speak", lambda state: {"messages": [AIMessage("so be it")]})
    inner.add_edge(START, "think")
    inner.add_edge("think", "speak")
    outer = StateGraph(State)
    outer.add_node("answer", inner.compile(checkpointer=True))
    outer.add_node("count", lambda state: {"turns": 1})
    outer.add_edge(START, "answer")
    outer.add_edge(START, "count")
    outer.add_edge("answer", END)
    return outer


def think(state: State) -> Any:
    said = state["messages"][-1].content
    if said == "may I?":
        interrupt({"ask": said})
    if said == "fail":
        raise ZeroDivisionError
    return {"messages": [AIMessage(f"thinking of {said}")]}


def said(text: str) -> Any:
    return {"messages": [HumanMessage(text)], "turns": 0}


def config(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}}


def tuples(saver: BaseCheckpointSaver[Any]) -> dict[Any, Any]:
    """Everything a saver shows."""
    shown = {}
    for each in saver.list(None):
        named = each.config["configurable"]
        place = named["thread_id"], named["checkpoint_ns"], named["checkpoint_id"]
        parent = each.parent_config and each.parent_config["configurable"]
        shown[place] = (each.checkpoint, each.metadata, parent, each.pending_writes)
    return shown


@contextmanager
def both(old: Path, store: Path) -> Iterator[tuple[SqliteSaver, StatecoreSaver]]:
    with (
        SqliteSaver.from_conn_string(str(old)) as theirs,
        StatecoreSaver.from_conn_string(str(store)) as ours,
    ):
        yield theirs, ours


def assert_came_through(old: Path, store: Path) -> None:
    with both(old, store) as savers:
        theirs, ours = map(tuples, savers)
    assert len(theirs) > 10
    assert theirs == ours


def test_everything_comes_through_as_it_was(old: Path, tmp_path: Path) -> None:
    store, before = tmp_path / "new.db", old.read_bytes()

    answer = run("import", "langgraph", old, store, "--json")

    told = answer.data
    assert answer.code == 0, answer.err
    assert told["checkpoints"] == told["added"] == told["equal"]
    assert (told["threads"], told["orphans"], told["different"]) == (4, 0, [])
    assert (told["bytes_old"], told["bytes_new"]) == (old.stat().st_size, store.stat().st_size)
    assert old.read_bytes() == before
    assert [path.name for path in tmp_path.glob("old*")] == ["old.sqlite"]
    assert_came_through(old, store)


def test_an_imported_graph_goes_on_from_where_it_was(old: Path, tmp_path: Path) -> None:
    run("import", "langgraph", old, tmp_path / "new.db")

    with both(old, tmp_path / "new.db") as savers:
        ended = []
        for saver in savers:
            graph = agent().compile(checkpointer=saver)
            ended.append(
                [
                    graph.get_state(config("ask"), subgraphs=True).tasks[0].interrupts,
                    [
                        each.content
                        for each in graph.invoke(said("more"), config("bob"))["messages"]
                    ],
                    graph.get_state(config("broken")).next,
                ]
            )

    assert ended[0] == ended[1]


def test_doing_it_again_adds_nothing_and_then_what_is_new(old: Path, tmp_path: Path) -> None:
    store = tmp_path / "new.db"
    run("import", "langgraph", old, store)
    before = events(store)

    again = run("import", "langgraph", old, store, "--json").data
    after = events(store)
    with SqliteSaver.from_conn_string(str(old)) as saver:
        agent().compile(checkpointer=saver).invoke(said("once more"), config("ada"))
    grown = run("import", "langgraph", old, store, "--json").data

    assert (again["added"], again["equal"]) == (0, again["checkpoints"])
    assert before == after > again["checkpoints"]
    assert grown["added"] == grown["checkpoints"] - again["checkpoints"] > 0
    assert_came_through(old, store)


def events(store: Path) -> int:
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM events").fetchone()[0])


def test_what_went_on_in_the_store_stays_when_the_import_is_repeated(
    old: Path, tmp_path: Path
) -> None:
    store = tmp_path / "new.db"
    run("import", "langgraph", old, store)
    with StatecoreSaver.from_conn_string(str(store)) as saver:
        graph = agent().compile(checkpointer=saver)
        graph.invoke(said("news"), config("ada"))
        last = graph.get_state(config("ada"))

    answer = run("import", "langgraph", old, store, "--json")

    assert (answer.code, answer.data["added"]) == (0, 0)
    with StatecoreSaver.from_conn_string(str(store)) as saver:
        assert agent().compile(checkpointer=saver).get_state(config("ada")) == last


def test_a_killed_import_goes_on(tmp_path: Path) -> None:
    old, store = tmp_path / "old.sqlite", tmp_path / "new.db"
    with SqliteSaver.from_conn_string(str(old)) as saver:
        conversation(saver, 400)
    process = subprocess.Popen(
        [sys.executable, "-m", "statecore.cli", "import", "langgraph", str(old), str(store)],
        env=environment(),
        stderr=subprocess.DEVNULL,
    )
    there = 0
    while there < 5:
        assert process.poll() is None, "it ended before it could be killed"
        there = recorded(store)
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    there = recorded(store)

    answer = run("import", "langgraph", old, store, "--json").data

    assert 0 < there < 400
    assert (answer["added"], answer["equal"]) == (400 - there, 400)
    assert_came_through(old, store)


def recorded(store: Path) -> int:
    """Count the checkpoints that are in a store that another process writes to."""
    try:
        with statecore.open(store, create=False) as there:
            return there.manager("1").version()
    except statecore.StatecoreError:
        return 0  # about to be made


def conversation(saver: BaseCheckpointSaver[Any], steps: int) -> None:
    messages: list[Any] = []
    at: Any = {"configurable": {"thread_id": "1", "checkpoint_ns": ""}}
    for step in range(steps):
        if step:
            saver.put_writes(at, [("messages", str(step))], f"task {step}")
        messages = [*messages, HumanMessage(f"step {step}", id=str(step))]
        made: Any = {**empty_checkpoint(), "id": f"{step:08}"}
        made["channel_values"] = {"messages": messages}
        made["channel_versions"] = {"messages": step + 1}
        at = saver.put(at, made, {"step": step}, {})


def test_a_list_that_grew_is_recorded_as_what_was_added(tmp_path: Path) -> None:
    old, store = tmp_path / "old.sqlite", tmp_path / "new.db"
    with SqliteSaver.from_conn_string(str(old)) as saver:
        conversation(saver, 60)

    run("import", "langgraph", old, store)

    with statecore.open(store) as there:
        grown = [str(event) for event in there.manager("1").history("messages")]
        assert len(grown) == 60
        assert all("messages + " in event for event in grown[1:])


def test_a_child_that_a_clock_put_before_its_parent_comes_after_it(tmp_path: Path) -> None:
    old, store = tmp_path / "old.sqlite", tmp_path / "new.db"
    at: Any = {"configurable": {"thread_id": "1", "checkpoint_ns": ""}}
    with SqliteSaver.from_conn_string(str(old)) as saver:
        for name in (*"5679", *"1234", *"abcde"):
            made: Any = {**empty_checkpoint(), "id": name}
            made["channel_values"] = {"seen": [name]}
            at = saver.put(at, made, {}, {})
            saver.put_writes(at, [("seen", name)], "task")

    answer = run("import", "langgraph", old, store)

    assert answer.code == 0, answer.err
    assert_came_through(old, store)
    with statecore.open(store) as there:
        assert there.manager("1").branches() == []


def test_a_database_from_before_task_paths_comes_through(old: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("ALTER TABLE writes DROP COLUMN task_path")

    answer = run("import", "langgraph", old, tmp_path / "new.db")

    assert answer.code == 0, answer.err
    assert_came_through(old, tmp_path / "new.db")


def test_checkpoints_as_json_come_through(old: Path, tmp_path: Path) -> None:
    message = {
        "lc": 2,
        "type": "constructor",
        "id": ["langchain_core", "messages", "human", "HumanMessage"],
        "kwargs": {"content": "hello", "type": "human", "id": "1"},
    }
    made = {**empty_checkpoint(), "id": "1", "channel_values": {"messages": [message], "n": [1]}}
    del made["updated_channels"]
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute(
            "INSERT INTO checkpoints VALUES ('early', '', '1', NULL, 'json', ?, '{}')",
            (json.dumps(made),),
        )

    answer = run("import", "langgraph", old, tmp_path / "new.db", "--json")

    assert (answer.code, answer.data["different"]) == (0, [])
    with StatecoreSaver.from_conn_string(str(tmp_path / "new.db")) as saver:
        found = saver.get_tuple(config("early"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {
        "messages": [HumanMessage("hello", id="1")],
        "n": [1],
    }


class TestEncrypted:
    @pytest.fixture
    def old(self, tmp_path: Path) -> Path:
        pytest.importorskip("Crypto", reason="pycryptodome is not installed")
        path = tmp_path / "old.sqlite"
        serde = EncryptedSerializer.from_pycryptodome_aes(key=AES_KEY.encode())
        with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
            work(SqliteSaver(connection, serde=serde))
        return path

    def test_it_comes_through_with_the_key(
        self, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LANGGRAPH_AES_KEY", AES_KEY)

        answer = run("import", "langgraph", old, tmp_path / "new.db", "--json")

        assert (answer.code, answer.data["added"]) == (0, answer.data["equal"])
        with both(old, tmp_path / "new.db") as (theirs, ours):
            theirs.serde = EncryptedSerializer.from_pycryptodome_aes()
            assert tuples(theirs) == tuples(ours)

    def test_without_the_key_or_with_another_it_is_refused(
        self, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = tmp_path / "new.db"

        assert "set LANGGRAPH_AES_KEY" in fails(4, "import", "langgraph", old, store)
        monkeypatch.setenv("LANGGRAPH_AES_KEY", "short")
        assert "16, 24, or 32 bytes" in fails(4, "import", "langgraph", old, store)
        assert not store.exists()
        monkeypatch.setenv("LANGGRAPH_AES_KEY", AES_KEY[::-1])
        answer = run("import", "langgraph", old, store)
        assert answer.code == 4
        assert "LANGGRAPH_AES_KEY does not open checkpoint ada" in answer.err


class TestRefused:
    def test_what_is_no_such_database(self, tmp_path: Path) -> None:
        text, other, store = tmp_path / "a.txt", tmp_path / "b.sqlite", tmp_path / "new.db"
        text.write_text("not a database, but long enough to look at it twice" * 100)
        with closing(sqlite3.connect(other)) as connection:
            connection.execute("CREATE TABLE checkpoints (thread_id, checkpoint)")

        assert "is not a SQLite database" in fails(5, "import", "langgraph", text, store)
        assert "has no table checkpoints as" in fails(5, "import", "langgraph", other, store)
        assert "there is no database" in fails(1, "import", "langgraph", tmp_path / "no", store)
        assert "not a file" in fails(5, "import", "langgraph", tmp_path, store)
        assert not store.exists()

    def test_a_store_that_is_the_database(self, old: Path) -> None:
        assert "the same file" in fails(2, "import", "langgraph", old, old)

    def test_a_checkpoint_that_does_not_parse(self, old: Path, tmp_path: Path) -> None:
        with closing(sqlite3.connect(old)) as connection, connection:
            connection.execute("UPDATE checkpoints SET checkpoint = substr(checkpoint, 1, 90)")

        answer = run("import", "langgraph", old, tmp_path / "new.db")

        assert answer.code == 5
        assert "checkpoint ada/" in answer.err
        assert "does not parse" in answer.err

    def test_a_database_cut_short(self, old: Path, tmp_path: Path) -> None:
        os.truncate(old, old.stat().st_size // 2)

        answer = run("import", "langgraph", old, tmp_path / "new.db")

        assert answer.code == 5
        assert "is damaged" in answer.err

    def test_what_was_pickled(self, old: Path, tmp_path: Path) -> None:
        with closing(sqlite3.connect(old)) as connection, connection:
            connection.execute("UPDATE checkpoints SET type = 'pickle'")

        answer = run("import", "langgraph", old, tmp_path / "new.db")

        assert answer.code == 2
        assert "serialized as pickle" in answer.err


def test_a_difference_is_told_and_fails(old: Path, tmp_path: Path) -> None:
    store = tmp_path / "new.db"
    run("import", "langgraph", old, store)
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("UPDATE checkpoints SET metadata = '{}' WHERE thread_id = 'broken'")

    answer = run("import", "langgraph", old, store, "--json")

    assert answer.code == 5
    assert answer.data["equal"] < answer.data["checkpoints"]
    assert all(name.startswith("broken/") for name in answer.data["different"])
    assert "did not come through as they were" in answer.err
