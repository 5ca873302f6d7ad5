"""How long the command line takes to begin, and where that goes.

    python -m benchmarks.startup

Each command is a process of its own, as a shell starts it, and they take turns; the first turn,
which compiles, is not counted. ``cpu`` is what the process used: on a busy machine look at that.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import statecore
from benchmarks.harness import AGENT, Row, main

_MODULES = ("typer", "cryptography.hazmat.primitives.ciphers.aead", "eventsourcing.persistence")


def measure(folder: Path, arguments: argparse.Namespace) -> list[Row]:
    """Return the medians of each command, and the least it took."""
    key = statecore.new_key()
    path = str(folder / "agents.db")
    with statecore.open(path, key=key) as store:
        agent = store.manager(AGENT)
        for n in range(100):
            agent.set_state(f"key {n % 10}", n)
    cli = ["-m", "statecore.cli"]
    commands = {
        "python -c pass": ["-c", "pass"],
        **{f"import {module}": ["-c", f"import {module}"] for module in _MODULES},
        "import statecore": ["-c", "import statecore"],
        "statecore get": [*cli, "get", path, AGENT, "key 1"],
        "statecore show": [*cli, "show", path, AGENT],
        "statecore log --limit 10": [*cli, "log", path, "--limit", "10"],
        "statecore --help": [*cli, "--help"],
    }
    environment = {
        **{name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
        "STATECORE_KEY": key,
    }
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for turn in range(arguments.turns + 1):
        for name, command in commands.items():
            run = _run([sys.executable, *command], environment)
            if turn:
                took[name].append(run)
    return [
        {
            "what": name,
            "wall_ms": round(statistics.median(wall for wall, _ in runs) * 1e3),
            "cpu_ms": round(statistics.median(cpu for _, cpu in runs) * 1e3),
            "best_wall_ms": round(min(wall for wall, _ in runs) * 1e3),
            "best_cpu_ms": round(min(cpu for _, cpu in runs) * 1e3),
        }
        for name, runs in took.items()
    ]


def _run(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Return the seconds that passed and those of CPU."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    passed = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return passed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main("Start-up", measure, turns=9)
