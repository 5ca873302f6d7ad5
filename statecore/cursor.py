"""A cursor over the versions of a state: a step either way costs what one event changed."""

from __future__ import annotations

from collections.abc import Callable

from statecore.agent_state import AgentState
from statecore.codec.record import CLEARED, TAG
from statecore.codec.wire import rows
from statecore.engine import Engine
from statecore.errors import VersionNotFound
from statecore.events import Event, EventType
from statecore.state import Root, fold, step_back
from statecore.stream import Stream


class Cursor:
    """Stands at a version, and steps to the next or the one before."""

    def __init__(
        self,
        engine: Engine,
        stream: Stream,
        root: Root,
        state: Callable[[Root], AgentState],
    ) -> None:
        """Make a cursor; ``state`` returns what may be seen of a root, or refuses it."""
        self._state = state
        self._timeline = engine.timeline
        self._streams = engine.streams
        self._stream = stream
        self._root = root

    @property
    def version(self) -> int:
        """The version it stands at."""
        return self._root.version

    @property
    def state(self) -> AgentState:
        """The state at this version."""
        return self._state(self._root)

    @property
    def event(self) -> Event | None:
        """The event that led here; ``None`` before the first, or where it may not be read."""
        return self.state.event

    def forward(self, steps: int = 1) -> AgentState:
        """Step to the next version, or several on.

        Raises:
            VersionNotFound: there is none; the cursor stays at the last.
        """
        for _ in range(steps):
            version = self._root.version
            if version >= self._streams.refresh(self._stream).version:
                raise VersionNotFound(f"{self._stream.name} has no version after {version}")
            record = self._timeline.record(self._stream, version + 1)
            self._root = fold(self._root, [record])
        return self.state

    def back(self, steps: int = 1) -> AgentState:
        """Step to the version before, or several back.

        Raises:
            VersionNotFound: there is none; the cursor stays at the first.
        """
        for _ in range(steps):
            if self._root.version == 0:
                raise VersionNotFound(f"{self._stream.name} has no version before 0")
            self._root = self._before(self._root)
        return self.state

    def _before(self, root: Root) -> Root:
        """Return the root before its last event: each key it touched has its value before."""
        version = root.version
        record = self._timeline.record(self._stream, version)
        is_plain = record.type == EventType.CHANGED and not record.extras.keys() & {CLEARED, TAG}
        if version == 1 or not is_plain:
            return self._timeline.root_at(self._stream, version - 1)
        before = self._timeline.record(self._stream, version - 1)
        cells = {}
        for key, _, distance, _ in rows(record.operations):
            packed = self._timeline.value_at(self._stream, key, version - 1) if distance else None
            cells[key] = None if packed is None else (version - distance, packed)
        return step_back(root, before, cells)
