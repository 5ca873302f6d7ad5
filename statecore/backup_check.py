"""Verification of a backup: whole, by anybody; and every event opened by who has the keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from statecore.backup import Backup, Destination, Listing
from statecore.backup.chain import require_chained
from statecore.backup.leaves import Leaves
from statecore.backup.segment import Content, Extent, Name
from statecore.codec import Sealer
from statecore.errors import Archived, Damage, DamagedRecord, Erased, NotFound
from statecore.events import EventType
from statecore.keys import FileKeyStore, KeyProvider, KeyRing
from statecore.keys.ring import LOG_EPOCH
from statecore.opening import provider_from
from statecore.projections.cut_check import CutCheck
from statecore.projections.findings import Report
from statecore.projections.head_check import Anchor, check_heads, read_heads
from statecore.transparency.policy import Policy
from statecore.verifying import policy_of, read_anchor

_TOLD_MAX: Final = 20  # damaged events; there may be a million
_NAMES_TOLD_MAX: Final = 3


def verify_backup(
    place: str | Path | Destination,
    *,
    policy: Policy | bytes | str | Path | None = None,
    anchors: Sequence[str | Path] = (),
    key: bytes | str | KeyProvider | None = None,
    passphrase: str | None = None,
    key_store: str | Path | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Verify a backup by reading all of it, and have all findings in the report.

    Every segment is hashed, must go on from the one before, and every event is hashed into the
    audit tree, which must be the one that was signed. Trust comes from the policy and the anchors
    alone. With a key store, every event is opened as well, and an event must say of each that has
    no body that it was archived.

    Args:
        place: where the backup lies: a folder, or a URL.
        policy: whom the verifier trusts (c2sp.org/tlog-policy): the file, or what is in it.
        anchors: files with signed heads that were kept outside.
        key: opens the key store; see ``open``.
        passphrase: the same.
        key_store: the file with the store's wrapped keys; without, no event is opened.
        on_progress: called with how many events were hashed so far.

    Raises:
        NotFound: there is no backup.
        Malformed: the policy is none.
        InputError: an anchor can't be read.
        KeyMissing, WrongKey, InvalidKey: the key store can't be opened.
        StoreFailure, StoreUnsupported: the destination can't be read.
    """
    backup = Backup(place)
    trusted = policy_of(policy)
    known = [read_anchor(Path(each)) for each in anchors]
    listing = backup.require_listing()
    report = Report(_log_id(backup, listing), "digests" if key_store is None else "contents")
    check = _Check(backup, listing, report)
    if key_store is not None:
        store = FileKeyStore(Path(key_store).expanduser())
        try:
            ring = KeyRing.open(store, provider_from(key, passphrase), report.log_id)
            check.opened = _Opened(ring, report)
            check.run(known, trusted, on_progress)
        finally:
            store.close()
    else:
        check.run(known, trusted, on_progress)
    return report


def _log_id(backup: Backup, listing: Listing) -> bytes:
    """Return which log the first segment says it is of; zeros where none says so."""
    for name in listing.segments:
        try:
            return backup.extent(name).log_id
        except (Damage, NotFound):
            continue  # told of with all others
    return bytes(16)


