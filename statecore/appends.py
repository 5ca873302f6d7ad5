"""A request to append one event, from the caller to the sequencer and back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from statecore.change import EMPTY, Change
from statecore.codec import Record
from statecore.codec.record import BIRTH, CAUSE, CLEARED, EVENT_ID, METADATA, TAG
from statecore.events import Birth, EventType
from statecore.state import Tag
from statecore.stream import Stream
from statecore.values import Value, pack


class Append:
    """What to append, what the decision was based on, and in the end what became of it.

    ``base`` is the version the decision was based on, ``None`` where it was based on nothing;
    ``reads`` are the keys it read, ``None`` for the whole state.
    """

    __slots__ = (
        "actor",
        "base",
        "birth",
        "cause",
        "change",
        "done",
        "error",
        "event_id",
        "metadata",
        "notify",
        "reads",
        "reason",
        "record",
        "stream",
        "tag",
        "type",
        "version",
    )

    def __init__(
        self,
        stream: Stream,
        birth: Birth,
        change: Change = EMPTY,
        *,
        type: EventType = EventType.CHANGED,  # noqa: A002 - the name of the field
        base: int | None = None,
        reads: Collection[str] | None = (),
        actor: str | None = None,
        reason: str | None = None,
        cause: str | None = None,
        metadata: Mapping[str, Value] | None = None,
        event_id: str | None = None,
        tag: Tag | None = None,
    ) -> None:
        self.stream = stream
        self.birth = birth
        self.change = change
        self.type = type
        self.base = base
        self.reads = reads
        self.actor = actor
        self.reason = reason
        self.cause = cause
        self.metadata = pack(dict(metadata), ("metadata",)) if metadata else None
        self.event_id = event_id
        self.tag = tag
        self.version = 0
        self.record: Record | None = None
        self.error: BaseException | None = None
        self.done = False
        self.notify: Callable[[Append], None] | None = None

    def extras(self, *, first: bool) -> dict[str, Any] | None:
        """Return what the event says beside its operations; the first one tells the birth."""
        extras: dict[str, Any] = {}
        if self.event_id is not None:
            extras[EVENT_ID] = self.event_id
        if self.metadata is not None:
            extras[METADATA] = self.metadata
        if self.cause is not None:
            extras[CAUSE] = self.cause
        if self.tag is not None:
            extras[TAG] = [self.tag.name, self.tag.version]
        if self.change.cleared:
            extras[CLEARED] = True
        if first:
            birth = self.birth
            extras[BIRTH] = [birth.agent_id, birth.branch, str(birth.kind), birth.expires]
        return extras or None

    def fail(self, error: BaseException) -> None:
        """Say that nothing of it was written, or that this is unknown."""
        self.error = error

    def finish(self) -> None:
        """Let the caller go on."""
        self.done = True
        if self.notify is not None:
            self.notify(self)

    def outcome(self) -> int:
        """Return the version of the event.

        Raises:
            StatecoreError: what went wrong.
        """
        if self.error is not None:
            raise self.error
        return self.version
