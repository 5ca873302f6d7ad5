"""The audit record: who did what, when, from where and why, over the whole log."""

from __future__ import annotations

import csv
import io
import json
import shlex
import sqlite3
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer

import statecore
from statecore import AuditEntry, InputError, Standing
from statecore.audit_record import PAGE_EVENTS
from statecore.audit_text import COLUMNS, entry_data
from statecore.cli.app import app
from statecore.codec.header import read_header
from statecore.errors import Malformed
from statecore.exporting import SealedStore
from tests.conftest import KEY, Clock, opening
from tests.test_cli import ACTS_ON_TERMINAL, HOSTILE, fails, run
from tests.test_cli import KEY as CLI_KEY
from tests.test_cli_branches import EXAMPLE

START = datetime(2027, 1, 15, 8, tzinfo=UTC)


def fill(store: statecore.BlockingStore, clock: Clock) -> None:
    """Write eight events: one agent on two branches, and one that is erased and begins anew."""
    ada, bob = store.manager("ada", actor="planner"), store.manager("bob", actor="booker")
    ada.set_state("goal", "fly", reason="asked")
    clock.tick(60)
    bob.set_state("user/1", "Bob")
    ada.branch("idea").set_state("goal", "sail")  # and one event of the register
    clock.tick(60)
    ada.clear_state(cause="mail-7")
    store.erase("bob")
    bob.set_state("user/2", "Bea", actor="planner")
    ada.tag("empty")


@pytest.fixture
def filled(backend: str, tmp_path: Path, clock: Clock) -> Any:
    """A store on every backend in turn."""
    with opening(backend, tmp_path, clock=clock) as store:
        fill(store, clock)
        yield store


def told(entries: Any) -> list[tuple[int, str | None, str | None, int, str]]:
    return [(e.position, e.agent_id, e.branch, e.version, e.standing.value) for e in entries]


def test_the_record_is_of_all_agents_and_branches_in_the_logs_order(filled: Any) -> None:
    first = min(entry.position for entry in filled.audit())

    assert told(filled.audit()) == [
        (first, "ada", "main", 1, "open"),
        (first + 1, "bob", "main", 1, "erased"),
        (first + 2, "ada", "", 1, "open"),
        (first + 3, "ada", "idea", 2, "open"),
        (first + 4, "ada", "main", 2, "open"),
        (first + 5, "bob", "main", 2, "open"),
        (first + 6, "bob", "main", 3, "open"),
        (first + 7, "ada", "main", 3, "open"),
    ]
    assert [entry.index for entry in filled.audit()] == list(range(8))


def test_an_entry_says_who_did_what_when_from_where_and_why(filled: Any) -> None:
    first = next(iter(filled.audit()))

    assert (first.event.actor, first.event.reason, first.event.type.name) == (
        "planner", "asked", "CHANGED",
    )  # fmt: skip
    assert first.time == first.event.time == START
    assert first.event.change.operations.keys() == {"goal"}
    assert (len(first.stream), first.sequence) == (16, 1)
    assert first.size_bytes > 40
    assert {entry.writer for entry in filled.audit()} == {first.writer}


@pytest.mark.parametrize(
    ("selection", "indexes"),
    [
        ({"agent": "bob"}, [1, 5, 6]),
        ({"agent": "nobody"}, []),
        ({"branch": "idea"}, [3]),
        ({"actor": "planner"}, [0, 2, 3, 4, 6, 7]),
        ({"key": "goal"}, [0, 3, 4]),
        ({"key": "user/*"}, [4, 6]),  # a clear touches every key
        ({"versions": (2, 2)}, [3, 4, 5]),
        ({"versions": (3, None)}, [6, 7]),
        ({"since": datetime(2027, 1, 15, 8, 1, tzinfo=UTC)}, [1, 2, 3, 4, 5, 6, 7]),
        ({"until": datetime(2027, 1, 15, 8, 1, tzinfo=UTC)}, [0, 1, 2, 3]),
        ({"newest_first": True}, [7, 6, 5, 4, 3, 2, 1, 0]),
        ({"newest_first": True, "limit": 2, "agent": "ada"}, [7, 4]),
        ({"limit": 3}, [0, 1, 2]),
        ({"limit": 0}, []),
        ({"agent": "ada", "actor": "planner", "key": "goal", "limit": 1}, [0]),
    ],
)
def test_conditions_narrow_one_another(
    filled: Any, selection: dict[str, Any], indexes: list[int]
) -> None:
    assert [entry.index for entry in filled.audit(**selection)] == indexes


