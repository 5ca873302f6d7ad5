"""Archiving: the sealed bodies of old events move to a file of their own; their proofs stay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from statecore.access import Authority
from statecore.appends import Append, Source, WriteOptions
from statecore.change import EMPTY
from statecore.codec.cut import cut, mend
from statecore.codec.header import header_length
from statecore.engine import Engine
from statecore.errors import (
    DamagedRecord,
    Erased,
    InputError,
    OutcomeUnknown,
    StatecoreError,
    StoreFailure,
    VersionNotFound,
)
from statecore.events import Archive, Birth, EventType
from statecore.gate import Request
from statecore.manager import Housekeeper
from statecore.moments import Point, version_of
from statecore.policy import Permission
from statecore.recorders import Row
from statecore.recorders.sqlite.archive import ArchiveDraft, ArchiveFile, digest_of
from statecore.root_image import pack_root, unpack_root
from statecore.state import Root, empty, fold
from statecore.stream import MAIN, Stream, StreamName
from statecore.values import check_text
from statecore.waiting import run

if TYPE_CHECKING:
    from statecore.store import StateStore

_PAGE: Final = 500
_MAIN_LINE: Final = (MAIN, 0)


@dataclass(frozen=True, slots=True)
class Archiving:
    """What went to an archive."""

    agent_id: str
    path: Path
    events: int
    """How many bodies went there."""
    bytes: int
    """Of the archive."""
    first: int
    """The first version whose body is there."""
    horizon: int
    """The first version that stays readable: those before it are there."""
    version: int
    """Of the event that says so."""


class _Store(Protocol):
    """A store, as archiving knows it."""

    _engine: Engine
    _authority: Authority

    def _own_actor(self) -> str | None:
        """Return who has the store, if a principal does."""


class _ManyAgents(_Store, Protocol):
    """A store that archives, and knows its agents."""

    async def agents(self) -> list[Birth]:
        """Return what is known of each agent's state."""

    async def archive(
        self, agent_id: str, *, before: Point, to: Path, actor: str | None, reason: str | None
    ) -> Archiving:
        """Archive one agent."""


class _Nothing(InputError):
    """There is nothing to archive before that moment."""


class _Archivist(Housekeeper):
    """A manager by which archiving looks for itself."""

    async def look(self) -> tuple[Stream, list[int]]:
        """Return the stream, up to date, and at which of its versions branches begin.

        One that begins before the horizon while it is archived can be read with the archive alone.
        """
        await self._load()
        self._stream.require_kind(None, self.actor)
        forks = [branch.fork for branch in await self.branches()]
        return self._stream, [fork.version for fork in forks if fork.line == _MAIN_LINE]


