"""The command line: what each command prints, what goes wrong, and the tour."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from math import isnan
from pathlib import Path
from typing import Any
from uuid import UUID

import apsw
import pytest
import typer
from hypothesis import given
from typer.testing import CliRunner

import statecore
from statecore.cli.app import app
from statecore.cli.failures import exit_code
from statecore.cli.lossless import parse, to_json
from statecore.cli.render import json_line, printable, value_text
from statecore.values import same
from tests.conftest import environment
from tests.strategies import VALUES

KEY = statecore.new_key()
HOSTILE = "\x1b[31m\x9b2J\r\n\x07\u202e[red]x[/red]\u2028\x7f"
ACTS_ON_TERMINAL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

EVERYTHING: dict[str, Any] = {
    "none": None, "bool": True, "int": 2**900, "float": -0.0, "text": "ü ✓", "bytes": b"\x00\xff",
    "infinite": float("-inf"), "time": datetime(2026, 11, 22, 12, 0, 0, 7, UTC),
    "decimal": Decimal("1.50"), "uuid": UUID(int=7), "list": [1, [2, {"x": None}]],
    "map": {"": {"a/b": [], "~": {}}}, "like a form": {"$uuid": "just text"},
    "like its escape": {"$map": {"$map": 1}}, "no form": {"$ref": "#/x"},
}  # fmt: skip


class Answer:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


FOR_EVERYBODY = {
    "owners": ["ada"],
    "rules": [{"id": "all", "effect": "permit", "operations": ["*"], "principals": ["*"]}],
}


def run(*arguments: object, stdin: str | bytes | None = None) -> Answer:
    """Run a command in this process; it ends by an exit code and nothing else."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return Answer(result.exit_code, result.stdout, result.stderr)


