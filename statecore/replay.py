"""Replay: the rows and records of a stream, those shared with its parents too, and its states.

Every route to a state leads to the same answer and is only chosen for its cost: a warm root, a
snapshot and the events after it, or all events from the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from statecore.codec import Record
from statecore.errors import Archived, DamagedRecord
from statecore.recorders import LogStore, Row, row_of
from statecore.root_image import unpack_root
from statecore.state import Root, empty, fold, forked
from statecore.stream import Aids, Stream

WARM_DISTANCE: Final = 16  # versions between roots kept warm
FAR: Final = 64  # and between those that a long replay leaves behind


class Replay:
    """Reads streams whose keys are loaded. Safe to use from any thread."""

    def __init__(self, log: LogStore, aids: Aids) -> None:
        self._log = log
        self._snapshots = aids.snapshots
        self._roots = aids.roots

    def rows(
        self, stream: Stream, after: int, until: int, limit: int = -1, *, back: bool = False
    ) -> list[Row]:
        """Return rows as the log does, a parent's where the stream shares them."""
        parent = stream.parent
        if parent is None or after >= stream.fork:
            return self._log.read(stream.id, after, until, limit, back=back)

        own, shared = (stream, stream.fork, until), (parent, after, min(until, stream.fork))
        if until <= stream.fork:
            return self.rows(*shared, limit, back=back)
        first, second = (own, shared) if back else (shared, own)
        rows = self.rows(*first, limit, back=back)
        if len(rows) == limit:
            return rows
        rest = limit if limit < 0 else limit - len(rows)
        return rows + self.rows(*second, rest, back=back)

    def open(self, stream: Stream, version: int, stored: bytes) -> Record:
        """Return the record of a row."""
        return stream.owner(version).sealer.open(version, stored)

    def record(self, stream: Stream, version: int) -> Record:
        """Return one record."""
        owner = stream.owner(version)
        _, _, stored = row_of(self._log, owner.id, version)
        return owner.sealer.open(version, stored)

    def records(self, stream: Stream, after: int, until: int) -> Iterator[Record]:
        """Return the records after a version and up to another, oldest first.

        Raises:
            DamagedRecord: one is missing.
        """
        parent = stream.parent
        if parent is not None and after < stream.fork:
            yield from self.records(parent, after, min(until, stream.fork))
            after = stream.fork
        opened, expected = stream.sealer.open, after
        for version, _, stored in self._log.read(stream.id, after, until) if after < until else ():
            expected += 1
            if version != expected:
                break
            yield opened(version, stored)
        else:
            expected += 1
        if expected <= until:
            raise DamagedRecord(f"{stream.name}: version {expected} is missing")

    def root_at(self, stream: Stream, version: int) -> Root:
        """Return the whole state at a version that there is.

        Raises:
            Archived: it is before those that are here.
        """
        stream = stream.owner(version)
        while True:
            horizon = stream.horizon
            stream.require_here(version)
            try:
                return self._root_at(stream, version)
            except Archived:
                if stream.horizon == horizon:
                    raise
                # What it began with was archived meanwhile; the new horizon is another beginning.

    def _root_at(self, stream: Stream, version: int) -> Root:
        if version == stream.root.version:
            return stream.root
        root = self._begin(stream, version)
        if root.version > version:  # the horizon moved since it was looked at
            raise Archived(f"{stream.name}: version {version} was archived meanwhile")
        while root.version < version:
            step = FAR if version - root.version > FAR else WARM_DISTANCE
            until = min(version, (root.version // step + 1) * step)
            root = fold(root, self.records(stream, root.version, until))
            self._roots.keep(stream.id, root)
        return root

    def is_near(self, stream: Stream, version: int) -> bool:
        """Tell whether the state at a version is at hand, or a few events away from one that is."""
        stream = stream.owner(version)
        if version == stream.root.version:
            return True
        warm = self._roots.nearest(stream.id, version)
        return warm is not None and version - warm.version <= FAR

    def base(self, stream: Stream, version: int) -> Root:
        """Return the state that a replay up to a version begins with: nothing, or the parent's at
        the fork; or, where what is before was archived, the state at the horizon."""
        if stream.parent is None:
            return self.horizon_root(stream, version) or empty(stream.first_own - 1)
        return forked(self.root_at(stream.parent, stream.fork), stream.parent.name[1:])

    def horizon_root(self, stream: Stream, version: int) -> Root | None:
        """Return the state at the last horizon up to a version, as its event says; ``None`` without
        one, and of a fork that began before it.

        Raises:
            DamagedRecord: it does not say it.
        """
        while stream.parent is not None:
            stream, version = stream.parent, min(version, stream.fork)
        last = (*stream.missing[-1:], *stream.archives[-1:])  # once: others archive
        before = [each for each in last if each.horizon <= version]
        archived = max(before, key=lambda each: each.horizon, default=None)
        if archived is None:
            return None
        warm = self._roots.nearest(stream.id, archived.horizon)
        if warm is not None and warm.version == archived.horizon:
            return warm
        record = self.record(stream, archived.event)
        try:
            root = unpack_root(archived.horizon, record.horizon_root)
        except ValueError as error:
            raise DamagedRecord(f"version {record.version} does not say a state") from error
        self._roots.keep(stream.id, root)
        return root

    def _begin(self, stream: Stream, version: int) -> Root:
        """Return the nearest root to replay from."""
        start = self._roots.nearest(stream.id, version)
        if start is None or start.version < stream.horizon_before(version):
            start = self.base(stream, version)  # what was warm before may be archived
        if version - start.version <= 2 * FAR:
            return start
        kept = self._snapshots.load(stream, version) or start
        return max(start, kept, key=lambda root: root.version)
