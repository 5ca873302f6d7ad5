"""A store restored from a backup: at its end, or exactly as it was at any moment before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from statecore.backup import Backup, Destination, Listing
from statecore.backup.placing import draft_beside, keys_beside, put_in_place, require_new
from statecore.backup.segment import Content, Extent
from statecore.backup.until import All, AtPosition, AtTime, AtVersion, Until
from statecore.codec import read_epoch
from statecore.errors import Damage, InputError, KeyMissing, NotFound, Unproven
from statecore.events import to_microseconds
from statecore.keys import FileKeyStore, KeyProvider, KeyRing
from statecore.keys.ring import LOG_EPOCH
from statecore.opening import open as open_store
from statecore.opening import provider_from
from statecore.projections.audit_tree import AuditTree, TreeKeeper
from statecore.recorders.sqlite.copying import Copied, CopyTarget
from statecore.stream import MAIN, StreamName
from statecore.streams import pseudonym
from statecore.transparency.checkpoint import Checkpoint, parse_checkpoint
from statecore.transparency.note import parse_note
from statecore.transparency.policy import Policy, judge
from statecore.verifying import policy_of, read_anchor
from statecore.waiting import run
from statecore.went_back import WentBack, note_restore


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What was restored."""

    path: Path
    events: int
    """Events in the audit tree of the restored store, as of the moment it was restored to."""
    position: int
    """The position of the last of them."""
    root: bytes
    """Of their tree."""
    signed: int
    """The events under the smallest signed head that proves all of them; else under the last."""
    left: int
    """Events of the backup's last signed head that were left behind."""
    erased: int
    """Streams that were erased after the moment, and are erased in the restored store again."""
    is_recorded: bool
    """Whether events in the restored store say so, and that it went back."""
    needs_keys: bool
    """Whether its key store is not there yet."""


def restore(
    place: str | Path | Destination,
    location: str | Path,
    *,
    at: int | datetime | None = None,
    agent_id: str | None = None,
    branch: str = MAIN,
    policy: Policy | bytes | str | Path | None = None,
    anchors: Sequence[str | Path] = (),
    key: bytes | str | KeyProvider | None = None,
    passphrase: str | None = None,
    key_store: str | Path | None = None,
    record: bool = True,
    on_progress: Callable[[int, int], None] = lambda _, __: None,
) -> RestoreResult:
    """Make a new store of a backup. It is there whole, durably, when this returns, or not at all.

    All that is restored is hashed and held against the heads that were signed. Where events under
    a signed head are left behind, an event in the new store says so (``StateStore.restores``);
    that takes the keys. What was erased after the moment is erased again. The audit tree has
    another history from there on: back it up elsewhere.

    Args:
        place: where the backup lies: a folder, or a URL.
        location: the new store's file, which must not be there. Its key store is the file of its
            name with ``-keys``, and not in the backup: bring it from its own.
        at: the moment: a position in the log, or a time; with ``agent_id``, the version of its
            state. Without, all there is.
        agent_id: whose version ``at`` is.
        branch: on which branch.
        policy: whom the verifier trusts; then every head must be signed by that log's key.
        anchors: files with signed heads kept outside, which must hold.
        key: opens the key store; see ``open``.
        passphrase: the same.
        key_store: a key store to copy beside the new store first.
        record: have the new store say that it went back. Without, it needs no key.
        on_progress: called with how many events were read, of how many there are.

    Raises:
        InputError: there is a store already, or the moment makes no sense.
        NotFound: there is no backup.
        VersionNotFound: the backup does not reach the moment.
        Archived: at the moment events were not archived yet that were so in the backup.
        Damage: the backup is not as it was taken, or not what was signed.
        Unproven: a head is not signed by whom the policy trusts, or an anchor does not hold.
        KeyMissing, WrongKey, InvalidKey: keys are needed, and not there.
        StoreFull, StoreReadOnly, StoreFailure, StoreUnsupported: as named.
    """
    path = Path(location).expanduser()
    require_new(path)
    trusted = policy_of(policy)
    outside = [read_anchor(Path(each)) for each in anchors]
    backup = Backup(place)
    listing = backup.require_listing()
    with draft_beside(path) as draft:
        keys = keys_beside(path, draft, key_store)
        provider = provider_from(key, passphrase)
        wanted = _wanted(at, agent_id, branch, keys, provider)
        work = _Restoring(backup, listing, wanted, draft)
        work.fill(on_progress)
        work.prove(trusted, outside)
        went_back = work.finish()
        is_recorded = record and (went_back is not None or bool(work.erased))
        if is_recorded:
            _record(draft, keys, provider, went_back, work.erased)
        needs_keys = not keys.exists()
        put_in_place(draft, path)
    return RestoreResult(
        path=path,
        events=work.size,
        position=work.position,
        root=work.root,
        signed=work.signed,
        left=went_back.events - went_back.kept if went_back else 0,
        erased=len(work.erased),
        is_recorded=is_recorded,
        needs_keys=needs_keys,
    )


