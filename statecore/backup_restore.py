"""A store restored from a backup: at its end, or exactly as it was at any moment before."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import apsw

from statecore.backup import Backup, Destination, Listing
from statecore.backup.destination import sync_folder
from statecore.backup.segment import Content, Extent
from statecore.backup.until import All, AtPosition, AtTime, AtVersion, Until
from statecore.database import connect, explain, explain_os
from statecore.errors import Damage, InputError, KeyMissing, NotFound, Unproven
from statecore.events import to_microseconds
from statecore.keys import FileKeyStore, KeyProvider, KeyRing
from statecore.opening import open as open_store
from statecore.opening import provider_from
from statecore.projections.audit_tree import AuditTree, TreeKeeper
from statecore.recorders.sqlite.copying import CopyTarget
from statecore.stream import MAIN, StreamName
from statecore.streams import pseudonym
from statecore.transparency.checkpoint import Checkpoint, parse_checkpoint
from statecore.transparency.note import parse_note
from statecore.transparency.policy import Policy, judge
from statecore.verifying import policy_of, read_outside
from statecore.waiting import run
from statecore.went_back import WentBack, note_restore

_BESIDE: Final = ("", "-wal", "-shm", "-journal", "-lock")


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
    is_recorded: bool
    """Whether an event in the restored store says that it went back."""
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
    that takes the keys. Its audit tree has another history from there on: back it up elsewhere.

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
        Damage: the backup is not as it was taken, or not what was signed.
        Unproven: a head is not signed by whom the policy trusts, or an anchor does not hold.
        KeyMissing, WrongKey, InvalidKey: keys are needed, and not there.
        StoreFull, StoreReadOnly, StoreFailure, StoreUnsupported: as named.
    """
    path = Path(location).expanduser()
    _require_new(path)
    trusted = policy_of(policy)
    outside = [(str(each), read_outside(Path(each), "anchor")) for each in anchors]
    backup = Backup(place)
    listing = backup.require_listing()
    with _keys_beside(path, key_store) as keys:
        provider = provider_from(key, passphrase)
        wanted = _wanted(at, agent_id, branch, keys, provider)
        with _draft(path) as draft:
            work = _Restoring(backup, listing, wanted, draft)
            work.fill(on_progress)
            work.prove(trusted, outside)
            went_back = work.finish()
            is_recorded = record and went_back is not None
            if is_recorded and went_back is not None:
                _record(draft, keys, provider, went_back)
            _put_in_place(draft, path)
    return RestoreResult(
        path=path,
        events=work.size,
        position=work.position,
        root=work.root,
        signed=work.signed,
        left=went_back.events - went_back.kept if went_back else 0,
        is_recorded=is_recorded,
        needs_keys=not keys.exists(),
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
            raise InputError("a time needs a time zone; use datetime.now(UTC)")
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
        self._is_cut = False
        self.position = self.size = self.signed = 0
        self.root = b""

    def fill(self, on_progress: Callable[[int, int], None]) -> None:
        """Bring in what is wanted, and as much behind it as the next signed head covers."""
        for extent, content in self._segments():
            if self._target is None:
                self._target = CopyTarget(self._draft, extent.log_id)
            kept = self._keep(self._target, content)
            self.size += sum(event.is_ours for event in content.events[:kept])
            self._extents.append(extent)
            self._heads |= dict(content.heads)
            self._is_cut = self._is_cut or self._until.is_reached(extent)
            on_progress(extent.last, self._listing.end)
            if self._is_cut and any(size >= self.size for size in self._heads):
                break
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
        else:
            target.keep_tracking(content.tracking)
        target.add_writers(content.writers)
        return kept

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


def _require_new(path: Path) -> None:
    if not path.parent.is_dir():
        raise InputError(f"there is no directory {path.parent}")
    for end in _BESIDE:
        beside = path.with_name(path.name + end)
        if end != "-lock" and beside.exists():
            raise InputError(f"{beside} is there: a store is only restored to a new path")


@contextmanager
def _keys_beside(path: Path, given: str | Path | None) -> Iterator[Path]:
    """Copy a key store to where the new store's is looked for; take it away if that fails."""
    keys = path.with_name(path.name + "-keys")
    if given is None:
        yield keys
        return
    source = Path(given).expanduser()
    if keys.exists():
        raise InputError(f"there is a key store {keys} already")
    _copy_database(source, keys)
    try:
        yield keys
    except BaseException:
        keys.unlink(missing_ok=True)
        raise


def _copy_database(source: Path, target: Path) -> None:
    if not source.is_file():
        raise KeyMissing(f"there is no key store {source}")
    try:
        database, copy = connect(source), connect(target, create=True)
        try:
            with copy.backup("main", database, "main") as copying:
                copying.step()
        finally:
            copy.close()
            database.close()
        _sync(target)
    except apsw.Error as error:
        raise explain(error, target) from error


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """Give a name beside the new store's; nothing of it is left behind."""
    draft = path.with_name(f".{path.name}.restoring-{secrets.token_hex(8)}")
    try:
        yield draft
    finally:
        for end in _BESIDE:
            draft.with_name(draft.name + end).unlink(missing_ok=True)


def _record(draft: Path, keys: Path, provider: KeyProvider, went_back: WentBack) -> None:
    if not keys.exists():
        raise KeyMissing(
            f"{went_back.events - went_back.kept:,} signed events are left behind, and to record "
            f"that takes the keys: name the key store, or have it at {keys}"
        )
    with open_store(draft, key=provider, create=False, key_store=keys, snapshots=False) as store:
        run(note_restore(store.store._engine, went_back))


def _put_in_place(draft: Path, path: Path) -> None:
    """Give the file its name, durably, unless somebody else did meanwhile."""
    _sync(draft)
    try:
        path.hardlink_to(draft)
        draft.unlink()
        sync_folder(path.parent)
    except FileExistsError as error:
        raise InputError(f"{path} is there: a store is only restored to a new path") from error
    except OSError as error:
        raise explain_os(error, path, "made") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise explain_os(error, path, "written") from error
    finally:
        os.close(descriptor)
