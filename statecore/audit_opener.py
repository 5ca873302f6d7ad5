"""Opens the events of the whole log for the audit record, stream by stream as they come."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from statecore.access import Authority
from statecore.change import EMPTY
from statecore.errors import Damage
from statecore.events import Event
from statecore.gate import Gate, Guard
from statecore.packed import thaw
from statecore.policy import Permission
from statecore.register import REGISTER, branch_key, branch_names
from statecore.sight import told, without_why
from statecore.stream import Stream, StreamName
from statecore.streams import Streams

_NAMELESS: Final = StreamName("", "", -1)  # no stream has this generation
_NAMES_MAX: Final = 10_000


class StreamsOpener:
    """Opens with the keys of an open store."""

    def __init__(
        self, streams: Streams, gate: Gate, authority: Authority, agent: str | None = None
    ) -> None:
        """Open events.

        Args:
            streams: of the store.
            gate: knows the policy.
            authority: who reads: of keys whose history they may not see, nothing is told.
            agent: whose, where only one agent's are wanted.
        """
        self._streams = streams
        self._gate = gate
        self._authority = authority
        self._agent = agent
        self._known: dict[bytes, Stream] = {}
        self._seen = [-1, -1]  # the log's last position, two pages ago and one
        self._names: dict[bytes, StreamName] = {}
        self._born: dict[bytes, StreamName] = {}

    def renew(self) -> None:
        """Forget all keys where one may have been destroyed since.

        Nothing is erased without an event before, so a log that stood still has the same keys; one
        page more is waited for, since the key goes only after the event.
        """
        position = self._streams.log.last_position()
        if self._seen != [position, position] or len(self._known) > _NAMES_MAX:
            self._known.clear()
        self._seen = [self._seen[1], position]
        if self._agent is not None and not self._names:
            self._names = {self._streams.id_of(name): name for name in self._names_of(self._agent)}

    def _names_of(self, agent: str) -> list[StreamName]:
        """Return the names of an agent's streams; of one that was erased those that are certain."""
        found = [StreamName(agent), StreamName(agent, REGISTER)]
        with suppress(Damage):  # a register that can't be read leaves those
            cells = self._streams.refresh(self._streams.open(found[1])).cells
            for name in branch_names(cells):
                entry: Any = thaw(cells[branch_key(name)][1])
                found += (StreamName(agent, name, at) for at in range(entry["generation"] + 1))
        return found

    def may_be(self, stream: bytes) -> bool:
        return self._agent is None or stream in self._names

    def whose(self, stream: bytes) -> tuple[str | None, str | None]:
        name = self._stream(stream).name
        return (name.agent_id, name.branch) if name != _NAMELESS else (None, None)

    def open(self, stream: bytes, version: int, stored: bytes, position: int) -> Event:
        found = self._stream(stream)
        record = found.sealer.open(version, stored)
        agent_id, branch = self.whose(stream)
        event = record.event(agent_id or "", branch or "", position)
        guard = Guard(self._gate, self._authority, found.name)
        seen = told(event, guard.sight(Permission.HISTORY, blind=True))
        return _without_content(event) if seen is None else seen

    def _stream(self, stream_id: bytes) -> Stream:
        stream = self._known.get(stream_id)
        if stream is None:
            stream = self._streams.adopt(self._name_of(stream_id), stream_id)
            with suppress(Damage):  # told where an event of it is opened
                stream.load_keys(self._streams.ring.keys(stream_id))
            self._known[stream_id] = stream
        return stream

    def _name_of(self, stream_id: bytes) -> StreamName:
        """Return a stream's name, which its first event tells and which stays the same."""
        name = self._names.get(stream_id) or self._born.get(stream_id)
        if name is None:
            birth = None
            with suppress(Damage):
                birth = self._streams.birth_of(stream_id)
            if birth is None:
                return _NAMELESS
            if len(self._born) >= _NAMES_MAX:
                self._born.clear()
            name = StreamName(birth.agent_id, birth.branch, birth.generation)
            self._born[stream_id] = name
        return name


def _without_content(event: Event) -> Event:
    """Return who did something, when, and of which kind; none of what, nor why."""
    bare = without_why(event, EMPTY)
    return replace(bare, tag=None, parents=(), takes_back=(), is_filtered=True)
