"""``verify``, ``anchor``, ``audit policy`` and ``audit proof`` at the command line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import statecore
from statecore.codec.leaf import read_entry
from statecore.transparency.merkle import leaf_hash
from statecore.transparency.policy import parse_policy
from statecore.transparency.proof import parse_proof, verify_proof
from tests.attacking import EVENTS, HEAD_EVENTS, copy_store, run, write_store
from tests.conftest import KEY, environment
from tests.test_cli import fails
from tests.test_cli import run as command


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "trip.db"
    write_store(path)
    return path


@pytest.fixture
def store(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store whose key is in the environment, and a home of its own for what is remembered."""
    monkeypatch.setenv("STATECORE_KEY", KEY.hex())
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return copy_store(original, tmp_path / "trip.db")


def without_ids(text: str) -> str:
    return re.sub("[0-9a-f]{32}", "ID", text)


def test_the_first_verification_says_that_it_rests_on_nothing_the_second_on_the_first(
    store: Path,
) -> None:
    first, again = command("verify", store), command("verify", store)

    assert first.code == 8
    assert without_ids(first.out).splitlines() == [
        "VALID-UNANCHORED  nothing contradicts itself; nothing from outside was held against it",
        "log ID, 1,300 events, verified by digests",
        "signed over the first 1,300 events; 2 heads",
        "note: no policy was given: nothing is known of who signed the heads",
    ]
    assert again.code == 0
    assert again.out.splitlines()[0] == (
        "VALID-ANCHORED  its first 1,300 events are those of a head kept outside"
    )


