"""The doctor: looks at a store's files, says what is wrong, how far it reaches, and what to do.

Nothing is changed, and no key is needed, though with it more can be told.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Final

import apsw

from statecore.codec import read_time
from statecore.errors import (
    Damage,
    ForeignSchema,
    InputError,
    KeyFailure,
    NewerFormat,
    StatecoreError,
    StoreBusy,
    StoreFull,
    StoreNotFound,
    StoreReadOnly,
    StoreUnsupported,
    WrongKey,
)
from statecore.events import to_time
from statecore.keys import FileKeyStore, KeyProvider, KeyRing
from statecore.opening import provider_from
from statecore.recorders.sqlite.datastore import is_open_here
from statecore.recorders.sqlite.filesystem import holders, require_safe
from statecore.recorders.sqlite.images import Images
from statecore.recorders.sqlite.key_files import copy_database, streams_with_keys
from statecore.recorders.sqlite.reading import StoreFile
from statecore.salvaging import open_keys
from statecore.survey import Survey, Surveyor, pages_cut
from statecore.verifying import read_anchor, verify

_FREE_MIN: Final = 64 * 1024 * 1024
_CLOCK_MICROSECONDS: Final = 60 * 1_000_000


_PASSES: Final[dict[type[StatecoreError], str]] = {
    StoreFull: "make space",
    StoreBusy: "end what holds it, or try again",
    StoreReadOnly: "give it to the account that uses the store",
    StoreUnsupported: "install what it names",
}
"""What keeps from looking, and tells nothing of what is there; and what to do."""


class Severity(IntEnum):
    """How bad it is; the worst come first."""

    ADVICE = 1
    """Nothing is lost, and nothing will be refused, today."""
    TROUBLE = 2
    """The store can't be used, or not wholly, but nothing is lost."""
    DAMAGE = 3
    """What is stored is not what was written."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Something that is wrong."""

    kind: str
    """One word for what it is, the same in every release."""
    severity: Severity
    text: str
    remedy: str
    """What to do."""
    error: type[StatecoreError]
    """What one gets who uses the store all the same, or what it is a kind of."""


@dataclass(slots=True)
class Examination:
    """What the doctor found."""

    path: Path
    events: int = 0
    streams: int = 0
    last_event: int = 0
    """When it was recorded, in microseconds since 1970, UTC; 0 where there is none."""
    diagnoses: list[Diagnosis] = field(default_factory=list)
    """The worst first."""
    survey: Survey | None = None
    """How far the damage reaches, where there is any."""
    notes: list[str] = field(default_factory=list)

    def find(
        self,
        kind: str,
        severity: Severity,
        text: str,
        remedy: str,
        error: type[StatecoreError] = Damage,
    ) -> None:
        """Take down what is wrong."""
        self.diagnoses.append(Diagnosis(kind, severity, text, remedy, error))

    def find_error(self, kind: str, error: StatecoreError, remedy: str) -> bool:
        """Take down why something could not be looked at; tell whether it may be for damage."""
        passes = _PASSES.get(type(error))
        if passes is None:
            self.find(kind, Severity.DAMAGE, str(error), remedy, type(error))
        else:
            self.find("unavailable", Severity.TROUBLE, str(error), passes, type(error))
        return passes is None


