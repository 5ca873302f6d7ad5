"""The conversation store of Pydantic AI: its contract, what a store adds, and an agent's story."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import statecore
from statecore.errors import DamagedRecord, NotFound, StoreClosed, VersionNotFound, WrongKey
from tests.conftest import KEY, environment
from tests.test_damage import tamper

pytest.importorskip(
    "pydantic_ai.conversation_store", reason="needs statecore[pydantic-ai], from 2.66 on"
)

from pydantic_ai import Agent, BinaryContent, DeferredToolRequests
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
    InMemoryConversationStore,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RunUsage

from statecore.integrations.pydantic_ai import StatecoreConversationStore
from tests.integrations import travel_pydantic_ai

Work = Callable[[Any], Awaitable[None]]


def with_store(work: Work) -> None:
    async def run() -> None:
        async with StatecoreConversationStore("memory:") as conversations:
            await work(conversations)

    asyncio.run(run())


@pytest.fixture(params=["its own", "statecore"])
def on_each(request: pytest.FixtureRequest) -> Callable[[Work], None]:
    """Run the same over the store in memory that Pydantic AI brings, and over ours."""

    async def over_its_own(work: Work) -> None:
        await work(InMemoryConversationStore())

    if request.param == "statecore":
        return with_store
    return lambda work: asyncio.run(over_its_own(work))


def said(text: str) -> ModelMessage:
    return ModelRequest(parts=[UserPromptPart(content=text)])


def answered(text: str) -> ModelMessage:
    return ModelResponse(parts=[TextPart(content=text)])


def texts(conversation: Conversation | None) -> list[str]:
    assert conversation is not None
    parts = [part for message in conversation.messages for part in message.parts]
    return [str(part.content) for part in parts if not isinstance(part, ToolCallPart)]


async def talk(
    store: ConversationStore, *turns: str, id_: str = "c", scope: str | None = None
) -> Conversation:
    """Save a turn for each text, of two messages."""
    conversation = await store.load(id_) or Conversation(conversation_id=id_)
    for text in turns:
        conversation.messages += [said(text), answered(text.upper())]
        await store.save(conversation, scope=scope)
    return conversation


class TestContract:
    def test_what_was_saved_is_loaded(self, on_each: Callable[[Work], None]) -> None:
        messages: list[ModelMessage] = [
            ModelRequest(
                parts=[
                    UserPromptPart(content=["Grüße 🚀", BinaryContent(b"\0\xff", media_type="a/b")])
                ],
                instructions="Be kind.",
            ),
            ModelResponse(
                parts=[
                    ThinkingPart(content="hm", signature="s"),
                    ToolCallPart("f", {"a": [1, 2.5, None]}, tool_call_id="1"),
                ],
                model_name="m",
                provider_details={"x": {"y": True}},
            ),
            ModelRequest(parts=[ToolReturnPart("f", {"b": 1}, tool_call_id="1")]),
            answered("done"),
        ]
        requests = DeferredToolRequests(
            approvals=[ToolCallPart("g", {"c": 1}, tool_call_id="2")], metadata={"2": {"why": "d"}}
        )
        saved = Conversation(
            conversation_id="c/%2F",
            messages=messages,
            usage=RunUsage(requests=2, input_tokens=3, tool_calls=1, details={"z": 4}),
            deferred_tool_requests=requests,
        )

        async def work(store: ConversationStore) -> None:
            assert await store.load("c/%2F") is None
            entries = await store.save(saved, scope="alice")

            assert await store.load("c/%2F") == saved
            assert await store.load_entries("c/%2F") == entries
            assert await store.read_entry(entries[2].id) == entries[2]
            (record,) = await store.list_conversations()
            assert (record.conversation_id, record.scope) == ("c/%2F", "alice")
            assert record.usage == saved.usage

        on_each(work)

    def test_as_many_of_the_last_messages_as_asked_for(
        self, on_each: Callable[[Work], None]
    ) -> None:
        async def work(store: ConversationStore) -> None:
            await talk(store, "a", "b")

            window = await store.load("c", limit=1)
            assert texts(window) == ["B"]
            assert texts(await store.load("c", limit=9)) == ["a", "A", "b", "B"]
            assert texts(await store.load("c", limit=0)) == []
            assert window is not None
            window.messages.append(said("c"))
            await store.save(window)
            assert texts(await store.load("c")) == ["a", "A", "b", "B", "c"]

        on_each(work)

    def test_they_are_listed_by_scope_and_that_saved_last_first(
        self, on_each: Callable[[Work], None]
    ) -> None:
        async def work(store: ConversationStore) -> None:
            for id_, scope in [("1", "alice"), ("2", "bob"), ("3", "alice"), ("1", "alice")]:
                await talk(store, "x", id_=id_, scope=scope)

            async def listed(**which: Any) -> list[str]:
                return [r.conversation_id for r in await store.list_conversations(**which)]

            assert await listed() == ["1", "3", "2"]
            assert await listed(scope="alice") == ["1", "3"]
            assert await listed(limit=1) == ["1"]
            assert await listed(scope="carol") == []
            assert await store.load("2", scope="alice") is None

        on_each(work)

    def test_who_saves_what_others_went_on_from_is_told(
        self, on_each: Callable[[Work], None]
    ) -> None:
        async def work(store: ConversationStore) -> None:
            await talk(store, "a")
            one, other = await store.load("c"), await store.load("c")
            assert one is not None
            assert other is not None
            one.messages.append(said("one"))
            other.messages.append(said("other"))
            await store.save(one)

            with pytest.raises(ConversationConflict):
                await store.save(other)
            with pytest.raises(ConversationConflict):
                await store.save(Conversation(conversation_id="c"))
            with pytest.raises(ConversationConflict):
                await store.branch("c", at=0, expected_revision=other.revision)
            with pytest.raises(ConversationConflict):
                await store.delete_record("c", expected_revision=str(other.revision))
            assert texts(await store.load("c")) == ["a", "A", "one"]

        on_each(work)

    def test_of_many_who_save_at_once_one_wins(self, on_each: Callable[[Work], None]) -> None:
        async def work(store: ConversationStore) -> None:
            await talk(store, "a")
            loaded = [await store.load("c") for _ in range(9)]

            async def go_on(number: int, conversation: Any) -> None:
                conversation.messages.append(said(str(number)))
                await store.save(conversation)

            outcomes = await asyncio.gather(
                *(go_on(number, each) for number, each in enumerate(loaded)), return_exceptions=True
            )

            assert outcomes.count(None) == 1
            assert sum(isinstance(each, ConversationConflict) for each in outcomes) == 8
            assert texts(await store.load("c")) == ["a", "A", str(outcomes.index(None))]

        on_each(work)

    def test_a_history_that_was_rewritten_leaves_the_old_one_as_a_branch(
        self, on_each: Callable[[Work], None]
    ) -> None:
        async def work(store: ConversationStore) -> None:
            conversation = await talk(store, "a", "b")
            conversation.messages[2:] = [said("c")]
            await store.save(conversation)
            assert texts(await store.load("c")) == ["a", "A", "c"]
            (record,) = await store.list_conversations()
            (left,) = record.branches

            back = await store.branch("c", from_entry=left, expected_revision=record.revision)

            assert texts(back) == ["a", "A", "b", "B"]
            assert texts(await store.load("c")) == ["a", "A", "b", "B"]
            cut = await store.branch("c", at=1, expected_revision=back.revision)
            cut.messages.append(answered("again"))
            await store.save(cut)
            assert texts(await store.load("c")) == ["a", "again"]

        on_each(work)

    def test_forks_of_forks_share_what_they_began_with(
        self, on_each: Callable[[Work], None]
    ) -> None:
        async def work(store: ConversationStore) -> None:
            await talk(store, "a", "b")
            await store.fork("c", at=3, new_conversation_id="f")
            await talk(store, "x", id_="f")
            await store.fork("f", at=2, new_conversation_id="ff")
            await talk(store, "y", id_="ff")
            await store.fork("f", new_conversation_id="fff")
            with pytest.raises(ConversationConflict):
                await store.fork("c", new_conversation_id="f")

            for deleted in ("c", "f"):
                await store.delete(deleted)
                await store.delete(deleted)

            assert await store.load("c") is None
            assert texts(await store.load("ff")) == ["a", "A", "y", "Y"]
            assert texts(await store.load("fff")) == ["a", "A", "b", "x", "X"]
            fork = await store.load("ff")
            assert fork is not None
            cut = await store.branch("ff", at=1, expected_revision=fork.revision)
            cut.messages.append(answered("z"))
            await store.save(cut)
            assert texts(await store.load("ff")) == ["a", "z"]

        on_each(work)

    def test_a_deleted_id_begins_anew(self, on_each: Callable[[Work], None]) -> None:
        async def work(store: ConversationStore) -> None:
            old = await talk(store, "a")
            await store.delete("c")
            with pytest.raises(ConversationConflict):
                await store.save(old)

            await talk(store, "b")

            assert texts(await store.load("c")) == ["b", "B"]
            with pytest.raises(ConversationConflict):
                await store.save(old)

        on_each(work)

    def test_what_builds_on_nothing_is_refused(self, on_each: Callable[[Work], None]) -> None:
        async def work(store: ConversationStore) -> None:
            record = ConversationRecord(conversation_id="c", head_id="nowhere")
            with pytest.raises(ConversationConflict):
                await store.write_record(record, expected_revision=None)
            with pytest.raises(LookupError):
                await store.read_entry("nowhere")
            with pytest.raises(UserError):
                await store.fork("c")
            assert await store.read_record("c") is None

        on_each(work)


def test_a_history_is_found_by_who_has_only_the_id_of_its_end(path: Path) -> None:
    async def write() -> list[ConversationEntry]:
        async with StatecoreConversationStore(statecore.open(path, key=KEY)) as store:
            await talk(store, "z", id_="0")
            await talk(store, "a")
            return await store.load_entries("c") or []

    async def read(entries: list[ConversationEntry]) -> None:
        async with StatecoreConversationStore(statecore.open(path, key=KEY)) as store:
            assert await store.read_history(entries[-1].id) == entries
            assert await store.read_entry(entries[0].id) == entries[0]
            assert await store.read_history(None) == []
            record = ConversationRecord(conversation_id="f", head_id=entries[0].id)
            await store.write_record(record, expected_revision=None)
            assert texts(await store.load("f")) == ["a"]
            with pytest.raises(NotFound):
                await store.read_entry("nowhere")

    asyncio.run(read(asyncio.run(write())))


def test_what_is_saved_at_once_is_one_event_that_holds_no_more() -> None:
    async def work(store: StatecoreConversationStore) -> None:
        await talk(store, "a", "b")

        events = [event async for event in store.state("c").history()]

        assert [event.version for event in events] == [1, 2]
        keys = sorted(events[1].change.operations)
        assert [key.partition(":")[0] for key in keys] == ["entry", "entry", "record"]

    with_store(work)


def test_a_conversation_can_be_read_as_it_was_also_a_deleted_one() -> None:
    async def work(store: StatecoreConversationStore) -> None:
        await talk(store, "a", "b")
        await store.delete("c")

        assert texts(await store.load_at("c", 1)) == ["a", "A"]
        assert texts(await store.load_at("c", 2)) == ["a", "A", "b", "B"]
        assert await store.load_at("c", 0) is None
        assert await store.load_at("c", 3) is None
        with pytest.raises(VersionNotFound):
            await store.load_at("c", 4)

    with_store(work)


def test_going_back_is_an_event_and_takes_nothing_from_forks() -> None:
    async def work(store: StatecoreConversationStore) -> None:
        await talk(store, "a", "b")
        await store.fork("c", new_conversation_id="f")
        await store.fork("f", new_conversation_id="ff")

        await store.state("c").restore(1)
        await talk(store, "x")

        assert texts(await store.load("c")) == ["a", "A", "x", "X"]
        assert texts(await store.load("ff")) == ["a", "A", "b", "B"]
        await store.state("c").undo()
        assert texts(await store.load("c")) == ["a", "A"]

    with_store(work)


class TestWhatCanNotBeReadIsNotMissing:
    def test_with_another_key(self, path: Path) -> None:
        async def work(key: bytes) -> None:
            async with StatecoreConversationStore(statecore.open(path, key=key)) as store:
                await talk(store, "a")

        asyncio.run(work(KEY))
        with pytest.raises(WrongKey):
            asyncio.run(work(bytes(32)))

    def test_where_it_was_changed_by_other_hands(self, path: Path) -> None:
        async def write() -> None:
            async with StatecoreConversationStore(statecore.open(path, key=KEY)) as store:
                await talk(store, "a", "b", "c")

        async def read() -> None:
            async with StatecoreConversationStore(statecore.open(path, key=KEY)) as store:
                with pytest.raises(DamagedRecord):
                    await store.load("c")
                with pytest.raises(DamagedRecord):
                    await store.list_conversations()

        asyncio.run(write())
        cut = "UPDATE events SET state = substr(state, 1, length(state) - 1) || x'00'"
        tamper(path, f"{cut} WHERE position = 2")
        asyncio.run(read())

    def test_where_a_message_is_none(self) -> None:
        async def work(store: StatecoreConversationStore) -> None:
            await talk(store, "a")
            (entry, *_) = await store.load_entries("c") or []
            await store.state("c").set_state(f"entry:{entry.id}", [None, {"kind": "payload"}])

            with pytest.raises(DamagedRecord, match="entry") as caught:
                await store.load("c")
            assert "payload" not in str(caught.value)

        with_store(work)

    def test_before_the_store_is_open(self) -> None:
        with pytest.raises(StoreClosed):
            asyncio.run(StatecoreConversationStore("memory:").load("c"))


def test_a_model_that_answers_anything_keeps_its_conversation() -> None:
    async def work(store: StatecoreConversationStore) -> None:
        agent = Agent(TestModel(custom_output_text="fine"))
        for _ in range(2):
            before = await store.load("c") or Conversation(conversation_id="c")
            await store.save(await agent.run("How are you?", conversation=before))

        assert texts(await store.load("c")) == ["How are you?", "fine"] * 2
        (record,) = await store.list_conversations()
        assert record.usage.requests == 2

    with_store(work)


def test_a_run_dies_half_way_resumes_is_rewound_and_forked(path: Path) -> None:
    command = [sys.executable, "-m", "tests.integrations.travel_pydantic_ai", str(path)]
    assert subprocess.run(command, env=environment(), check=False).returncode == 9

    async def go_on() -> None:
        agent = travel_pydantic_ai.agent()
        async with StatecoreConversationStore(statecore.open(path, key=KEY)) as store:
            left = await store.load("user-1")
            assert left is not None
            assert texts(left)[-1] == "Oslo"
            assert isinstance(left.messages[-1].parts[0], ToolCallPart)

            resumed = await travel_pydantic_ai.ask(store, agent, None)
            assert resumed == "There are 3 flights to Oslo."
            assert texts(await store.load("user-1")) == [
                *texts(left),
                "3 flights to Oslo",
                resumed,
            ]
            whole = await store.state("user-1").version()

            fork = await store.fork("user-1", at=4, new_conversation_id="other")
            await store.save(await agent.run("Riga", conversation=fork))
            loaded = await store.load("user-1")
            assert loaded is not None
            back = await store.branch("user-1", at=0, expected_revision=loaded.revision)
            await store.save(await agent.run("Bonn", conversation=back))

            assert texts(await store.load("other"))[0] == "Rome"
            assert texts(await store.load("other"))[-1] == "There are 3 flights to Riga."
            assert "Oslo" not in texts(await store.load("other"))
            assert texts(await store.load("user-1"))[0] == "Bonn"
            assert texts(await store.load_at("user-1", whole)) == texts(loaded)

    asyncio.run(go_on())
