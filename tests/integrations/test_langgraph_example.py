"""The story of an agent of LangGraph: it is killed, goes on, is rewound and forked."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import statecore
from tests.conftest import KEY, environment

pytest.importorskip("langgraph.graph", reason="langgraph is not installed")

from statecore.integrations.langgraph import StatecoreSaver
from tests.integrations.travel_langgraph import TRIP, agent

SAID = ["To Rome!", "", "3 flights", "", "done", "Have a good time!"]


def said(state: Any) -> list[str]:
    return [message.content for message in state["messages"]]


def train_instead() -> Any:
    return {"messages": [("ai", "No: the train.")], "booked": "train"}


@pytest.fixture
def died(path: Path) -> Path:
    """The store of an agent that was killed while it booked."""
    command = [sys.executable, "-m", "tests.integrations.travel_langgraph", str(path)]
    process = subprocess.run(command, env=environment(), capture_output=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr
    return path


def test_a_killed_agent_goes_on_and_does_nothing_twice(died: Path) -> None:
    done: list[str] = []

    with StatecoreSaver.from_conn_string(str(died), key=KEY) as saver:
        graph = agent(saver, lambda name: done.append(name) or "done")
        before = graph.get_state(TRIP)
        after = graph.invoke(None, TRIP)

    assert (said(before.values), before.next) == (SAID[:4], ("act",))
    assert (said(after), after["booked"]) == (SAID, "flight")
    assert done == ["book"]


def test_it_is_rewound_and_forked_and_both_futures_stay(died: Path) -> None:
    with StatecoreSaver.from_conn_string(str(died), key=KEY) as saver:
        graph = agent(saver, lambda name: "done")
        graph.invoke(None, TRIP)
        history = list(graph.get_state_history(TRIP))
        past = next(each for each in history if len(each.values["messages"]) == 3)
        named: Any = {"configurable": {**past.config["configurable"], "branch": "by-train"}}

        graph.update_state(named, train_instead(), as_node="think")

        now = graph.get_state(TRIP)
        kept = graph.get_state(history[0].config)
    assert [len(each.values["messages"]) for each in history] == [6, 5, 4, 3, 2, 1, 0]
    assert (said(now.values), now.values["booked"]) == ([*SAID[:3], "No: the train."], "train")
    assert (said(kept.values), kept.values["booked"]) == (SAID, "flight")
    with statecore.open(died, key=KEY) as store:
        main = store.manager("trip")
        train = main.branch("by-train", create=False)
        assert [branch.name for branch in main.branches()] == ["by-train"]
        assert (main.get_state("booked"), train.get_state("booked")) == ("flight", "train")
        assert {"messages", "booked"} <= set(main.merge(train, dry_run=True).keys_both)
        added = [event.change.operations["messages"] for event in main.history("messages")]
        assert [str(each)[0] for each in added] == ["=", *"+++++"]


def test_a_fork_comes_home(died: Path) -> None:
    with StatecoreSaver.from_conn_string(str(died), key=KEY) as saver:
        graph = agent(saver, lambda name: "done")
        graph.invoke(None, TRIP)
        past = next(
            each for each in graph.get_state_history(TRIP) if len(each.values["messages"]) == 3
        )
        named: Any = {"configurable": {**past.config["configurable"], "branch": "by-train"}}
        graph.update_state(named, train_instead(), as_node="think")
    with statecore.open(died, key=KEY) as store:
        main = store.manager("trip")

        main.merge("by-train", strategies={"**": "theirs"}, reason="the train it is")

        assert main.get_state("booked") == "train"
    with StatecoreSaver.from_conn_string(str(died), key=KEY) as saver:
        graph = agent(saver, lambda name: "done")
        graph.update_state(TRIP, {"booked": "train, seat 7"}, as_node="act")
        assert graph.get_state(TRIP).values["booked"] == "train, seat 7"
    with statecore.open(died, key=KEY) as store:
        assert store.manager("trip").get_state("booked") == "train, seat 7"
