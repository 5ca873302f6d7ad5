"""Graphs that run without any model, and processes that die while they do."""

from __future__ import annotations

import multiprocessing
import operator
import signal
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph

from statecore.integrations.langgraph import StatecoreSaver
from tests.conftest import KEY

ROUNDS = 3

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])


class Talk(TypedDict):
    """Who said what, and how often."""

    said: Annotated[list[dict[str, Any]], operator.add]
    rounds: int


def speak(name: str) -> Any:
    """Return a node that says something in each round."""

    def node(state: Talk) -> dict[str, Any]:
        return {"said": [{"by": name, "in": state["rounds"]}]}

    return node


def begin(state: Talk) -> dict[str, Any]:
    """Begin a round."""
    return {"rounds": state["rounds"] + 1}


def is_over(state: Talk) -> str | list[str]:
    """Tell who speaks next, if anybody."""
    return END if state["rounds"] > ROUNDS else ["ann", "bob"]


def talk(saver: StatecoreSaver) -> Any:
    """Return a graph in which two nodes speak at once, round after round."""
    graph = StateGraph(Talk)
    graph.add_node("begin", begin)
    for name in ("ann", "bob"):
        graph.add_node(name, speak(name))
        graph.add_edge(name, "begin")
    graph.add_edge(START, "begin")
    graph.add_conditional_edges("begin", is_over, ["ann", "bob", END])
    return graph.compile(checkpointer=saver)


def run_until_killed(path: Path, steps: int) -> bool:
    """Run the graph in a process that is killed at a file-changing step; tell whether it was."""
    process = _processes.Process(target=_run, args=(path, steps))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def _run(path: Path, steps: int) -> None:
    from tests.mortal import MortalDisk

    disk = MortalDisk(0)
    with StatecoreSaver.from_conn_string(str(path), key=KEY, linger_seconds=0) as saver:
        disk._steps_left = steps
        talk(saver).invoke({"said": [], "rounds": 0}, CONFIG, durability="sync")
        disk._steps_left = 0


CONFIG: Any = {"configurable": {"thread_id": "talk"}}