class StoreArchiving:
    """The part of ``StateStore`` that archives."""

    async def archive(
        self: _Store,
        agent_id: str,
        *,
        before: Point,
        to: str | Path,
        actor: str | None = None,
        reason: str | None = None,
    ) -> Archiving:
        """Move the sealed bodies of an agent's events before a moment to a new file.

        Of the main branch. What stays: each event's header and digest, so that all proofs hold as
        they did; the state at that moment and all after it; which versions touched a key. Reading
        what is before raises ``Archived``, unless the store is opened with ``archives=[...]``. A
        branch that begins earlier keeps what it shares: nothing after its beginning goes.

        The archive is written, synced and read back before anything is cut. Killed, interrupted or
        cancelled at any moment, there is a file too much, or all is done. ``compact`` then gives
        the space back.

        Args:
            agent_id: whose state.
            before: a version, a time, a tag or a position: the state at that moment stays.
            to: the archive, a file that is not there yet. What is in it is sealed.
            actor: who does it, which a shared state must be told; where a principal does, its id
                by default.
            reason: why.

        Raises:
            AccessDenied: ``erase`` is not permitted.
            InputError: the file is there, nothing is before that moment, or the store is no file.
            VersionNotFound, TagNotFound, Erased, Expired: there is no such moment, or state.
            LimitExceeded: the state at that moment is larger than an event may be, 16 MiB.
            DamagedRecord: an event before it does not open; nothing was changed.
            WrongExpectedVersion: it was archived or erased meanwhile.
            StoreFull, StoreReadOnly: the file can't be written.
        """
        engine, actor = self._engine, actor or self._own_actor()
        wanted = Request(Permission.ERASE, agent_id)
        engine.gate.decide(engine.gate.now(), self._authority, wanted)
        if engine.streams.log.upkeep is None:
            raise InputError("only a store in a SQLite file can be archived")
        keeper = _Archivist(engine, StreamName(agent_id), actor=actor)
        work = _Work(engine, *await keeper.look(), before, Path(to))
        await engine.waiter.away(work.write)
        try:
            options: WriteOptions = {"reason": reason or work.text, "expected_version": work.seen}
            append = Append(work.stream, partial(_ended, work.stream), EMPTY, options, actor=actor)
            append.source, append.authority = work.source, self._authority
            version = await engine.waiter.write(append, engine.write_seconds)
        except OutcomeUnknown:
            engine.gate.note(self._authority, wanted)
            raise  # it may be done, and then the archive is needed
        except StatecoreError:
            work.discard()
            raise  # whatever else ends this, the event may be on its way all the same
        engine.gate.note(self._authority, wanted)
        return work.result(version)

    async def archive_all(
        self: _ManyAgents,
        *,
        before: datetime,
        to: str | Path,
        actor: str | None = None,
        reason: str | None = None,
    ) -> list[Archiving]:
        """Archive every agent that has anything before a time; return what went where.

        One after the other, each as ``archive`` does it, to a file of its own in a folder. Files
        are named by the agent's pseudonym and its version, so that their names tell nothing.

        Args:
            before: a time, with its zone.
            to: the folder, which must be there.
            actor: who does it.
            reason: why.

        Raises:
            as ``archive`` does. What was archived until then stays so; where ``erase`` is not
            permitted of one of them, none is.
        """
        done, gate, births = [], self._engine.gate, await self.agents()
        for birth in births:
            gate.decide(gate.now(), self._authority, Request(Permission.ERASE, birth.agent_id))
        for birth in births:
            if birth.branch == MAIN:
                stream_id = self._engine.streams.id_of(StreamName(birth.agent_id))
                version = self._engine.streams.log.version(stream_id)
                path = Path(to) / f"{stream_id.hex()}-{version}.archive"
                with suppress(_Nothing):
                    made = self.archive(
                        birth.agent_id, before=before, to=path, actor=actor, reason=reason
                    )
                    done.append(await made)
        return done


class BlockingArchiving:
    """The part of ``BlockingStore`` that archives; see ``StoreArchiving``."""

    store: StateStore

    def archive(
        self,
        agent_id: str,
        *,
        before: Point,
        to: str | Path,
        actor: str | None = None,
        reason: str | None = None,
    ) -> Archiving:
        """Move the bodies of events before a moment to a file; see ``StateStore.archive``."""
        work = self.store.archive(agent_id, before=before, to=to, actor=actor, reason=reason)
        return run(work)

    def archive_all(
        self,
        *,
        before: datetime,
        to: str | Path,
        actor: str | None = None,
        reason: str | None = None,
    ) -> list[Archiving]:
        """Archive every agent that has anything before a time; see ``StateStore.archive_all``."""
        return run(self.store.archive_all(before=before, to=to, actor=actor, reason=reason))


