"""The command line as a whole: what holds for every command there is, or ever will be."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from typer.testing import CliRunner

import statecore
from statecore.cli.app import app
from statecore.cli.failures import EXIT_CODES
from tests.conftest import environment
from tests.reference import PAGE, leaves, reference

KEY = statecore.new_key()
SECRET = "correct horse battery staple"
CODES = {int(code) for code in re.findall(r"(?:^|[:;]) (\d+) ", EXIT_CODES)}
COMMANDS = dict(leaves())
EXAMPLE = re.compile(r"^ *statecore (.+)$", re.MULTILINE)
SUMMARY_MAX = 61  # of 80 columns, beside the names

Answer = tuple[int, str, str]


def run(arguments: list[str]) -> Answer:
    """Run a command in this process; whatever it is, it must end by an exit code alone."""
    result = CliRunner().invoke(app, arguments, input=b"")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise AssertionError(arguments) from result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the tour, and files that are none."""
    folder = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("STATECORE_KEY", KEY)
        assert run(["demo", str(folder / "trip.db")])[0] == 0
    (folder / "empty.db").touch()
    (folder / "text.db").write_text("this is no database\n" * 100)
    (folder / "cut.db").write_bytes((folder / "trip.db").read_bytes()[:5000])
    (folder / "folder.db").mkdir()
    (folder / "null.json").write_text("null")
    return folder


@pytest.fixture
def place(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own to work in, with a copy of all that."""
    shutil.copytree(kept, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    monkeypatch.setenv("STATECORE_KEY", KEY)
    monkeypatch.setenv("STATECORE_PASSPHRASE", SECRET)
    return tmp_path / "place"


# What is said of every command


def test_the_reference_is_made_of_the_help() -> None:
    assert PAGE.read_text() == reference(), "write it anew: python -m tests.reference"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_speaks_json_and_teaches_by_example(name: str) -> None:
    command = COMMANDS[name]
    options = {option for parameter in command.params for option in parameter.opts}

    assert "--json" in options
    assert re.search(rf"^ *statecore {name}\b", command.help, re.MULTILINE) or name == "stats"
    if " " not in name:
        assert len(command.help.split(".")[0]) < SUMMARY_MAX, "the list of commands would cut it"


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_takes_a_secret_as_an_argument(name: str) -> None:
    for parameter in COMMANDS[name].params:
        if re.search("pass(phrase|word)|secret|token", parameter.name):
            assert parameter.is_flag, parameter.name


def test_the_examples_answer_in_json_and_give_no_secret_away(place: Path) -> None:
    answered = 0
    for command in COMMANDS.values():
        for example in EXAMPLE.findall(command.help or ""):
            words = shlex.split(re.split(" [<>|] ", example)[0])
            if "--" in words:
                words.insert(words.index("--"), "--json")
            else:
                words.append("--json")

            code, out, err = run(words)

            assert code in CODES, (example, err)
            for line in out.splitlines():
                json.loads(line)
            assert KEY not in out + err
            assert SECRET not in out + err
            assert "\x1b" not in out + err, "colours are for terminals"
            answered += code == 0
    assert answered >= 30


def test_every_exit_code_that_errors_have_is_documented() -> None:
    from statecore.cli.failures import _CODES, VERDICT_CODES

    assert {*_CODES.values(), *VERDICT_CODES.values(), 0, 2, 130} <= CODES


# What a user may get wrong

WORDS = some.sampled_from(
    [
        "trip.db", "trip.db", "trip.db", "empty.db", "text.db", "cut.db", "folder.db", "none.db",
        "no/such/folder.db", "trip.db-keys", "/dev/null", "null.json", "trip-planner", "sail",
        "trip-planner", "spent", "plan", "", " ", "-", "--", "0", "1", "-1", "9" * 20, "1.5",
        "2026-03-02T09:30:00", "2026-13-40", "null", "{", '{"$decimal": "x"}', "[]", "ü\x1b[31m",
        "\u202e", "a" * 5000, "/plan/0", "plan..x", "approved", "daily", "[red]x[/red]", "%s",
    ]
)  # fmt: skip

ENDLESS = ("every", "follow")  # go on until they are interrupted


@some.composite
def command_lines(draw: some.DrawFn) -> list[str]:
    """A command, some of its options, and arguments that may be right or wrong."""
    name = draw(some.sampled_from([*COMMANDS, "audit", "keys", "schema", "no-such-command"]))
    given = name.split()
    for parameter in COMMANDS[name].params if name in COMMANDS else []:
        if parameter.param_type_name == "argument":
            if draw(some.integers(0, 9)):
                given.append(draw(WORDS))
        elif parameter.name not in ENDLESS and draw(some.integers(0, 4)) == 0:
            given.append(parameter.opts[0])
            if not parameter.is_flag:
                given.append(draw(WORDS))
    return given + draw(some.lists(WORDS, max_size=1))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arguments=command_lines())
def test_no_mistake_shows_a_stack_trace(
    arguments: list[str], kept: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("fuzz") / "place"
    shutil.copytree(kept, place)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(place)
        patched.setenv("STATECORE_KEY", KEY)
        patched.setenv("STATECORE_PASSPHRASE", SECRET)
        patched.setenv("STATECORE_NEW_PASSPHRASE", SECRET)
        patched.setenv("STATECORE_BACKUP_PASSPHRASE", SECRET)

        code, out, err = run(arguments)

    shutil.rmtree(place)
    assert code in CODES
    assert "Traceback" not in out + err
    assert KEY not in out + err
    assert SECRET not in out + err
    assert code or "\x1b" not in out
    if code not in (0, 7, 8, 9, 10, 11):
        assert err or arguments[0] == "doctor", "who fails says why; the doctor's answer is that"


PIPED = ["log trip.db", "show trip.db trip-planner", "metrics trip.db", "--help", "demo"]


@pytest.mark.parametrize("line", PIPED)
def test_a_closed_pipe_ends_a_command_quietly(line: str, place: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run(
        [sys.executable, "-m", "statecore.cli", *line.split()],
        stdout=writer,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
        check=False,
    )
    os.close(writer)

    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert done.returncode in (0, 1)


# How it begins

SLOW = ("asyncio", "rich.console", "jsonschema", "merge3", "opentelemetry",
        "statecore.cli.branching", "statecore.metrics", "statecore.reviewing")  # fmt: skip


def test_to_look_at_a_key_imports_nothing_it_does_not_need(place: Path) -> None:
    code = (
        "import sys\nfrom statecore.cli import main\n"
        "sys.argv = ['statecore', 'get', 'trip.db', 'trip-planner', 'goal']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {SLOW!r} if name in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[-1] == "[]"
    assert len(done.stdout.splitlines()) == 2


def test_the_engine_imports_nothing_that_few_need() -> None:
    code = f"import sys, statecore; print([n for n in {('pydantic', *SLOW)!r} if n in sys.modules])"

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"


def test_shells_complete_commands_and_options() -> None:
    def complete(words: str) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-m", "statecore.cli"],
            env={
                **environment(),
                "_STATECORE_COMPLETE": "complete_bash",
                "COMP_WORDS": words,
                "COMP_CWORD": str(len(words.split(" ")) - 1),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        return set(done.stdout.split())

    assert complete("statecore me") == {"merge", "metrics"}
    assert complete("statecore audit pro") == {"proof"}
    assert "--json" in complete("statecore get trip.db a k --")


def test_every_command_stands_in_the_catalog_once() -> None:
    names: list[Any] = list(typer.main.get_command(app).commands)

    assert len(names) == len(set(names))
    assert {name.split()[0] for name in COMMANDS} == set(names)
