"""Attacks on real stores by whoever can write the file; what tells of each, and what does not."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

import statecore
from statecore import Verdict, verify
from statecore.errors import ForeignSchema, InputError
from statecore.transparency.policy import judge, parse_policy
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


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("attacks") / "agents.db"
    write_store(path)
    return path


@pytest.fixture
def store(original: Path, path: Path) -> Path:
    """A store that may be attacked."""
    return copy_store(original, path)


class Attack(NamedTuple):
    name: str
    statements: tuple[str, ...]
    plain: set[str]
    """Kinds of what is found when only the events were edited."""
    clever: set[str]
    """And when what is not signed was made to fit."""


TAKE = (
    "UPDATE events SET state = (SELECT state FROM events WHERE position = {b}) WHERE position = {a}"
)
SHIFT_DOWN = "UPDATE events SET position = position - 1 WHERE position > {at}"
MAKE_ROOM = (
    "UPDATE events SET {what} = -{what} WHERE {what} > {at}",
    "UPDATE events SET {what} = 1 - {what} WHERE {what} < 0",
)
SWAP = (
    "UPDATE events SET {what} = -1 WHERE position = {a}",
    "UPDATE events SET {what} = {old} WHERE position = {b}",
    "UPDATE events SET {what} = {new} WHERE {what} = -1",
)
SWAP_STATES = (
    "CREATE TEMP TABLE swap AS SELECT position, state FROM events WHERE position IN ({a}, {b})",
    "UPDATE events SET state = (SELECT state FROM swap WHERE swap.position = {a} + {b} -"
    " events.position) WHERE position IN ({a}, {b})",
    "DROP TABLE swap",
)


def filled(statements: tuple[str, ...], **values: object) -> tuple[str, ...]:
    return tuple(statement.format(**values) for statement in statements)


ATTACKS = [
    Attack(
        "edit an event",
        (
            "UPDATE events SET state = CAST(substr(state, 1, 30) || x'00' || substr(state, 32)"
            " AS BLOB) WHERE position = 300",
        ),
        {"edited-events"},
        {"other-history"},
    ),
    Attack(
        "edit the header of an event, its time",
        (
            "UPDATE events SET state = CAST(substr(state, 1, 6) || x'0000' || substr(state, 9)"
            " AS BLOB) WHERE position = 300",
        ),
        {"edited-events"},
        {"other-history"},
    ),
    Attack(
        "take an event out",
        ("DELETE FROM events WHERE position = 300",),
        {"edited-events", "missing-positions", "wrong-version"},
        {"other-history", "missing-positions", "wrong-version"},
    ),
    Attack(
        "take an event out, and close the gap",
        ("DELETE FROM events WHERE position = 300", SHIFT_DOWN.format(at=300)),
        {"edited-events", "wrong-version"},
        {"other-history", "wrong-version"},
    ),
    Attack(
        "take an event out, and close the gaps of positions and versions",
        (
            "DELETE FROM events WHERE position = 300",
            SHIFT_DOWN.format(at=300),
            "UPDATE events SET version = version - 1 WHERE stream = 3 AND version > 100",
        ),
        {"edited-events"},
        {"other-history"},
    ),
    Attack(
        "take a whole agent out, and close the gaps",
        (
            "DELETE FROM events WHERE stream = 2",
            "UPDATE events SET position = -position",
            "UPDATE events SET position = (SELECT count(*) FROM events AS e"
            " WHERE e.position >= events.position AND e.position < 0) +"
            " (SELECT count(*) FROM events AS e WHERE e.position > 0) WHERE position < 0",
        ),
        {"missing-events"},
        {"rolled-back"},
    ),
    Attack(
        "exchange the positions of two events",
        filled(SWAP, what="position", a=300, b=301, old=300, new=301),
        {"edited-events"},
        {"other-history"},
    ),
    Attack(
        "exchange the versions of two events",
        filled(SWAP, what="version", a=300, b=303, old=100, new=101),
        {"edited-events", "wrong-version"},
        {"other-history", "wrong-version"},
    ),
    Attack(
        "put an event in, and make room for it",
        (
            *filled(MAKE_ROOM, what="position", at=300),
            *filled(MAKE_ROOM, what="version", at="100 AND stream = 3"),
            "INSERT INTO events SELECT 301, stream, 101, topic, state FROM events"
            " WHERE position = 300",
        ),
        {"edited-events"},
        {"other-history"},
    ),
    Attack(
        "exchange what is sealed within a stream",
        filled(SWAP_STATES, a=300, b=303),
        {"edited-events"},
        {"other-history"},
    ),
    Attack(
        "exchange what is sealed between streams",
        filled(SWAP_STATES, a=300, b=301),
        {"edited-events"},
        {"other-history"},
    ),
    Attack(
        "put an old event in place of a newer one",
        (TAKE.format(a=603, b=300),),
        {"edited-events"},
        {"other-history"},
    ),
    Attack(
        "give one agent's events to another",
        (
            "UPDATE events SET stream = -stream WHERE stream < 3",
            "UPDATE events SET stream = 3 + stream WHERE stream < 0",
        ),
        {"edited-events"},
        {"other-history"},
    ),
    Attack(
        "hide an event under another topic",
        (
            "INSERT INTO topics VALUES (2, 'other')",
            "UPDATE events SET topic = 2 WHERE position = 300",
        ),
        {"edited-events", "missing-positions", "odd-rows"},
        {"other-history", "missing-positions", "odd-rows"},
    ),
    Attack(
        "hide an event before the first position",
        ("UPDATE events SET position = -5 WHERE position = 300",),
        {"edited-events", "missing-positions", "odd-rows"},
        {"other-history", "missing-positions", "odd-rows"},
    ),
    Attack(
        "hide an agent by a name that is text",
        ("UPDATE streams SET name = CAST(name AS TEXT) WHERE id = 2",),
        {"missing-positions", "odd-rows"},
        {"missing-positions", "odd-rows"},
    ),
    Attack(
        "store what is sealed as text",
        ("UPDATE events SET state = CAST(state AS TEXT) WHERE position = 300",),
        {"odd-rows"},
        {"odd-rows"},
    ),
    Attack(
        "say that it is another log",
        ("UPDATE log SET id = x'000102030405060708090a0b0c0d0e0f'",),
        {"foreign-head"},
        {"foreign-head"},
    ),
    Attack(
        "cut the end off",
        ("DELETE FROM events WHERE position > 1200",),
        {"missing-events", "rolled-back"},
        {"rolled-back"},
    ),
    Attack(
        "take all heads away",
        ("DELETE FROM heads",),
        {"missing-heads"},
        {"missing-heads"},
    ),
]

CHANGE_NO_EVENT = ("say that it is another log", "take all heads away")


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_found_and_told(attack: Attack, store: Path) -> None:
    run(store, *attack.statements)

    plain = verify(store)
    refit(store)
    clever = verify(store)

    assert attack.plain <= kinds(plain)
    assert attack.clever <= kinds(clever)
    assert plain.verdict == clever.verdict == Verdict.INVALID


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_who_signs_anew_with_another_key_meets_the_policy_or_the_anchor(
    attack: Attack, original: Path, store: Path, tmp_path: Path
) -> None:
    policy, outside = policy_of(original), tmp_path / "outside"
    outside.write_bytes(head_of(original))
    run(store, *attack.statements)
    refit(store)
    resign(store)

    by_policy = verify(store, policy=policy)
    by_anchor = verify(store, anchors=[outside])

    assert "wrong-signature" in kinds(by_policy)
    assert by_policy.verdict == Verdict.INVALID
    assert (by_anchor.verdict == Verdict.ANCHORED) == (attack.name in CHANGE_NO_EVENT)


def test_an_event_of_another_store_does_not_fit(store: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    write_store(other, 310)
    run(
        store,
        f"ATTACH '{other}' AS other",
        "UPDATE main.events SET state = (SELECT state FROM other.events WHERE position = 300)"
        " WHERE position = 300",
    )

    plain = verify(store)
    refit(store)

    assert kinds(plain) == {"edited-events"}
    assert kinds(verify(store)) == {"other-history"}


@pytest.mark.parametrize(
    "planted",
    [
        "CREATE TRIGGER evil AFTER INSERT ON events BEGIN DELETE FROM events; END",
        "CREATE VIEW evil AS SELECT * FROM events",
        "CREATE TABLE evil(x)",
    ],
)
@pytest.mark.parametrize("depth", statecore.Depth)
def test_nothing_planted_is_looked_at(planted: str, depth: statecore.Depth, store: Path) -> None:
    run(store, planted)

    with pytest.raises(ForeignSchema, match="evil"):
        verify(store, depth=depth, key=KEY)


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE tree SET hash = zeroblob(32) WHERE number = 2", "edited-events"),
        ("UPDATE tree SET hash = 'text' WHERE number = 2", "odd-rows"),
        ("DELETE FROM tree WHERE number = 2", "edited-events"),
        ("UPDATE tree SET upto = upto + 1 WHERE number = 2", "wrong-node"),
        ("INSERT INTO tree VALUES (2, 0, zeroblob(32), 5)", "wrong-node"),
        ("INSERT INTO tree VALUES (1, 1000000000000, zeroblob(32), 5)", "missing-events"),
        ("INSERT INTO tree VALUES (1, 9223372036854775807, zeroblob(32), 5)", "wrong-node"),
        ("INSERT INTO tree VALUES ('text', 'text', 'text', 'text')", "odd-rows"),
        ("UPDATE links SET hash = zeroblob(32) WHERE tile = 2 AND stream = 1", "wrong-links"),
        ("DELETE FROM links WHERE tile = 2 AND stream = 1", "wrong-links"),
        ("INSERT INTO links VALUES (1, 77, zeroblob(32))", "wrong-links"),
        ("INSERT INTO links VALUES (9, 1, zeroblob(32))", "odd-rows"),
    ],
)
def test_tampered_caches_are_told_though_no_event_was_touched(
    statement: str, kind: str, store: Path
) -> None:
    run(store, statement)

    report = verify(store)

    assert kind in kinds(report)
    assert report.verdict == Verdict.INVALID
    assert report.events == EVENTS


def test_a_log_behind_another_module_is_no_file_of_ours_and_says_so(path: Path) -> None:
    environment = {"SQLITE_DBNAME": str(path)}
    with statecore.open(
        persistence_module="eventsourcing.sqlite",
        environment=environment,
        key=KEY,
        key_store=path.with_name("keys"),
    ) as store:
        store.manager("one").set_state("n", 1)
        head = judge(parse_policy(store.audit_policy()), store.signed_head())
        with pytest.raises(InputError, match="does not tell positions"):
            store.prove("one", 1)

    assert head.checkpoint.size == 1
    with pytest.raises(ForeignSchema, match="not one that statecore made"):
        verify(path)
