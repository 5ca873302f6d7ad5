"""Verification of a store's file: whole, by anybody, and without a key as far as that goes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path

from statecore.errors import InputError
from statecore.projections.audit_tree import AuditTree
from statecore.projections.findings import Finding, Report, Verdict
from statecore.projections.head_check import Anchor, check_heads, read_heads
from statecore.projections.log_check import LogCheck, check_upper_levels
from statecore.recorders.sqlite.reading import StoreFile
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
        for complaint in file.complaints():
            report.find("damaged-file", f"SQLite: {complaint}")
        inside, outside = read_heads(file.tree.heads(), known, report)
        sizes = sorted({head.checkpoint.size for head in (*inside, *outside)})
        if depth == Depth.PROOFS:
            roots = _kept_roots(AuditTree(file.tree), sizes, report)
        else:
            check = LogCheck(file.tree, sizes, report)
            check.run(on_progress)
            roots = check.roots
        last = check_heads(inside, outside, roots, trusted, report)
        report.root = roots.get(report.events, report.root)
        if memory is not None and last is not None and not report.findings:
            keep_head(memory, last.note)
        return report
    finally:
        file.close()


def _policy(given: Policy | bytes | str | Path | None) -> Policy | None:
    if given is None or isinstance(given, Policy):
        return given
    return parse_policy(given if isinstance(given, bytes) else _read(Path(given), "policy"))


def _read(path: Path, what: str) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise InputError(f"the {what} {path} can't be read: {error.strerror}") from error


def _kept_roots(tree: AuditTree, sizes: Sequence[int], report: Report) -> dict[int, bytes]:
    """Return the roots at some sizes from what is kept of the tree."""
    report.events = tree.size()
    check_upper_levels(tree.kept, report)
    return {size: tree.root(size) for size in (*sizes, report.events) if size <= report.events}


def keep_head(path: Path, note: bytes) -> None:
    """Have a file hold a head, whole and durably, whatever was in it before."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with draft.open("xb") as file:
        file.write(note)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
