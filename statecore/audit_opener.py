"""Opens the events of the whole log for the audit record, stream by stream as they come."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from statecore.errors import Damage
from statecore.events import Event
from statecore.packed import thaw
from statecore.register import REGISTER, branch_key, branch_names
from statecore.stream import Stream, StreamName
from statecore.streams import Streams


class StreamsOpener:
    """Opens with the keys of an open store."""

    def __init__(self, streams: Streams, agent: str | None = None) -> None:
        """Open events.

        Args:
            streams: of the store.
            agent: whose, where only one agent's are wanted.
        """
        self._streams = streams
        self._agent = agent
        self._known: dict[bytes, Stream] = {}
        self._names: dict[bytes, StreamName] = {}

    def renew(self) -> None:
        """Forget all keys: what was destroyed since opens nothing more."""
        self._known.clear()
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
        name = self._names.get(stream) or self._stream(stream).name
        return (name.agent_id, name.branch) if name != _NAMELESS else (None, None)

    def open(self, stream: bytes, version: int, stored: bytes, position: int) -> Event:
        found = self._stream(stream)
        record = found.sealer.open(version, stored)
        agent_id, branch = self.whose(stream)
        return record.event(agent_id or "", branch or "", position)

    def _stream(self, stream_id: bytes) -> Stream:
        stream = self._known.get(stream_id)
        if stream is None:
            name = _NAMELESS
            with suppress(Damage):  # told where the event itself is opened
                birth = self._streams.birth_of(stream_id)
                if birth is not None:
                    name = StreamName(birth.agent_id, birth.branch, birth.generation)
            stream = self._streams.adopt(name, stream_id)
            with suppress(Damage):
                stream.load_keys(self._streams.ring.keys(stream_id))
            self._known[stream_id] = stream
        return stream


_NAMELESS = StreamName("", "", -1)  # no stream has this generation
