"""What the tests share: a store on every backend, keys that touch no home directory."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import statecore

settings.register_profile(
    "house",
    deadline=None,  # machines are noisy
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("house")

KEY = bytes(range(32))
BACKENDS = ("memory", "sqlite", "popo")

Open = Callable[..., statecore.Opening]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the user's own keys, and from what was remembered."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("STATECORE_KEY", raising=False)


def opening(backend: str, path: Path, **options: Any) -> statecore.Opening:
    """Open a store on a backend."""
    options = {"key": KEY, **options}
    if backend == "sqlite":
        return statecore.open(path / "agents.db", **options)
    if backend == "popo":
        return statecore.open(persistence_module="eventsourcing.popo", **options)
    return statecore.open(**options)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(backend: str, tmp_path: Path) -> Iterator[statecore.BlockingStore]:
    """A store on every backend in turn."""
    with opening(backend, tmp_path) as opened:
        yield opened


@pytest.fixture
def agent(store: statecore.BlockingStore) -> statecore.BlockingManager:
    """A state on every backend in turn."""
    return store.manager("agent-7", actor="planner")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a SQLite store may lie."""
    return tmp_path / "agents.db"


@pytest.fixture
def patience() -> Iterator[None]:
    """End a test that would go on for ever."""

    def give_up(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def file_store(path: Path) -> Iterator[statecore.BlockingStore]:
    with statecore.open(path, key=KEY) as opened:
        yield opened


class Clock:
    """A clock that tests set."""

    def __init__(self, microseconds: int = 1_800_000_000_000_000) -> None:
        self.now = microseconds

    def __call__(self) -> int:
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += int(seconds * 1e6)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def environment() -> dict[str, str]:
    """The environment for a Python process that a test starts."""
    root = str(Path(__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": root}