class _Work:
    """One archive, up to the event that says so."""

    def __init__(
        self, engine: Engine, stream: Stream, forks: list[int], before: Point, path: Path
    ) -> None:
        self.stream = stream
        self.source: Source
        self.seen = self.first = self.horizon = 0
        self._engine = engine
        self._before = before
        self._forks = forks
        self._path = path.expanduser()

    def write(self) -> None:
        """Write the archive, and have it read back, under its name."""
        engine, stream = self._engine, self.stream
        check_text("name of the archive", self._path.name)
        root = engine.streams.refresh(stream)
        stream.require_readable(engine.clock())
        if not root.version:
            raise VersionNotFound(f"there is no agent {stream.name}")
        self.seen = root.version
        horizon = min([version_of(self._before, stream, root, engine.timeline), *self._forks])
        stream.require_here(horizon)
        known = engine.streams.archives(stream)
        first = known[-1].horizon if known else stream.first_own
        if horizon <= first:
            raise _Nothing(f"{stream.name}: there is nothing to archive before version {horizon}")
        if self._path.is_file():
            raise InputError(self._tell_of_file(first, known))
        draft = ArchiveDraft(self._path, engine.streams.log.log_id)
        try:
            base = self._fold_to(first, horizon, draft, known)
            made = draft.finish()
            self._read_back(made, first, horizon)
            digest = digest_of(made)
            draft.publish()
        finally:
            draft.discard()
        self.first, self.horizon = first, horizon
        archive = Archive(first, horizon, 0, self._path.name, digest)
        self.source = Source(
            EventType.ARCHIVED,
            archives=(*known, archive),
            horizon_root=pack_root(base),
            birth=stream.birth,
        )

    @property
    def text(self) -> str:
        """What the event gives for a reason, where nobody gives one."""
        return f"versions {self.first} to {self.horizon - 1} are in {self._path.name}"

    def discard(self) -> None:
        """Take the archive away: nothing was cut."""
        self._path.unlink(missing_ok=True)

    def result(self, version: int) -> Archiving:
        """Return what came of it, as the event of a version says."""
        size, events = self._path.stat().st_size, self.horizon - self.first
        whose = self.stream.name.agent_id
        return Archiving(whose, self._path, events, size, self.first, self.horizon, version)

    def _tell_of_file(self, first: int, known: tuple[Archive, ...]) -> str:
        """Say of the file that has the name already whether it is needed."""
        there, name = f"{self._path} is there already", self.stream.name
        with suppress(StatecoreError, OSError):  # then it is none of ours
            digest = digest_of(self._path)
            for archive in known:
                if archive.digest == digest:
                    return f"{there}, and needed: version {archive.event} of {name} names it"
            file = ArchiveFile(self._path, self._engine.streams.log.log_id)
            try:
                is_ours = file.body(self.stream.id, first) is not None
            finally:
                file.close()
            if is_ours:
                return (
                    f"{there}, and no event of {name} names it: what was broken off left it, and "
                    "unless somebody is archiving to it right now it may be deleted"
                )
        return f"{there}: an archive is a new file"

    def _fold_to(
        self, first: int, horizon: int, draft: ArchiveDraft, known: tuple[Archive, ...]
    ) -> Root:
        """Open all events up to the horizon, put the bodies into the archive; return the state.

        It comes of the events alone, or of what an event says of an earlier horizon.
        """
        root = self._base(known)
        for rows in self._pages(min(first - 1, root.version), horizon):
            records = [self.stream.sealer.open(version, stored) for version, _, stored in rows]
            root = fold(root, [record for record in records if record.version > root.version])
            bodies = [(version, _body(stored)) for version, _, stored in rows]
            draft.add(self.stream.id, [each for each in bodies if first <= each[0] < horizon])
        return root

    def _base(self, known: tuple[Archive, ...]) -> Root:
        """Return the state that the events not archived yet go on from."""
        if not known:
            return empty(self.stream.first_own - 1)
        last = known[-1]
        record = self._engine.timeline.record(self.stream, last.event)
        return unpack_root(last.horizon, record.horizon_root)

    def _read_back(self, made: Path, first: int, horizon: int) -> None:
        """Hold what was written against the events that are to be cut.

        Raises:
            StoreFailure: it is not what was written.
        """
        file = ArchiveFile(made, self._engine.streams.log.log_id)
        try:
            for rows in self._pages(first - 1, horizon - 1):
                for version, _, stored in rows:
                    body = file.body(self.stream.id, version)
                    if body is None or mend(version, cut(stored, version), body) != stored:
                        raise StoreFailure(f"{self._path}: what was written is not what is there")
        finally:
            file.close()

    def _pages(self, after: int, until: int) -> Iterator[list[Row]]:
        """Yield the rows after a version and up to another, page by page, none left out."""
        while after < until:
            rows = self._engine.streams.log.read(self.stream.id, after, until, _PAGE)
            if not rows or rows[0][0] != after + 1 or rows[-1][0] != after + len(rows):
                raise DamagedRecord(f"{self.stream.name}: a version after {after} is missing")
            yield rows
            after = rows[-1][0]


def _body(stored: bytes) -> bytes:
    return stored[header_length(stored) :]


def _ended(stream: Stream) -> Birth:
    raise Erased(f"{stream.name} was erased; there is nothing to archive")
