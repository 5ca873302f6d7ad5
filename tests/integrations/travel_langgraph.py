"""An agent of LangGraph whose model follows a script; as a process, one that dies."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from statecore.integrations.langgraph import StatecoreSaver
from tests.conftest import KEY

TRIP: Any = {"configurable": {"thread_id": "trip"}}


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    booked: str


def calls(tool: str, number: int) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": tool, "args": {"to": "Rome"}, "id": str(number)}])


SCRIPT = [calls("find", 1), calls("book", 2), AIMessage("Have a good time!")]


def think(state: State) -> Any:
    """Say what the script says next, by how often the model has spoken."""
    spoken = sum(isinstance(each, AIMessage) for each in state["messages"])
    model = GenericFakeChatModel(messages=iter([SCRIPT[spoken]]))
    return {"messages": [model.invoke(state["messages"])]}


def agent(saver: BaseCheckpointSaver[Any], tool: Callable[[str], str]) -> Any:
    """Return the agent; what a tool does is the caller's."""

    def act(state: State) -> Any:
        said: Any = state["messages"][-1]
        call = said.tool_calls[0]
        made = {"messages": [ToolMessage(tool(call["name"]), tool_call_id=call["id"])]}
        return {**made, "booked": "flight"} if call["name"] == "book" else made

    graph = StateGraph(State)
    graph.add_node("think", think)
    graph.add_node("act", act)
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", has_calls, {True: "act", False: END})
    graph.add_edge("act", "think")
    return graph.compile(checkpointer=saver)


def has_calls(state: State) -> bool:
    said: Any = state["messages"][-1]
    return bool(said.tool_calls)


def die_on_booking(name: str) -> str:
    if name == "book":
        os.kill(os.getpid(), signal.SIGKILL)
    return "3 flights"


def main(path: Path) -> None:
    with StatecoreSaver.from_conn_string(str(path), key=KEY) as saver:
        asked = {"messages": [("user", "To Rome!")]}
        agent(saver, die_on_booking).invoke(asked, TRIP, durability="sync")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
