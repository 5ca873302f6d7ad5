"""A request to append one event, from the caller to the sequencer and back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypedDict
from uuid import UUID

from statecore.access import FULL
from statecore.change import Change
from statecore.codec.record import (
    ARCHIVES,
    BIRTH,
    CAUSE,
    CLEARED,
    EVENT_ID,
    METADATA,
    PARENTS,
    PAST,
    TAG,
    TAKES_BACK,
    write_birth,
)
from statecore.errors import InputError
from statecore.events import Archive, Birth, EventType, Moment, Past
from statecore.state import Tag
from statecore.stream import Stream
from statecore.values import Value, check_text, pack


class WriteOptions(TypedDict, total=False):
    """What any write may say beside what it does."""

    expected_version: int | None
    """The version the decision was based on: if the keys concerned changed since, it is refused."""
    actor: str | None
    """Who does it, where that is another than the manager's actor."""
    reason: str | None
    """Why."""
    cause: str | None
    """The id of the message or event that led to it."""
    metadata: Mapping[str, Value] | None
    """Whatever else is worth keeping."""
    event_id: str | UUID | None
    """An id of your own: a second write with it, a retry, is recognised and does nothing."""


_NO_OPTIONS: Final[WriteOptions] = {}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a change comes from that was made of other events."""

    type: EventType
    parents: tuple[Moment, ...] = ()  # the moments of other branches that come in
    past: Past = field(default_factory=dict)  # all that these have taken in
    takes_back: tuple[int, ...] = ()  # the versions whose effect this undoes
    archives: tuple[Archive, ...] = ()  # all that there are; the bodies of the last are to go now
    horizon_root: bytes = b""  # the state at its horizon, packed
    birth: Birth | None = None  # which the first of them told

    def extras(self) -> dict[str, Any]:
        """Return what an event says of it."""
        extras: dict[str, Any] = {}
        if self.parents:
            extras[PARENTS] = [list(parent) for parent in self.parents]
        if self.past:
            extras[PAST] = [[*line, version] for line, version in self.past.items()]
        if self.takes_back:
            extras[TAKES_BACK] = list(self.takes_back)
        if self.archives:
            extras[ARCHIVES] = [[list(each) for each in self.archives], self.horizon_root]
        if self.birth:
            extras[BIRTH] = write_birth(self.birth)
        return extras


class Append:
    """What to append, what the decision was based on, and in the end what became of it."""

    __slots__ = (
        "_options",
        "actor",
        "authority",
        "base",
        "birth",
        "came_back",
        "change",
        "done",
        "error",
        "event_id",
        "future",
        "metadata",
        "notify",
        "reads",
        "source",
        "stream",
        "subject",
        "tag",
        "until",
        "version",
    )

    def __init__(
        self,
        stream: Stream,
        birth: Callable[[], Birth],
        change: Change,
        options: WriteOptions = _NO_OPTIONS,
        *,
        actor: str | None = None,
        reads: Collection[str] | None = (),
        tag: Tag | None = None,
    ) -> None:
        """Make a request.

        Args:
            stream: the stream to append to.
            birth: tells what the first event says of the stream, should this become it.
            change: what to do.
            options: what it says beside.
            actor: who does it, where the options don't say.
            reads: the keys the decision was based on beside those it changes, ``None`` for all.
            tag: a name for a version.
        """
        self.stream = stream
        self.birth = birth
        self.change = change
        self.reads = reads
        self.tag = tag
        self._options = options
        self.actor = actor
        self.source: Source | None = None
        self.subject: str | None = None  # whose data the state must hold
        self.authority = FULL  # of the handle that it comes from
        self.base: int | None = None
        self.event_id: str | None = None
        self.metadata: bytes | None = None
        if options:
            self._take(options)
        self.version = 0
        self.came_back = False  # from a commit that refused it
        self.error: BaseException | None = None
        self.done = False
        self.notify: Callable[[Append], None] | None = None
        self.future: Any = None  # of the task that waits
        self.until = 0.0  # when it gives up waiting for its turn

    def _take(self, options: WriteOptions) -> None:
        self.base = options.get("expected_version")
        if self.base is not None and type(self.base) is not int:
            raise InputError(f"expected_version is a version, not {self.base!r}")
        self.actor = options.get("actor") or self.actor
        event_id = options.get("event_id")
        self.event_id = str(event_id) if isinstance(event_id, UUID) else event_id
        said = {"actor": self.actor, "event_id": self.event_id, "reason": self.reason}
        for what, text in {**said, "cause": options.get("cause")}.items():
            if text is not None:
                check_text(what, text)
        metadata = options.get("metadata")
        if metadata is not None and not isinstance(metadata, Mapping):
            raise InputError(f"metadata is a mapping, not {type(metadata).__name__}")
        self.metadata = pack(dict(metadata), ("metadata",)) if metadata else None

    @property
    def type(self) -> EventType:
        """What the event says happened."""
        if self.source is not None:
            return self.source.type
        return EventType.CHANGED if self.tag is None else EventType.TAGGED

    @property
    def rekeys(self) -> bool:
        """Whether a new data key is to seal it and what follows."""
        return self.source is not None and self.source.type == EventType.REKEYED

    @property
    def reason(self) -> str | None:
        """Why."""
        return self._options.get("reason")

    def extras(self, birth: Birth | None) -> dict[str, Any] | None:
        """Return what the event says beside its operations; the first one tells the birth."""
        if not (birth or self._options or self.change.cleared or self.tag or self.source):
            return None
        extras: dict[str, Any] = {}
        if self.event_id is not None:
            extras[EVENT_ID] = self.event_id
        if self.metadata is not None:
            extras[METADATA] = self.metadata
        if self._options.get("cause") is not None:
            extras[CAUSE] = self._options["cause"]
        if self.tag is not None:
            extras[TAG] = [self.tag.name, self.tag.version]
        if self.change.cleared:
            extras[CLEARED] = True
        if self.source is not None:
            extras |= self.source.extras()
        if birth:
            extras[BIRTH] = write_birth(birth)
        return extras

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
