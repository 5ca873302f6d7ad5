"""What the command line is given that can't be a path, or to read from and write to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import statecore
from tests.conftest import environment
from tests.test_cli import KEY, fails, run

UNDECODABLE = os.fsdecode(b"caf\xe9.db")


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECORE_KEY", KEY)
    monkeypatch.setenv("STATECORE_BACKUP_PASSPHRASE", "of the backup")
    monkeypatch.delenv("STATECORE_PASSPHRASE", raising=False)
    monkeypatch.chdir(tmp_path)
    with statecore.open("s.db") as store:
        store.manager("ada").set_state("n", 1)


def started(*arguments: str, **options: object) -> tuple[int, str]:
    """Run a command in a process of its own; return its code, and what it says of a failure."""
    done = subprocess.run(
        [sys.executable, "-m", "statecore.cli", *arguments],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("command", ["stats", "verify", "doctor", "upgrade", "keys check"])
def test_a_name_that_is_no_text_is_refused(command: str) -> None:
    Path("s.db").rename(UNDECODABLE)

    assert "not UTF-8" in fails(2, *command.split(), UNDECODABLE)


def test_an_archive_whose_name_is_no_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECORE_ARCHIVES", UNDECODABLE)

    assert "not UTF-8" in fails(2, "stats", "s.db")


def test_the_engine_refuses_a_name_that_is_no_text() -> None:
    with pytest.raises(statecore.InputError), statecore.open(UNDECODABLE):
        pass

    assert not Path(UNDECODABLE).exists()


@pytest.mark.parametrize("path", ["", ".", "/"])
@pytest.mark.parametrize("command", ["keys backup s.db", "salvage s.db", "backup restore s.backup"])
def test_what_is_to_be_made_needs_a_name(command: str, path: str, tmp_path: Path) -> None:
    run("backup", "run", "s.db", "s.backup")

    fails(2, *command.split(), path)

    made = {file.name for file in tmp_path.iterdir() if not file.name.startswith("s.db")}
    assert made == {"s.backup"}


@pytest.mark.parametrize("path", ["", "/"])
@pytest.mark.parametrize("rest", ["stats", "verify", "set a k 1 --create", "get a k", "anchor"])
def test_a_store_needs_a_name(rest: str, path: str) -> None:
    command, *words = rest.split()

    fails(2, command, path, *words)


def test_a_folder_may_be_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "record").mkdir()
    monkeypatch.chdir("record")

    assert run("audit", "export", "../s.db", ".").code == 0
    assert run("verify", "../s.db", "--remember", ".").code == 8
    assert run("anchor", "../s.db", ".").code == 0


def test_without_standard_input_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = started("set", "s.db", "ada", "n", "-", preexec_fn=lambda: os.close(0))

    assert (code, said) == (2, "statecore: there is no standard input\n")


def test_a_passphrase_that_is_no_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECORE_PASSPHRASE", os.fsdecode(b"p\xff"))

    assert fails(4, "get", "s.db", "ada", "n", "--passphrase") == "the passphrase is not UTF-8"


@pytest.mark.parametrize("arguments", ["--help", "set --help", "keys --help"])
def test_help_that_cant_be_written_is_no_traceback(arguments: str) -> None:
    with Path("/dev/full").open("w") as full:
        code, said = started(*arguments.split(), stdout=full)

    assert code == 12
    assert said.startswith("statecore: standard output can't be written (No space")
    assert said.count("\n") == 1


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_answer_that_cant_be_written_is_no_failure_of_the_store(options: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        code, said = started("set", "s.db", "ada", "n", "2", *options, stdout=full)

    assert code == 12
    assert said.endswith("what was to be done is done\n")
    assert run("get", "s.db", "ada", "n").out == "2\n"


@pytest.mark.parametrize("place", [".", "..", "/", "others", "file.txt", "", "file://"])
def test_a_backup_is_not_put_among_other_files(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir("here")
    (tmp_path / "here" / "others" / "folder").mkdir(parents=True)
    (tmp_path / "here" / "file.txt").touch()

    fails(2, "backup", "run", "../s.db", place)

    assert sorted(map(str, Path().rglob("*"))) == ["file.txt", "others", "others/folder"]


@pytest.mark.parametrize("leftover", ["lost+found", ".draft-00"])
def test_a_backup_may_be_begun_in_a_folder_that_is_as_good_as_empty(
    tmp_path: Path, leftover: str
) -> None:
    (tmp_path / "s.backup" / leftover).mkdir(parents=True)

    assert run("backup", "run", "s.db", "s.backup").code == 0


def test_what_is_put_beside_a_backup_does_no_harm(tmp_path: Path) -> None:
    assert run("backup", "run", "s.db", "s.backup").code == 0
    (tmp_path / "s.backup" / "README").touch()

    assert run("backup", "run", "s.db", "s.backup").code == 0


@pytest.mark.parametrize(
    "line",
    ["keys rotate s.db --to-key-file no/key", "anchor s.db no/s.head", "keys backup s.db no/b"],
)
def test_no_folder_is_made_that_is_only_misspelled(line: str) -> None:
    assert fails(2, *line.split()) == "there is no directory no"

    assert not Path("no").exists()


def test_a_remote_backup_is_not_put_among_other_files() -> None:
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    files.pipe_file("/bucket/others/folder/file.txt", b"")

    assert "but folder" in fails(2, "backup", "run", "s.db", "memory://bucket/others")

    assert files.find("/bucket/others") == ["/bucket/others/folder/file.txt"]
