"""The command line of access: a policy is set, shown, asked and acted under."""

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

COMMANDS = sorted(typer.main.get_command(app).commands["access"].commands)
POLICY = {
    "owners": ["ada"],
    "roles": {"editor": ["viewer"]},
    "principals": [{"id": "bob", "roles": ["viewer"], "attributes": {"team": "north"}}],
    "rules": [
        {"id": "view", "effect": "permit", "operations": ["read"], "roles": ["viewer"]},
        {
            "id": "hide",
            "effect": "forbid",
            "operations": ["*"],
            "principals": ["*"],
            "keys": ["secret/*"],
            "when": [{"attribute": "principal.team", "test": "differs", "value": "south"}],
        },
    ],
}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECORE_KEY", KEY)
    monkeypatch.delenv("STATECORE_PASSPHRASE", raising=False)
    monkeypatch.delenv("STATECORE_PRINCIPAL", raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "agents.db"
    with statecore.open(path) as store:
        store.manager("x").set_state("budget", 1)
        store.manager("x").set_state("secret/a", 2)
    return path


@pytest.fixture
def ruled(path: Path, tmp_path: Path) -> Path:
    """The same, under the policy."""
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(POLICY))
    assert run("access", "set", path, file, "--as", "ada", "--reason", "order").code == 0
    return path


def test_a_policy_is_set_by_an_owner_and_shown(ruled: Path) -> None:
    told = run("access", "show", ruled, "--as", "ada")
    shown = run("access", "show", ruled, "--as", "ada", "--json").data

    assert told.out.splitlines() == [
        "owners: ada",
        "role editor comes with viewer",
        'principal bob: viewer {"team": "north"}',
        "permit role viewer: read (view)",
        'forbid *: *, keys secret/*, when principal.team differs "south" (hide)',
        "reading is recorded: none",
    ]
    assert shown["owners"] == ["ada"]
    assert shown["rules"][0]["roles"] == ["viewer"]
    arguments = ("access", "set", ruled, "-", "--as", "ada")
    assert run(*arguments, stdin=json.dumps(shown)).out == "policy version 2\n"
    assert run("access", "show", ruled, "--at", 0, "--as", "ada").out.startswith("(no policy")


def test_commands_act_as_the_principal_that_is_named(
    ruled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "anonymous may not read x: no rule" in fails(11, "get", ruled, "x", "budget")

    monkeypatch.setenv("STATECORE_PRINCIPAL", "bob")

    assert run("get", ruled, "x", "budget").out == "1\n"
    assert "bob may not write budget of x" in fails(11, "set", ruled, "x", "budget", 2)
    assert "rule hide forbids it" in fails(11, "get", ruled, "x", "secret/a")
    assert run("show", ruled, "x", "--json").data["state"] == {"budget": 1}
    assert "may not policy" in fails(11, "access", "set", ruled, "-", stdin=json.dumps(POLICY))


def test_a_question_is_answered_with_a_reason_and_a_code(ruled: Path) -> None:
    ask = ("access", "check", ruled)
    asked = run(*ask, "bob", "read", "x", "budget", "--as", "ada")
    refused = run(*ask, "bob", "write", "x", "budget", "--as", "ada", "--json")

    assert (asked.code, asked.out) == (0, "yes: rule view permits it\n")
    assert refused.code == 11
    assert refused.data == {
        "allowed": False,
        "operation": "write",
        "reason": "no rule permits it to bob",
        "rules": [],
    }
    assert run(*ask, "bob", "write", "x", "--at", "2000-01-01T00:00:00Z", "--as", "ada").code == 0
    assert "neither a version nor a time" in fails(
        2, *ask, "bob", "read", "--at", "now", "--as", "ada"
    )
    assert "needs a zone" in fails(
        2, *ask, "bob", "read", "--at", "2000-01-01T00:00:00", "--as", "ada"
    )
    assert "anonymous may not audit" in fails(11, *ask, "bob", "read", "x")


def test_denials_are_listed(ruled: Path) -> None:
    assert run("access", "denials", ruled, "--as", "ada").out == "(nothing)\n"
    for _ in range(2):
        fails(11, "get", ruled, "x", "budget")

    lines = run("access", "denials", ruled, "--as", "ada").out.splitlines()
    records = run("access", "denials", ruled, "--all", "--as", "ada", "--json").lines

    assert [line.split("Z")[1].split() for line in lines] == [
        ["denied", "anonymous", "read", "x"]
    ] * 2
    assert {record["what"] for record in records} == {"denied", "done"}
    assert records[-1]["operation"] == "audit"


def test_null_takes_the_policy_back(ruled: Path) -> None:
    assert run("access", "set", ruled, "-", "--as", "ada", "--json", stdin="null").data == {
        "policy": 2
    }

    assert run("get", ruled, "x", "secret/a").out == "2\n"
    assert run("access", "show", ruled, "--json").out == "null\n"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "is not JSON"),
        ("[]", "a policy is a map"),
        ('{"owners": []}', "needs an owner"),
        ('{"owners": ["bob"]}', "one of its owners"),
    ],
)
def test_what_is_no_policy_is_refused(path: Path, tmp_path: Path, content: str, why: str) -> None:
    file = tmp_path / "policy.json"
    file.write_text(content)

    assert why in fails(2, "access", "set", path, file, "--as", "ada")
    assert "no file" in fails(1, "access", "set", path, tmp_path / "none", "--as", "ada")


def test_nothing_of_a_policy_acts_on_the_terminal(path: Path) -> None:
    rule = {"id": HOSTILE, "effect": "permit", "operations": ["read"], "principals": [HOSTILE]}
    policy = {
        "owners": ["ada"],
        "rules": [{**rule, "keys": [HOSTILE]}],
        "principals": [{"id": HOSTILE, "attributes": {HOSTILE: HOSTILE}}],
        "roles": {HOSTILE: [HOSTILE]},
    }
    assert run("access", "set", path, "-", "--as", "ada", stdin=json.dumps(policy)).code == 0
    assert not ACTS_ON_TERMINAL.search(
        run("get", path, f"x{HOSTILE}", "k", "--json").err + run("get", path, "x", HOSTILE).err
    )

    for command in (("show",), ("denials",), ("check", HOSTILE, "read", "x", HOSTILE)):
        for options in ([], ["--json"]):
            name, *more = command
            answer = run("access", name, path, *more, "--as", "ada", *options)
            assert answer.out
            assert not ACTS_ON_TERMINAL.search(answer.out)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_of_a_command_works(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("demo", "trip.db").code == 0
    Path("policy.json").write_text(json.dumps(POLICY))

    examples = EXAMPLE.findall(run("access", command, "--help").out)

    assert len(examples) == 1
    assert run(*shlex.split(examples[0])).code == 0


@pytest.mark.parametrize("agent", ["x", "nobody"])
def test_who_may_see_no_agent_is_not_told_that_there_is_none(ruled: Path, agent: str) -> None:
    assert "may not" in fails(11, "keys", "erase", ruled, agent, "--agent", "--yes")
