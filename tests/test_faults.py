"""Each fault of the campaign, caused a few times; ``python -m tests.faults`` does so for long."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import statecore
from tests.conftest import KEY, environment
from tests.faults.campaign import FAULTS, cause
from tests.faults.fault import Fault
from tests.faults.forgetful import Disk, File
from tests.faults.power import forgetful_disk, new_folder

SEED = int(os.environ.get("STATECORE_SEED") or random.randrange(1 << 32))

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


@pytest.mark.parametrize("seed", [SEED])  # so that the name of a failing test tells it
@pytest.mark.parametrize("fault", [f for f in FAULTS if f.times_brief], ids=lambda f: f.name)
def test_what_is_promised_holds_whatever_goes_wrong(
    fault: Fault, tmp_path: Path, seed: int
) -> None:
    outcome = cause(fault, tmp_path, fault.times_brief, 0, seed)

    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert outcome.violations == []
    assert outcome.done >= fault.times_brief


RELAXED = """
import os, sys
import statecore

store = statecore.open(sys.argv[1], key=bytes(range(32)), durability="relaxed").blocking()
agent = store.manager("agent")
try:
    while True:
        print(agent.extend("items", [0]), flush=True)
except statecore.StatecoreError:
    os._exit(0)  # the power is off
"""


def test_a_power_cut_takes_what_was_not_kept(tmp_path: Path) -> None:
    """Else the disk that forgets would prove nothing."""
    left, acknowledged = 0, 0
    with forgetful_disk(tmp_path / "disk") as plug:
        for seed in range(5):
            path = new_folder(plug.folder, str(seed)) / "agents.db"
            statecore.open(path, key=KEY).blocking().close()
            plug.pull_after(500)
            command = [sys.executable, "-c", RELAXED, str(path)]
            done = subprocess.run(
                command, env=environment(), capture_output=True, text=True, check=True
            )
            acknowledged += len(done.stdout.splitlines())
            plug.restore(seed)
            with statecore.open(path, key=KEY) as store:
                left += store.manager("agent").version()

    assert left < acknowledged - 5


writes = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=2000)),
        st.tuples(st.integers(0, 3000), st.none()),
    )
)


def do(file: File, changes: list[tuple[int, bytes | None]]) -> None:
    for offset, data in changes:
        if data is None:
            file.resize(offset)
        else:
            file.write(data, offset)


@given(kept=writes, lost=writes, seed=st.integers())
@settings(max_examples=200)
def test_of_a_file_what_was_synced_is_left_by_a_power_cut(
    kept: list[tuple[int, bytes | None]], lost: list[tuple[int, bytes | None]], seed: int
) -> None:
    disk = Disk()
    file = disk.make_file("/f", 0o600)
    disk.root.sync()
    do(file, kept)
    file.sync()
    whole = bytes(file.now)
    do(file, lost)

    gone = disk.lose_power(random.Random(seed))

    assert file.now == file.kept
    assert gone <= len(lost)
    if gone == len(lost) and not any(data for _, data in lost):
        assert file.now == whole
    places = [range(at, at + len(data)) for at, data in lost if data is not None]
    cut_at = min((at for at, data in lost if data is None), default=len(whole))
    for at, byte in enumerate(whole[:cut_at]):
        if not any(at in place for place in places):
            assert file.now[at] == byte


def test_names_are_lost_from_the_last_to_the_first() -> None:
    left = set()
    for seed in range(100):
        disk = Disk()
        for name in "abc":
            disk.make_file(f"/{name}", 0o600)
        disk.lose_power(random.Random(seed))
        left.add("".join(sorted(disk.root.now)))

    assert left == {"", "a", "ab", "abc"}


def test_a_fault_that_hangs_is_a_violation(tmp_path: Path) -> None:
    hangs = Fault("kill", FAULTS[0].cause, times=1, times_brief=1, case_seconds_max=0.01)

    outcome = cause(hangs, tmp_path, 1_000_000, 0, SEED)

    assert outcome.violations == ["hangs: no end of a case after 0.01 s"]
