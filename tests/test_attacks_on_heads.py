"""Attacks on signed heads and on what is kept of them; of some only something outside tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from statecore import InputError, Verdict, verify
from statecore.projections.heads import HEAD_EVENTS
from tests.attacking import (
    EVENTS,
    copy_store,
    head_of,
    kinds,
    policy_of,
    refit,
    resign,
    run,
    write_store,
)
from tests.conftest import KEY
from tests.test_attacks import original, store

__all__ = ["original", "store"]  # the fixtures


def cut_to_the_last_head_but_one(store: Path) -> None:
    run(
        store,
        f"DELETE FROM events WHERE position > {HEAD_EVENTS + 5}",
        f"DELETE FROM heads WHERE size > {HEAD_EVENTS}",
    )
    refit(store)


def test_an_end_cut_off_with_its_head_is_only_told_from_outside(
    original: Path, store: Path, tmp_path: Path
) -> None:
    policy, outside = policy_of(original), tmp_path / "outside"
    outside.write_bytes(head_of(original))
    cut_to_the_last_head_but_one(store)

    alone = verify(store, policy=policy)
    held = verify(store, policy=policy, anchors=[outside])

    assert (alone.verdict, alone.findings) == (Verdict.UNANCHORED, [])
    assert (alone.head_size, alone.events) == (HEAD_EVENTS, HEAD_EVENTS + 5)
    assert (held.verdict, kinds(held)) == (Verdict.DIVERGED, {"rolled-back"})


def test_a_young_log_without_any_head_is_told_by_the_policy(original: Path, store: Path) -> None:
    policy = policy_of(original)
    run(store, "DELETE FROM events WHERE position > 200", "DELETE FROM heads")
    refit(store)

    assert verify(store).verdict == Verdict.UNANCHORED
    assert kinds(verify(store, policy=policy)) == {"unsigned"}


def test_an_older_copy_is_only_told_by_what_was_remembered(path: Path, tmp_path: Path) -> None:
    old, memory = tmp_path / "old.db", tmp_path / "memory"
    write_store(path, 40)
    copy_store(path, old)
    write_store(path, 40)
    assert verify(path, remember=memory).verdict == Verdict.UNANCHORED

    rolled_back = verify(old, remember=memory)

    assert verify(old).verdict == Verdict.UNANCHORED
    assert (rolled_back.verdict, kinds(rolled_back)) == (Verdict.DIVERGED, {"rolled-back"})
    assert verify(path, remember=memory).verdict == Verdict.ANCHORED


def test_what_is_remembered_is_not_replaced_by_what_failed_or_is_less(
    original: Path, store: Path, tmp_path: Path
) -> None:
    verify(original, remember=tmp_path)
    (memory,) = tmp_path.glob("*.head")
    remembered = memory.read_bytes()

    run(store, f"DELETE FROM heads WHERE size > {HEAD_EVENTS}")
    less = verify(store, remember=tmp_path)
    after_less = memory.read_bytes()
    cut_to_the_last_head_but_one(store)
    failed = verify(store, remember=tmp_path)

    assert (less.verdict, less.findings) == (Verdict.ANCHORED, [])
    assert failed.verdict == Verdict.DIVERGED
    assert remembered == after_less == memory.read_bytes()


def test_a_key_of_the_attackers_is_told_by_the_policy_or_by_who_has_the_key(
    original: Path, store: Path
) -> None:
    resign(store)

    assert verify(store).verdict == Verdict.UNANCHORED
    by_policy = verify(store, policy=policy_of(original))
    assert (by_policy.verdict, by_policy.signed_by) == (Verdict.INVALID, None)
    assert kinds(by_policy) == {"wrong-signature", "unsigned"}
    by_key = verify(store, depth="contents", key=KEY)
    assert kinds(by_key) == {"wrong-signature", "unsigned"}


def test_the_policy_of_another_log_trusts_nothing_here(store: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    write_store(other, 10)

    report = verify(store, policy=policy_of(other))

    assert report.verdict == Verdict.INVALID
    assert kinds(report) == {"wrong-signature", "unsigned"}


def test_a_forged_head_fits_no_policy(original: Path, store: Path) -> None:
    policy = policy_of(original)
    run(
        store,
        f"UPDATE heads SET note = CAST(replace(CAST(note AS TEXT), '{EVENTS}', '{EVENTS - 3}')"
        f" AS BLOB), size = {EVENTS - 3} WHERE size = {EVENTS}",
    )

    assert kinds(verify(store)) == {"other-history"}
    assert kinds(verify(store, policy=policy)) == {"other-history", "wrong-signature"}


NOTES = ["x''", "x'00'", "'text'", "zeroblob(100000)", "CAST(5 AS BLOB)", "substr(note, 1, 80)"]


@pytest.mark.parametrize("note", NOTES)
def test_what_is_no_note_is_a_finding(note: str, store: Path, tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    verify(store, remember=memory)
    next(memory.iterdir()).write_bytes(b"no note at all")
    run(store, f"UPDATE heads SET note = CAST({note} AS BLOB) WHERE size = {EVENTS}")

    report = verify(store, remember=memory)

    assert kinds(report) == {"no-head"}
    assert [finding.is_outside for finding in report.findings] == [False, True]


@pytest.mark.parametrize("content", [b"", b"no note at all"])
def test_what_is_given_as_an_anchor_and_is_none_is_refused(
    content: bytes, store: Path, tmp_path: Path
) -> None:
    anchor = tmp_path / "outside"
    anchor.write_bytes(content)

    with pytest.raises(InputError, match="is no signed head"):
        verify(store, anchors=[anchor])


def test_a_head_under_the_size_of_another_is_told(store: Path) -> None:
    run(store, f"INSERT INTO heads SELECT 50, note FROM heads WHERE size = {EVENTS}")

    assert kinds(verify(store)) == {"wrong-head"}