def test_verification_needs_no_key_and_no_key_store(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STATECORE_KEY")
    store.with_name("trip.db-keys").unlink()

    assert command("verify", store, "--no-remember").code == 8
    assert command("verify", store, "--no-remember", "--depth", "proofs").code == 8


@pytest.mark.parametrize("depth", ["contents", "replay"])
def test_contents_and_replay_need_the_key(
    depth: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = command("verify", store, "--no-remember", "--depth", depth)
    monkeypatch.delenv("STATECORE_KEY")

    assert answer.code == 8
    assert "note: 0 snapshots were opened" in answer.out
    assert "no key file" in fails(4, "verify", store, "--no-remember", "--depth", depth)


def test_the_passphrase_is_asked_for_as_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret.db"
    with statecore.open(path, passphrase="open sesame") as opened:
        opened.manager("one").set_state("n", 1)
    asked = ("verify", path, "--no-remember", "--depth", "replay", "--passphrase")

    monkeypatch.setenv("STATECORE_PASSPHRASE", "open sesame")
    assert command(*asked).code == 8
    monkeypatch.setenv("STATECORE_PASSPHRASE", "wrong")
    fails(4, *asked)


def test_an_anchor_and_a_policy_that_hold(store: Path, tmp_path: Path) -> None:
    policy, outside = tmp_path / "trip.policy", tmp_path / "outside"
    outside.mkdir()
    policy.write_text(command("audit", "policy", store).out)

    anchored = command("anchor", store, outside)
    (head,) = outside.iterdir()
    answer = command("verify", store, "--policy", policy, "--anchor", head, "--no-remember")

    assert without_ids(anchored.out).endswith("1300.head: 1,300 events of statecore/ID\n")
    assert answer.code == 0
    assert without_ids(answer.out).splitlines()[2] == (
        "signed over the first 1,300 events, by statecore/ID; 2 heads"
    )


def test_the_head_can_be_piped_and_had_without_a_key(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = command("anchor", store)
    monkeypatch.delenv("STATECORE_KEY")

    assert command("anchor", store, "-", "--last").out == signed.out
    assert signed.out.splitlines()[1] == str(EVENTS)


def test_an_edited_event_is_invalid_and_so_said_to_programs(store: Path) -> None:
    run(store, "UPDATE events SET state = zeroblob(60) WHERE position = 300")

    answer = command("verify", store, "--json")

    assert answer.code == 10
    assert answer.data["verdict"] == "INVALID"
    assert [each["kind"] for each in answer.data["findings"]] == ["edited-events"]
    assert {"log", "depth", "events", "root", "heads", "anchored", "notes"} <= answer.data.keys()
    assert "finding: edited-events: positions 257 to 512" in command("verify", store).out


def test_a_log_that_went_back_has_diverged(store: Path) -> None:
    command("verify", store)
    run(
        store,
        f"DELETE FROM events WHERE position > {HEAD_EVENTS}",
        f"DELETE FROM heads WHERE size > {HEAD_EVENTS}",
        "DELETE FROM tree WHERE upto > 1024",
        "DELETE FROM links WHERE tile > 3",
    )

    answer = command("verify", store)

    assert (answer.code, answer.out.split()[0]) == (9, "DIVERGED")
    assert command("verify", store, "--no-remember").code == 8
    assert command("verify", store).code == 9, "it is remembered still"


def test_a_head_remembered_that_can_not_be_read_keeps_nobody_from_the_rest(
    store: Path, tmp_path: Path
) -> None:
    command("verify", store)
    (head,) = (tmp_path / "state/statecore/heads").iterdir()
    head.unlink()
    head.mkdir()

    verified, examined = command("verify", store), command("doctor", store)

    assert (verified.code, verified.out.split()[0]) == (8, "VALID-UNANCHORED")
    assert examined.out.splitlines()[0] == f"nothing is wrong with {store}"
    for answer in (verified, examined):
        assert f"note: nothing was held against the head remembered, {head}, which" in answer.out
    assert f"note: the last head was not remembered in {head}: " in verified.out
    assert list(head.parent.iterdir()) == [head]


def test_an_anchor_is_not_replaced_by_a_head_that_does_not_go_on_from_it(
    store: Path, tmp_path: Path
) -> None:
    other, outside = tmp_path / "other.db", tmp_path / "outside"
    write_store(other, 10)
    command("anchor", other, outside)
    before = outside.read_bytes()

    assert "holds a head of statecore/" in fails(2, "anchor", store, outside)
    assert outside.read_bytes() == before


def test_what_can_not_be_verified_is_an_error(store: Path, tmp_path: Path) -> None:
    assert "there is no store" in fails(1, "verify", tmp_path / "none.db")
    assert "can't be read" in fails(2, "verify", store, "--anchor", tmp_path / "none")
    assert "can't be read" in fails(2, "verify", store, "--policy", tmp_path / "none")
    (tmp_path / "empty").touch()
    assert "is no signed head" in fails(2, "verify", store, "--anchor", tmp_path / "empty")
    assert command("doctor", store, "--anchor", tmp_path / "empty").code == 2
    run(store, "CREATE VIEW evil AS SELECT 1")
    assert "view evil" in fails(5, "verify", store)


def test_a_proof_of_an_event_is_verified_by_whoever_has_the_policy(store: Path) -> None:
    policy = parse_policy(command("audit", "policy", store).out.encode())

    proof = parse_proof(command("audit", "proof", store, "two", 17).out.encode())

    said = verify_proof(proof, leaf_hash(proof.extra), policy)
    assert (said.checkpoint.size, read_entry(proof.extra).version) == (EVENTS, 17)
    assert "version" in fails(1, "audit", "proof", store, "two", 9999)


READ_ONLY = """
import os, sys
import statecore, statecore.cli.app, statecore.recorders.sqlite, typer.testing
with statecore.open() as store:  # imports all there is, while they can be read
    store.manager("agent").set_state("n", 1)
os.setgid(65534)
os.setuid(65534)
report = statecore.verify(sys.argv[1], depth=sys.argv[2], key=bytes(range(32)))
print(report.verdict, report.events, len(report.findings))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become nobody")
@pytest.mark.parametrize("depth", statecore.Depth)
def test_a_store_on_a_medium_that_can_not_be_written_is_verified(
    depth: statecore.Depth, store: Path
) -> None:
    for folder in (store.parent, *store.parent.parents[:2]):
        folder.chmod(0o755)
    for file in store.parent.glob("trip.db*"):
        file.chmod(0o444)

    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, str(store), depth],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )

    assert done.stdout == f"VALID-UNANCHORED {EVENTS} 0\n", done.stderr


WRITER = """
import sys
import statecore
with statecore.open(sys.argv[1], key=bytes(range(32)), durability="relaxed") as store:
    agent = store.manager(sys.argv[2])
    for number in range(400):
        agent.set_state("n", number, event_id=f"{sys.argv[2]}-{number}")
"""


def test_a_store_is_valid_at_every_moment_while_four_processes_write(tmp_path: Path) -> None:
    path = tmp_path / "agents.db"
    statecore.open(path, key=KEY).blocking().close()
    started = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], env=environment())
        for name in ("one", "two", "three", "four")
    ]

    reports = []
    while any(process.poll() is None for process in started):
        depth = list(statecore.Depth)[len(reports) % 4]
        reports.append(statecore.verify(path, depth=depth, key=KEY, remember=tmp_path / "memory"))
    last = statecore.verify(path, depth="replay", key=KEY, remember=tmp_path / "memory")

    assert [process.returncode for process in started] == [0] * 4
    assert [report.findings for report in (*reports, last)] == [[]] * (len(reports) + 1)
    assert (last.events, last.head_size) == (1600, 1600)
