"""Sizes told by table, state and key; space given back, crash or no crash."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import statecore
from statecore.cli.app import app
from statecore.errors import InputError
from tests.conftest import KEY, environment, opening


@pytest.fixture
def written(path: Path) -> Path:
    """A store whose file has pages that are not used any more."""
    with statecore.open(path, key=KEY) as store:
        small = store.manager("small")
        for number in range(20):
            small.set_state("n", number)
        large = store.manager("large")
        for number in range(24):
            large.set_state(f"page {number % 4}", os.urandom(60_000))
        temporary = store.manager("gone")
        for number in range(12):
            temporary.set_state(f"page {number % 3}", os.urandom(90_000))
    with statecore.open(path, key=KEY) as store:  # its snapshots are kept by now
        store.erase("gone")  # which drops them
    return path


def test_sizes_are_told_by_table_and_state(written: Path) -> None:
    with statecore.open(written, key=KEY) as store:
        sizes = store.sizes()

    assert sizes.tables["events"] > 24 * 60_000 + 12 * 90_000
    assert sum(sizes.tables.values()) + sizes.free == written.stat().st_size
    by_agent = {state.agent_id: state for state in sizes.states}
    assert [state.agent_id for state in sizes.states] == ["large", None, "small"]
    assert by_agent["large"].events == 24
    assert by_agent["large"].events_bytes > 24 * 60_000
    assert by_agent["large"].snapshots_bytes > 60_000
    assert by_agent["small"].history_bytes > 0
    assert by_agent[None].events == 13


def test_sizes_are_told_by_key(written: Path) -> None:
    with statecore.open(written, key=KEY) as store:
        store.manager("large").delete_state("page 3")
        keys = {size.key: size for size in store.key_sizes("large")}

    assert keys.keys() == {f"page {number}" for number in range(4)}
    assert keys["page 0"].events == 6
    assert keys["page 0"].events_bytes >= 6 * 60_000
    assert 60_000 <= keys["page 0"].now_bytes < 60_100
    assert (keys["page 3"].events, keys["page 3"].now_bytes) == (7, 0)


def test_compacting_gives_space_back_and_changes_nothing(written: Path) -> None:
    with statecore.open(written, key=KEY) as other, statecore.open(written, key=KEY) as store:
        agent = other.manager("small")
        told = [str(event) for event in agent.history()]
        head = store.signed_head()
        free = store.sizes().free

        before, after = store.compact()

        assert free > 0
        assert before - after >= free
        assert store.sizes().free == 0
        assert store.signed_head() == head
        assert [str(event) for event in agent.history()] == told
        assert agent.set_state("n", "goes on") == 21
        assert store.manager("small").get_state("n") == "goes on"
        assert store.check().is_sound
    assert statecore.verify(written).findings == []


COMPACT = """
import sys
import statecore
with statecore.open(sys.argv[1], key=bytes(range(32))) as store:
    print("now", flush=True)
    while True:
        store.compact()
"""


def test_killed_while_compacting_it_is_as_it_was(written: Path, tmp_path: Path) -> None:
    for milliseconds in (0, 3, 9, 20, 41, 77):
        copy = tmp_path / f"{milliseconds}.db"
        for ending in ("", "-keys"):
            shutil.copy(f"{written}{ending}", f"{copy}{ending}")
        command = [sys.executable, "-c", COMPACT, str(copy)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"now\n"
            time.sleep(milliseconds / 1000)
            other.send_signal(signal.SIGKILL)

        with statecore.open(copy, key=KEY, create=False) as store:
            assert store.check().is_sound
            assert store.manager("small").get_state("n") == 19
        assert statecore.verify(copy).findings == []


def test_what_has_no_file_has_no_sizes(tmp_path: Path) -> None:
    with opening("memory", tmp_path) as store:
        with pytest.raises(InputError, match="no file"):
            store.sizes()
        with pytest.raises(InputError, match="no file"):
            store.compact()


def test_the_commands_tell_it(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECORE_KEY", KEY.hex())

    def lines(*arguments: object) -> list[str]:
        done = CliRunner().invoke(app, [str(each) for each in arguments])
        assert done.exit_code == 0, done.output
        return done.output.splitlines()

    sizes = lines("size", written)
    assert " free" in sizes[0]
    assert any(line.split("  ")[-1].startswith("large: 24 events") for line in sizes)
    assert lines("size", written, "small")[0].endswith("n: 20 events, now 1")
    assert lines("compact", written)[0].endswith(" saved")
    missing = CliRunner().invoke(app, ["size", str(written), "nobody"])
    assert missing.exit_code == 1
