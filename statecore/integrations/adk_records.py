"""How a session of ADK lies in a state: the keys, and the changes its events make.

Pure. ``created`` and ``updated`` are seconds since 1970, UTC; ``events`` is a list of what ADK
writes as JSON; ``state:`` and a key is what the session has of its own. What an event changes for
the app and the user lies under ``owed:``, the time and an id, until it was carried over to them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

import pydantic_core

try:
    from google.adk.events import Event
    from google.adk.sessions import Session, State
except ImportError as error:
    raise ImportError("this needs Google's ADK: statecore[google-adk]") from error

from statecore.agent_state import AgentState
from statecore.change import EMPTY, Change, as_change
from statecore.errors import UnsupportedValue
from statecore.integrations.given import from_json
from statecore.values import Value

if TYPE_CHECKING:
    from google.adk.sessions.base_session_service import GetSessionConfig

CREATED: Final = "created"
_UPDATED: Final = "updated"
_EVENTS: Final = "events"
_OWN: Final = "state:"
_OWED: Final = "owed:"


def creation(state: Mapping[str, Value], time: float, label: str) -> Change:
    """Return the change that creates a session with a state at a time, in seconds since 1970."""
    change = EMPTY.put(CREATED, time).put(_UPDATED, time).put(_EVENTS, [])
    return change.then(_of_state(state, time, label))


def appending(event: Event) -> tuple[Change, str]:
    """Return the change that appends an event, and an id that only the very same event has.

    Raises:
        UnsupportedValue: JSON can't hold it.
    """
    try:
        text: str = event.model_dump_json(exclude_none=True)
    except pydantic_core.PydanticSerializationError as error:
        raise UnsupportedValue((), "JSON can't hold this event") from error
    data = pydantic_core.from_json(text)
    delta = data["actions"].get("state_delta", {})
    kept = {key: delta[key] for key in delta if not key.startswith(State.TEMP_PREFIX)}
    data["actions"]["state_delta"] = kept
    change = EMPTY.extend(_EVENTS, [data]).put(_UPDATED, event.timestamp)
    change = change.then(_of_state(kept, event.timestamp, event.id))
    return change, hashlib.sha256(text.encode()).hexdigest()[:32]


def _of_state(delta: Mapping[str, Value], time: float, label: str) -> Change:
    """Return what a change of the session's state does, each scope to its own keys."""
    of_app: dict[str, Value] = {}
    of_user: dict[str, Value] = {}
    own: dict[str, Value] = {}
    for key, value in delta.items():
        if key.startswith(State.APP_PREFIX):
            of_app[key.removeprefix(State.APP_PREFIX)] = value
        elif key.startswith(State.USER_PREFIX):
            of_user[key.removeprefix(State.USER_PREFIX)] = value
        elif not key.startswith(State.TEMP_PREFIX):
            own[_OWN + key] = value
    if of_app or of_user:
        # The time comes first: keys are read in order, and so this arrives as it happened.
        own[f"{_OWED}{time:020.6f}:{label}"] = [of_app, of_user]
    return as_change(own)


def owed(state: AgentState) -> Iterator[tuple[str, list[dict[str, Value]]]]:
    """Yield the key of what is yet to be carried over, and what it is for the app and the user."""
    for key in state:
        if key.startswith(_OWED):
            yield key, state[key]


def session_of(
    names: tuple[str, str, str],
    state: AgentState,
    of_app: Mapping[str, Value],
    of_user: Mapping[str, Value],
    config: GetSessionConfig,
) -> Session:
    """Return the session of an app, a user and an id, with the events that are asked for.

    Raises:
        DamagedRecord: an event can't be read.
    """
    values = {key.removeprefix(_OWN): state[key] for key in state if key.startswith(_OWN)}
    values |= {State.APP_PREFIX + key: value for key, value in of_app.items()}
    values |= {State.USER_PREFIX + key: value for key, value in of_user.items()}
    app_name, user_id, session_id = names
    events = _events(state, config)
    session = Session(
        app_name=app_name, user_id=user_id, id=session_id, state=values, events=events
    )
    see_version(session, state.version, state[_UPDATED])
    return session


def _events(state: AgentState, config: GetSessionConfig) -> list[Event]:
    last, after = config.num_recent_events, config.after_timestamp
    if last == 0:
        return []
    kept = state[_EVENTS]
    if after is not None:
        kept = [event for event in kept if event["timestamp"] >= after]
    what = f"an event of {state.id}"
    return [from_json(what, Event.model_validate_json, event) for event in kept[-(last or 0) :]]


def see_version(session: Session, version: int, time: float) -> None:
    """Note in a session which version it shows, and when that was made, in seconds since 1970."""
    session._storage_update_marker = str(version)
    session.last_update_time = time


def version_seen(session: Session) -> int | None:
    """Return the version that a session shows; ``None`` of one that no service made."""
    marker = session._storage_update_marker
    return None if marker is None else int(marker)
