"""The doctor: each thing that is wrong is named, with what to do, and nothing is changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
from typer.testing import CliRunner

import statecore
from statecore.cli.app import app
from statecore.doctor import Examination, Severity, examine
from statecore.errors import StoreBusy, StoreFull, StoreReadOnly
from tests.conftest import KEY, Clock, environment

PAGE = 4096


@pytest.fixture
def written(path: Path) -> Path:
    with statecore.open(path, key=KEY) as store:
        for name in ("agent", "other"):
            agent = store.manager(name, actor="ada")
            for number in range(200):
                agent.set_state(f"k{number % 9}", number)
        store.manager("gone").set_state("secret", 1)
        store.erase("gone")
    return path


def kinds(found: Examination) -> list[str]:
    return [each.kind for each in found.diagnoses]


def contents(path: Path) -> dict[str, bytes]:
    """The files of a store, but what SQLite makes while one reads."""
    files = path.parent.glob(path.name + "*")
    return {each.name: each.read_bytes() for each in files if not each.name.endswith("-shm")}


def test_a_healthy_store_has_nothing_wrong_with_it(written: Path) -> None:
    before = contents(written)

    found = examine(written, key=KEY)

    assert kinds(found) == []
    assert (found.events, found.streams) == (402, 3)
    assert found.last_event > 0
    assert found.survey is None
    after = contents(written)
    assert {name: after[name] for name in before} == before


def without(ending: str) -> Callable[[Path], None]:
    return lambda path: Path(f"{path}{ending}").unlink()


def edited(*statements: str, keys: bool = False) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        database = apsw.Connection(f"{path}-keys" if keys else str(path))
        for statement in statements:
            database.execute(statement)
        database.close()

    return edit


def zeroed(page: int) -> Callable[[Path], None]:
    def zero(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
        path.write_bytes(content)

    return zero


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def opened_up(path: Path) -> None:
    path.chmod(0o644)


def replaced_by_text(path: Path) -> None:
    path.write_text("no database, but long enough to be one" * 40)


@pytest.mark.parametrize(
    ("damage", "kind", "severity"),
    [
        (without(""), "missing-log", Severity.DAMAGE),
        (without("-keys"), "damaged-keys", Severity.DAMAGE),
        (opened_up, "open-mode", Severity.ADVICE),
        (replaced_by_text, "unreadable", Severity.DAMAGE),
        (cut, "cut-file", Severity.DAMAGE),
        (zeroed(0), "unreadable", Severity.DAMAGE),
        (edited("UPDATE log SET format = 2"), "newer-format", Severity.TROUBLE),
        (edited("CREATE TABLE evil(x)"), "unreadable", Severity.DAMAGE),
        (edited("DELETE FROM events WHERE position = 7"), "missing-positions", Severity.DAMAGE),
        (
            edited("UPDATE events SET state = zeroblob(50) WHERE position = 7"),
            "edited-events",
            Severity.DAMAGE,
        ),
        (edited("DELETE FROM events WHERE position > 300"), "rolled-back", Severity.DAMAGE),
        (edited("DELETE FROM keys WHERE epoch > 0", keys=True), "", Severity.ADVICE),
        (edited("DELETE FROM vault", keys=True), "no-key", Severity.TROUBLE),
        (
            edited(
                "DELETE FROM keys WHERE stream = (SELECT min(stream) FROM keys WHERE epoch > 0)",
                keys=True,
            ),
            "missing-keys",
            Severity.DAMAGE,
        ),
    ],
)
def test_what_is_wrong_is_named(
    written: Path, damage: Callable[[Path], None], kind: str, severity: Severity
) -> None:
    damage(written)
    before = contents(written)

    found = examine(written, key=KEY)

    told = {each.kind: each for each in found.diagnoses}
    if kind:
        assert told[kind].severity == severity
        assert told[kind].remedy
    severities = [each.severity for each in found.diagnoses]
    assert severities == sorted(severities, reverse=True), "the worst comes first"
    after = contents(written)
    assert {name: after[name] for name in before} == before


def test_how_far_damage_reaches_is_told(written: Path) -> None:
    edited("UPDATE events SET state = zeroblob(50) WHERE position = 20")(written)

    survey = examine(written, key=KEY).survey

    assert survey is not None
    (loss,) = survey.losses
    assert survey.agents[loss.stream] == "agent"
    assert (loss.first, loss.last, loss.positions) == (20, 20, (20, 20))
    assert loss.after is not None
    assert loss.before is not None
    assert loss.after <= loss.before
    assert survey.total == 401


def test_a_wrong_key_is_told_apart_from_damage(written: Path) -> None:
    found = examine(written, key=bytes(32))

    (diagnosis,) = found.diagnoses
    assert diagnosis.kind == "no-key"
    assert diagnosis.error is statecore.WrongKey


def test_the_key_store_of_another_log_is_told_as_that(path: Path, written: Path) -> None:
    empty, other = path.with_name("empty.db"), path.with_name("other.db")
    for each, key in ((empty, KEY), (other, bytes(32))):
        statecore.open(each, key=key).blocking().close()

    for store, its in ((empty, written), (written, other), (other, empty)):
        shutil.copy(f"{its}-keys", f"{store}-keys")
        (diagnosis,) = examine(store, key=KEY).diagnoses
        assert (diagnosis.kind, diagnosis.severity) == ("foreign-keys", Severity.TROUBLE)
        assert diagnosis.error is statecore.WrongKey
        assert "its own" in diagnosis.remedy


@pytest.mark.parametrize("error", [StoreFull, StoreBusy, StoreReadOnly])
@pytest.mark.parametrize("where", ["verify", "copy_database"])
def test_what_passes_is_trouble_and_no_damage(
    error: type[statecore.StoreFailure], where: str, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("not now")

    monkeypatch.setattr(f"statecore.doctor.{where}", fail)

    found = examine(written, key=KEY)

    (diagnosis,) = found.diagnoses
    assert (diagnosis.kind, diagnosis.severity) == ("unavailable", Severity.TROUBLE)
    assert diagnosis.error is error
    assert "restore" not in diagnosis.remedy
    assert found.survey is None


def test_transactions_behind_a_damaged_frame_are_told(path: Path) -> None:
    copy = path.with_name("copy.db")
    with statecore.open(path, key=KEY) as store:
        for number in range(40):
            store.manager("agent").set_state("n", number)
        for ending in ("", "-wal", "-keys"):
            shutil.copy(f"{path}{ending}", f"{copy}{ending}")
    log = bytearray(Path(f"{copy}-wal").read_bytes())
    log[len(log) // 2] ^= 0xFF
    Path(f"{copy}-wal").write_bytes(log)

    assert "damaged-wal" in kinds(examine(copy, key=KEY))


def test_a_clock_behind_the_last_event_is_told(written: Path) -> None:
    found = examine(written, key=KEY, clock=Clock(1_600_000_000_000_000))

    assert kinds(found) == ["slow-clock"]


def test_heads_kept_outside_are_held_against_it(written: Path, tmp_path: Path) -> None:
    anchor = tmp_path / "anchor"
    shutil.copy(written, tmp_path / "old.db")
    shutil.copy(f"{written}-keys", tmp_path / "old.db-keys")
    with statecore.open(written, key=KEY) as store:
        store.manager("agent").set_state("more", 1)
        anchor.write_bytes(store.signed_head())

    assert kinds(examine(written, key=KEY, anchors=(anchor,))) == []
    assert kinds(examine(tmp_path / "old.db", key=KEY, anchors=(anchor,))) == ["rolled-back"]


def test_a_store_that_is_open_here_is_left_alone(written: Path) -> None:
    with statecore.open(written, key=KEY), pytest.raises(StoreBusy, match="open in this process"):
        examine(written, key=KEY)


HOLD = """
import sys
import statecore
with statecore.open(sys.argv[1], key=bytes(range(32))) as store:
    print(store.manager("agent").version(), flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells")
def test_processes_that_have_it_open_are_named(written: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(written)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment()) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"200\n"
        found = examine(written, key=KEY)
        with pytest.raises(StoreBusy, match=f"process {other.pid} has"):
            statecore.salvage(written, written.with_name("new.db"), key=KEY)
        other.communicate()

    assert found.notes == [f"process {other.pid} has it open"]
    assert kinds(found) == []


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    monkeypatch.setenv("STATECORE_KEY", KEY.hex())

    def run(*arguments: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, [str(each) for each in arguments])
        return done.exit_code, done.output

    return run


def test_the_commands_tell_by_text_json_and_exit_code(
    written: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    code, text = run("doctor", written)
    assert (code, text.splitlines()[0]) == (0, f"nothing is wrong with {written}")
    edited("UPDATE events SET state = zeroblob(50) WHERE position = 20")(written)

    code, text = run("doctor", written)
    assert code == 5
    assert text.startswith("damage: edited-events: ")
    assert "\n  do: stop what writes, copy all files" in text
    assert "\nmissing: agent version 20, positions 20 to 20, after 20" in text
    code, text = run("doctor", written, "--json")
    assert json.loads(text)["extent"]["losses"][0]["first"] == 20

    code, text = run("check", written)
    assert code == 5
    assert "history: agent: version 20" in text
    code, text = run("salvage", written, tmp_path / "new.db", "--cut")
    assert code == 5
    assert text.startswith(f"wrote {tmp_path}/new.db: 221 events, 0 snapshots, 0 signed heads\n")
    assert run("check", tmp_path / "new.db")[0] == 0
    assert run("rebuild", tmp_path / "new.db")[1].endswith("nothing replaced\n")
    assert run("doctor", tmp_path / "no.db")[0] == 1
    code, text = run("doctor", tmp_path / "new.db")
    assert code == 5  # what was lost stays lost, and is not hidden
    assert text.startswith("damage: missing-positions: ")

    shutil.copy(written, tmp_path / "cut.db")
    shutil.copy(f"{written}-keys", tmp_path / "cut.db-keys")
    os.truncate(tmp_path / "cut.db", 2 * PAGE)
    code, text = run("salvage", tmp_path / "cut.db", tmp_path / "none.db")
    assert code == 5
    assert text.count("its keys are there, and no event\n") == 3
    assert " pages at the end of the file: what was on them alone is not known\n" in text

    Path(f"{written}-keys").unlink()
    assert run("salvage", written, tmp_path / "other.db")[0] == 4
    code, text = run("salvage", written, tmp_path / "other.db", "--without-key", "--json")
    assert code == 5
    assert json.loads(text)["has_indexes"] is False


def test_some_keys_are_restored(written: Path, run: Callable[..., tuple[int, str]]) -> None:
    code, _ = run("restore", written, "agent", "--at", 20, "--key", "k1", "--key", "k2")

    assert code == 0
    with statecore.open(written, key=KEY) as store:
        agent = store.manager("agent")
        then, before, now = agent.at(20), agent.at(200), agent.at()
        assert now.version == 201
        for key in now:
            assert now[key] == (then if key in ("k1", "k2") else before)[key]
        assert agent.restore(5, keys=["k8", "k1"]).version == 202
        assert "k8" not in agent.at()
        assert agent.restore(5, keys=["k8"]).version is None
        assert agent.undo() is not None
        assert agent.get_state("k8") == before["k8"]
