"""Verification of a store's file: whole, by anybody, and without a key as far as that goes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Final

from statecore.errors import Damage, InputError
from statecore.keys import FileKeyStore, KeyProvider, KeyRing
from statecore.lineage import InheritedKeyHistory
from statecore.opening import log_signer, provider_from
from statecore.projections import FoldedKeyHistory
from statecore.projections.audit_tree import TILE_LEAVES, AuditTree
from statecore.projections.content_check import ContentCheck
from statecore.projections.findings import Finding, Report, Verdict
from statecore.projections.head_check import Anchor, Head, check_heads, read_heads, require_all
from statecore.projections.log_check import LogCheck, kept_roots
from statecore.projections.replay_check import ReplayCheck
from statecore.recorders.sqlite.archive import Archives
from statecore.recorders.sqlite.reading import FileLog, StoreFile
from statecore.root_image import unpack_root
from statecore.snapshots import NoSnapshots, SnapshotKeeper, WarmRoots, WarmValues
from statecore.stream import Aids
from statecore.streams import Streams
from statecore.transparency.checkpoint import parse_checkpoint
from statecore.transparency.note import parse_note
from statecore.transparency.policy import Log, Policy, parse_policy

__all__ = ["Depth", "Finding", "Report", "Verdict", "verify"]


class Depth(StrEnum):
    """How far a verification goes; each has those before in it."""

    PROOFS = "proofs"
    """What is kept of the tree, and the signed heads. No event is read but behind the last tile."""
    DIGESTS = "digests"
    """Every event is hashed again. Without a key there is no more to see."""
    CONTENTS = "contents"
    """Every event and snapshot is opened, with the key."""
    REPLAY = "replay"
    """Every state is made again of its events, and held against snapshots and indexes."""


_WITH_KEY: Final = (Depth.CONTENTS, Depth.REPLAY)
_CACHE_BYTES: Final = 64 * 1024 * 1024


def verify(
    path: str | Path,
    *,
    policy: Policy | bytes | str | Path | None = None,
    anchors: Sequence[str | Path] = (),
    remember: str | Path | None = None,
    depth: Depth | str = Depth.DIGESTS,
    key: bytes | str | KeyProvider | None = None,
    passphrase: str | None = None,
    archives: Sequence[str | Path] = (),
    on_progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Verify a store's file as of now; change nothing in it, and have all findings in the report.

    Others may go on writing to it. Trust comes from the policy, the anchors and what was remembered
    alone, never from the file.

    Args:
        path: the store.
        policy: whom the verifier trusts (c2sp.org/tlog-policy): the file, or what is in it.
        anchors: files with signed heads that were kept outside.
        remember: a folder that keeps, of each log, the last head that was found to hold. It counts
            as an anchor, and is replaced, as a whole, only where nothing was found.
        depth: how far to go.
        key: as ``open`` takes it, and finds it; asked for by ``contents`` and ``replay`` alone.
            With it and without a policy, heads are held to be signed by the log's own key.
        passphrase: derive the key from this instead.
        archives: as ``open`` takes them: ``contents`` and ``replay`` then reach into them, too.
        on_progress: called with how many events were hashed, and then opened, so far.

    Raises:
        StoreNotFound, ForeignSchema, NewerFormat, Damage: there is nothing that can be verified.
        KeyMissing, WrongKey, InvalidKey: the key is needed, and is not there or another's.
        Malformed: the policy is none.
        InputError: an anchor can't be read or is none, or an archive is another store's.
        NotFound: there is no such archive.
    """
    trusted, depth = policy_of(policy), _depth(depth)
    known = [read_anchor(Path(each)) for each in anchors]
    file, ring, at_hand = StoreFile(Path(path).expanduser()), None, None
    try:
        at_hand = Archives([Path(each).expanduser() for each in archives], file.log_id)
        report = Report(file.log_id, depth.value)
        memory = None if remember is None else Path(remember) / f"{file.log_id.hex()}.head"
        if memory is not None:
            known += recall(memory, report.notes)
        ring = _ring(file, provider_from(key, passphrase)) if depth in _WITH_KEY else None
        try:
            last = _check(file, known, trusted or _own_policy(file, ring), report, on_progress)
            if ring is not None:
                _check_contents(file, ring, at_hand, report, on_progress)
        except Damage as error:  # no more than this can be read
            report.find("damaged-file", str(error))
            last = None
        if memory is not None and last is not None and not report.findings:
            _remember(memory, last, report.notes)
        return report
    finally:
        if ring is not None:
            ring.close()
        if at_hand is not None:
            at_hand.close()
        file.close()