def fails(code: int, *arguments: object, stdin: str | bytes | None = None) -> str:
    """Run a command that must fail with one line, and return that."""
    answer = run(*arguments, stdin=stdin)
    assert (answer.code, answer.out) == (code, ""), answer.err
    assert answer.err.startswith("statecore: ")
    assert answer.err.count("\n") == 1
    return answer.err.removeprefix("statecore: ").rstrip("\n")


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "statecore.cli", *map(str, arguments)]
    return subprocess.Popen(
        command,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECORE_KEY", KEY)
    monkeypatch.delenv("STATECORE_PASSPHRASE", raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with two agents, whose events alternate."""
    path = tmp_path / "agents.db"
    with statecore.open(path) as store:
        ada, bob = store.manager("ada", actor="planner"), store.manager("bob")
        ada.set_state("goal", "fly", reason="asked")
        bob.set_state("n", 1)
        ada.extend("steps", ["book"], actor="tool", metadata={"cost": Decimal("0.1")})
        ada.tag("ready", reason="looks good")
        bob.add("n", 1)
        ada.delete_state("goal")
    return path


def versions(answer: Answer) -> list[int]:
    return [event["version"] for event in answer.lines]


# What is shown


def test_the_help_lists_every_command_and_exit_code() -> None:
    answer = run("--help")

    assert answer.code == 0
    for command in typer.main.get_command(app).commands:
        assert re.search(rf"^  {command} +[A-Z][^.]+\.$", answer.out, re.MULTILINE), command
    assert "Exit codes: 0 done; 1 no such store" in answer.out


def test_every_example_of_the_help_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "budget.json").write_text('{"type": "number"}')
    (tmp_path / "policy.json").write_text(json.dumps(FOR_EVERYBODY))
    lines = [line.strip() for line in run("--help").out.splitlines()]
    examples = [line for line in lines if line.startswith("statecore ")]

    for example in examples:
        held_against_nothing = example == "statecore verify trip.db"
        assert run(*shlex.split(example)[1:]).code == (8 if held_against_nothing else 0), example
    assert len(examples) >= 16


def test_show_prints_the_state_now_and_then(path: Path) -> None:
    with statecore.open(path) as store:
        time = store.manager("ada").at(1).timestamp

    assert run("show", path, "ada").out.splitlines()[1:] == ['steps = ["book"]']
    assert run("show", path, "ada").out.startswith("ada  version 4  ")
    for point in ("1", time.isoformat() if time else ""):
        assert run("show", path, "ada", "--at", point).out.splitlines()[1:] == ['goal = "fly"']
    assert run("show", path, "ada", "--at", 0).out == "ada  version 0\n(empty)\n"
    shown = run("show", path, "ada", "--at", "ready", "--json").data
    assert shown["state"] == {"goal": "fly", "steps": ["book"]}
    assert (shown["agent"], shown["version"], shown["actor"]) == ("ada", 2, "tool")


def test_get_prints_one_value_now_and_then(path: Path) -> None:
    assert run("get", path, "bob", "n").out == "2\n"
    assert run("get", path, "bob", "n", "--at", 1, "--json").data == 1
    assert run("get", path, "ada", "goal", "--at", "ready").out == '"fly"\n'


def test_diff_goes_forwards_and_backwards(path: Path) -> None:
    assert run("diff", path, "ada", 1).out.splitlines() == [
        "ada from version 1 to 4", "  goal removed", "  steps + ['book']",
    ]  # fmt: skip
    assert run("diff", path, "ada", 4, 1, "--json").data == {
        "agent": "ada", "branch": "main", "from": 4, "to_branch": "main", "to": 1,
        "keys": {"goal": {"after": "fly"}, "steps": {"before": ["book"]}},
    }  # fmt: skip
    assert "(no change)" in run("diff", path, "ada", 2, "ready").out


def test_a_diff_over_a_clear_names_every_key(path: Path) -> None:
    with statecore.open(path) as store:
        store.manager("ada").clear_state()

    assert run("diff", path, "ada", 4, "--json").data["keys"] == {"steps": {"before": ["book"]}}
    assert run("diff", path, "ada", 4).out.splitlines()[1:] == ["  cleared"]


def test_history_tells_who_and_why_newest_first(path: Path) -> None:
    told = run("history", path, "ada").out

    assert [line[0] for line in told.splitlines() if line[0] != " "] == ["4", "3", "2", "1"]
    assert re.search(r"^1  \S+Z  planner  \(asked\)\n  goal = 'fly'$", told, re.MULTILINE)
    assert "  tag ready = version 2\n" in told
    assert "  goal removed\n" in told


def test_history_can_be_narrowed(path: Path) -> None:
    def found(*options: object) -> list[int]:
        return versions(run("history", path, "ada", *options, "--json"))

    assert found() == [4, 3, 2, 1]
    assert found("--oldest-first") == [1, 2, 3, 4]
    assert found("--limit", 1) == [4]
    assert found("--actor", "tool") == [2]
    assert found("--since", 1, "--until", 3) == [3, 2]
    assert found("goal") == [4, 1]


def test_the_history_of_a_key_has_its_values_and_nothing_of_others(path: Path) -> None:
    with statecore.open(path) as store, store.manager("ada").transaction() as tx:
        tx.set("goal", Decimal("1.50"))
        tx.set("other", 1)

    events = run("history", path, "ada", "goal", "--json").lines

    assert [event.get("value") for event in events] == [{"$decimal": "1.50"}, None, "fly"]
    assert "value" not in events[1]
    assert "other" not in run("history", path, "ada", "goal").out


def test_log_merges_agents_newest_first(path: Path) -> None:
    events = run("log", path, "--json").lines

    assert [event["position"] for event in events] == [6, 5, 4, 3, 2, 1]
    assert [event["agent"] for event in events] == ["ada", "bob", "ada", "ada", "bob", "ada"]
    assert events[3]["metadata"] == {"cost": {"$decimal": "0.1"}}
    assert events[2]["tag"] == {"name": "ready", "version": 2}
    assert versions(run("log", path, "--agent", "bob", "--json")) == [2, 1]
    newest = run("log", path, "--limit", 1).out
    assert re.fullmatch(r"     6  \S+Z  ada 4  planner: goal removed\n", newest)


def test_stats_counts_and_names(path: Path) -> None:
    counted = run("stats", path, "--json").data

    assert counted["events"] == 6
    assert counted["bytes_in_all"] == sum(counted["files_bytes"].values()) > 0
    assert [agent["agent"] for agent in counted["agents"]] == ["ada", "bob"]
    assert re.search(r"^events +6$", run("stats", path).out, re.MULTILINE)


# What is set


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_what_get_prints_set_takes(path: Path, options: list[str]) -> None:
    with statecore.open(path) as store:
        agent = store.manager("ada")
        for key, value in EVERYTHING.items():
            agent.set_state(key, value)
        for key, value in EVERYTHING.items():
            printed = run("get", path, "ada", key, *options).out
            assert run("set", path, "ada", "copy", "-", stdin=printed).code == 0
            assert repr(agent.get_state("copy")) == repr(value)


@given(VALUES)
def test_json_keeps_every_value_and_type(value: Any) -> None:
    for text in (json_line(to_json(value)), value_text(value)):
        assert same(nan_once(parse(text)), nan_once(value))


def nan_once(value: Any) -> Any:
    """The value with every float that is no number replaced by the usual one."""
    if isinstance(value, dict):
        return {key: nan_once(item) for key, item in value.items()}
    if isinstance(value, list):
        return [nan_once(item) for item in value]
    return float("nan") if isinstance(value, float) and isnan(value) else value


def test_set_records_who_and_why_and_prints_the_version(path: Path) -> None:
    made = run("set", path, "ada", "n", "-5", "--actor", "me", "--reason", "why", "--json")

    assert made.data == {"agent": "ada", "branch": "main", "key": "n", "version": 5}
    event = run("history", path, "ada", "n", "--json").data
    assert (event["actor"], event["reason"], event["value"]) == ("me", "why", -5)
    assert run("set", path, "ada", "n", "1").out == "version 6\n"


def test_set_makes_a_store_or_an_agent_only_when_told(path: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"

    assert "no store" in fails(1, "set", new, "ada", "n", "1")
    assert "there are: ada, bob" in fails(1, "set", path, "adda", "n", "1")
    assert not new.exists()
    made = run("set", new, "ada", "n", "1", "--create")
    assert made.out == "version 1\n"
    assert "keep a copy" in made.err
    assert run("set", path, "adda", "n", "1", "--create").out == "version 1\n"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("hello", "with both quotes"),
        ("'single'", "with both quotes"),
        ("", "with both quotes"),
        ("NaN", '{"$float": "nan"}'),
        ("-Infinity", '{"$float": "-inf"}'),
        ("1" + 5000 * "0", "(a number has too many digits)"),
        ("1e999", "too large for a float"),
        ('{"$decimal": 1.5}', "does not hold what $decimal says"),
        ('{"$decimal": "x"}', "does not hold what $decimal says"),
        ('{"$bytes": "?"}', "does not hold what $bytes says"),
        ('{"$uuid": null}', "does not hold what $uuid says"),
        ('{"$map": [1]}', "does not hold what $map says"),
        ('{"$datetime": "2026-01-01T00:00:00"}', "needs a time zone"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 70 + "]" * 70, "depth"),
        ('"\\ud800"', "lone surrogate"),
    ],
)
def test_a_value_that_is_none_is_refused_with_advice(path: Path, value: str, told: str) -> None:
    assert told in fails(2, "set", path, "ada", "n", "-", stdin=value)
    assert run("log", path, "--limit", 1, "--json").data["position"] == 6


@pytest.mark.parametrize("value", ["tok-1", '{"n": tok-1}', '{"$uuid": "tok-1"}', '"tok-1'])
def test_a_value_that_is_refused_is_not_repeated(path: Path, value: str) -> None:
    assert "tok" not in fails(2, "set", path, "ada", "n", value), "it may be a secret"


def test_standard_input_must_be_text(path: Path) -> None:
    assert "not UTF-8" in fails(2, "set", path, "ada", "n", "-", stdin=b'"\xff"')


# What goes wrong


def test_every_error_has_the_code_of_its_kind() -> None:
    codes = {
        "StoreNotFound": 1, "TagNotFound": 1, "BranchNotFound": 1, "Expired": 1, "MissingActor": 2,
        "WrongExpectedVersion": 3, "TagExists": 3, "BranchExists": 3, "WrongKey": 4,
        "ForeignSchema": 5,
        "NewerFormat": 5, "StoreBusy": 6, "StoreFull": 6, "OutcomeUnknown": 6,
    }  # fmt: skip
    for name, code in codes.items():
        assert exit_code(getattr(statecore, name)("what")) == code


@pytest.mark.parametrize(
    "arguments",
    [["log"], ["show", "a"], ["get", "a", "k"], ["diff", "a", "1"], ["history", "a"], ["stats"]],
)
def test_reading_makes_no_store(tmp_path: Path, arguments: list[str]) -> None:
    command, *rest = arguments

    assert "there is no store at" in fails(1, command, tmp_path / "no.db", *rest)
    assert not list(tmp_path.glob("no.db*"))


def test_what_is_not_there_is_named(path: Path) -> None:
    assert fails(1, "get", path, "ada", "gaol") == "ada has no key gaol"
    assert "at ready" in fails(1, "get", path, "ada", "n", "--at", "ready")
    assert "there is no agent eve; there are: ada, bob" in fails(1, "history", path, "eve")
    assert "ada has no branch idea; there are: main" in fails(
        1, "show", path, "ada", "--branch", "idea"
    )
    assert "versions 0 to 4, not 9" in fails(1, "show", path, "ada", "--at", "9")
    assert "no tag 'steady'" in fails(1, "diff", path, "ada", "steady")


def test_a_time_needs_a_zone_unless_it_is_a_tag(path: Path) -> None:
    assert "2026-11-22T00:00:00Z" in fails(2, "show", path, "ada", "--at", "2026-11-22")

    with statecore.open(path) as store:
        store.manager("ada").tag("2026-11-22", 1)

    assert run("show", path, "ada", "--at", "2026-11-22", "--json").data["version"] == 1


def test_a_time_that_never_was_is_no_tag(path: Path) -> None:
    for text in ("2026-11-23T25:00:00Z", "2026-13-01", "2026-11-23 10:00:61Z"):
        assert "is no time" in fails(2, "get", path, "ada", "steps", "--at", text)
    assert "no tag" in fails(1, "get", path, "ada", "steps", "--at", "2026-11-23-release")

    with statecore.open(path) as store:
        store.manager("ada").tag("2026-13-01")

    assert run("get", path, "ada", "steps", "--at", "2026-13-01").code == 0


def test_it_tells_its_version() -> None:
    assert re.fullmatch(r"statecore .+\n", run("--version").out)


def test_what_a_person_is_told_is_not_of_python(path: Path, tmp_path: Path) -> None:
    assert run("backup", "run", path, tmp_path / "backup").code == 0
    restore = ("backup", "restore", tmp_path / "backup", tmp_path / "new.db", "--at")

    assert fails(2, *restore, "2026-03-02").endswith(
        "a time needs a zone, as in 2026-03-02T00:00:00Z"
    )
    assert "neither a position nor a time" in fails(2, *restore, "ready")
    assert "--as" in fails(2, "access", "set", path, "-", stdin='{"owners": ["ada"], "rules": []}')
    assert run("archive", path, "ada", "--before", "3", "--to", tmp_path / "a.archive").code == 0
    assert "STATECORE_ARCHIVES" in fails(1, "show", path, "ada", "--at", 1)


def test_a_backup_restored_to_before_all_of_it_is_said_to_be_empty(
    path: Path, tmp_path: Path
) -> None:
    run("backup", "run", path, tmp_path / "backup")

    at = ("--at", "2000-01-01T00:00:00Z", "--no-record")
    restored = run("backup", "restore", tmp_path / "backup", tmp_path / "new.db", *at)

    assert restored.out.splitlines()[1] == "nothing had been recorded by then: the store is empty"


def test_all_times_are_written_the_same_way(path: Path, tmp_path: Path) -> None:
    assert run("backup", "run", path, tmp_path / "backup", "--json").data["last_time"].endswith("Z")
    assert run("backup", "list", tmp_path / "backup", "--json").data["times"][0].endswith("Z")
    assert run("review", "daily", path, "--json").data["since"].endswith("Z")


def test_a_review_has_one_form(path: Path) -> None:
    assert "either" in fails(2, "review", "daily", path, "--json", "--format", "html")


@pytest.mark.parametrize("words", ["schema set {} ada n {}", "access set {} {}"])
def test_a_folder_is_no_file_of_json(words: str, path: Path, tmp_path: Path) -> None:
    assert "is a folder" in fails(2, *words.format(path, tmp_path).split())


def test_a_misspelled_option_is_refused(path: Path) -> None:
    answer = run("set", path, "ada", "n", "1", "--raeson", "typo")

    assert answer.code == 2
    assert "--raeson" in answer.err
    assert run("log", path, "--limit", 1, "--json").data["position"] == 6


def test_a_conflict_is_told_and_nothing_is_written(path: Path) -> None:
    told = fails(3, "set", path, "ada", "steps", "[]", "--expected-version", 1)

    assert "expected version 1, is 4" in told
    assert run("get", path, "ada", "steps").out == '["book"]\n'
    assert run("set", path, "ada", "steps", "[]", "--expected-version", 4).code == 0


def test_key_trouble_is_told_and_no_key_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECORE_KEY", statecore.new_key())
    assert "not this store's key" in fails(4, "show", path, "ada")
    monkeypatch.setenv("STATECORE_KEY", "s3cret")
    assert "s3cret" not in fails(4, "show", path, "ada")
    monkeypatch.delenv("STATECORE_KEY")
    assert "no key file" in fails(4, "show", path, "ada")


def test_damage_is_told(path: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.db"
    text.write_text("not a database at all, but long enough" * 40)
    database = apsw.Connection(str(path))
    database.execute("UPDATE events SET state = substr(state, 1, length(state) - 1) || x'00'")
    database.close()

    fails(5, "stats", text)
    fails(5, "show", path, "ada")


def test_a_path_that_cant_be_is_told(tmp_path: Path) -> None:
    assert "too long" in fails(1, "stats", tmp_path / ("long" * 100))


def test_a_state_that_ended_is_told_and_left_out_of_the_log(path: Path) -> None:
    with statecore.open(path) as store:
        store.manager("brief", kind="temporary", ttl=1e-6).set_state("n", 1)

    fails(1, "show", path, "brief")
    assert {event["agent"] for event in run("log", path, "--json").lines} == {"ada", "bob"}


# What must not reach the terminal


@pytest.fixture
def hostile(path: Path) -> Path:
    with statecore.open(path) as store:
        agent = store.manager(HOSTILE, actor=HOSTILE)
        agent.set_state(HOSTILE, HOSTILE, reason=HOSTILE, metadata={HOSTILE: HOSTILE})
        agent.patch("map", {HOSTILE: [HOSTILE]}, cause=HOSTILE)
        agent.tag(HOSTILE)
    return path


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_nothing_of_what_is_stored_acts_on_the_terminal(hostile: Path, options: list[str]) -> None:
    for arguments in (
        ["log", hostile],
        ["stats", hostile],
        ["show", hostile, HOSTILE],
        ["get", hostile, HOSTILE, HOSTILE],
        ["get", hostile, HOSTILE, HOSTILE + "?"],
        ["show", hostile, HOSTILE + "?"],
        ["show", hostile, HOSTILE, "--at", HOSTILE + "?"],
        ["history", hostile, HOSTILE],
        ["diff", hostile, HOSTILE, 0],
        ["set", hostile, "ada", HOSTILE, "no JSON" + HOSTILE],
    ):
        answer = run(*arguments, *options)
        assert ACTS_ON_TERMINAL.findall(answer.out + answer.err) == []
        assert answer.code > 0 or "[red]x[/red]" in answer.out, "it is shown, and no markup"


def test_no_text_makes_a_line_of_its_own(hostile: Path) -> None:
    assert len(run("log", hostile).out.splitlines()) == 6 + 3
    assert len(run("show", hostile, HOSTILE).out.splitlines()) == 1 + 2


def test_programs_still_get_all_of_it(hostile: Path) -> None:
    assert run("get", hostile, HOSTILE, HOSTILE, "--json").data == HOSTILE
    assert run("show", hostile, HOSTILE, "--json").data["state"]["map"] == {HOSTILE: [HOSTILE]}
    assert run("history", hostile, HOSTILE, HOSTILE, "--json").data["reason"] == HOSTILE


def test_ordinary_text_stays_as_it_is() -> None:
    assert printable("naïve 日本 🎉 [bold]") == "naïve 日本 🎉 [bold]"
    assert value_text("naïve 日本 🎉") == '"naïve 日本 🎉"'


# Passphrases


def test_a_passphrase_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "new.db"
    monkeypatch.setenv("STATECORE_PASSPHRASE", "correct horse")
    assert run("set", store, "ada", "n", "1", "--create", "--passphrase").code == 0

    assert run("get", store, "ada", "n", "--passphrase").out == "1\n"
    assert "say --passphrase" in fails(4, "get", store, "ada", "n")
    monkeypatch.setenv("STATECORE_PASSPHRASE", "battery")
    assert fails(4, "get", store, "ada", "n", "--passphrase") == "not this store's passphrase"
    monkeypatch.setenv("STATECORE_PASSPHRASE", "")
    assert "empty" in fails(4, "get", store, "ada", "n", "--passphrase")


@pytest.mark.parametrize("words", ["set {} ada n 1 --create", "demo {}"])
def test_a_passphrase_that_lies_ready_is_not_left_out_of_a_new_store(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATECORE_PASSPHRASE", "correct horse")

    assert "say --passphrase" in fails(2, *words.format(tmp_path / "new.db").split())

    assert not (tmp_path / "new.db").exists()


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The two ends of a terminal: the person's, and the program's."""
    person, program = pty.openpty()
    yield person, program
    os.close(person)
    os.close(program)


def await_prompt(process: subprocess.Popen[str], prompt: str) -> None:
    assert process.stderr is not None
    told = b""
    while not told.endswith(prompt.encode()):
        ready, _, _ = select.select([process.stderr], [], [], 30)
        letter = os.read(process.stderr.fileno(), 1) if ready else b""
        if not letter:
            process.kill()
            pytest.fail(f"no prompt, but {told!r}")
        told += letter


def test_a_passphrase_is_asked_for_and_not_shown(tmp_path: Path, terminal: tuple[int, int]) -> None:
    person, program = terminal
    arguments = ("set", tmp_path / "new.db", "ada", "n", "1", "--create", "--passphrase")
    with start(*arguments, stdin=program, start_new_session=True) as process:
        await_prompt(process, "Passphrase: ")
        os.write(person, b"correct horse\n")
        await_prompt(process, "The same again: ")
        os.write(person, b"correct horse\n")
        out, err = process.communicate()

    assert (process.returncode, out) == (0, "version 1\n")
    assert select.select([person], [], [], 0)[0] == [], "nothing typed was shown"
    assert "horse" not in err
    with statecore.open(tmp_path / "new.db", passphrase="correct horse") as store:
        assert store.manager("ada").get_state("n") == 1


def test_without_a_terminal_no_passphrase_is_asked_for(path: Path) -> None:
    process = start(
        "show", path, "ada", "--passphrase", stdin=subprocess.DEVNULL, start_new_session=True
    )

    out, err = process.communicate()

    assert (process.returncode, out) == (4, "")
    assert "set STATECORE_PASSPHRASE" in err
    assert err.count("\n") == 1


# As a process


@pytest.mark.parametrize("arguments", [["show", "{path}", "ada"], ["log", "{path}"], ["demo"]])
def test_a_reader_that_has_read_enough_ends_it_quietly(path: Path, arguments: list[str]) -> None:
    with start(*(word.format(path=path) for word in arguments)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()

    assert (process.returncode, err) == (0, "")


def end_by(number: signal.Signals, process: subprocess.Popen[str]) -> tuple[str, str]:
    """Signal until the process ends: what comes just before it begins to read is seen later."""
    while True:
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_stops_a_service_ends_as_an_interrupt_does(
    number: signal.Signals, path: Path, terminal: tuple[int, int]
) -> None:
    arguments = ("show", path, "ada", "--passphrase")
    ours = signal.signal(number, signal.SIG_DFL)  # under nohup it would be ignored there, too
    try:
        process = start(*arguments, stdin=terminal[1], start_new_session=True)
    finally:
        signal.signal(number, ours)
    with process:
        await_prompt(process, "Passphrase: ")
        out, err = end_by(number, process)

    assert (process.returncode, out, err.strip()) == (128 + number, "", "")


def test_an_interrupt_exits_130(path: Path, terminal: tuple[int, int]) -> None:
    arguments = ("show", path, "ada", "--passphrase")
    with start(*arguments, stdin=terminal[1], start_new_session=True) as process:
        await_prompt(process, "Passphrase: ")
        out, err = end_by(signal.SIGINT, process)

    assert (process.returncode, out, err.strip()) == (130, "", "")


def test_a_failure_of_the_process_is_one_line_and_a_code(tmp_path: Path) -> None:
    process = start("stats", tmp_path / "no.db")

    out, err = process.communicate()

    assert (process.returncode, out) == (1, "")
    assert err == f"statecore: there is no store at {tmp_path / 'no.db'}\n"


@pytest.mark.parametrize(("missing", "command"), [("typer", "--help"), ("rich", "demo")])
def test_without_the_extra_it_says_how_to_get_it(missing: str, command: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['', {command!r}]; "
    code += "from statecore.cli import main; main()"

    process = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False
    )

    assert process.returncode == 2
    assert (
        process.stderr == 'statecore: the command line is an extra: pip install "statecore[cli]"\n'
    )


# The tour


def test_the_tour_finds_the_slip_and_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.delenv("STATECORE_KEY")

    told = run("demo").out
    facts = run("demo", "--json").data

    assert 60 <= facts["events"] <= 200
    assert f"find version {facts['slip']['version']}" in told
    assert re.search(
        rf"^ *-> +{facts['slip']['version']} .* booker .* \+450.00", told, re.MULTILINE
    )
    assert facts["store_bytes"] < facts["snapshots_compressed_bytes"] < facts["snapshots_bytes"]
    assert facts["empty_store_bytes"] < facts["store_bytes"]
    assert "Merged into all that came since:\n  spent -405.00\n" in told
    assert ACTS_ON_TERMINAL.findall(told) == []
    assert list((tmp_path / "temporary").iterdir()) == []
    assert not (tmp_path / "data").exists(), "the user's key file is left alone"


def test_the_tour_keeps_its_store_where_told(tmp_path: Path) -> None:
    kept = tmp_path / "[red] trip.db"

    told = run("demo", kept)

    lines = [line.strip() for line in told.out.splitlines()]
    commands = [line for line in lines if line.startswith("statecore ")]
    assert len(commands) >= 5
    for command in commands:
        assert run(*shlex.split(command)[1:]).code == 0, command
    assert "there already" in fails(2, "demo", kept)
    slip = next(event for event in run("history", kept, "trip-planner", "spent", "--json").lines
                if event["summary"]["spent"] == "+450.00")  # fmt: skip
    before = run("get", kept, "trip-planner", "spent", "--at", slip["version"] - 1, "--json").data
    assert Decimal(slip["value"]["$decimal"]) - Decimal(before["$decimal"]) == 450


def test_the_tour_ends_as_if_nothing_had_slipped(tmp_path: Path) -> None:
    run("demo", tmp_path / "trip.db")

    compared = run("diff", tmp_path / "trip.db", "trip-planner", "--against", "no-slip").out

    assert compared.splitlines()[1:] == ["  (no change)"]


def test_the_tour_measures_what_is_there(tmp_path: Path) -> None:
    facts = run("demo", tmp_path / "trip.db", "--json").data

    assert facts["store_bytes"] == sum(
        (tmp_path / name).stat().st_size for name in ("trip.db", "trip.db-keys")
    )
    snapshots = 0
    with statecore.open(tmp_path / "trip.db") as store:
        agent = store.manager("trip-planner")
        for version in range(1, facts["events"] + 1):
            text = json.dumps(
                agent.at(version).data, default=str, separators=(",", ":"), ensure_ascii=False
            )
            snapshots += len(text.encode())
    assert facts["snapshots_bytes"] == snapshots
    assert facts["events_in_store"] == run("stats", tmp_path / "trip.db", "--json").data["events"]


def test_the_tour_tells_the_same_story_every_time(tmp_path: Path) -> None:
    for name in ("one.db", "other.db"):
        run("demo", tmp_path / name)

    one, other = (
        run("show", tmp_path / name, "trip-planner").out for name in ("one.db", "other.db")
    )
    assert one == other
