"""Which checkpoints are listed, and in which order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple

from statecore.agent_state import AgentState
from statecore.integrations.langgraph.layout import Hidden
from statecore.integrations.langgraph.places import Found, merged
from statecore.integrations.langgraph.thread import Thread


@dataclass(frozen=True, slots=True)
class Criteria:
    """What checkpoints are to be listed."""

    namespace: str | None
    checkpoint_id: str | None
    before: str | None  # only those with a smaller id
    metadata: Mapping[str, Any]  # what it must say
    limit: int | None

    def fit(self, found: Found, metadata: Mapping[str, Any]) -> bool:
        """Tell whether a checkpoint is one of them."""
        checkpoint_id = found.envelope.id
        if self.checkpoint_id is not None and checkpoint_id != self.checkpoint_id:
            return False
        if self.before is not None and checkpoint_id >= self.before:
            return False
        return all(_says(metadata, name, value) for name, value in self.metadata.items())


def _says(metadata: Mapping[str, Any], name: str, value: Any) -> bool:
    """Tell whether metadata has a value under a name, or under a path of names with dots between.

    SqliteSaver takes such paths, too; the others of the framework take names only.
    """
    if name in metadata:
        return bool(metadata[name] == value)
    first, _, rest = name.partition(".")
    inner = metadata.get(first)
    if rest and isinstance(inner, Mapping):
        return _says(inner, rest, value)
    return value is None  # for the framework's savers what is missing is None


async def listed(
    threads: AsyncIterator[Thread], criteria: Criteria
) -> AsyncIterator[CheckpointTuple]:
    """Yield the checkpoints of threads, the greatest id first, thread by thread merged."""
    count = 0
    walks = [_visible(thread, criteria) async for thread in threads]
    async for each in merged(walks, lambda each: each.found.envelope.id):
        if count == criteria.limit:
            return
        yield each.made()
        count += 1


@dataclass(frozen=True, slots=True)
class _Listed:
    thread: Thread
    found: Found
    head: AgentState
    shelf: Any

    def made(self) -> CheckpointTuple:
        return self.thread.tuple_of(self.found, self.head, self.shelf)


async def _visible(thread: Thread, criteria: Criteria) -> AsyncIterator[_Listed]:
    now = await thread.hidden()
    if now is None:
        return
    head, hidden = now
    shelf = thread.shelf()
    async for found in thread.found(criteria.namespace, criteria.limit or 0):
        if _is_visible(found, hidden) and criteria.fit(found, thread.metadata_of(found)):
            yield _Listed(thread, found, head, shelf)


def _is_visible(found: Found, hidden: Hidden) -> bool:
    return (found.namespace, found.envelope.id) not in hidden
