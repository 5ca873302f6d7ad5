"""A session service of Google's Agent Development Kit in a store, with time travel and forks.

    async with StatecoreSessionService("agents.db") as sessions:
        runner = Runner(app_name="travel", agent=agent, session_service=sessions)

A session is an agent's state: its events are a list, and each key of its state is a key. What all
sessions of a user share, and what all of an app do, are states of their own.
"""

from __future__ import annotations

from typing import Any, Final

try:
    from google.adk.errors import StaleSessionError
    from google.adk.errors.already_exists_error import AlreadyExistsError
    from google.adk.errors.session_not_found_error import SessionNotFoundError
    from google.adk.events import Event
    from google.adk.platform import time as platform_time
    from google.adk.platform import uuid as platform_uuid
    from google.adk.sessions import BaseSessionService, Session
    from google.adk.sessions.base_session_service import GetSessionConfig, ListSessionsResponse
except ImportError as error:
    raise ImportError("this needs Google's ADK: statecore[google-adk]") from error

from statecore.agent_state import AgentState
from statecore.change import as_change
from statecore.errors import BranchNotFound, Conflict, InputError
from statecore.integrations.adk_records import (
    CREATED,
    appending,
    creation,
    owed,
    see_version,
    session_of,
    version_seen,
)
from statecore.integrations.given import (
    Given,
    InStore,
    fork_of,
    path_of,
    paths_under,
    settled,
    to_json,
)
from statecore.manager import StateManager
from statecore.moments import Point
from statecore.stream import MAIN

FORK: Final = "~"
"""Stands between the id of a session and the name of a fork of it."""

_ROOT: Final = "google-adk"
_PATH_OF_SESSION: Final = 4  # the root, an app, a user, a session