def _check(
    file: StoreFile,
    known: Sequence[Anchor],
    trusted: Policy | None,
    report: Report,
    on_progress: Callable[[int], None],
) -> Head | None:
    """Verify an open file; return the last head in it that holds."""
    kept = file.tree.heads()
    inside, outside = read_heads(kept, known, report)
    sizes = sorted({head.checkpoint.size for head in (*inside, *outside)})
    tree, (tiles, _) = AuditTree(file.tree), file.tree.last()
    if report.depth == Depth.PROOFS and tree.is_kept_up():
        roots = kept_roots(tree, sizes, report)
    else:
        if report.depth == Depth.PROOFS:
            report.notes.append("the tree is not kept up to the end: every event was hashed")
        for complaint in file.complaints():
            report.find("damaged-file", f"SQLite: {complaint}")
        for oddity in file.oddities():
            report.find("odd-rows", oddity)
        check = LogCheck(file.tree, sizes, report)
        check.run(on_progress)
        roots = check.roots
    require_all(kept, min(tiles * TILE_LEAVES, report.events), report)
    last = check_heads(inside, outside, roots, trusted, report)
    report.root = roots.get(report.events, report.root)
    return last


def _ring(file: StoreFile, provider: KeyProvider) -> KeyRing:
    key_store = FileKeyStore(file.path.with_name(file.path.name + "-keys"))
    try:
        return KeyRing.open(key_store, provider, file.log_id)
    except BaseException:
        key_store.close()
        raise


def _own_policy(file: StoreFile, ring: KeyRing | None) -> Policy | None:
    """Return the policy that trusts the log's own key, where its heads say that they have that."""
    if ring is None:
        return None
    signer, last = log_signer(ring.log_id, ring.log_key), file.tree.last_head()
    if last is None or f"\n\n\u2014 {signer.name} ".encode() not in last[1]:
        return None  # signed by what the store was opened with, or by nobody
    return Policy((Log(signer.verifier),))


def _check_contents(
    file: StoreFile,
    ring: KeyRing,
    archives: Archives,
    report: Report,
    on_progress: Callable[[int], None],
) -> None:
    log, body_of = FileLog(file), archives.body_of
    ContentCheck(log, ring, unpack_root, report, body_of).run(on_progress)
    if report.depth == Depth.REPLAY:
        aids = Aids(
            history=InheritedKeyHistory(FoldedKeyHistory()),
            snapshots=NoSnapshots(),
            roots=WarmRoots(_CACHE_BYTES),
            values=WarmValues(_CACHE_BYTES),
        )
        streams = Streams(log, ring, aids, _CACHE_BYTES, body_of)
        kept = SnapshotKeeper(log, lambda _: None)
        ReplayCheck(streams, kept, log, report).run()


def _depth(given: Depth | str) -> Depth:
    try:
        return Depth(given)
    except ValueError as error:
        raise InputError(f"a depth is {', '.join(Depth)}, not {given!r}") from error


def recall(memory: Path, notes: list[str]) -> list[Anchor]:
    """Return the head remembered, if there is one; note why it can't be read, where it can't."""
    try:
        return [Anchor("the head remembered", memory.read_bytes())]
    except FileNotFoundError:
        return []
    except OSError as error:
        notes.append(
            f"nothing was held against the head remembered, {memory}, which can't be read: "
            f"{error.strerror}"
        )
        return []


def _remember(memory: Path, last: Head, notes: list[str]) -> None:
    """Keep the last head in place of one remembered before, unless that was of more events.

    Another account's folder, or a full disk, is no reason to keep quiet about what was verified.
    """
    try:
        before = 0
        with suppress(FileNotFoundError):
            before = parse_checkpoint(parse_note(memory.read_bytes()).text).size
        if last.checkpoint.size >= before:
            keep_head(memory, last.note)
    except OSError as error:
        notes.append(f"the last head was not remembered in {memory}: {error.strerror}")


def policy_of(given: Policy | bytes | str | Path | None) -> Policy | None:
    """Return a policy that is given as such, as what is in its file, or as the file."""
    if given is None or isinstance(given, Policy):
        return given
    return parse_policy(given if isinstance(given, bytes) else read_outside(Path(given), "policy"))


def read_anchor(path: Path) -> Anchor:
    """Return a signed head that was kept outside.

    Raises:
        InputError: it can't be read, or is none.
    """
    note = read_outside(path, "anchor")
    try:
        parse_checkpoint(parse_note(note).text)
    except InputError as error:
        raise InputError(f"the anchor {path} is no signed head: {error}") from error
    return Anchor(str(path), note)


def read_outside(path: Path, what: str) -> bytes:
    """Return a file that was kept outside the store.

    Raises:
        InputError: it can't be read.
    """
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise InputError(f"the {what} {path} can't be read: {error.strerror}") from error


def keep_head(path: Path, note: bytes) -> None:
    """Have a file hold a head, whole and durably, whatever was in it before."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with draft.open("xb") as file:
        file.write(note)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