class _Check:
    def __init__(self, backup: Backup, listing: Listing, report: Report) -> None:
        self._backup = backup
        self._listing = listing
        self._report = report
        self._leaves = Leaves()
        self._versions: dict[bytes | str, int] = {}
        self._heads: dict[bytes, int] = {}
        self._roots: dict[int, bytes] = {0: self._leaves.frontier.root()}
        self._walked = 0  # segments of the chain
        self._is_broken = False
        self.opened: _Opened | None = None

    def run(
        self, known: Sequence[Anchor], policy: Policy | None, on_progress: Callable[[int], None]
    ) -> None:
        """Read all there is."""
        report = self._report
        _, outside = read_heads([], known, report)
        for size in self._listing.heads:
            self._heads[self._backup.head(size)] = size
        wanted = {head.checkpoint.size for head in outside} | {*self._heads.values()}
        spare = self._spare_extents()
        self._walk(wanted | {size for extent in spare for size in _edges(extent)}, on_progress)
        report.events, report.streams = self._leaves.frontier.size, self._leaves.streams
        report.root = self._leaves.frontier.root()
        self._look_at_spare(spare)
        self._look_behind()
        heads = sorted((size, note) for note, size in self._heads.items())
        if self._is_broken:  # what is missing was told; that it was signed is no news
            heads = [head for head in heads if head[0] <= report.events]
        inside, _ = read_heads(heads, (), report)
        check_heads(inside, outside, self._roots, policy, report)
        if self.opened is not None:
            self.opened.tell(is_whole=not self._is_broken)

    def _walk(self, wanted: set[int], on_progress: Callable[[int], None]) -> None:
        """Hash the chain, up to its end or to the first segment that is not whole."""
        before: Extent | None = None
        for name in self._listing.chain:
            try:
                extent, content = self._backup.read(name)
                require_chained(before, extent)
                self._take(extent, content, wanted)
            except (Damage, NotFound) as error:
                self._break("damaged-segment", name.after + 1, name.last, str(error))
                return
            before = extent
            self._walked += 1
            on_progress(self._leaves.frontier.size)

    def _take(self, extent: Extent, content: Content, wanted: set[int]) -> None:
        for event in content.events:
            version = self._versions.get(event.stream, event.version - 1)
            if event.is_ours and event.version != version + 1:
                raise Damage(
                    f"the segment {extent.name} has version {event.version} of a stream behind "
                    f"version {version}: events were taken out or put in"
                )
            self._versions[event.stream] = event.version
        sizes = wanted | {size for size, _ in content.heads} | {*_edges(extent)}
        roots = self._leaves.take(content.events, sizes)
        if [roots[size] for size in _edges(extent)] != [extent.root_before, extent.root]:
            raise Damage(f"the segment {extent.name} holds other events than it says")
        self._roots |= roots
        self._heads |= {note: size for size, note in content.heads}
        if self.opened is not None:
            self.opened.look(content)

    def _break(self, kind: str, first: int, last: int, why: str) -> None:
        self._is_broken = True
        self._report.find(
            kind, f"{why}; positions {first:,} to {last:,} can't be restored, nor what is behind"
        )

    def _spare_extents(self) -> list[Extent]:
        """Return what segments say that the chain does without: others go further."""
        chain, end, found = {*self._listing.chain}, self._listing.end, []
        for name in self._listing.segments:
            if name not in chain and name.last <= end:
                try:
                    found.append(self._backup.extent(name))
                except Damage as error:
                    self._report.find("damaged-segment", str(error))
                except NotFound:
                    continue  # pruned meanwhile
        return found

    def _look_at_spare(self, spare: list[Extent]) -> None:
        for extent in spare:
            said = [extent.root_before, extent.root]
            if [self._roots.get(size) for size in _edges(extent)] != said and not self._is_broken:
                self._report.find(
                    "other-history", f"the segment {extent.name} is not of this history"
                )
        if spare:
            names = ", ".join(str(extent.name) for extent in spare[:_NAMES_TOLD_MAX])
            self._report.notes.append(f"{len(spare)} segments are not needed: {names}")

    def _look_behind(self) -> None:
        """Tell what is missing, and what is there of that behind it."""
        chain, behind = self._listing.chain, self._listing.behind
        if behind:
            first = min(name.after for name in behind)
            self._break(
                "missing-segment",
                self._listing.end + 1,
                max(first, self._listing.end + 1),
                f"no segment leads from position {self._listing.end:,} on",
            )
        left = chain[self._walked + 1 :] if self._walked < len(chain) else []
        whole = 0
        for name in [*left, *behind]:
            whole += self._is_whole(name)
        if whole:
            self._report.notes.append(f"{whole} segments behind that are whole by their digests")

    def _is_whole(self, name: Name) -> bool:
        try:
            extent, _ = self._backup.read(name)
        except (Damage, NotFound) as error:
            self._report.find("damaged-segment", str(error))
            return False
        if extent.log_id != self._report.log_id:
            self._report.find("foreign-segment", f"the segment {name} is of another store")
            return False
        return True


def _edges(extent: Extent) -> tuple[int, int]:
    return extent.size_before, extent.size


class _Opened:
    """Opens every event, and counts."""

    def __init__(self, ring: KeyRing, report: Report) -> None:
        self._ring = ring
        self._report = report
        self._sealers: dict[bytes, Sealer] = {}
        self._cuts: dict[bytes, CutCheck] = {}
        self._prefixes: dict[int, bytes] = {}
        self._events = self._erased = self._archived = self._damaged = 0

    def look(self, content: Content) -> None:
        """Open the events of a segment."""
        self._prefixes |= content.writers
        for event in content.events:
            if not event.is_ours or not isinstance(event.stream, bytes):
                continue
            cuts = self._cuts.get(event.stream)
            if cuts is None:
                cuts = self._cuts[event.stream] = CutCheck(event.version)
            try:
                record = self._sealer(event.stream).open(event.version, event.stored)
            except Erased:
                self._erased += 1
            except Archived:
                self._archived += 1
                cuts.meet(event.version, event.stored, None)
            except DamagedRecord as error:
                cuts.pass_over(event.version)
                self._find_damaged(event.position, event.stream, error)
            else:
                self._events += 1
                cuts.meet(event.version, event.stored, record)
                if record.type == EventType.ERASED:
                    self._cuts[event.stream] = CutCheck(event.version + 1)

    def _find_damaged(self, position: int, stream: bytes, error: DamagedRecord) -> None:
        self._damaged += 1
        if self._damaged <= _TOLD_MAX:
            where = f"position {position:,}, stream {stream.hex()}"
            self._report.find("damaged-event", f"{where}: {error}")

    def _sealer(self, stream: bytes) -> Sealer:
        sealer = self._sealers.get(stream)
        if sealer is None:
            keys = {LOG_EPOCH: self._ring.log_key} | self._ring.keys(stream)
            sealer = Sealer(self._ring.log_id, stream, keys, self._prefixes.get)
            self._sealers[stream] = sealer
        return sealer

    def tell(self, *, is_whole: bool) -> None:
        """Say what it came to.

        Args:
            is_whole: whether all was read; else what says where bodies are may be what wasn't.
        """
        self._report.notes.append(
            f"{self._events:,} events were opened with their keys; {self._erased:,} were erased, "
            "on purpose"
        )
        if self._archived:
            self._report.notes.append(f"{self._archived:,} events are archived")
        if self._damaged > _TOLD_MAX:
            more = self._damaged - _TOLD_MAX
            self._report.find("damaged-event", f"and {more:,} more events do not open")
        if is_whole:
            self._look_at_cuts()

    def _look_at_cuts(self) -> None:
        """Hold what was archived against what the events say; a restore needs them, too."""
        for stream, cuts in self._cuts.items():
            if gap := cuts.gap():
                first, last, count = gap
                self._report.find(
                    "missing-body",
                    f"stream {stream.hex()}: {count:,} events between versions {first:,} and "
                    f"{last:,} have no body, and no event of the backup says that they were "
                    "archived",
                )