class StatecoreSessionService(InStore, BaseSessionService):
    """Sessions, kept as ADK's ``BaseSessionService`` asks for.

    An event and all that it changes in its session is one event of the store, durable when the
    call returns. What it changes for the user or the app is recorded with it, and then carried
    over to their states: if the process dies in between, by whoever opens the session next.

    Of two who continue a session from the same point one wins; the other gets ADK's
    ``StaleSessionError``, and nothing of theirs was written. Deleting is an event, too: what is
    deleted can be read at an earlier moment.

    A fork's id is that of its session, ``~`` and a name: ``s1~retry``. Every method takes it.

    What can't be read raises, rather than to look like no session: ``WrongKey`` on entering,
    ``DamagedRecord`` where something was changed by other hands.
    """

    def __init__(self, store: Given) -> None:
        """Make a service in an open store, or in one that ``async with`` is to open."""
        super().__init__(store)

    # What ADK asks for

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """Create a session, as one event, and return it.

        Raises:
            AlreadyExistsError: there is one of the id.
            InputError: the id is one of a fork; ``fork_session`` makes these.
            UnsupportedValue: the state holds what JSON can't.
        """
        name = (session_id or "").strip() or platform_uuid.new_uuid()
        if FORK in name:
            raise InputError(f"{FORK!r} in an id names a fork; fork_session makes these")
        manager = self._agent(app_name, user_id, name)
        now = platform_time.get_time()
        change = creation(to_json(state or {}), now, platform_uuid.new_uuid())
        exists = AlreadyExistsError(f"Session with id {name} already exists.")
        before = await manager.at()
        if CREATED in before:
            raise exists
        try:
            await settled(manager.apply(change, expected_version=before.version))
        except Conflict as error:
            raise exists from error
        await self._carry_over(app_name, user_id, manager)
        return await self._read(app_name, user_id, name, await manager.at())

    async def get_session(
        self,
        *,
        app_name: str,
        user_id: str,
        session_id: str,
        config: GetSessionConfig | None = None,
    ) -> Session | None:
        """Return a session with its events, oldest first, or ``None`` where there is none.

        Args:
            app_name, user_id, session_id: which.
            config: how many of the last events at most, and since when, in seconds since 1970.
        """
        manager = await self._find(app_name, user_id, session_id)
        if manager is None:
            return None
        return await self._read(app_name, user_id, session_id, await manager.at(), config)

    async def list_sessions(
        self, *, app_name: str, user_id: str | None = None
    ) -> ListSessionsResponse:
        """Return the sessions of an app, or of a user of it, with forks and without events.

        The last one is that which was updated last.
        """
        names = (app_name,) if user_id is None else (app_name, user_id)
        without_events = GetSessionConfig(num_recent_events=0)
        found = []
        for path in await paths_under(self.store, _ROOT, *names):
            if len(path) == _PATH_OF_SESSION:
                _, _, user, name = path
                branches = await self._agent(app_name, user, name).branches()
                for id_ in (name, *(f"{name}{FORK}{branch.name}" for branch in branches)):
                    manager = await self._find(app_name, user, id_)
                    if manager is not None:
                        state = await manager.at()
                        found.append(await self._read(app_name, user, id_, state, without_events))
        found.sort(key=lambda session: (session.last_update_time, session.user_id, session.id))
        return ListSessionsResponse(sessions=found)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete a session, if there is one. Its history stays in the store; its forks live on."""
        manager = await self._find(app_name, user_id, session_id)
        if manager is not None and manager.branch_name == MAIN:
            await settled(manager.clear_state())
        elif manager is not None:
            await settled(manager.delete_branch(manager.branch_name))

    async def append_event(self, session: Session, event: Event) -> Event:
        """Append an event, and what it changes, to a session as one event; update the object too.

        The same event once more, a retry, changes nothing. A partial event is not kept.

        Raises:
            StaleSessionError: others continued the session since it was read; nothing was written.
            SessionNotFoundError: there is none.
            UnsupportedValue, LimitExceeded: the event can't be recorded; nothing was written.
        """
        if event.partial:
            return event
        manager = await self.state(
            app_name=session.app_name, user_id=session.user_id, session_id=session.id
        )
        base = version_seen(session)
        change, event_id = appending(event)
        write = manager.apply(
            change,
            expected_version=base,
            event_id=event_id,
            actor=event.author,
            cause=event.invocation_id,
        )
        try:
            version = await settled(write)
        except Conflict as error:
            raise StaleSessionError(
                f"Others continued session {session.id} since it was read: get it, decide anew."
            ) from error
        if base is not None and version <= base:
            return event
        await self._carry_over(session.app_name, session.user_id, manager)
        see_version(session, version, event.timestamp)
        return await super().append_event(session=session, event=event)

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """Return what all sessions of a user share; its keys have no ``user:`` in front."""
        return dict(await self._agent(app_name, user_id).at())

    # What a store adds

    async def state(self, *, app_name: str, user_id: str, session_id: str) -> StateManager:
        """Return the manager of what a session is kept in.

        It has the history, in which an event's author is the actor and its invocation the cause,
        and ``diff``, ``tag``, ``undo``, ``restore``, ``merge`` and ``watch``.

        Raises:
            SessionNotFoundError: there is none.
        """
        manager = await self._find(app_name, user_id, session_id)
        if manager is None:
            raise SessionNotFoundError(f"Session {session_id} not found.")
        return manager

    async def session_at(
        self, point: Point, *, app_name: str, user_id: str, session_id: str
    ) -> Session:
        """Return a session as it was at a version, a time or a tag; a deleted one, too.

        What it shares with others is as it is now. To append to it is refused as stale.

        Raises:
            SessionNotFoundError: there was none then.
            VersionNotFound, TagNotFound: there is no such moment.
        """
        manager = await self._branch(app_name, user_id, session_id)
        state = None if manager is None else await manager.at(point)
        if state is None or CREATED not in state:
            raise SessionNotFoundError(f"Session {session_id} did not exist then.")
        return await self._read(app_name, user_id, session_id, state)

    async def fork_session(
        self, name: str, *, app_name: str, user_id: str, session_id: str, at: Point | None = None
    ) -> Session:
        """Return a new session that begins with what another was, without copying anything.

        What it shares with other sessions of its user and its app it goes on sharing.

        Args:
            name: follows ``~`` in the id of the new one.
            app_name, user_id, session_id: which.
            at: the moment it begins at, a version, a time or a tag; now, where left out.

        Raises:
            SessionNotFoundError: there is none.
            BranchExists: there is a fork of the name, which begins elsewhere or has gone on.
            VersionNotFound, TagNotFound: there is no such moment.
        """
        manager = await self.state(app_name=app_name, user_id=user_id, session_id=session_id)
        fork = await fork_of(manager, name, at)
        new_id = f"{session_id.partition(FORK)[0].strip()}{FORK}{name}"
        return await self._read(app_name, user_id, new_id, await fork.at())

    def _agent(self, *names: str) -> StateManager:
        return self.store.manager(path_of(_ROOT, *names))

    async def _branch(self, app_name: str, user_id: str, session_id: str) -> StateManager | None:
        name, _, fork = session_id.strip().partition(FORK)
        try:
            manager = self._agent(app_name, user_id, name)
            return await manager.branch(fork or MAIN, create=False)
        except BranchNotFound:
            return None

    async def _find(self, app_name: str, user_id: str, session_id: str) -> StateManager | None:
        """Return the manager of a session, if there is one, with nothing owed."""
        manager = await self._branch(app_name, user_id, session_id)
        if manager is None or CREATED not in await manager.at():
            return None
        await self._carry_over(app_name, user_id, manager)
        return manager

    async def _carry_over(self, app_name: str, user_id: str, manager: StateManager) -> None:
        """Bring what a session's events changed for its app and its user to their states.

        Each exactly once: a change has an id, by which one that was made already is recognised.
        """
        for key, (of_app, of_user) in owed(await manager.at()):
            event_id = f"{manager.agent_id}/{key}"
            if of_app:
                await self._agent(app_name).apply(as_change(of_app), event_id=event_id)
            if of_user:
                await self._agent(app_name, user_id).apply(as_change(of_user), event_id=event_id)
            await manager.delete_state(key)

    async def _read(
        self,
        app_name: str,
        user_id: str,
        session_id: str,
        state: AgentState,
        config: GetSessionConfig | None = None,
    ) -> Session:
        of_app = await self._agent(app_name).at()
        of_user = await self._agent(app_name, user_id).at()
        names = (app_name, user_id, session_id.strip())
        return session_of(names, state, of_app, of_user, config or GetSessionConfig())