def _wanted(
    at: int | datetime | None, agent_id: str | None, branch: str, keys: Path, provider: KeyProvider
) -> Until:
    if at is None:
        if agent_id is not None:
            raise InputError("say which version of the agent's state, with at=")
        return All()
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise InputError("a time needs a time zone, as in 2026-03-02T09:30:00Z")
        return AtTime(to_microseconds(at))
    if at < 1:
        raise InputError("positions and versions begin with 1")
    if agent_id is None:
        return AtPosition(at)
    store = FileKeyStore(keys)
    try:
        vault = store.load()
        if vault is None:
            raise KeyMissing(f"the key store {keys} is empty")
        ring = KeyRing.open(store, provider, vault.log_id)
        return AtVersion(pseudonym(ring, StreamName(agent_id, branch)), at)
    finally:
        store.close()


class _Restoring:
    """One restore, up to the file that only has to be put in its place."""

    def __init__(self, backup: Backup, listing: Listing, until: Until, draft: Path) -> None:
        self._backup = backup
        self._listing = listing
        self._until = until
        self._draft = draft
        self._target: CopyTarget | None = None
        self._extents: list[Extent] = []
        self._heads: dict[int, bytes] = {}
        self._erased: set[bytes | str] = set()
        self._is_cut = False
        self.erased: list[bytes] = []
        self.position = self.size = self.signed = 0
        self.root = b""

    def fill(self, on_progress: Callable[[int, int], None]) -> None:
        """Bring in what is wanted, and as much behind it as the next signed head covers."""
        is_proved = False
        for extent, content in self._segments():
            if is_proved:
                self._note_erasures(content.events)
                continue
            if self._target is None:
                self._target = CopyTarget(self._draft, extent.log_id)
            kept = self._keep(self._target, content)
            self.size += sum(event.is_ours for event in content.events[:kept])
            self._extents.append(extent)
            self._heads |= dict(content.heads)
            self._is_cut = self._is_cut or self._until.is_reached(extent)
            on_progress(extent.last, self._listing.end)
            is_proved = self._is_cut and any(size >= self.size for size in self._heads)
        assert self._target is not None, "a listing has a segment at least"
        if not self._is_cut:
            self._until.require_reached(self._extents[-1])
            if self._listing.behind and isinstance(self._until, All):
                raise Damage(
                    f"segments are missing behind position {self._listing.end:,}: say at= to have "
                    "what is before"
                )
        self._target.index()
        TreeKeeper().extend(self._target.tree, self._extents[-1].last)

    def _segments(self) -> Iterator[tuple[Extent, Content]]:
        """Yield segments in order; those behind what is wanted only as far as they are whole."""
        try:
            yield from self._backup.segments(self._listing)
        except (Damage, NotFound):
            if not self._is_cut:
                raise

    def _keep(self, target: CopyTarget, content: Content) -> int:
        """Add the events of a segment; return how many of them stay."""
        kept, events = 0, content.events
        if not self._is_cut:
            for event in events:
                if not self._until.keeps(event):
                    self._is_cut = True
                    break
                kept += 1
            target.add(events[:kept])
            self.position = events[kept - 1].position if kept else self.position
        if self._is_cut:  # only to prove what is before
            target.add(events[kept:], indexed=False)
            self._note_erasures(events[kept:])
        else:
            target.keep_tracking(content.tracking)
        target.add_writers(content.writers)
        return kept

    def _note_erasures(self, events: Sequence[Copied]) -> None:
        """Note whose keys were destroyed after the moment: what was erased stays erased."""
        self._erased |= {
            event.stream
            for event in events
            if event.is_ours and read_epoch(event.stored) == LOG_EPOCH
        }

    def prove(self, policy: Policy | None, anchors: Sequence[tuple[str, bytes]]) -> None:
        """Hold what was brought in against what was signed.

        Raises:
            Damage, Unproven: it is not that.
        """
        assert self._target is not None
        view, there = AuditTree(self._target.tree), self._extents[-1].size
        for size in self._listing.heads:
            if size not in self._heads and (size <= there or size == self._listing.heads[-1]):
                self._heads[size] = self._backup.head(size)
        for extent in self._extents:
            if view.root(extent.size) != extent.root:
                raise Damage(f"the segment {extent.name} holds other events than it says")
        for size, note in sorted(self._heads.items()):
            said = _checkpoint(note)
            if size > there and not self._is_cut:
                raise Damage(
                    f"{size:,} events were signed, and the backup has {there:,}: its end is "
                    "missing; say at= to have what is there"
                )
            if said.size != size or (size <= there and view.root(size) != said.root):
                raise Damage(f"the backup's events are not those of its signed head of {size:,}")
            if policy is not None:
                judge(policy, note)
        for source, note in anchors:
            self._hold(source, note, view, there, policy)
        proving = [size for size in self._heads if self.size <= size <= there]
        below = [size for size in self._heads if size <= self.size]
        self.signed = min(proving, default=max(below, default=0))
        self.root = view.root(self.size)

    def _hold(
        self, source: str, note: bytes, view: AuditTree, there: int, policy: Policy | None
    ) -> None:
        said = _checkpoint(note)
        if policy is not None:
            judge(policy, note)
        if said.size > there:
            if not self._is_cut:
                raise Unproven(
                    f"{source} was signed over {said.size:,} events, and the backup has {there:,}"
                )
        elif view.root(said.size) != said.root:
            raise Unproven(f"{source} is not a head of this backup's log")

    def finish(self) -> WentBack | None:
        """Take off what is not wanted, and return what the store then went back from."""
        assert self._target is not None
        if self._is_cut:
            self._target.cut(self.position, self.size)
            self.erased = self._target.streams_among(self._erased)
        self._target.even_out()
        for size, note in sorted(self._heads.items()):
            if size <= self.size:
                self._target.tree.keep_head(size, note)
        self._target.finish()
        last = max(self._heads, default=0)
        if last <= self.size:
            return None
        return WentBack(self._heads[last].decode(), last, self.size, self.position)


def _checkpoint(note: bytes) -> Checkpoint:
    try:
        return parse_checkpoint(parse_note(note).text)
    except InputError as error:
        raise Damage(f"a signed head of the backup is none: {error}") from error


def _record(
    draft: Path, keys: Path, provider: KeyProvider, left: WentBack | None, erased: list[bytes]
) -> None:
    """Erase again what was erased later, and record what was left behind."""
    if not keys.exists():
        count = left.events - left.kept if left else 0
        raise KeyMissing(
            f"{count:,} signed events and {len(erased):,} erasures are left behind, and to record "
            f"that takes the keys: name the key store, or have it at {keys}"
        )
    with open_store(draft, key=provider, create=False, key_store=keys, snapshots=False) as store:
        engine = store.store._engine
        if erased:
            engine.sequencer.erase(lambda: erased, reason="was erased before the restore")
        if left is not None:
            run(note_restore(engine, left))
