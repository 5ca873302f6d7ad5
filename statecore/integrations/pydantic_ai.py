"""A conversation store of Pydantic AI in a store: with history and time travel.

    async with StatecoreConversationStore("agents.db") as conversations:
        conversation = await conversations.load("user-123") or Conversation(...)
        result = await agent.run("Hello", conversation=conversation)
        await conversations.save(result)

A conversation is an agent's state: each message is a key of it, and its record another. A fork
shares the messages it began with: it names the version of the conversation that has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import pydantic

try:
    from pydantic_ai.conversation import Conversation
    from pydantic_ai.conversation_store import (
        ConversationConflict,
        ConversationEntry,
        ConversationRecord,
        ConversationStore,
    )
    from pydantic_ai.messages import ModelMessagesTypeAdapter
except ImportError as error:
    raise ImportError("this needs Pydantic AI from 2.66 on: statecore[pydantic-ai]") from error

from statecore.agent_state import AgentState
from statecore.change import EMPTY, Change
from statecore.errors import Conflict, NotFound
from statecore.integrations.given import (
    Given,
    InStore,
    from_json,
    path_of,
    paths_under,
    settled,
)
from statecore.manager import StateManager
from statecore.moments import Point
from statecore.values import Value

_ROOT: Final = "pydantic-ai"
_HOMES_MAX: Final = 100_000

# The keys of a conversation's state.
_RECORD: Final = "record"
_ENTRY: Final = "entry:"  # and its id: [the id of the one before, the message]
_LINK: Final = "link:"  # and the id of another conversation: the version that has what is shared

_Place: TypeAlias = tuple[str, AgentState]
"""The id of a conversation, and a state of it."""

_records: pydantic.TypeAdapter[ConversationRecord] = pydantic.TypeAdapter(ConversationRecord)


class StatecoreConversationStore(InStore, ConversationStore):
    """Conversations, kept as Pydantic AI's ``ConversationStore`` asks for.

    What is saved at once, messages and record, is one event, durable when the call returns. Of two
    who save what they loaded at the same revision one wins, and the other gets
    ``ConversationConflict``. Deleting is an event, too; what forks share of the deleted stays
    theirs.

    What can't be read raises, rather than to look like no conversation: ``WrongKey`` on entering,
    ``DamagedRecord`` where something was changed by other hands.
    """

    def __init__(self, store: Given) -> None:
        """Make it in an open store, or in one that ``async with`` is to open."""
        super().__init__(store)
        self._homes: dict[str, str] = {}  # which conversation has an entry; only saves looking

    # What Pydantic AI asks for

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """Return the record of a conversation, or ``None`` where there is none."""
        kept = await self.state(conversation_id).get_state(_RECORD)
        if kept is None:
            return None
        record = _record(kept)
        if len(self._homes) > _HOMES_MAX:
            self._homes.clear()
        for entry_id in (record.head_id, *record.branches):
            if entry_id is not None:
                self._homes[entry_id] = conversation_id
        return record

    async def read_records(
        self, *, scope: str | None = None, limit: int | None = None
    ) -> Sequence[ConversationRecord]:
        """Return the records, or those of a scope; that which was saved last comes first."""
        found = [await self.read_record(id_) for id_ in await self._ids()]
        records = [each for each in found if each is not None and scope in (None, each.scope)]
        records.sort(key=lambda record: record.updated_at, reverse=True)
        return records[:limit]

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Write a record and new entries, as one event.

        Raises:
            ConversationConflict: what is stored has another revision, or what the history builds on
                is not there; nothing was written.
            UnsupportedValue, LimitExceeded: something can't be recorded; nothing was written.
        """
        id_ = record.conversation_id
        manager = self.state(id_)
        state = await manager.at()
        if _revision(state) != expected_revision:
            raise ConversationConflict(id_)
        change = EMPTY.put(_RECORD, _records.dump_python(record, mode="json"))
        for entry in new_entries:
            change = change.put(_ENTRY + entry.id, _dump(entry))
        known = {entry.id for entry in new_entries}
        for entry_id in {record.head_id, *(entry.parent_id for entry in new_entries)} - known:
            if entry_id is not None and await self._search((id_, state), entry_id) is None:
                other = await self._place_of(entry_id, record.forked_from)
                if other is None:
                    raise ConversationConflict(id_)
                change = change.put(_LINK + other[0], other[1].version)
        await self._commit(id_, change, state)

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Delete a conversation with its entries; the history stays in the store.

        Raises:
            ConversationConflict: what is stored has another revision.
        """
        state = await self.state(conversation_id).at()
        if _revision(state) != expected_revision:
            raise ConversationConflict(conversation_id)
        await self._commit(conversation_id, EMPTY.clear(), state)

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """Return an entry.

        Raises:
            NotFound: there is none.
        """
        return (await self.read_history(entry_id, limit=1))[0]

    async def read_history(
        self, head_id: str | None, *, limit: int | None = None
    ) -> list[ConversationEntry]:
        """Return the entries up to one, oldest first: all, or as many of the last as a limit says.

        Raises:
            NotFound: there is none.
        """
        place = None if head_id is None else await self._place_of(head_id)
        return await self._walk(place, head_id, limit)

    # What a store adds

    def state(self, conversation_id: str) -> StateManager:
        """Return the manager of what a conversation is kept in.

        It has the history, ``diff``, ``tag``, ``undo``, ``restore`` and ``watch``.
        """
        return self.store.manager(path_of(_ROOT, conversation_id))

    async def load_at(self, conversation_id: str, point: Point) -> Conversation | None:
        """Return a conversation as it was at a version, a time or a tag; a deleted one, too.

        To save it is refused as a conflict, if it was saved since; ``branch`` continues from an
        earlier message, and ``state(...).restore`` makes all of it what it was.

        Raises:
            VersionNotFound, TagNotFound: there is no such moment.
        """
        state = await self.state(conversation_id).at(point)
        if _RECORD not in state:
            return None
        record = _record(state[_RECORD])
        entries = await self._walk((conversation_id, state), record.head_id, None)
        return Conversation(
            messages=[entry.message for entry in entries],
            usage=record.usage,
            conversation_id=conversation_id,
            deferred_tool_requests=record.deferred_tool_requests,
            revision=record.revision,
        )

    async def _commit(self, conversation_id: str, change: Change, state: AgentState) -> None:
        write = self.state(conversation_id).apply(change, expected_version=state.version)
        try:
            await settled(write)
        except Conflict as error:
            raise ConversationConflict(conversation_id) from error

    async def _ids(self) -> list[str]:
        return [name for _, name in await paths_under(self.store, _ROOT)]

    async def _walk(
        self, place: _Place | None, entry_id: str | None, limit: int | None
    ) -> list[ConversationEntry]:
        entries: list[ConversationEntry] = []
        while entry_id is not None and (limit is None or len(entries) < limit):
            place = place and await self._search(place, entry_id)
            if place is None:
                raise NotFound(f"there is no entry {entry_id}")
            entry = _load(entry_id, place[1][_ENTRY + entry_id])
            entries.append(entry)
            entry_id = entry.parent_id
        entries.reverse()
        return entries

    async def _search(self, place: _Place, entry_id: str) -> _Place | None:
        """Return the state that has an entry: this one, or one that it shares entries with."""
        _, state = place
        if _ENTRY + entry_id in state:
            return place
        for key in state:
            if key.startswith(_LINK):
                id_ = key.removeprefix(_LINK)
                found = await self._search((id_, await self.state(id_).at(state[key])), entry_id)
                if found is not None:
                    return found
        return None

    async def _place_of(self, entry_id: str, likely: str | None = None) -> _Place | None:
        """Return the conversation that has an entry, as it is now."""
        guess = self._homes.get(entry_id, likely)
        place = None if guess is None else await self._now(guess, entry_id)
        if place is None:
            for id_ in await self._ids():
                place = place or await self._now(id_, entry_id)
        return place

    async def _now(self, conversation_id: str, entry_id: str) -> _Place | None:
        place = conversation_id, await self.state(conversation_id).at()
        return None if await self._search(place, entry_id) is None else place


def _record(kept: Value) -> ConversationRecord:
    what = f"the record of conversation {kept['conversation_id']}"
    return from_json(what, _records.validate_json, kept)


def _revision(state: AgentState) -> str | None:
    return state[_RECORD]["revision"] if _RECORD in state else None


def _dump(entry: ConversationEntry) -> Value:
    return [entry.parent_id, *ModelMessagesTypeAdapter.dump_python([entry.message], mode="json")]


def _load(entry_id: str, kept: Value) -> ConversationEntry:
    parent_id, message = kept
    (read,) = from_json(f"entry {entry_id}", ModelMessagesTypeAdapter.validate_json, [message])
    return ConversationEntry(id=entry_id, parent_id=parent_id, message=read)