def examine(
    path: str | Path,
    *,
    key: bytes | str | KeyProvider | None = None,
    passphrase: str | None = None,
    anchors: tuple[str | Path, ...] = (),
    clock: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> Examination:
    """Examine a store's files; change nothing in them.

    Others may use the store meanwhile, but not this process.

    Args:
        path: the store.
        key, passphrase: as for ``open``; it is no error if there is no key.
        anchors: signed heads that were kept outside, to be held against the log.
        clock: microseconds since 1970, UTC.

    Raises:
        StoreBusy: this process has the store open.
    """
    path = Path(path).expanduser()
    if is_open_here(path):
        raise StoreBusy(f"{path} is open in this process: ask check() of the open store")
    found = Examination(path)
    _look_around(found)
    if path.is_file():
        _look_at_log(found)
        is_sound = _look_inside(found, anchors, clock)
        _look_at_keys(found, provider_from(key, passphrase), survey=not is_sound)
    found.diagnoses.sort(key=lambda each: -each.severity)
    return found


def _look_around(found: Examination) -> None:
    """Look at the files from outside: which there are, whose, on what, and who uses them."""
    path = found.path
    restore = "restore it from a backup, into an empty directory"
    if not path.exists():
        text = f"there is no file {path}"
        found.find("missing-log", Severity.DAMAGE, text, restore, StoreNotFound)
        return
    if not path.is_file():
        text = f"{path} is not a file"
        found.find("no-file", Severity.DAMAGE, text, "name the store's file", ForeignSchema)
        return
    try:
        require_safe(path)
    except StatecoreError as error:
        text = "move it to a local disk while nobody has it open"
        found.find("unsafe-file-system", Severity.TROUBLE, str(error), text, type(error))
    for ending in ("", "-wal", "-shm", "-keys", "-lock"):
        _look_at_mode(found, path.with_name(path.name + ending))
    folder = path.parent.stat()
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        found.find(
            "open-folder",
            Severity.TROUBLE,
            f"anybody can replace files in {path.parent}",
            f"chmod 700 {path.parent}, or move the store to a directory of its own",
            InputError,
        )
    _look_at_space(found)
    for process in holders(path):
        found.notes.append(f"process {process} has it open")


def _look_at_mode(found: Examination, file: Path) -> None:
    if not file.exists():
        return
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        text = f"{file} has mode {mode:04o}: others than its owner can get at it"
        found.find("open-mode", Severity.ADVICE, text, f"chmod 600 {file}", InputError)
    if not os.access(file, os.R_OK | os.W_OK):
        text = f"{file} can't be read and written by this account"
        remedy = "give it to the account that uses the store"
        found.find("no-access", Severity.TROUBLE, text, remedy, StoreReadOnly)


def _look_at_space(found: Examination) -> None:
    free, size = shutil.disk_usage(found.path.parent).free, found.path.stat().st_size
    if free < _FREE_MIN:
        text = f"{free // 1024:,} KiB are free on the disk"
        found.find("full-disk", Severity.TROUBLE, text, "make space", StoreFull)
    elif free < size:
        text = f"{free // 1024:,} KiB are free on the disk, less than the store takes"
        remedy = "make space before it is compacted or salvaged"
        found.find("little-space", Severity.ADVICE, text, remedy, StoreFull)


def _look_at_log(found: Examination) -> None:
    """Look at the write-ahead log, which SQLite's own check takes as it is."""
    try:
        images = Images(found.path)
    except OSError as error:
        found.notes.append(f"the file can't be read: {error.strerror}")
        return
    try:
        hidden = images.hidden()
        if hidden:
            found.find(
                "damaged-wal",
                Severity.DAMAGE,
                f"{hidden:,} transactions in {found.path.name}-wal stand behind a damaged frame, "
                "where SQLite does not see them",
                "copy all files, open the store nowhere, and salvage: what was sealed is still "
                "there",
            )
        if missing := pages_cut(images):
            text = f"the file ends {missing:,} pages too early"
            found.find("cut-file", Severity.DAMAGE, text, _SALVAGE)
    finally:
        images.close()


_SALVAGE: Final = (
    "stop what writes, copy all files, then restore the newest backup, or salvage what is intact"
)


def _look_inside(
    found: Examination, anchors: tuple[str | Path, ...], clock: Callable[[], int]
) -> bool:
    """Look at the log through SQLite, and at its tree; tell whether both are as they should be."""
    try:
        report = verify(found.path, anchors=[each for each in anchors if _is_head(found, each)])
        file = StoreFile(found.path)
    except NewerFormat as error:
        found.find("newer-format", Severity.TROUBLE, str(error), "upgrade statecore", NewerFormat)
        return True
    except StatecoreError as error:
        return not found.find_error("unreadable", error, _SALVAGE)
    try:
        last = file.all(_LAST_EVENT)
        found.last_event = read_time(last[0][0]) if last else 0
    except (StatecoreError, LookupError, ValueError):
        found.notes.append("the last event does not tell its time")
    finally:
        file.close()
    found.events, found.streams = report.events, report.streams
    if report.archived:
        found.notes.append(f"{report.archived:,} events are archived")
    for finding in report.findings:
        remedy = _ROLLED_BACK if finding.is_outside else _SALVAGE
        found.find(finding.kind, Severity.DAMAGE, finding.text, remedy)
    if found.last_event > clock() + _CLOCK_MICROSECONDS:
        found.find(
            "slow-clock",
            Severity.ADVICE,
            f"the last event was recorded at {to_time(found.last_event).isoformat()}, which has "
            "not come yet",
            "set the clock: until it has caught up, new events get that time",
            InputError,
        )
    return not report.findings


def _is_head(found: Examination, anchor: str | Path) -> bool:
    try:
        read_anchor(Path(anchor))
    except InputError as error:
        remedy = "name a signed head that can be read"
        found.find("no-anchor", Severity.TROUBLE, str(error), remedy, InputError)
        return False
    return True


_LAST_EVENT: Final = (
    "SELECT coalesce(CAST(state AS BLOB), x'') FROM events ORDER BY position DESC LIMIT 1"
)
_STREAMS: Final = (
    "SELECT CAST(name AS BLOB) FROM streams WHERE length(CAST(name AS BLOB)) = 16"
    " AND id IN (SELECT stream FROM events)"
)
_ROLLED_BACK: Final = "find out who replaced the file by an older one, and where the newer one is"


def _look_at_keys(found: Examination, provider: KeyProvider, *, survey: bool) -> None:
    """Look at the key store, by a copy of it that is gone afterwards, and survey the damage."""
    keys = found.path.with_name(found.path.name + "-keys")
    ring: KeyRing | None = None
    streams: list[bytes] = []
    with tempfile.TemporaryDirectory(prefix="statecore-") as folder:
        copy = Path(folder) / "keys"
        try:
            if not keys.exists():
                raise Damage(f"there is no key store {keys}")
            copy_database(keys, copy)
            if _is_anothers(found.path, copy):
                text, remedy = "the key store belongs to another log", "put its own beside the log"
                found.find("foreign-keys", Severity.TROUBLE, text, remedy, WrongKey)
            else:
                streams = streams_with_keys(copy)
                ring = open_keys(copy, provider)
                ring.next_expiry()  # as every opening asks
        except KeyFailure as error:
            remedy = "set what it names: without the key nobody can read the store"
            found.find("no-key", Severity.TROUBLE, str(error), remedy, type(error))
        except StatecoreError as error:
            found.find_error("damaged-keys", error, "restore the key store from its own backup")
        try:
            if streams:
                _compare_keys(found, streams)
            if survey:
                _survey(found, ring, streams)
        finally:
            if ring is not None:
                ring.close()


def _is_anothers(path: Path, keys: Path) -> bool:
    """Tell whether a key store says that it is of another log than the one in a file."""
    key_store = FileKeyStore(keys)
    try:
        vault = key_store.load()
    finally:
        key_store.close()
    try:
        file = StoreFile(path)
    except StatecoreError:
        return False  # told before
    file.close()
    return vault is not None and vault.log_id != file.log_id


def _compare_keys(found: Examination, streams: list[bytes]) -> None:
    """Find streams that have events and no key at all."""
    try:
        file = StoreFile(found.path)
    except StatecoreError:
        return  # told before
    try:
        without = {name for (name,) in file.all(_STREAMS)} - {*streams}
    except StatecoreError:
        return  # told before
    finally:
        file.close()
    if without:
        names = ", ".join(sorted(name.hex() for name in without)[:5])
        found.find(
            "missing-keys",
            Severity.DAMAGE,
            f"{len(without)} streams have events and no key: {names}",
            "restore the key store from a newer backup of its own",
        )


def _survey(found: Examination, ring: KeyRing | None, streams: list[bytes]) -> None:
    """Find out how far the damage reaches."""
    scratch = apsw.Connection("")
    try:
        surveyor = Surveyor(found.path, scratch)
        found.survey = surveyor.run(ring, streams)
    except StatecoreError as error:
        found.notes.append(f"how far it reaches can't be told: {error}")
    finally:
        scratch.close()
