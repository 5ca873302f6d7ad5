"""A session of the OpenAI Agents SDK in a store: with history, time travel, branches and undo.

    async with StatecoreSession("user-123", "agents.db") as session:
        await Runner.run(agent, "Hello", session=session)

A session is an agent's state: its id is the agent's, and the conversation is a list under one key
of it. Everything that a ``StateManager`` does is at hand, see ``state``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

try:
    from agents.memory import SessionSettings
except ImportError as error:
    raise ImportError("this needs the OpenAI Agents SDK: statecore[openai-agents]") from error

from statecore.errors import InputError
from statecore.events import Kind
from statecore.integrations.given import Given, InStore, fork_of, settled, to_json
from statecore.manager import StateManager
from statecore.moments import Point
from statecore.stream import MAIN
from statecore.transaction import Transaction

if TYPE_CHECKING:
    from agents.items import TResponseInputItem

ITEMS: Final = "items"


@dataclass(frozen=True, slots=True)
class Turn:
    """What a message of the user began."""

    number: int  # from 1
    start: int  # the index of the message among the items
    content: Any  # what the user said


class StatecoreSession(InStore):
    """A conversation, kept as the SDK's ``Session`` asks for.

    What is added at once is one event, durable when the call returns, and recorded as what was
    added. Popping and clearing are events, too: what was there can still be read and brought back.
    Sessions of one id, in any number of tasks, threads and processes, lose nothing of each other.

    A conversation that can't be read is never taken for an empty one. Every method that touches it
    raises:

        WrongKey, KeyMissing: on entering, where it is not the store's key.
        Expired: its time to live has ended; ``clear_session`` begins it anew.
        DamagedRecord: something in it was changed by other hands.
        BranchNotFound: there is no branch of the session's ``branch_name``.
    """

    def __init__(
        self,
        session_id: str,
        store: Given,
        *,
        branch: str = MAIN,
        actor: str | None = None,
        ttl: timedelta | float | None = None,
        session_settings: SessionSettings | None = None,
    ) -> None:
        """Make a session; the conversation begins with the first items.

        Args:
            session_id: whose conversation, any string of at most 1,024 bytes.
            store: an open store, or what ``async with`` is to open.
            branch: which branch of the conversation; all but ``"main"`` must exist.
            actor: who the events say it was.
            ttl: how long a new conversation lives, in seconds or as a ``timedelta``.
            session_settings: the SDK's, such as how many items ``get_items`` returns by default.
        """
        super().__init__(store)
        self.session_id = session_id
        self.session_settings: SessionSettings | None = session_settings or SessionSettings()
        self.branch_name = branch
        self._actor = actor
        self._ttl = ttl

    # What the SDK asks for

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """Return the items, oldest first: all, or as many of the last as a limit says.

        Args:
            limit: how many; where left out, as the session's settings say.
        """
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        if limit is not None and limit < 0:
            raise InputError(f"a limit is a number of items, not {limit}")
        state = await self.state()
        items: list[TResponseInputItem] = await state.get_state(ITEMS, [])
        return items if limit is None else items[len(items) - min(limit, len(items)) :]

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Append items, as one event; of none, no event.

        Raises:
            UnsupportedValue, LimitExceeded: an item can't be recorded; nothing was.
        """
        added = [to_json(item) for item in items]
        state = await self._readable()
        if added:
            await settled(state.extend(ITEMS, added))

    async def pop_item(self) -> TResponseInputItem | None:
        """Remove the last item and return it, as one event; of an empty session, ``None``.

        However many pop at once, each gets another item.
        """

        def pop(tx: Transaction) -> TResponseInputItem | None:
            items = tx.get(ITEMS, [])
            if items:
                tx.splice(ITEMS, len(items) - 1, 1)
            return items[-1] if items else None

        return await settled((await self._readable()).atomic_transaction(pop))

    async def clear_session(self) -> None:
        """Remove all items, as one event. The history stays, until a time to live ends."""
        await settled((await self.state()).delete_state(ITEMS))

    # What a store adds

    async def state(self) -> StateManager:
        """Return the manager of what the session is kept in, on its branch.

        It has the history with who and when, ``diff``, ``tag``, ``merge``, ``blame``, ``watch``.
        """
        return await self._on(self.branch_name)

    async def items_at(self, point: Point) -> list[TResponseInputItem]:
        """Return the items as they were at a version, a time or a tag.

        Raises:
            VersionNotFound, TagNotFound: there is no such moment.
        """
        items: list[TResponseInputItem] = await (await self.state()).value_at(ITEMS, point, [])
        return items

    async def turns(self) -> list[Turn]:
        """Return the turns, oldest first: each begins with a message of the user."""
        return _turns(await (await self.state()).get_state(ITEMS, []))

    async def rewind(self, *, turn: int | None = None, at: Point | None = None) -> int:
        """Go back to before a turn, or to a moment, by a new event; return the version it made.

        Args:
            turn: the number of the first turn to take away.
            at: a version, a time or a tag; all of the agent's state becomes what it was.

        Raises:
            InputError: there is no such turn, or not exactly one of both is given.
            VersionNotFound, TagNotFound: there is no such moment.
        """
        if (turn is None) == (at is None):
            raise InputError("say where to go back to: turn= or at=")
        state = await self._readable()
        if at is not None:
            return (await state.restore(at)).version or await state.version()

        def cut(tx: Transaction) -> Transaction:
            items = tx.get(ITEMS, [])
            start = next((each.start for each in _turns(items) if each.number == turn), None)
            if start is None:
                raise InputError(f"{self.session_id} has no turn {turn}")
            tx.splice(ITEMS, start, len(items) - start)
            return tx

        version = (await state.atomic_transaction(cut)).version
        assert version is not None, "a turn has an item to take away"
        return version

    async def undo(self) -> bool:
        """Take back the last act, of the session's actor if it has one; tell whether there was one.

        What others added since stays.
        """
        return await (await self._readable()).undo() is not None

    async def fork(
        self, name: str, *, turn: int | None = None, at: Point | None = None
    ) -> StatecoreSession:
        """Return the session of a new branch, which begins here without copying anything.

        Neither sees what is added to the other; ``state`` has ``merge`` to bring them together.

        Args:
            name: the branch.
            turn: the number of the first turn that is not to be on it.
            at: the moment it begins at; now, where left out.

        Raises:
            BranchExists: there is one, which begins elsewhere or has gone on.
            InputError: there is no such turn.
            VersionNotFound, TagNotFound: there is no such moment.
        """
        await fork_of(await self.state(), name, at)
        session = StatecoreSession(
            self.session_id,
            self.store,
            branch=name,
            actor=self._actor,
            ttl=self._ttl,
            session_settings=self.session_settings,
        )
        if turn is not None:
            await session.rewind(turn=turn)
        return session

    async def switch(self, branch: str) -> None:
        """Go on with another branch, from the next call on.

        Raises:
            BranchNotFound: there is none of the name.
        """
        await self._on(branch)
        self.branch_name = branch

    async def _on(self, branch: str) -> StateManager:
        kind = None if self._ttl is None else Kind.TEMPORARY
        main = self.store.manager(self.session_id, actor=self._actor, kind=kind, ttl=self._ttl)
        return await main.branch(branch, create=False)

    async def _readable(self) -> StateManager:
        """Return the manager, unless what it holds has ended: that is not begun anew unasked."""
        state = await self.state()
        await state.at()
        return state


def _turns(items: list[Any]) -> list[Turn]:
    starts = [at for at, item in enumerate(items) if item.get("role") == "user"]
    return [Turn(n, at, items[at].get("content")) for n, at in enumerate(starts, 1)]
