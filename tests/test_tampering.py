"""Who can write the files but has no key: what was changed in the indexes or the key store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest

import statecore
from statecore.errors import Damage, DamagedRecord, NewerFormat, StatecoreError, StoreFull
from tests.conftest import KEY
from tests.test_damage import VERSIONS, states, tamper, written

__all__ = ["written"]  # the fixture


def keys_of(path: Path) -> Path:
    return path.with_name(path.name + "-keys")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE keys SET since = 11 WHERE epoch = 1",  # would hide the first ten events
        "UPDATE keys SET since = 0 WHERE epoch = 1",
        "UPDATE keys SET wrapped = NULL WHERE epoch = 1",  # no event says that they were erased
        "UPDATE keys SET expires = 4000000000000000 WHERE epoch = 1",
        "UPDATE keys SET expires = 0 WHERE epoch = 1",
        "UPDATE keys SET expires = 0 WHERE epoch = 0",
        "UPDATE keys SET stream = 'text' WHERE epoch = 0",
        "DELETE FROM keys WHERE epoch = 1",
        "UPDATE keys SET wrapped = (SELECT wrapped FROM keys WHERE epoch = 0) WHERE epoch = 1",
        "UPDATE keys SET wrapped = x'00'",
        "UPDATE keys SET wrapped = 'text'",
        "UPDATE keys SET since = 'text'",
        "UPDATE keys SET epoch = -epoch",
        "UPDATE vault SET settings = x'c1'",
        "UPDATE vault SET settings = x'01'",
        "UPDATE vault SET check_value = 'text'",
        "UPDATE vault SET format = 'one'",
    ],
)
def test_an_edited_key_store_is_noticed(written: Path, statement: str) -> None:
    tamper(keys_of(written), statement)

    with pytest.raises(Damage):
        states(written)


@pytest.mark.parametrize("expires", [-1, 0, 5])
def test_nothing_is_erased_because_somebody_wrote_that_it_expired(
    written: Path, expires: int
) -> None:
    tamper(keys_of(written), f"UPDATE keys SET expires = {expires} WHERE epoch = 1")

    with statecore.open(written, key=KEY) as store, pytest.raises(Damage):
        store.clean_up()

    tamper(keys_of(written), "UPDATE keys SET expires = NULL")
    assert len(states(written)) == 2 * VERSIONS + 2 * VERSIONS + 1  # nothing is missing


def test_a_newer_key_store_says_upgrade(written: Path) -> None:
    tamper(keys_of(written), "UPDATE vault SET format = 2")

    with pytest.raises(NewerFormat):
        states(written)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE touches SET distances = x'c1'",
        "UPDATE touches SET distances = 'text'",
        "UPDATE touches SET count = count + 1",
        "UPDATE touches SET count = 'text'",
    ],
)
def test_a_key_history_that_does_not_parse_is_damage(written: Path, statement: str) -> None:
    tamper(written, statement)

    with statecore.open(written, key=KEY) as store, pytest.raises(Damage):
        list(store.manager("agent").history(key="n"))


def test_a_decision_is_not_let_through_because_the_index_lost_what_speaks_against_it(
    written: Path,
) -> None:
    tamper(written, "DELETE FROM touches")

    with statecore.open(written, key=KEY) as store:
        agent = store.manager("agent")
        with pytest.raises(DamagedRecord, match="does not know"):
            agent.set_state("n", 1, expected_version=1)
        assert agent.version() == 2 * VERSIONS


def test_a_stream_without_events_is_no_agent(written: Path) -> None:
    tamper(written, "INSERT INTO streams(name) VALUES (x'000102030405060708090a0b0c0d0e0f')")

    with statecore.open(written, key=KEY) as store:
        assert [birth.agent_id for birth in store.agents()] == ["agent", "other"]


def test_a_birth_and_its_key_agree_on_when_it_ends(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("session", kind="temporary", ttl=60)
        agent.set_state("n", 1)
        (birth,) = store.agents()
    database = apsw.Connection(str(keys_of(path)))
    kept = database.execute("SELECT expires FROM keys WHERE epoch = 1").get
    database.close()

    assert birth.expires == kept


class Failing:
    """A connection that fails at one kind of statement, as a full disk would make it."""

    def __init__(self, writer: apsw.Connection, start: str) -> None:
        self._writer = writer
        self._start = start

    def execute(self, sql: str, *bindings: Any) -> Any:
        if sql.startswith(self._start):
            raise apsw.FullError("database or disk is full")
        return self._writer.execute(sql, *bindings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


@pytest.mark.parametrize("start", ["INSERT INTO streams", "INSERT INTO writers", "COMMIT"])
def test_a_first_write_that_met_a_full_disk_can_be_tried_again(path: Path, start: str) -> None:
    with statecore.open(path, key=KEY) as store:
        datastore: Any = store.store._engine.streams.log._datastore  # type: ignore[attr-defined]
        writer = datastore._writer
        datastore._writer = Failing(writer, start)
        with pytest.raises(StoreFull):
            store.manager("agent").set_state("n", 1)
        datastore._writer = writer

        assert store.manager("agent").set_state("n", 2) == 1
        assert store.manager("agent").get_state("n") == 2


def test_a_snapshot_that_could_not_be_kept_spoils_no_later_one(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        parts: Any = store.store._parts
        keeper, datastore = parts._keeper, parts._log._datastore
        agent = store.manager("agent")
        agent.set_state("n", 1)
        stream = parts.engine.streams.open(agent.manager._stream.name)
        writer = datastore._writer
        datastore._writer = Failing(writer, "COMMIT")
        with pytest.raises(StatecoreError):
            keeper._keep(stream, stream.root)
        datastore._writer = writer

        agent.set_state("n", 2)
        keeper._keep(stream, stream.root)

        assert keeper.load(stream, 10).version == 2


def test_text_from_outside_cannot_act_on_a_terminal(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent", actor="evil\x1b[31m")
        agent.set_state("key\x1b]0;owned\x07", "value\x1b[2J", reason="why\rnot")
        agent.tag("tag\x1b[0m")
        shown = "".join(str(event) for event in agent.history()) + str(agent.diff(0))

    assert "\x1b" not in shown
    assert "\\x1b]0;owned\\x07" in shown


def test_a_cache_of_a_few_mebibytes_stays_small(path: Path) -> None:
    with statecore.open(path, key=KEY, cache_mib=4) as store:
        agent = store.manager("agent")
        for number in range(300):
            agent.set_state(f"k{number % 10}", f"{number} " + "x" * 100_000)
        for version in range(1, 300, 3):
            agent.at(version)
        warm: Any = store.store._engine.streams.aids.roots

        assert warm._bytes <= max(1024 * 1024, warm._roots.popitem()[1][1])


def test_what_comes_before_a_damaged_event_stays_readable(written: Path) -> None:
    tamper(written, "UPDATE events SET state = zeroblob(40) WHERE position = 40")

    with statecore.open(written, key=KEY) as store:
        agent = store.manager("agent")
        with pytest.raises(DamagedRecord, match="version 40"):
            agent.at()
        with pytest.raises(DamagedRecord, match="version 40"):
            agent.at(50)
        with pytest.raises(DamagedRecord):
            agent.set_state("n", 1)

        assert agent.at(39).version == 39
        assert agent.value_at("n", 21) == 10
        assert [event.version for event in agent.history(until=5)] == [1, 2, 3, 4, 5]
        assert str(agent.diff(1, 3)) == "k0 = 'value 0'\nn = 1"
