"""The record of access under load: who does much hides nothing of what others do."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from typing import Any

import pytest

from statecore import AccessDenied, BlockingStore, Policy, Rule
from statecore.access import FULL, Authority, Context, validate_access
from statecore.appends import Append
from statecore.gate import AUDIT_STREAM, Request
from statecore.ledger import _TOGETHER_MAX, AccessRecord, Ledger, records_of
from statecore.policy import Permission
from statecore.values import unpack
from statecore.waiting import run
from statecore.warden import _OwnState

POLICY = Policy(
    ("root",),
    (
        Rule("all", "permit", ("*",), principals=("root",)),
        Rule("bob", "permit", ("export", "keys", "audit", "erase"), principals=("bob",)),
        Rule("eve", "permit", ("read",), principals=("eve",), agents=("public",)),
    ),
    record_reads="by-key",
)
FLOOD = [f"invented {number}" for number in range(100)]


@pytest.fixture
def ruled(store: BlockingStore) -> BlockingStore:
    """A store in which Bob may do what is always recorded, and Eve hardly anything."""
    store.manager("public").set_state("k", 1)
    store.manager("patient").set_state("k", 1)
    store.as_principal("root").access.set_policy(POLICY)
    return store


def denied(store: BlockingStore, agents: Iterable[str]) -> None:
    for agent_id in agents:
        with pytest.raises(AccessDenied):
            store.manager(agent_id).get_state("k")


def written(store: BlockingStore) -> list[AccessRecord]:
    """Return what is in the record, without having what was only counted written."""
    engine = store.store._engine

    async def read() -> list[AccessRecord]:
        state = _OwnState(engine, AUDIT_STREAM)
        await state.version()
        return [record async for event in state.history() for record in records_of(event)]

    return run(read())


def at_once(store: BlockingStore, **expected: Any) -> AccessRecord:
    """Return what the record soon tells by itself, long before a window ends."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        for record in written(store):
            if all(getattr(record, name) == value for name, value in expected.items()):
                return record
        time.sleep(0.01)
    raise AssertionError(f"{expected} is not in the record")


@pytest.mark.parametrize("who", [None, "eve", "bob"])
def test_no_flood_of_denials_hides_what_is_always_recorded(
    ruled: BlockingStore, who: str | None
) -> None:
    denied(ruled.as_principal(who) if who else ruled, FLOOD)
    bob = ruled.as_principal("bob")

    bob.access.require("keys")
    bob.access.require("export", "patient")
    bob.erase("patient")
    list(bob.audit())

    for operation, agent_id in (
        ("keys", None), ("export", "patient"), ("erase", "patient"), ("audit", None),
    ):  # fmt: skip
        at_once(ruled, what="done", principals=("bob",), operation=operation, agent_id=agent_id)


def test_what_is_always_recorded_is_recorded_each_time(ruled: BlockingStore) -> None:
    bob = ruled.as_principal("bob")
    for _ in range(50):
        bob.access.require("export", "patient")

    done = ruled.as_principal("root").access.records("done")

    assert [each.count for each in done if each.operation == "export"] == [1] * 50


def test_readings_take_no_room_of_denials(ruled: BlockingStore) -> None:
    eve = ruled.as_principal("eve")
    for number in range(100):
        eve.manager("public").get_state(f"k{number}")

    denied(eve, ["patient"])

    assert at_once(ruled, what="denied", agent_id="patient").principals == ("eve",)


def test_who_is_denied_in_a_loop_does_not_hide_what_others_are_denied(
    ruled: BlockingStore,
) -> None:
    eve = ruled.as_principal("eve")
    denied(eve, FLOOD)
    for name in FLOOD:  # whom she adds to her handle is nobody new
        denied(eve.as_principal(name), ["patient"])

    denied(ruled.as_principal("mallory"), ["patient"])

    assert at_once(ruled, principals=("mallory",)).agent_id == "patient"
    denials = ruled.as_principal("root").access.denials()
    assert sum(each.count for each in denials) == 2 * len(FLOOD) + 1
    assert {each.principals for each in denials} == {("eve",), ("mallory",)}
    assert len(denials) < 20
    together = [each for each in denials if each.agent_id is None]
    assert {(each.operation, each.rules) for each in together} == {("read", ())}


def test_however_many_are_denied_what_is_counted_has_a_bound(ruled: BlockingStore) -> None:
    decision = validate_access("read", Context(POLICY, FULL))
    ledger = ruled.store._engine.gate.witness
    assert isinstance(ledger, Ledger)

    for number in range(20_000):
        who = Authority().narrowed(f"eve {number % 200}")
        operation = [*Permission][number % 13]
        ledger.denied(who, Request(operation, f"x{number}", "main", "k"), decision)

    assert sum(map(len, ledger._denials.values())) < 1000
    denials = ruled.as_principal("root").access.denials()
    assert sum(each.count for each in denials) == 20_000
    assert ("(others)",) in {each.principals for each in denials}


@pytest.mark.parametrize("name", ["\ud800", "x" * 10_000_000, 5])
def test_nothing_that_is_tried_keeps_denials_out_of_the_record(
    ruled: BlockingStore, name: Any
) -> None:
    with pytest.raises((AccessDenied, AttributeError)):
        ruled.access.require("export", name)
    with pytest.raises((AccessDenied, AttributeError)):
        ruled.manager("patient").get_state(name)
    denied(ruled, ["patient"])

    denials = ruled.as_principal("root").access.denials()
    assert sum(each.count for each in denials if each.agent_id == "patient") >= 1
    assert [each.operation for each in denials if each.operation == "export"] == ["export"]


class Slow:
    """A sequencer whose disk takes its time."""

    def __init__(self) -> None:
        self.appends: list[Append] = []

    def submit(self, append: Append) -> None:
        self.appends.append(append)

    def wake(self) -> None:
        pass


def test_what_comes_while_the_disk_is_busy_goes_together(ruled: BlockingStore) -> None:
    engine, slow, who = ruled.store._engine, Slow(), Authority().narrowed("bob")
    ledger = Ledger(engine.streams, slow, engine.clock, print)  # type: ignore[arg-type]
    for number in range(_TOGETHER_MAX + 2):
        ledger.done(who, Request(Permission.EXPORT, f"x{number}"))
    assert len(slow.appends) == 1

    for number in range(3):
        slow.appends[number].finish()
    ledger.close()

    told = [unpack(append.metadata or b"")["access"] for append in slow.appends]
    agents = [[entry["agent"] for entry in entries] for entries in told]
    assert list(map(len, agents)) == [1, _TOGETHER_MAX, 1]
    assert [*itertools.chain(*agents)] == [f"x{number}" for number in range(_TOGETHER_MAX + 2)]
