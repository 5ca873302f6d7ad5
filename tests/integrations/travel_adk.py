"""An agent of Google's ADK whose model follows a script; as a process, one that dies."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.events import Event
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions import BaseSessionService
from google.adk.tools.tool_context import ToolContext
from google.genai import types

import statecore
from statecore.integrations.google_adk import StatecoreSessionService
from tests.conftest import KEY

WHOSE = {"app_name": "travel", "user_id": "alice"}


def find_flights(to: str, tool_context: ToolContext) -> str:
    """Return the flights there are."""
    tool_context.state["last"] = to
    tool_context.state["user:asked"] = [*tool_context.state.get("user:asked", []), to]
    return f"3 flights to {to}"


class Script(BaseLlm):
    """Look for flights to where the user wants to go, then say how many there are."""

    model: str = "script"
    dies: bool = False

    async def generate_content_async(
        self, llm_request: Any, stream: bool = False
    ) -> AsyncIterator[LlmResponse]:
        last = llm_request.contents[-1].parts[-1]
        if last.function_response and self.dies:
            os._exit(9)
        if last.function_response:
            part = types.Part(text=f"There are {last.function_response.response['result']}.")
        else:
            part = types.Part.from_function_call(name="find_flights", args={"to": last.text})
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


def runner(sessions: BaseSessionService, *, dies: bool = False) -> Runner:
    agent = LlmAgent(name="travel", model=Script(dies=dies), tools=[find_flights])
    return Runner(app_name="travel", agent=agent, session_service=sessions)


async def ask(runner: Runner, session_id: str, text: str) -> list[Event]:
    message = types.Content(role="user", parts=[types.Part(text=text)])
    run = runner.run_async(user_id="alice", session_id=session_id, new_message=message)
    return [event async for event in run]


def texts(events: list[Event]) -> list[str]:
    """What was said, tools apart."""
    parts = [part for event in events if event.content for part in event.content.parts or []]
    return [part.text for part in parts if part.text]


async def die_half_way(path: str) -> None:
    async with StatecoreSessionService(statecore.open(path, key=KEY)) as sessions:
        await sessions.create_session(**WHOSE, session_id="s1")
        await ask(runner(sessions), "s1", "Rome")
        await ask(runner(sessions, dies=True), "s1", "Oslo")


if __name__ == "__main__":
    asyncio.run(die_half_way(sys.argv[1]))
