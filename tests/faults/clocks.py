"""The clock set back and forward: ``python -m tests.faults.clocks STORE FILE SEED`` tells one."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Final

import statecore
from statecore.errors import Erased
from statecore.log import now
from tests.conftest import KEY, Clock, environment
from tests.faults.fault import Trial

HOUR: Final = 3600
YEAR: Final = 365 * 24 * HOUR
JUMPS: Final = (0, -HOUR, YEAR, 0, 5, -HOUR)  # seconds off the right time
ROUNDS: Final = 12
TTL_SECONDS: Final = HOUR // 2
SLACK: Final = 60 * 1_000_000  # microseconds that may go by while a story is told


def set_the_clock(trial: Trial) -> None:
    """The clock is set back an hour and forward a year, again and again, while agents write.

    Versions go on, times never run backwards, a time leads to the right version, and a temporary
    state ends when the clock says so, not before. By ``clock=``, and by libfaketime where there is
    one: then the whole process is told the wrong time.
    """
    library = _libfaketime()
    while trial.goes_on:
        seed = trial.chance.randrange(1 << 32)
        path = trial.folder / f"{trial.done}.db"
        if library is None or trial.done % 2 == 0:
            clock = Clock()
            right = clock.now

            def jump(seconds: int, clock: Clock = clock, right: int = right) -> None:
                clock.now = right + seconds * 1_000_000

            tell_a_story(path, random.Random(seed), clock, jump)
            trial.prove("stories by clock=")
        else:
            _tell_elsewhere(path, trial.folder / "time", seed, library)
            trial.prove("stories by libfaketime")
        trial.done += 1


def _libfaketime() -> Path | None:
    """Return where it is; that depends on the distribution."""
    for folder in ("lib", "lib64", "local/lib"):
        for path in Path("/usr", folder).glob("**/faketime/libfaketime.so.1"):
            return path
    return None


def _tell_elsewhere(path: Path, file: Path, seed: int, library: Path) -> None:
    file.write_text("+0")
    told = subprocess.run(
        [sys.executable, "-m", "tests.faults.clocks", str(path), str(file), str(seed)],
        env={
            **environment(),
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",  # setting a clock leaves that one alone
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr


def tell_a_story(
    path: Path, chance: random.Random, clock: Callable[[], int], jump: Callable[[int], None]
) -> None:
    """Write to a store while its clock jumps, and find all as it should be; twice."""
    sessions: dict[str, int] = {}  # those that must be there, and when they end
    off = 0
    for part in range(2):
        with statecore.open(path, key=KEY, clock=clock) as store:
            for number in range(ROUNDS):
                before, off = off, chance.choice(JUMPS)
                jump(off)
                assert store.manager("agent").set_state("n", part * ROUNDS + number)
                sessions = {each: end for each, end in sessions.items() if end > clock() + SLACK}
                # Who ends states may have looked at the clock just before it was set back.
                if off >= before:
                    name = f"session-{part}-{number}"
                    _begin(store, name)
                    sessions[name] = clock() + TTL_SECONDS * 1_000_000
                for each in sessions:
                    data = store.manager(each).at().data
                    assert data == {"left": each, "right": each}, (each, data)
            _look_back(store)
    jump(YEAR + HOUR)
    with statecore.open(path, key=KEY, clock=clock) as store:
        for name in sessions:
            try:
                store.manager(name).get_state("left")
            except Erased:
                continue
            raise AssertionError(f"{name} has not ended")


def _begin(store: statecore.BlockingStore, session: str) -> None:
    temporary = store.manager(session, kind="temporary", ttl=TTL_SECONDS)
    assert temporary.set_state("left", session) == 1
    assert temporary.set_state("right", session) == 2


def _look_back(store: statecore.BlockingStore) -> None:
    agent = store.manager("agent")
    events = list(agent.history())
    assert [event.version for event in events] == list(range(1, len(events) + 1))
    for event, after in pairwise(events):
        assert event.time <= after.time
    for event in events:
        last = max(each.version for each in events if each.time == event.time)
        assert agent.at(event.time).version == last
        assert agent.at(event.time).data == {"n": last - 1}


def main() -> None:
    """Tell a story in a process that libfaketime tells the time."""
    path, file, seed = sys.argv[1:]
    times = Path(file)
    began, monotonic = now(), time.monotonic()

    def jump(seconds: int) -> None:
        draft = times.with_suffix(".new")
        draft.write_text(f"{seconds:+d}")
        draft.replace(times)
        off = now() - began - (time.monotonic() - monotonic) * 1e6
        assert abs(off - seconds * 1e6) < SLACK, "libfaketime does not tell the time it is to"

    tell_a_story(Path(path), random.Random(int(seed)), now, jump)


if __name__ == "__main__":
    main()
