"""Signed heads held against a log, a policy, and one another: what a verdict rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from statecore.errors import InputError, Unproven
from statecore.projections.findings import Report
from statecore.projections.heads import HEAD_EVENTS
from statecore.transparency.checkpoint import Checkpoint, parse_checkpoint
from statecore.transparency.note import parse_note
from statecore.transparency.policy import NO_QUORUM, Policy, judge


class Anchor(NamedTuple):
    """A head that was kept outside."""

    source: str
    note: bytes


class Head(NamedTuple):
    """A head that parses."""

    source: str
    note: bytes
    checkpoint: Checkpoint


def read_heads(
    kept: Sequence[tuple[int, bytes]], anchors: Sequence[Anchor], report: Report
) -> tuple[list[Head], list[Head]]:
    """Return the heads in the file and those from outside, by size; tell of those that are none."""
    inside = []
    for size, note in kept:
        head = _read(f"the head of {size:,} events", note, report, is_outside=False)
        if head is not None and head.checkpoint.size != size:
            report.find("wrong-head", f"{head.source} is of {head.checkpoint.size:,}")
        elif head is not None:
            inside.append(head)
    outside = [
        head
        for anchor in anchors
        if (head := _read(anchor.source, anchor.note, report, is_outside=True))
    ]
    return inside, sorted(outside, key=lambda head: head.checkpoint.size)


def _read(source: str, note: bytes, report: Report, *, is_outside: bool) -> Head | None:
    try:
        return Head(source, note, parse_checkpoint(parse_note(note).text))
    except InputError as error:
        report.find("no-head", f"{source} is no signed head: {error}", is_outside=is_outside)
        return None


def check_heads(
    inside: Sequence[Head],
    outside: Sequence[Head],
    roots: Mapping[int, bytes],
    policy: Policy | None,
    report: Report,
) -> Head | None:
    """Hold heads against the roots of the log; return the last one in the file that holds.

    Args:
        inside: the heads in the file.
        outside: those kept outside, which weigh more than the file.
        roots: of the log, at the sizes of all heads that it is long enough for.
        policy: whom the verifier trusts; without, no signature can be believed.
        report: where findings are taken down.
    """
    report.heads = len(inside)
    last = None
    for head in inside:
        _require_own(head, report)
        fits = _fits(head, roots, report, is_outside=False)
        if _is_signed(head, policy, report, is_outside=False) and fits:
            last, report.head_size = head, head.checkpoint.size
    for head in outside:
        if inside and head.checkpoint.origin != inside[-1].checkpoint.origin:
            report.notes.append(f"{head.source} is a head of {head.checkpoint.origin}")
        fits = _fits(head, roots, report, is_outside=True)
        if _is_signed(head, policy, report, is_outside=True) and fits:
            report.anchored = head.checkpoint.size
    if policy is None and (inside or outside):
        report.notes.append("no policy was given: nothing is known of who signed the heads")
    if policy and report.events and report.signed_by is None and not report.anchored:
        report.find("unsigned", "the policy's log has signed no head of what is here")
    return last


def require_all(kept: Sequence[tuple[int, bytes]], leaves: int, report: Report) -> None:
    """Tell of heads that are not there, though each so many leaves one is signed with the leaves.

    Args:
        kept: the heads in the file, by size.
        leaves: under the full tiles that are kept.
        report: where findings are taken down.
    """
    there = {size for size, _ in kept}
    lacking = [size for size in range(HEAD_EVENTS, leaves + 1, HEAD_EVENTS) if size not in there]
    if lacking:
        report.find(
            "missing-heads",
            f"{len(lacking):,} signed heads were taken away, the first of {lacking[0]:,} events",
        )


def _require_own(head: Head, report: Report) -> None:
    """Tell of a head that names another log; a signer that was given has a name of its own."""
    kind, _, log_id = head.checkpoint.origin.partition("/")
    if kind == "statecore" and log_id != report.log_id.hex():
        report.find("foreign-head", f"{head.source} is of the log {log_id}")


def _fits(head: Head, roots: Mapping[int, bytes], report: Report, *, is_outside: bool) -> bool:
    size = head.checkpoint.size
    if size > report.events:
        report.find(
            "rolled-back",
            f"{head.source} was signed over {size:,} events, and the log has {report.events:,}: "
            "its end was cut off, or it is an older copy",
            is_outside=is_outside,
        )
        return False
    if size not in roots:
        return False  # the tree does not tell, which is a finding of its own
    if roots[size] != head.checkpoint.root:
        report.find(
            "other-history",
            f"{head.source}, over {size:,} events, is not of this log: some of these events are "
            "not those that were signed",
            is_outside=is_outside,
        )
        return False
    return True


def _is_signed(head: Head, policy: Policy | None, report: Report, *, is_outside: bool) -> bool:
    """Tell whether the policy's log has signed a head; all of them are taken without a policy."""
    if policy is None:
        return True
    try:
        said = judge(policy, head.note)
    except (Unproven, InputError) as error:
        report.find("wrong-signature", f"{head.source}: {error}", is_outside=is_outside)
        return False
    if not is_outside:
        report.signed_by = said.log.key.name
    if said.has_quorum and policy.quorum != NO_QUORUM:
        report.has_quorum, report.witnesses = True, said.cosigned
    return True
