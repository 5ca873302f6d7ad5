"""Values as they are: what is in conflict shows as that, not as its provisional winner."""

from __future__ import annotations

import warnings
from typing import Any

from statecore import AgentState, BlockingManager, Change, Point, UnresolvedWarning
from statecore.diff import diff
from statecore.typed_json import freeze
from statecore.values import Value


def exposed(state: AgentState) -> dict[str, Value]:
    """Return all values of a state, with each conflict in them as ``Unresolved``."""
    values = state.data
    for path, unresolved in state.conflicts.items():
        holder: Any = values
        for place in path[:-1]:
            holder = holder[place]
        holder[path[-1]] = unresolved
    return values


def exposed_at(agent: BlockingManager, key: str, point: Point | None, default: Value) -> Value:
    """Return one value at a moment, or now; builds the whole state only where it is in conflict."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UnresolvedWarning)
            if point is None:
                return agent.get_state(key, default)
            return agent.value_at(key, point, default)
    except UnresolvedWarning:
        return exposed(agent.at(point))[key]


def difference(before: AgentState, after: AgentState) -> Change:
    """Return the change that leads from one state to another, of whatever branches."""
    one, other = (
        {key: freeze(value, (key,)) for key, value in exposed(state).items()}
        for state in (before, after)
    )
    return diff(one, other)
