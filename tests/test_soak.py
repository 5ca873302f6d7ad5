"""A few seconds of what ``python -m tests.soak`` does for hours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import environment


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc to look at memory")
def test_a_store_is_lived_with_and_died_in() -> None:
    command = [sys.executable, "-m", "tests.soak", "--minutes", "0.15", "--beat", "3"]

    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, check=False, timeout=300
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("0 violations\n")
