"""The command line of rules: what is recorded, listed, found, refused."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import typer

import statecore
from statecore.cli.app import app
from tests.test_cli import ACTS_ON_TERMINAL, HOSTILE, KEY, fails, run
from tests.test_cli_branches import EXAMPLE
from tests.test_validation import SECRET, USER, even

COMMANDS = sorted(typer.main.get_command(app).commands["schema"].commands)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECORE_KEY", KEY)
    monkeypatch.delenv("STATECORE_PASSPHRASE", raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A state with a user who fits the schema, and one who does not."""
    path = tmp_path / "agents.db"
    with statecore.open(path) as store:
        ada = store.manager("ada", actor="planner")
        ada.set_state("user/1", {"name": "Ada", "age": 36})
        ada.set_state("user/2", {"name": "Bob", "age": SECRET})
    return path


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    path = tmp_path / "user.json"
    path.write_text(json.dumps(USER))
    return path


@pytest.fixture
def ruled(path: Path, schema: Path) -> Path:
    """The same, with the schema set."""
    assert run("schema", "set", path, "ada", "user/*", schema).code == 0
    return path


def test_a_schema_is_recorded_by_whom_and_why(path: Path, schema: Path) -> None:
    arguments = ("schema", "set", path, "ada", "user/*", schema)
    answer = run(*arguments, "--actor", "me", "--reason", "order", "--json")

    assert answer.data == {"agent": "ada", "pattern": "user/*", "rules": 1}
    assert run(*arguments).out == "rules version 1\n"
    with statecore.open(path) as store:
        assert store.manager("ada").schemas()["user/*"].schema == USER


def test_a_schema_comes_by_standard_input(path: Path) -> None:
    arguments = ("schema", "set", path, "ada", "n", "-")

    assert run(*arguments, stdin='{"type": "integer"}').out == "rules version 1\n"
    assert "not JSON" in fails(2, *arguments, stdin="{")
    assert "not UTF-8" in fails(2, *arguments, stdin=b"\xff")


def test_what_does_not_fit_is_refused_with_a_code_of_its_own(ruled: Path) -> None:
    told = fails(7, "set", ruled, "ada", "user/3", json.dumps({"name": SECRET, "age": -1}))

    assert told == "user/3['age']: does not fit minimum: 0 (schema 'user/*', version 1)"
    assert run("get", ruled, "ada", "user/3").code == 1
    assert run("set", ruled, "ada", "user/2", '{"name": "Bob", "age": 7}').code == 0


def test_check_lists_what_violates_the_rules_and_ends_with_a_code(ruled: Path) -> None:
    answer = run("schema", "check", ruled, "ada")
    found = run("schema", "check", ruled, "ada", "--json")

    assert (answer.code, answer.err) == (7, "")
    rule = "schema 'user/*', version 1"
    assert answer.out == f"user/2['age']: does not fit type: \"integer\" ({rule})\n"
    assert found.code == 7
    assert found.lines == [
        {"path": ["user/2", "age"], "message": 'does not fit type: "integer"', "rule": rule}
    ]
    run("set", ruled, "ada", "user/2", '{"name": "Bob", "age": 7}')
    assert (run("schema", "check", ruled, "ada").code) == 0
    assert run("schema", "check", ruled, "ada").out == "(no violations)\n"
    assert run("schema", "check", ruled, "ada", "--json").out == ""


def test_a_branch_is_checked_by_itself(ruled: Path) -> None:
    run("branch", ruled, "ada", "early", "--at", 1)

    assert run("schema", "check", ruled, "ada", "--branch", "early").code == 0
    assert run("schema", "check", ruled, "ada").code == 7


def test_the_rules_are_listed_as_they_are_and_were(path: Path) -> None:
    with statecore.open(path) as store:
        ada = store.manager("ada")
        ada.set_schema("n", {"type": "integer"})
        ada.set_state("n", 1)
        ada.constrain("n", even)
        ada.set_reference("doc/*", ("readers", "name"), "user/*", on_delete="clear")
        ada.set_reference("boss", (), "person/*", agent="staff")
        ada.set_schema("n", None)

    assert run("schema", "list", path, "ada").out.splitlines() == [
        "constraint n = even",
        "reference boss  (version 4) = person/* of staff, on delete: keep",
        "reference doc/* /readers/name (version 3) = user/*, on delete: clear",
    ]
    assert run("schema", "list", path, "ada", "--at", 2).out == "(no rules)\n"
    assert run("schema", "list", path, "ada", "--at", 3).out == (
        'schema n (version 1) = {"type": "integer"}\n'
    )
    assert run("schema", "list", path, "ada", "--at", 3, "--json").lines == [
        {"rule": "schema", "pattern": "n", "version": 1, "schema": {"type": "integer"}}
    ]
    listed = run("schema", "list", path, "ada", "--json").lines
    assert listed[0] == {"rule": "constraint", "pattern": "n", "names": ["even"]}
    assert listed[2] == {
        "rule": "reference", "pattern": "doc/*", "path": ["readers", "name"], "to": "user/*",
        "on_delete": "clear", "agent": None, "version": 3,
    }  # fmt: skip


def test_a_schema_is_taken_back(ruled: Path) -> None:
    assert run("schema", "remove", ruled, "ada", "user/*").out == "rules version 2\n"

    assert "no schema for user/*" in fails(1, "schema", "remove", ruled, "ada", "user/*")
    assert run("schema", "check", ruled, "ada").code == 0


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"$ref": "https://example.com/"}', "leads out of it"),
        ('{"type": "nothing"}', "no schema to hold a value against"),
        ("[]", "a schema is a map"),
        ('"int"', "a schema is a map"),
        ("null", "a schema is a map"),
        ("{", "is not JSON"),
    ],
)
def test_what_is_no_schema_is_refused(path: Path, schema: Path, content: str, why: str) -> None:
    schema.write_text(content)

    assert why in fails(2, "schema", "set", path, "ada", "n", schema)
    assert run("schema", "list", path, "ada").out == "(no rules)\n"


def test_what_is_not_there_is_told(path: Path, schema: Path) -> None:
    assert "no file" in fails(1, "schema", "set", path, "ada", "n", schema.with_name("none"))
    assert "no agent" in fails(1, "schema", "set", path, "adda", "n", schema)
    for command in ("list", "check"):
        assert "no branch" in fails(1, "schema", command, path, "ada", "--branch", "ieda")
    assert fails(2, "schema", "set", path, "ada", "n", schema.parent)


def test_nothing_of_a_rule_acts_on_the_terminal(path: Path, schema: Path) -> None:
    schema.write_text(json.dumps({"type": "integer", "title": HOSTILE, "enum": [HOSTILE]}))
    with statecore.open(path) as store:
        store.manager("ada").set_state(f"key{HOSTILE}", {HOSTILE: 1})
    for pattern in ("key*", HOSTILE):
        assert run("schema", "set", path, "ada", pattern, schema).code == 0

    for command in ("list", "check"):
        for options in ([], ["--json"]):
            answer = run("schema", command, path, "ada", *options)
            assert answer.out
            assert not ACTS_ON_TERMINAL.search(answer.out)
    assert not ACTS_ON_TERMINAL.search(fails(7, "set", path, "ada", f"key{HOSTILE}", "1"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_of_a_command_works(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("demo", "trip.db").code == 0
    Path("budget.json").write_text('{"type": "number"}')
    if command == "remove":
        run("schema", "set", "trip.db", "trip-planner", "budget", "budget.json")

    examples = EXAMPLE.findall(run("schema", command, "--help").out)

    assert len(examples) == 1
    assert run(*shlex.split(examples[0])).code == 0
