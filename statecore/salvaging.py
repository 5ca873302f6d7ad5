"""Salvage: what is intact of a damaged store, in a new one. The damaged one is only read."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from statecore.backup.placing import draft_beside
from statecore.errors import (
    Archived,
    Damage,
    Erased,
    ForeignSchema,
    InputError,
    KeyMissing,
    NewerFormat,
    StoreBusy,
    StoreNotFound,
)
from statecore.keys import FileKeyStore, KeyProvider, KeyRing
from statecore.opening import provider_from
from statecore.projections.audit_tree import TreeKeeper
from statecore.recorders.sqlite.datastore import is_open_here
from statecore.recorders.sqlite.filesystem import holders
from statecore.recorders.sqlite.indexing import write_indexes
from statecore.recorders.sqlite.key_files import copy_database, streams_with_keys
from statecore.recorders.sqlite.writing import NewFile
from statecore.recount import Recount
from statecore.survey import Loss, Run, Survey, Surveyor

__all__ = ["Loss", "Run", "Salvaged", "Survey", "salvage"]


@dataclass(slots=True)
class Salvaged:
    """What a salvage came to."""

    survey: Survey
    path: Path
    written: int = 0
    """Events in the new store."""
    snapshots: int = 0
    heads: int = 0
    """Signed heads that hold of the new store; those that were signed over what is lost do not."""
    has_keys: bool = False
    """Whether the key store was copied."""
    has_indexes: bool = False
    """Whether the key history and the ids were made anew, which needs the key."""
    notes: list[str] = field(default_factory=list)


def salvage(
    damaged: str | Path,
    new: str | Path,
    *,
    key: bytes | str | KeyProvider | None = None,
    passphrase: str | None = None,
    without_key: bool = False,
    cut: bool = False,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Salvaged:
    """Write all that is intact in a damaged store's file to a new one, and say what is missing.

    Events keep stream, version and position. What is proven by a seal or by the hash tree is taken,
    and what has the structure of an event where nothing speaks against it; the report says which is
    which. Nobody may have the damaged store open meanwhile. The new file is there whole or not at
    all; its key store is a copy of the other's.

    Args:
        damaged: the store, or what is left of it.
        new: a file that is not there yet.
        key, passphrase: as for ``open``.
        without_key: prove nothing by seals; key history and ids are then to be rebuilt later.
        cut: end each stream before its first gap, so that its agent can go on from there; else what
            is behind a gap is kept, and the agent can't be read there.
        on_progress: called with how many events were written so far.

    Raises:
        StoreNotFound: there is no such file, or no directory for the new one.
        InputError: the new file is there already.
        KeyMissing, WrongKey: as for ``open``.
        StoreBusy: this process has the damaged store open, or, as far as Linux tells, another.
        Damage: nothing in it says which log it was, or it is no file.
    """
    old, path = Path(damaged).expanduser(), Path(new).expanduser()
    _require(old, path)
    with ExitStack() as last_first:
        draft = last_first.enter_context(draft_beside(path))
        scratch = apsw.Connection("")  # a temporary file; what is in it is as sealed as the store
        last_first.callback(scratch.close)
        surveyor, keys = Surveyor(old, scratch), _beside(draft, "-keys")
        notes, has_keys = _copy_keys(old, keys, path)
        ring: KeyRing | None = None
        if has_keys and not without_key:
            ring = open_keys(keys, provider_from(key, passphrase))
            last_first.callback(ring.close)
        elif not without_key:
            raise _no_keys(notes)
        streams = streams_with_keys(keys) if has_keys else []
        done = Salvaged(surveyor.run(ring, streams), path, has_keys=has_keys, notes=notes)
        _write(surveyor, draft, ring, done, on_progress, cut=cut)
        _put_in_place(draft, path)
    return done


def _put_in_place(draft: Path, path: Path) -> None:
    """Give the files their names: the keys first, so that a store is there whole or not at all.

    They are moved, not linked: what is at hand to be saved to may know no links.
    """
    try:
        for end in ("-keys", ""):
            if _beside(draft, end).exists():
                _beside(draft, end).rename(_beside(path, end))
        _sync(path.parent)
    except BaseException:
        _beside(path, "-keys").unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise


def _require(old: Path, new: Path) -> None:
    if not old.exists():
        raise StoreNotFound(f"there is no store at {old}")
    if not old.is_file():
        raise ForeignSchema(f"{old} is not a file")
    if is_open_here(old):
        raise StoreBusy(f"{old} is open in this process; close it before it is salvaged")
    if others := holders(old):
        raise StoreBusy(
            f"process {others[0]} has {old} open; end it, or salvage a copy of all files"
        )
    if not new.parent.is_dir():
        raise StoreNotFound(f"there is no directory {new.parent}")
    for path in (new, _beside(new, "-keys"), _beside(new, "-wal")):
        if path.exists():
            raise InputError(f"{path} is there already; salvage writes to a new file")


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _copy_keys(damaged: Path, copy: Path, new: Path) -> tuple[list[str], bool]:
    """Copy the key store; say what there is to know about it, and whether it could be copied."""
    old = _beside(damaged, "-keys")
    if not old.exists():
        return [f"there is no key store {old}: restore it from its own backup"], False
    try:
        copy_database(old, copy)
    except Damage as error:
        copy.unlink(missing_ok=True)
        return [f"the key store was not copied: {error}; restore it from its own backup"], False
    return [
        f"{new}-keys is a copy of the key store: what is erased in one is not in the other, so "
        "delete the one that is not needed any more"
    ], True


def _no_keys(notes: list[str]) -> KeyMissing:
    return KeyMissing(f"{notes[0]}; or salvage without the key, and prove less")


def open_keys(path: Path, provider: KeyProvider) -> KeyRing:
    """Open a key store, for whatever log it is of.

    Raises:
        KeyMissing, WrongKey: as named.
    """
    key_store = FileKeyStore(path)
    try:
        vault = key_store.load()
        return KeyRing.open(key_store, provider, vault.log_id if vault else b"")
    except BaseException:
        key_store.close()
        raise


def _write(
    surveyor: Surveyor,
    draft: Path,
    ring: KeyRing | None,
    done: Salvaged,
    on_progress: Callable[[int], None],
    *,
    cut: bool,
) -> None:
    evidence, survey = surveyor.evidence, surveyor.survey
    if cut:
        for number, name in surveyor.names.items():
            gaps = [loss.first for loss in survey.losses if loss.stream == name.hex()]
            if gaps:
                evidence.drop_from(number, min(gaps))
    file = NewFile(draft, survey.log_id)
    try:
        file.begin()
        file.name_streams(surveyor.names)
        file.name_writers(surveyor.prefixes)
        last = file.add_events(evidence.chosen(), on_progress)
        done.written = evidence.count()
        if file.even_out():
            done.notes.append(
                "some events are archived: which keys they touched, and their ids, can't be made "
                "anew without their bodies; `statecore rebuild` with the archives does it"
            )
        TreeKeeper().extend(file.tree, last)
        _write_heads(surveyor, file, done, cut=cut)
        _write_snapshots(surveyor, file, done, has_key=ring is not None)
        if ring is not None:
            _index(surveyor, file)
            done.has_indexes = True
        file.commit()
    finally:
        file.close()


def _write_heads(surveyor: Surveyor, file: NewFile, done: Salvaged, *, cut: bool) -> None:
    """Keep the heads that hold: those over events of which none is lost."""
    if cut and surveyor.survey.losses:
        return
    for size, note in surveyor.tree.heads:
        file.tree.keep_head(size, note)
        done.heads += 1


def _write_snapshots(surveyor: Surveyor, file: NewFile, done: Salvaged, *, has_key: bool) -> None:
    """Keep the snapshots that open; without the key, those found among the snapshots."""
    for number, version, _, stored, home in surveyor.evidence.snapshots():
        name = surveyor.names.get(number)
        if name is None or not 0 < version < 1 << 63:
            continue
        if has_key:
            try:
                surveyor.sealer(name).open_snapshot(version, stored)
            except (Damage, Erased, NewerFormat):
                continue
        elif home != "snapshots":
            continue
        file.add_snapshot(number, version, stored)
        done.snapshots += 1


def _index(surveyor: Surveyor, file: NewFile) -> None:
    """Make the key history and the ids of what was written."""
    for number, name in surveyor.names.items():
        stream = surveyor.stream(name)
        if stream is None:
            continue
        made = Recount(stream)
        for version, stored in file.events_of(number):
            with suppress(Archived, Damage, Erased):
                made.take_in([stream.sealer.open(version, stored)])
        write_indexes(file.connection, number, made.indexes())


def _sync(folder: Path) -> None:
    """Have the folder know the new name, also after a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
