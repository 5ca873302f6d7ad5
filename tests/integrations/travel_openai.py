"""An agent of the OpenAI Agents SDK whose model follows a script; as a process, one that dies."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool, set_tracing_disabled
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from statecore.integrations.openai_agents import StatecoreSession
from tests.conftest import KEY

set_tracing_disabled(True)


@function_tool
def find_flights(to: str) -> str:
    """Return the flights there are."""
    return f"3 flights to {to}"


class Script(Model):
    """Look for flights to where the user wants to go, then say how many there are."""

    def __init__(self, *, dies: bool = False) -> None:
        self.dies = dies
        self.inputs: list[list[Any]] = []

    async def get_response(self, *_: Any, **given: Any) -> Any:
        items = given["input"]
        self.inputs.append(items)
        asked = max(at for at, item in enumerate(items) if item.get("role") == "user")
        results = [item["output"] for item in items[asked:] if "output" in item]
        if results and self.dies:
            os._exit(9)
        output = say(f"There are {results[-1]}.") if results else call(items[asked]["content"])
        return ModelResponse(output=[output], usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        raise NotImplementedError


def call(to: str) -> ResponseFunctionToolCall:
    return ResponseFunctionToolCall(
        type="function_call", call_id=f"to-{to}", name="find_flights", arguments=f'{{"to": "{to}"}}'
    )


def say(text: str) -> ResponseOutputMessage:
    content = [ResponseOutputText(type="output_text", text=text, annotations=[])]
    return ResponseOutputMessage(
        id="1", type="message", role="assistant", status="completed", content=content
    )


def agent(*, dies: bool = False) -> Agent[None]:
    return Agent(name="travel", model=Script(dies=dies), tools=[find_flights])


async def die_half_way(path: str) -> None:
    import statecore

    async with StatecoreSession("user-1", statecore.open(path, key=KEY)) as session:
        await Runner.run(agent(), "Rome", session=session)
        await Runner.run(agent(dies=True), "Oslo", session=session)


if __name__ == "__main__":
    asyncio.run(die_half_way(sys.argv[1]))
