"""Verification of a store's file: whole, by anybody, and without a key as far as that goes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path

from statecore.errors import Damage, InputError
from statecore.projections.audit_tree import TILE_LEAVES, AuditTree
from statecore.projections.findings import Finding, Report, Verdict
from statecore.projections.head_check import Anchor, Head, check_heads, read_heads, require_all
from statecore.projections.log_check import LogCheck, kept_roots
from statecore.recorders.sqlite.reading import StoreFile
from statecore.transparency.checkpoint import parse_checkpoint
from statecore.transparency.note import parse_note
from statecore.transparency.policy import Policy, parse_policy

__all__ = ["Depth", "Finding", "Report", "Verdict", "verify"]


class Depth(StrEnum):
    """How far a verification goes; each has those before in it."""

    PROOFS = "proofs"
    """What is kept of the tree, and the signed heads. No event is read but behind the last tile."""
    DIGESTS = "digests"
    """Every event is hashed again. Without a key there is no more to see."""


def verify(
    path: str | Path,
    *,
    policy: Policy | bytes | str | Path | None = None,
    anchors: Sequence[str | Path] = (),
    remember: str | Path | None = None,
    depth: Depth | str = Depth.DIGESTS,
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
        on_progress: called with how many events were hashed so far.

    Raises:
        StoreNotFound, ForeignSchema, NewerFormat, Damage: there is nothing that can be verified.
        Malformed: the policy is none.
        InputError: an anchor can't be read.
    """
    trusted = _policy(policy)
    known = [Anchor(str(each), _read(Path(each), "anchor")) for each in anchors]
    file = StoreFile(Path(path).expanduser())
    try:
        memory = None if remember is None else Path(remember) / f"{file.log_id.hex()}.head"
        if memory is not None and memory.exists():
            known.append(Anchor("the head remembered", _read(memory, "head remembered")))
        report = Report(file.log_id, Depth(depth).value)
        try:
            last = _check(file, known, trusted, report, on_progress)
        except Damage as error:  # no more than this can be read
            report.find("damaged-file", str(error))
            last = None
        if memory is not None and last is not None and not report.findings:
            _remember(memory, last)
        return report
    finally:
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
    tiles, upto = file.tree.last()
    is_kept = len(file.tree.rows(upto, TILE_LEAVES)) < TILE_LEAVES
    if report.depth == Depth.PROOFS and is_kept:
        roots = kept_roots(AuditTree(file.tree), sizes, report)
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


def _remember(memory: Path, last: Head) -> None:
    """Keep the last head in place of one remembered before, unless that was of more events."""
    try:
        before = parse_checkpoint(parse_note(memory.read_bytes()).text).size
    except FileNotFoundError:
        before = 0
    if last.checkpoint.size >= before:
        keep_head(memory, last.note)


def _policy(given: Policy | bytes | str | Path | None) -> Policy | None:
    if given is None or isinstance(given, Policy):
        return given
    return parse_policy(given if isinstance(given, bytes) else _read(Path(given), "policy"))


def _read(path: Path, what: str) -> bytes:
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
