"""What is installed: our one name at the top, the wings inside it, and the files they need."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy so that the checkout stays clean."""
    source = tmp_path_factory.mktemp("source") / "statecore"
    leave = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, symlinks=True, ignore=leave)
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('dist'))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", build],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(source / "dist" / done.stdout.splitlines()[-1])


def test_the_wheel_puts_one_name_beside_other_packages(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"statecore"}


def test_the_wheel_has_every_module_once(wheel: zipfile.ZipFile) -> None:
    house = {p.relative_to(ROOT) for p in ROOT.glob("statecore/**/*.py")}
    wings = {Path("statecore", p.relative_to(ROOT)) for p in ROOT.glob("projections/**/*.py")}
    wings |= {Path("statecore", p.relative_to(ROOT)) for p in ROOT.glob("snapshots/**/*.py")}

    shipped = [Path(name) for name in wheel.namelist() if name.endswith(".py")]

    assert sorted(shipped) == sorted(house | wings)


def test_the_wheel_has_types_dictionary_and_licence(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()

    assert "statecore/py.typed" in names
    assert wheel.getinfo("statecore/codec/dictionary-1.zdict").file_size > 100_000
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_core_asks_for_no_more_than_it_needs(wheel: zipfile.ZipFile) -> None:
    metadata = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    lines = wheel.read(metadata).decode().splitlines()
    needs = {
        line.removeprefix("Requires-Dist: ").split(">")[0].split("<")[0]
        for line in lines
        if line.startswith("Requires-Dist: ") and "extra ==" not in line
    }

    assert needs == {
        "apsw",
        "cryptography",
        "eventsourcing",
        "immutables",
        "msgpack",
        "pydantic",
        "zstandard",
    }
