"""An agent of Pydantic AI whose model follows a script; as a process, one that dies."""

from __future__ import annotations

import asyncio
import os
import sys

from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

import statecore
from statecore.integrations.pydantic_ai import StatecoreConversationStore
from tests.conftest import KEY


def find_flights(to: str) -> str:
    """Return the flights there are."""
    return f"3 flights to {to}"


def agent(*, dies: bool = False) -> Agent[None, str]:
    def follow(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        last = messages[-1].parts[-1]
        if isinstance(last, ToolReturnPart):
            if dies:
                os._exit(9)
            return ModelResponse(parts=[TextPart(f"There are {last.content}.")])
        return ModelResponse(parts=[ToolCallPart("find_flights", {"to": last.content})])

    return Agent(FunctionModel(follow), tools=[find_flights])


async def ask(
    conversations: StatecoreConversationStore, agent: Agent[None, str], text: str | None
) -> str:
    """Run an agent, and save what was said after every step of it, not only at the end."""
    conversation = await conversations.load("user-1") or Conversation(conversation_id="user-1")
    async with agent.iter(text, conversation=conversation) as run:
        async for _ in run:
            conversation.messages = run.all_messages()
            await conversations.save(conversation)
    assert run.result is not None
    return run.result.output


async def die_half_way(path: str) -> None:
    async with StatecoreConversationStore(statecore.open(path, key=KEY)) as conversations:
        await ask(conversations, agent(), "Rome")
        await ask(conversations, agent(dies=True), "Oslo")


if __name__ == "__main__":
    asyncio.run(die_half_way(sys.argv[1]))