def test_positions_are_inclusive_both_ways(filled: Any) -> None:
    first = next(iter(filled.audit())).position

    for newest_first, found in ((False, [2, 3, 4]), (True, [4, 3, 2])):
        record = filled.audit(positions=(first + 2, first + 4), newest_first=newest_first)
        assert [entry.index for entry in record] == found
    assert [entry.index for entry in filled.audit(positions=(first + 6, None))] == [6, 7]


async def _collect(store: statecore.StateStore, **selection: Any) -> list[AuditEntry]:
    return [entry async for entry in store.audit(**selection)]


@pytest.mark.parametrize("limit", [None, 0, 3, 100])
def test_tasks_get_the_same_record(path: Path, clock: Clock, limit: int | None) -> None:
    import asyncio

    with statecore.open(path, key=KEY, clock=clock) as store:
        fill(store, clock)
        blocking = list(store.audit(limit=limit))

    async def main() -> list[AuditEntry]:
        async with statecore.open(path, key=KEY) as tasks:
            return await _collect(tasks, limit=limit)

    assert asyncio.run(main()) == blocking


def test_a_record_can_be_read_again_and_tells_what_is_erased_meanwhile(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        for number in range(PAGE_EVENTS + 10):
            store.manager("ada").set_state("n", number)
        record = store.audit()
        paused = iter(record)
        assert next(paused).standing == Standing.OPEN
        store.erase("ada")

        assert [entry.standing for entry in paused][-10:] == [Standing.ERASED] * 10
        assert [entry.standing for entry in record].count(Standing.ERASED) == PAGE_EVENTS + 10


def test_an_erasure_says_who_did_it_and_why(filled: Any) -> None:
    filled.erase("ada", actor="dpo", reason="ticket 7")

    erasures = [
        entry for entry in filled.audit() if entry.event and entry.event.type.name == "ERASED"
    ]

    first, *ours = [(e.agent_id, e.event.actor, e.event.reason) for e in erasures]
    assert first[1:] == (None, None)
    assert {each[1:] for each in ours} == {("dpo", "ticket 7")}


def test_what_expired_says_so(path: Path, clock: Clock) -> None:
    with statecore.open(path, key=KEY, clock=clock) as store:
        store.manager("chat", kind="temporary", ttl=5).set_state("n", 1)
        clock.tick(6)
        store.manager("chat", kind="temporary", ttl=5).set_state("n", 2)

        erasures = [e.event for e in store.audit() if e.event and e.event.type.name == "ERASED"]

    assert [(event.actor, event.reason) for event in erasures] == [(None, "its time to live ended")]


@pytest.mark.parametrize("said", [{"actor": 7}, {"reason": "\ud800"}])
def test_an_erasure_that_says_nonsense_erases_nothing(path: Path, said: dict[str, Any]) -> None:
    with statecore.open(path, key=KEY) as store:
        store.manager("ada").set_state("n", 1)
        with pytest.raises(statecore.InputError):
            store.erase("ada", **said)

        assert store.manager("ada").get_state("n") == 1


def test_memory_does_not_grow_with_the_log(path: Path) -> None:
    with statecore.open(path, key=KEY, durability="relaxed", cache_mib=1) as store:
        for number in range(5 * PAGE_EVENTS):
            store.manager("ada").set_state("n", number)
        list(store.audit(limit=PAGE_EVENTS))
        peaks = []
        for pages in (2, 5):
            tracemalloc.start()
            count = sum(1 for _ in store.audit(limit=pages * PAGE_EVENTS))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            assert count == pages * PAGE_EVENTS

    assert peaks[1] < 1.5 * peaks[0]


def test_damage_is_told_in_its_place_and_the_rest_is_listed(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        for number in range(5):
            store.manager("ada").set_state("n", number)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE events SET state = state || x'00' WHERE position = 3")
        database.execute("UPDATE events SET state = x'10' WHERE position = 4")

    with statecore.open(path, key=KEY) as store:
        entries = list(store.audit())

    assert [entry.standing.value for entry in entries] == [
        "open", "open", "damaged", "damaged", "open",
    ]  # fmt: skip
    assert "the seal does not fit" in (entries[2].trouble or "")
    assert (entries[3].time, entries[3].writer) == (None, None)


def test_without_a_key_headers_tell(path: Path, clock: Clock) -> None:
    with statecore.open(path, key=KEY, clock=clock) as store:
        fill(store, clock)
        opened = list(store.audit())
    path.with_name(path.name + "-keys").unlink()

    with SealedStore(path) as sealed:
        entries = list(sealed.audit())
        newest = list(sealed.audit(newest_first=True, limit=1, versions=(1, 1)))
        with pytest.raises(InputError, match="only a key"):
            sealed.audit(agent="ada")

    for entry, whole in zip(entries, opened, strict=True):
        assert (entry.standing, entry.event, entry.agent_id) == (Standing.SEALED, None, None)
        for name in ("position", "index", "stream", "version", "time", "size_bytes", "writer"):
            assert getattr(entry, name) == getattr(whole, name)
    assert [entry.index for entry in newest] == [3 - 1]


def test_the_header_of_a_writer_without_a_number_is_read_too() -> None:
    stored = bytes([0x11, 1]) + (7).to_bytes(7) + b"p" * 12 + b"\x05" + bytes(6) + b"sealed"

    header = read_header(stored)

    assert header == (1, 7, (b"p" * 12).hex(), 5, len(stored) - 6)
    with pytest.raises(Malformed):
        read_header(stored[:10])


def test_a_time_without_a_zone_is_refused(path: Path) -> None:
    with statecore.open(path, key=KEY) as store, pytest.raises(InputError, match="zone"):
        store.audit(since=datetime(2027, 1, 1))  # noqa: DTZ001 - that is the point


POLICY = {
    "owners": ["root"],
    "principals": [{"id": "eve"}, {"id": "bob"}],
    "rules": [
        {"id": "look", "effect": "permit", "operations": ["audit"], "principals": ["eve"]},
        {"id": "past", "effect": "permit", "operations": ["history"], "principals": ["eve"]},
        {
            "id": "hide",
            "effect": "forbid",
            "operations": ["*"],
            "principals": ["eve"],
            "keys": ["secret/*"],
        },
    ],
}


def test_the_record_tells_nobody_what_they_may_not_see(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("ada", actor="planner")
        agent.set_state("goal", "fly", reason="asked")
        agent.set_state("secret/pin", 1234, reason="told me 1234", cause="call 1234")
        with agent.transaction(metadata={"note": 1}) as tx:
            tx.set("secret/pin", 9999)
            tx.set("goal", "sail")
        store.as_principal("root").access.set_policy(POLICY)

        with pytest.raises(statecore.AccessDenied):
            store.as_principal("bob").audit()
        seen = list(store.as_principal("eve").audit(agent="ada"))
        data = [entry_data(entry, changes=True) for entry in seen]
        looked = store.as_principal("root").access.records("done")

    assert [each["keys"] for each in data] == [["goal"], [], ["goal"]]
    assert [each["is_filtered"] for each in data] == [False, True, True]
    assert [each["actor"] for each in data] == ["planner"] * 3
    assert "1234" not in json.dumps(data)
    assert "9999" not in json.dumps(data)
    assert (("eve",), "audit") in {(each.principals, each.operation) for each in looked}


# The commands


@pytest.fixture
def listed(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STATECORE_KEY", CLI_KEY)
    with statecore.open(path, clock=clock) as store:
        fill(store, clock)
    return path


def shown(text: str) -> list[str]:
    """Return lines without what is random: pseudonyms and ids."""
    return [line.partition("  [writer 1")[0] for line in text.splitlines()]


def test_list_prints_a_line_for_each_event(listed: Path) -> None:
    answer = run("audit", "list", listed)

    assert shown(answer.out) == [
        "     1  2027-01-15T08:00:00Z  ada 1  planner: changed goal  (asked)",
        "     2  2027-01-15T08:01:00Z  bob 1  erased, 116 bytes",
        "     3  2027-01-15T08:01:00Z  ada (register) 1  planner: changed branch/idea",
        "     4  2027-01-15T08:01:00Z  ada idea 2  planner: changed goal",
        "     5  2027-01-15T08:02:00Z  ada 2  planner: cleared; caused by mail-7",
        "     6  2027-01-15T08:02:00Z  bob 2  erased",
        "     7  2027-01-15T08:02:00Z  bob 3  planner: changed user/2",
        "     8  2027-01-15T08:02:00Z  ada 3  planner: tag empty = version 2",
    ]


def test_list_takes_ranges_and_shows_changes(listed: Path) -> None:
    answer = run("audit", "list", listed, "--positions", "3:4", "--changes", "--branch", "idea")
    assert shown(answer.out)[1:] == ["  goal = 'sail'"]

    def positions(*options: object) -> list[int]:
        return [each["position"] for each in run("audit", "list", listed, "--json", *options).lines]

    assert positions("--positions", "7:") == [7, 8]
    assert positions("--positions", "2") == [2]
    assert positions("--versions", ":1", "--newest-first") == [3, 2, 1]
    assert positions("--since", "2027-01-15T08:02:00Z", "--limit", 2) == [5, 6]
    assert positions("--until", "2027-01-15T09:00:30+01:00") == [1]
    assert positions("--key", "user/?", "--actor", "planner", "--agent", "bob") == [7]
    assert "A:B" in fails(2, "audit", "list", listed, "--positions", "one")
    assert "zone" in fails(2, "audit", "list", listed, "--since", "2027-01-15")
    assert "no time" in fails(2, "audit", "list", listed, "--until", "tomorrow")
    assert "either" in fails(2, "audit", "list", listed, "--json", "--csv")


def test_json_and_csv_say_the_same(listed: Path) -> None:
    data = run("audit", "list", listed, "--json", "--changes").lines
    table = list(csv.reader(io.StringIO(run("audit", "list", listed, "--csv", "--changes").out)))

    assert tuple(table[0]) == COLUMNS == tuple(data[0])
    for row, entry in zip(table[1:], data, strict=True):
        for cell, value in zip(row, entry.values(), strict=True):
            assert cell == (
                "" if value is None else value if isinstance(value, str) else json.dumps(value)
            )
    assert data[0]["change"]["operations"] == [
        {"key": "goal", "operation": "put", "value": "fly"}
    ]  # fmt: skip
    assert "change" not in run("audit", "list", listed, "--json").lines[0]


def test_a_table_makes_no_spreadsheet_calculate(path: Path, listed: Path) -> None:
    with statecore.open(listed) as store:
        store.manager("=1+1", actor="@SUM(A1)").set_state("n", 1, reason="+1")

    last = list(csv.DictReader(io.StringIO(run("audit", "list", listed, "--csv").out)))[-1]

    assert (last["agent"], last["actor"], last["reason"]) == ("'=1+1", "'@SUM(A1)", "'+1")


def test_a_list_needs_no_key(listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATECORE_KEY")

    answer = run("audit", "list", listed, "--no-key", "--limit", 2)

    assert answer.out.startswith("     1  2027-01-15T08:00:00Z  stream ")
    assert answer.out.count("sealed, ") == 2
    assert "only a key tells" in fails(2, "audit", "list", listed, "--no-key", "--actor", "planner")
    assert fails(4, "audit", "list", listed)


def test_nothing_in_a_list_acts_on_the_terminal(listed: Path) -> None:
    with statecore.open(listed) as store:
        agent = store.manager(HOSTILE, actor=HOSTILE)
        agent.set_state(HOSTILE, HOSTILE, reason=HOSTILE, cause=HOSTILE)

    for options in ((), ("--changes",), ("--json", "--changes"), ("--csv", "--changes")):
        answer = run("audit", "list", listed, *options)
        assert answer.code == 0
        assert not ACTS_ON_TERMINAL.search(answer.out)
        assert "[red]x[/red]" in answer.out


def test_export_says_what_it_did_and_can_be_repeated(listed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "record"

    first = run("audit", "export", listed, folder, "--agent", "ada", "--key", "goal", "--open")
    again = run("audit", "export", listed, folder, "--json")

    assert first.out.splitlines()[0].endswith(", 8 new")
    assert first.out.splitlines()[1] == "3 events have files of their own"
    assert again.data["new_events"] == 0
    assert again.data["folder"] == str(folder)
    assert len(list(folder.glob("events/*.json"))) == 3
    assert "say which" in fails(2, "audit", "export", listed, folder, "--open")
    assert "go together" in fails(2, "audit", "export", listed, folder, "--no-key")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    assert "not empty" in fails(2, "audit", "export", listed, tmp_path / "full")


def test_under_a_policy_opening_for_others_takes_a_permission_of_its_own(
    listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with statecore.open(listed) as store:
        store.as_principal("root").access.set_policy(POLICY)
    arguments = ("audit", "export", listed, tmp_path / "record", "--agent", "ada")

    monkeypatch.setenv("STATECORE_PRINCIPAL", "eve")
    assert "may not export" in fails(11, *arguments, "--open")
    assert run(*arguments).code == 0
    monkeypatch.setenv("STATECORE_PRINCIPAL", "bob")
    assert "may not audit" in fails(11, *arguments)
    assert "may not audit" in fails(11, "audit", "list", listed)


def test_export_needs_no_key_but_a_policy(
    listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, folder = tmp_path / "policy", tmp_path / "record"
    policy.write_text(run("audit", "policy", listed).out)
    monkeypatch.delenv("STATECORE_KEY")

    arguments = ("audit", "export", listed, folder, "--no-key", "--policy", policy)

    assert run(*arguments, "--positions", "3:", "--json").data["chosen"] == 6
    assert "only a key tells" in fails(2, *arguments, "--agent", "ada")


COMMANDS = sorted(typer.main.get_command(app).commands["audit"].commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_of_a_command_works(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATECORE_KEY", CLI_KEY)
    monkeypatch.chdir(tmp_path)
    assert run("demo", "trip.db").code == 0

    examples = EXAMPLE.findall(run("audit", command, "--help").out)

    assert examples
    for example in examples:
        answer = run(*shlex.split(example))
        assert answer.code == 0, (example, answer.err)
        assert answer.out


@pytest.mark.parametrize("command", ["list {store}", "export {store} {folder}"])
def test_what_is_not_there_is_no_empty_record(command: str, listed: Path, tmp_path: Path) -> None:
    words = ["audit", *command.format(store=listed, folder=tmp_path / "record").split()]
    with statecore.open(listed) as store:
        store.erase("bob")

    assert "no agent eve; there are: ada" in fails(1, *words, "--agent", "eve")
    assert "ada has no branch b; there are: main" in fails(
        1, *words, "--agent", "ada", "--branch", "b"
    )
    assert "no agent has a branch b" in fails(1, *words, "--branch", "b")
    assert "ends before it begins" in fails(2, *words, "--positions", "9:3")
    assert "ends before it begins" in fails(2, *words, "--versions", "2:1")
    assert not (tmp_path / "record").exists()
    assert run(*words, "--agent", "bob").code == 0, "what was erased is still in the record"
    assert run(*words, "--agent", "ada", "--actor", "nobody").code == 0
