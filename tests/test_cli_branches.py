"""The command line of branches and questions: what is printed, recorded, refused."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import typer

import statecore
from statecore.cli.app import app
from statecore.strategies import STRATEGIES
from tests.test_cli import (
    ACTS_ON_TERMINAL,
    FOR_EVERYBODY,
    HOSTILE,
    KEY,
    Answer,
    fails,
    run,
    start,
    versions,
)

EXAMPLE = re.compile(r"^ *statecore (.+)$", re.MULTILINE)
COMMANDS = sorted(typer.main.get_command(app).commands)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECORE_KEY", KEY)
    monkeypatch.setenv("STATECORE_BACKUP_PASSPHRASE", "correct horse")
    monkeypatch.delenv("STATECORE_PASSPHRASE", raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A state at version 3, and a branch that began there and went on to version 5."""
    path = tmp_path / "agents.db"
    with statecore.open(path) as store:
        ada = store.manager("ada", actor="planner")
        ada.set_state("goal", "fly")
        ada.set_state("plan", {"a.b": [{"x/y": 1}], "1": "rest"})
        ada.tag("start")
        idea = ada.branch("idea", description="cheaper")
        idea.set_state("goal", "walk", reason="no wings", actor="bob")
        idea.add("cost", Decimal("0.10"))
    return path


@pytest.fixture
def torn(path: Path) -> Path:
    """The same, with two values in conflict on main: a key, and a place in a map."""
    with statecore.open(path) as store:
        ada = store.manager("ada")
        idea = ada.branch("idea")
        for branch, value in ((ada, "ours"), (idea, "theirs")):
            branch.patch("plan", {"a.b": value})
        ada.set_state("goal", "sail")
        ada.merge(idea)
    return path


def event_count(path: Path) -> int:
    return int(run("stats", path, "--json").data["events"])


def last(path: Path, *options: object) -> dict[str, object]:
    found: dict[str, object] = run("history", path, "ada", "--limit", 1, "--json", *options).data
    return found


# Help


@pytest.fixture(scope="module")
def trip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the tour, with what the examples speak of."""
    path = tmp_path_factory.mktemp("trip") / "trip.db"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("STATECORE_KEY", KEY)
        assert run("demo", path).code == 0
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("trip-planner")
        agent.branch("sail").set_state("goal", "a week at sea")
        train = agent.branch("train")
        for branch in (agent, train):
            branch.set_state("goal", f"by {branch.branch_name}")
            by = statecore.EMPTY.put("morning", f"by {branch.branch_name}")
            branch.patch("plan", statecore.EMPTY.patch("days", statecore.EMPTY.patch("3", by)))
        agent.merge(train)
        agent.undo(by="booker")
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_of_a_command_works(
    command: str, trip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in trip.parent.glob("trip.db*"):
        shutil.copy(file, tmp_path)
    (tmp_path / "plan.json").write_text("{}")
    (tmp_path / "budget.json").write_text("{}")
    (tmp_path / "policy.json").write_text(json.dumps(FOR_EVERYBODY))
    monkeypatch.chdir(tmp_path)
    examples = EXAMPLE.findall(run(command, "--help").out)

    for example in examples:
        line, _, file = example.partition(" > ")[0].partition(" < ")
        stdin = Path(file).read_text() if file else None
        answer = run(*shlex.split(line), stdin=stdin)
        held_against_nothing = example in ("verify trip.db", "backup verify trip.backup")
        assert answer.code == (8 if held_against_nothing else 0), (example, answer.err)
        assert "Warning" not in answer.err
    # Those of import need LangGraph: tests/integrations/test_langgraph_import.py
    assert examples or command in ("demo", "stats", "import")


def test_the_help_of_strategies_names_them_all() -> None:
    told = " ".join(run("strategy", "--help").out.split())

    names = re.search(r"Strategies: ([^.]+)\.", told)
    assert names is not None
    assert set(names[1].split(", ")) == {*STRATEGIES, "objects:field"}


# Branches


def test_branches_are_listed_with_where_they_began(path: Path) -> None:
    told = run("branch", path, "ada").out.splitlines()
    main, idea = run("branch", path, "ada", "--json").lines

    assert told[0] == "main  version 3"
    assert re.fullmatch(r"idea  version 5  from main 3  \S+Z  planner  \(cheaper\)", told[1])
    assert (main["branch"], main["version"], main["fork"]) == ("main", 3, None)
    assert (idea["branch"], idea["version"], idea["actor"]) == ("idea", 5, "planner")
    assert idea["fork"] == {"branch": "main", "generation": 0, "version": 3}


def test_a_branch_begins_now_or_at_a_moment_of_any_branch(path: Path) -> None:
    made = run("branch", path, "ada", "early", "--at", 1, "--actor", "me", "--json").data
    assert (made["fork"]["version"], made["actor"], made["version"]) == (1, "me", 1)

    deeper = run("branch", path, "ada", "deeper", "--branch", "idea", "--at", 4)
    assert deeper.out.startswith("deeper  version 4  from idea 4  ")
    assert run("get", path, "ada", "goal", "--branch", "deeper").out == '"walk"\n'
    assert "from main 2 " in run("branch", path, "ada", "tagged", "--at", "start").out
    assert "from main 3 " in run("branch", path, "ada", "now").out


def test_a_branch_that_is_another_is_not_taken_for_a_new_one(path: Path) -> None:
    assert "began at" in fails(3, "branch", path, "ada", "idea", "--at", 1)
    assert "something else" in fails(3, "branch", path, "ada", "idea", "--describe", "dearer")
    assert "from its beginning" in fails(3, "branch", path, "ada", "main")
    assert run("branch", path, "ada", "idea", "--describe", "cheaper").code == 0


def test_a_branch_is_given_up(path: Path) -> None:
    assert run("branch", path, "ada", "idea", "--delete").out == "idea is given up\n"

    assert len(run("branch", path, "ada", "--json").lines) == 1
    assert "no branch" in fails(1, "branch", path, "ada", "idea", "--delete")
    fails(1, "show", path, "ada", "--branch", "idea")


@pytest.mark.parametrize(
    "options",
    [["--at", "1"], ["--describe", "x"], ["--delete"], ["idea", "--delete", "--at", "1"]],
)
def test_branch_options_need_a_branch_to_make(path: Path, options: list[str]) -> None:
    before = event_count(path)

    fails(2, "branch", path, "ada", *options)

    assert event_count(path) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["show"],
        ["get", "goal"],
        ["diff", "1"],
        ["history"],
        ["conflicts"],
        ["blame", "goal"],
        ["search", "x"],
        ["revert", "1"],
        ["undo"],
        ["restore", "--at", "1"],
        ["resolve", "goal", "1"],
        ["set", "goal", "1"],
        ["bisect", "1", "2", "true"],
        ["what-if", "new", "--skip", "1"],
        ["branch", "new"],
    ],
)
def test_a_branch_that_is_not_there_is_told(path: Path, arguments: list[str]) -> None:
    command, *rest = arguments

    told = fails(1, command, path, "ada", *rest, "--branch", "ieda")

    assert told == "ada has no branch ieda; there are: main, idea"


def test_what_reads_reads_the_branch_asked_for(path: Path) -> None:
    on = ("--branch", "idea")

    assert run("show", path, "ada", *on).out.startswith("ada idea  version 5  ")
    assert run("show", path, "ada", *on, "--json").data["state"]["goal"] == "walk"
    assert run("show", path, "ada", *on, "--at", "start", "--json").data["state"]["goal"] == "fly"
    assert run("get", path, "ada", "goal", *on).out == '"walk"\n'
    assert run("get", path, "ada", "goal").out == '"fly"\n'
    assert run("diff", path, "ada", 3, *on).out.splitlines() == [
        "ada idea from version 3 to 5", "  cost +0.10", "  goal = 'walk'",
    ]  # fmt: skip
    assert versions(run("history", path, "ada", *on, "--json")) == [5, 4, 3, 2, 1]
    assert versions(run("history", path, "ada", "goal", *on, "--json")) == [4, 1]


def test_set_writes_to_the_branch_asked_for_and_makes_none(path: Path) -> None:
    made = run("set", path, "ada", "goal", '"swim"', "--branch", "idea", "--json").data

    assert made == {"agent": "ada", "branch": "idea", "key": "goal", "version": 6}
    assert run("get", path, "ada", "goal").out == '"fly"\n'
    fails(1, "set", path, "ada", "goal", "1", "--branch", "new", "--create")
    fails(1, "set", path, "eve", "goal", "1", "--branch", "new")


def test_the_log_has_the_events_of_all_branches_once(path: Path) -> None:
    def found(*options: str) -> list[tuple[str, int]]:
        events = run("log", path, "--json", *options).lines
        return [(event["branch"], event["version"]) for event in events]

    own = [("idea", 5), ("idea", 4)]
    main = [("main", 3), ("main", 2), ("main", 1)]
    assert found() == found("--agent", "ada") == own + main
    assert found("--branch", "idea") == found("--agent", "ada", "--branch", "idea") == own
    assert found("--branch", "main") == main
    assert re.search(r"^ +\d+  \S+Z  ada idea 5  planner: cost", run("log", path).out)
    assert "no agent has a branch ieda" in fails(1, "log", path, "--branch", "ieda")


def test_branches_are_compared(path: Path) -> None:
    assert run("diff", path, "ada", "--against", "idea").out.splitlines() == [
        "ada from version 3 to idea 5", "  cost = Decimal('0.10')", "  goal = 'walk'",
    ]  # fmt: skip
    assert run("diff", path, "ada", "--branch", "idea", "--against", "main", "--json").data == {
        "agent": "ada", "branch": "idea", "from": 5, "to_branch": "main", "to": 3,
        "keys": {"cost": {"before": {"$decimal": "0.10"}},
                 "goal": {"before": "walk", "after": "fly"}},
    }  # fmt: skip
    assert "(no change)" in run("diff", path, "ada", 3, 3, "--against", "idea").out
    assert "from which moment" in fails(2, "diff", path, "ada")


# Merging


def test_merge_says_what_came_in_and_then_that_nothing_is_left(path: Path) -> None:
    arguments = ("merge", path, "ada", "idea", "--actor", "me", "--reason", "good one")

    assert run(*arguments).out == "version 4\n  cost +0.10\n  goal = 'walk'\n"
    assert run(*arguments).out == "(no change)\n"
    event = last(path)
    assert (event["type"], event["actor"], event["reason"]) == ("merged", "me", "good one")
    assert event["parents"] == [{"branch": "idea", "generation": 0, "version": 5}]
    assert "\n  merged idea 5\n  cost +0.10\n" in run("history", path, "ada", "--limit", 1).out


def test_a_dry_run_records_nothing(torn: Path) -> None:
    before = event_count(torn)

    for arguments in (
        ("merge", torn, "ada", "main", "--into", "idea"),
        ("cherry-pick", torn, "ada", "idea", 5),
        ("revert", torn, "ada", 1),
    ):
        answer = run(*arguments, "--dry-run", "--json")
        assert (answer.code, answer.data["version"]) == (0, None)
        assert answer.data["summary"]
    assert event_count(torn) == before


def test_merge_goes_into_any_branch_and_up_to_any_moment(path: Path) -> None:
    assert run("merge", path, "ada", "idea", "--at", 4).out == "version 4\n  goal = 'walk'\n"

    into = run("merge", path, "ada", "main", "--into", "idea", "--json").data

    assert (into["branch"], into["version"], into["summary"]) == ("idea", 6, {})
    assert into["bases"] == [{"branch": "idea", "generation": 0, "version": 4}]
    assert "no branch idae" in fails(1, "merge", path, "ada", "idae")
    assert "no branch idae" in fails(1, "merge", path, "ada", "idea", "--into", "idae")


@pytest.mark.parametrize(
    ("options", "goal"),
    [
        (["--on-conflict", "ours"], "sail"),
        (["--on-conflict", "theirs"], "walk"),
        (["--strategy", "go*=theirs"], "walk"),
        (["--strategy", "go*=theirs", "--strategy", "goal=ours"], "walk"),
    ],
)
def test_what_both_changed_is_decided_as_asked(path: Path, options: list[str], goal: str) -> None:
    run("set", path, "ada", "goal", '"sail"')

    answer = run("merge", path, "ada", "idea", *options, "--json")

    assert answer.data["conflicts"] == []
    assert answer.data["keys_both"] == ["goal"]
    assert run("get", path, "ada", "goal", "--json").data == goal


def test_merge_can_refuse_conflicts(path: Path) -> None:
    run("set", path, "ada", "goal", '"sail"')
    before = event_count(path)

    told = fails(3, "merge", path, "ada", "idea", "--on-conflict", "raise")

    assert told == "both sides changed goal"
    assert event_count(path) == before


def test_a_strategy_that_is_none_is_refused(path: Path) -> None:
    assert "PATTERN=NAME" in fails(2, "merge", path, "ada", "idea", "--strategy", "latest")
    assert "not 'newest'" in fails(2, "merge", path, "ada", "idea", "--strategy", "*=newest")
    assert "not 'newest'" in fails(2, "strategy", path, "ada", "*", "newest")
    assert run("merge", path, "ada", "idea", "--on-conflict", "newest").code == 2


def test_strategies_are_recorded_listed_and_taken_back(path: Path) -> None:
    assert run("strategy", path, "ada").out == "(no strategies)\n"
    assert run("strategy", path, "ada", "*", "latest").out == "* = latest\n"

    recorded = run("strategy", path, "ada", "goal", "theirs", "--json").lines

    assert recorded == [
        {"pattern": "goal", "strategy": "theirs"},
        {"pattern": "*", "strategy": "latest"},
    ]
    run("set", path, "ada", "goal", '"sail"')
    assert run("merge", path, "ada", "idea", "--json").data["conflicts"] == []
    assert run("get", path, "ada", "goal").out == '"walk"\n'
    assert run("strategy", path, "ada", "goal", "--delete").out == "* = latest\n"


@pytest.mark.parametrize("options", [["*"], ["--delete"], ["*", "latest", "--delete"]])
def test_a_strategy_needs_all_its_parts(path: Path, options: list[str]) -> None:
    assert "a strategy has" in fails(2, "strategy", path, "ada", *options)


def test_single_events_are_picked(path: Path) -> None:
    answer = run("cherry-pick", path, "ada", "idea", 5, "--reason", "just this")

    assert answer.out == "version 4\n  cost +0.10\n"
    assert run("get", path, "ada", "goal").out == '"fly"\n'
    assert "picked idea 5" in run("history", path, "ada", "--limit", 1).out
    assert "events 1 to 5" in fails(2, "cherry-pick", path, "ada", "idea", 9)


def test_a_branch_is_begun_anew(path: Path) -> None:
    run("set", path, "ada", "new", "1")

    told = run("rebase", path, "ada", "idea").out

    assert told.startswith("idea  version 6  from main 4  ")
    state = run("show", path, "ada", "--branch", "idea", "--json").data["state"]
    assert (state["new"], state["goal"], state["cost"]) == (1, "walk", {"$decimal": "0.10"})
    assert "not 'main'" in fails(2, "rebase", path, "ada", "main", "--onto", "idea")


# Conflicts


def test_a_conflict_is_shown_plainly_and_never_as_a_warning(torn: Path) -> None:
    note = "statecore: goal is in conflict, and this is provisional: see `statecore conflicts`\n"
    process = start("get", torn, "ada", "goal")

    out, err = process.communicate()

    assert (process.returncode, out, err) == (0, '"sail"\n', note)
    assert run("get", torn, "ada", "goal", "--json").data == {
        "$conflict": {"sides": [{"value": "sail"}, {"value": "walk"}], "bases": [{"value": "fly"}]}
    }
    shown = run("show", torn, "ada")
    assert shown.err == note + note.replace("goal", "plan")
    assert 'goal = "sail"\n' in shown.out


def test_as_json_a_conflict_shows_everywhere_as_what_it_is(torn: Path) -> None:
    state = run("show", torn, "ada", "--json").data["state"]
    told = run("history", torn, "ada", "plan", "--limit", 1, "--json").data
    compared = run("diff", torn, "ada", "start", "--json").data["keys"]

    assert state["plan"]["a.b"].keys() == state["goal"].keys() == {"$conflict"}
    assert told["value"] == compared["plan"]["after"] == state["plan"]
    assert run("get", torn, "ada", "plan", "--json").data == state["plan"]
    assert "not a value type" in fails(2, "set", torn, "ada", "x", json.dumps(state["goal"]))


def test_conflicts_are_listed_with_their_sides(torn: Path) -> None:
    listed = run("conflicts", torn, "ada").out
    goal, plan = run("conflicts", torn, "ada", "--json").lines

    assert listed.startswith('goal\n  0  "sail"\n  1  "walk"\n  from  "fly"\nplan /a.b\n')
    assert (goal["key"], goal["path"]) == ("goal", [])
    assert (plan["key"], plan["path"]) == ("plan", ["a.b"])
    assert plan["sides"] == [{"value": "ours"}, {"value": "theirs"}]
    assert run("conflicts", torn, "ada", "--at", "start").out == "(no conflicts)\n"
    assert run("conflicts", torn, "ada", "--at", "start", "--json").out == ""


def test_a_side_that_removed_it_is_told_and_can_be_picked(path: Path) -> None:
    run("set", path, "ada", "goal", '"sail"')
    with statecore.open(path) as store:
        store.manager("ada").branch("idea").delete_state("goal")
    told = run("merge", path, "ada", "idea").out

    assert 'in conflict: goal\n  0  "sail"\n  1  nothing\n  from  "fly"\n' in told
    assert run("conflicts", path, "ada", "--json").data["sides"] == [{"value": "sail"}, {}]
    assert run("resolve", path, "ada", "goal", "--pick", 1).code == 0
    assert "no key goal" in fails(1, "get", path, "ada", "goal")


def test_a_conflict_is_decided_by_a_side_or_a_value(torn: Path) -> None:
    picked = run("resolve", torn, "ada", "goal", "--pick", 1, "--actor", "me", "--json").data
    assert (picked["version"], run("get", torn, "ada", "goal").out) == (7, '"walk"\n')
    assert (last(torn)["type"], last(torn)["actor"]) == ("resolved", "me")

    decided = run("resolve", torn, "ada", "plan", "-", "--path", "/a.b", stdin="-5")

    assert decided.out == "version 8\n"
    assert run("get", torn, "ada", "plan", "--json").data == {"a.b": -5, "1": "rest"}
    assert run("conflicts", torn, "ada").out == "(no conflicts)\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["goal"], "a VALUE or by --pick"),
        (["goal", "1", "--pick", "0"], "a VALUE or by --pick"),
        (["goal", "--pick", "2"], "there are 2 sides"),
        (["goal", "no JSON"], "not JSON"),
        (["plan", "1"], "nothing is in conflict at plan"),
        (["plan", "1", "--path", "a.b"], "nothing is in conflict at plan/a/b"),
        (["gaol", "1"], "nothing is in conflict at gaol"),
    ],
)
def test_a_decision_that_fits_no_conflict_is_refused(
    torn: Path, arguments: list[str], told: str
) -> None:
    before = event_count(torn)

    assert told in fails(2, "resolve", torn, "ada", *arguments)

    assert event_count(torn) == before


def test_a_remembered_decision_is_used_again_when_told(torn: Path) -> None:
    run("resolve", torn, "ada", "goal", '"both"', "--remember")
    run("branch", torn, "ada", "again", "--at", 5)

    again = run("merge", torn, "ada", "idea", "--into", "again", "--reuse", "--json").data

    assert [conflict["key"] for conflict in again["conflicts"]] == ["plan"]
    assert run("get", torn, "ada", "goal", "--branch", "again").out == '"both"\n'


# Taking back


def test_events_are_taken_back(path: Path) -> None:
    run("set", path, "ada", "goal", '"sail"', "--actor", "bob")
    run("set", path, "ada", "new", "1", "--actor", "bob")
    run("set", path, "ada", "new", "2")

    one = run("revert", path, "ada", 4, "--reason", "no boat")
    assert one.out == "version 7\n  goal = 'fly'\n"
    assert last(path)["takes_back"] == [4]

    many = run(
        "revert", path, "ada", "--since", "start", "--until", 6, "--by", "bob", "--json"
    ).data

    assert many["conflicts"] == [
        {"key": "new", "path": [], "sides": [{"value": 2}, {}], "bases": [{"value": 1}]}
    ]
    assert last(path)["takes_back"] == [4, 5]
    assert "has no event 99" in fails(2, "revert", path, "ada", 99)
    assert "not both" in fails(2, "revert", path, "ada", 4, "--by", "bob")
    assert "say what to revert" in fails(2, "revert", path, "ada")


def test_a_state_is_restored_by_a_new_event(path: Path) -> None:
    run("set", path, "ada", "goal", '"sail"')

    assert run("restore", path, "ada", "--at", "start").out == "version 5\n  goal = 'fly'\n"
    assert run("restore", path, "ada", "--at", "start").out == "(no change)\n"
    assert "restored main 2" in run("history", path, "ada", "--limit", 1).out
    assert run("restore", path, "ada").code == 2


def test_the_last_act_is_undone_and_done_again(path: Path) -> None:
    run("set", path, "ada", "a", "1", "--actor", "ann")
    run("set", path, "ada", "b", "1", "--actor", "bob")

    assert run("undo", path, "ada", "--by", "ann").out == "version 6\n  a removed\n"
    assert run("redo", path, "ada", "--by", "ann").out == "version 7\n  a = 1\n"
    assert (
        run("undo", path, "ada", "--by", "bob", "--actor", "boss").out == "version 8\n  b removed\n"
    )
    assert last(path)["actor"] == "boss"
    assert "nothing to redo" in fails(1, "redo", path, "ada", "--by", "ann")
    assert "nothing to undo" in fails(1, "undo", path, "ada", "--by", "eve")


# Questions


def test_blame_names_the_event_of_a_key_or_a_place_in_it(path: Path) -> None:
    run("set", path, "ada", "plan", '{"a.b": [{"x/y": 2}], "1": "rest"}', "--actor", "bob")
    run("set", path, "ada", "goal", '"fly"')

    def blamed(*arguments: object) -> int:
        return int(run("blame", path, "ada", *arguments, "--json").data["version"])

    assert blamed("goal") == 1, "writing the same again changes nothing"
    assert blamed("plan") == blamed("plan", "--path", "/a.b/0/x~1y") == 4
    assert blamed("plan", "--path", "1") == 2
    assert blamed("plan", "--at", "start") == 2
    assert blamed("goal", "--branch", "idea") == 4
    assert run("blame", path, "ada", "plan").out.startswith("4  ")


def test_blame_finds_who_took_a_place_away(path: Path) -> None:
    run("set", path, "ada", "plan", '{"1": "rest"}', "--actor", "bob")

    assert run("blame", path, "ada", "plan", "--path", "/a.b/0", "--json").data["actor"] == "bob"
    assert fails(1, "blame", path, "ada", "plan", "--path", "2.x") == "ada never had plan/2/x"
    assert fails(1, "blame", path, "ada", "gaol") == "ada never had gaol"


@pytest.fixture
def counted(path: Path) -> Path:
    """A count that goes up by 1, with a mistake at version 40, and notes in between."""
    with statecore.open(path) as store:
        agent = store.manager("count")
        for number in range(1, 61):
            agent.set_state(f"note {number % 7}", Decimal(number))
            if number % 10 == 0:
                agent.add("n", 1 if number != 30 else 1000, actor="bob", reason="counts")
    return path


def judge(code: str) -> list[str]:
    """A command that judges what it reads: ``state`` and ``version`` are there for the code."""
    head = "import json, os, sys; state = json.load(sys.stdin); "
    head += "version = int(os.environ['STATECORE_VERSION']); "
    return ["--", sys.executable, "-c", head + code]


JUDGE = judge("sys.exit(state.get('n', 0) > 999)")


def test_bisect_finds_the_first_bad_event(counted: Path) -> None:
    told = run("bisect", counted, "count", 1, 66, *JUDGE)
    found = run("bisect", counted, "count", 1, 66, "--json", *JUDGE).data

    assert re.match(r"version 33 is the first bad one, after \d looks\n33  \S+Z  bob  \(counts\)\n"
                    r"  n \+1000\n$", told.out)  # fmt: skip
    assert told.err.splitlines()[:2] == ["statecore: version 1: good", "statecore: version 66: bad"]
    assert (found["first_bad"], found["last_good"], found["certain"]) == (33, 32, True)
    assert found["event"]["actor"] == "bob"
    assert len(found["steps"]) <= 2 + 7


def test_bisect_passes_only_the_keys_asked_for_and_looks_less(counted: Path) -> None:
    all_of_it = run("bisect", counted, "count", 1, 66, "--json", *JUDGE).data
    found = run("bisect", counted, "count", 1, 66, "--keys", "n", "--json", *JUDGE).data
    assert found["first_bad"] == all_of_it["first_bad"] == 33
    assert len(found["steps"]) < len(all_of_it["steps"])

    only = judge("sys.exit(bool(set(state) - {'n', 'note 1'}) or state.get('n', 0) > 1)")
    found = run("bisect", counted, "count", 1, 66, "--keys", "n,note 1,m", "--json", *only).data

    assert found["first_bad"] == 22


def test_a_judge_gets_the_state_with_its_types_and_where_it_is(counted: Path) -> None:
    code = (
        "e = os.environ; "
        "assert (e['STATECORE_AGENT'], e['STATECORE_BRANCH']) == ('count', 'main'), e; "
        "assert all(list(v) == ['$decimal'] for k, v in state.items() if k != 'n'), state; "
        "sys.exit(version >= 50)"
    )

    found = run("bisect", counted, "count", 1, 66, "--json", *judge(code)).data

    assert found["first_bad"] == 50


def test_a_judge_may_pass_over_states(counted: Path) -> None:
    code = "sys.exit(125 if 20 <= version < 40 else version > 30)"

    told = run("bisect", counted, "count", 1, 66, *judge(code)).out
    found = run("bisect", counted, "count", 1, 66, "--json", *judge(code)).data

    assert told.startswith("the first bad one is among versions 20 to 40, ")
    assert (found["last_good"], found["first_bad"], found["certain"]) == (19, 40, False)
    assert "skip" in {step["verdict"] for step in found["steps"]}


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (judge("sys.exit(0)"), "version 66 is not bad"),
        (judge("sys.exit(127)"), "version 1 is not good"),
        (judge("sys.exit(128)"), "ended with 128 on version 1"),
        (judge("os.kill(os.getpid(), 9)"), "ended by signal 9 on version 1"),
        (["--", "./no such program"], "no such program can't be run: No such file"),
    ],
)
def test_what_is_no_verdict_ends_a_bisection(counted: Path, command: list[str], told: str) -> None:
    answer = run("bisect", counted, "count", 1, 66, *command)

    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err.splitlines()[-1]


def test_bisect_needs_a_command_and_its_ends_in_order(counted: Path) -> None:
    assert "not before" in fails(2, "bisect", counted, "count", 9, 9, "true")
    assert "Missing argument" in run("bisect", counted, "count", 1, 9).err


def test_what_a_judge_prints_is_no_part_of_the_answer(counted: Path) -> None:
    command = judge("print('I am judging', flush=True); sys.exit(version > 30)")
    process = start("bisect", counted, "count", 1, 66, "--json", *command)

    out, err = process.communicate()

    assert json.loads(out)["first_bad"] == 31
    assert "I am judging" in err


def test_an_interrupt_ends_a_bisection(counted: Path) -> None:
    command = judge("import time; print('judging', flush=True); time.sleep(600)")
    with start("bisect", counted, "count", 1, 66, *command, start_new_session=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "judging\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout is not None
        out = process.stdout.read()

    assert (process.wait(), out) == (128 + signal.SIGINT, "")


def test_what_if_shows_what_would_be_different(path: Path) -> None:
    run("set", path, "ada", "goal", '"sail"')
    run("set", path, "ada", "new", "1")

    told = run("what-if", path, "ada", "dry", "--skip", 4, "--actor", "me", "--reason", "seasick")

    assert told.out == "ada from version 5 to dry 4\n  goal = 'fly'\n"
    branch = run("branch", path, "ada", "--json").lines[1]
    assert (branch["branch"], branch["actor"], branch["description"]) == ("dry", "me", "seasick")
    assert run("get", path, "ada", "new", "--branch", "dry").out == "1\n"
    assert "already" in fails(3, "what-if", path, "ada", "dry", "--skip", 4)
    assert "say which" in fails(2, "what-if", path, "ada", "drier")


def test_what_if_events_set_something_else(path: Path) -> None:
    told = run(
        "what-if", path, "ada", "rich", "--replace", '1={"goal": {"$decimal": "1.50"}}', "--json"
    ).data

    assert told["keys"] == {"goal": {"before": "fly", "after": {"$decimal": "1.50"}}}
    assert (told["to_branch"], told["left_out"]) == ("rich", {})
    for wrong in ("goal", '{"goal": 1}', "x={}", "1=[1]", "1="):
        fails(2, "what-if", path, "ada", "wrong", "--replace", wrong)
    assert len(run("branch", path, "ada").out.splitlines()) == 3


def test_what_if_says_what_no_longer_fits(path: Path) -> None:
    with statecore.open(path) as store:
        agent = store.manager("list")
        agent.set_state("list", [1])
        agent.apply(statecore.EMPTY.splice("list", 0, 1, ["one"]))

    answer = run("what-if", path, "list", "without", "--skip", 1, "--json")

    assert list(answer.data["left_out"]) == ["2"]
    assert answer.err.startswith("statecore: version 2 no longer fitted and is left out: ")


def test_texts_are_found_now_then_and_in_all_that_came(path: Path) -> None:
    run("set", path, "ada", "goal", '"sail"')

    assert run("search", path, "ada", "rest").out == 'plan /1 = "rest"\n'
    assert run("search", path, "ada", "fly").out == ""
    assert run("search", path, "ada", "fly", "--at", "start").out == 'goal = "fly"\n'
    found = run("search", path, "ada", "x/y", "--json").data
    assert found == {"key": "plan", "path": ["a.b", 0, "x/y"], "value": 1}
    assert versions(run("search", path, "ada", "fly", "--history", "--json")) == [1]
    assert "planner: goal = 'fly'" in run("search", path, "ada", "fly", "--history").out
    fails(2, "search", path, "ada", "fly", "--history", "--at", "1")


# What must not reach the terminal


@pytest.fixture
def hostile(path: Path) -> Path:
    with statecore.open(path) as store:
        agent = store.manager("eve", actor=HOSTILE)
        agent.set_state(HOSTILE, {HOSTILE: "base"})
        branch = agent.branch(HOSTILE, description=HOSTILE)
        agent.patch(HOSTILE, {HOSTILE: HOSTILE + "1"})
        branch.patch(HOSTILE, {HOSTILE: HOSTILE + "2"})
        agent.set_strategy("key" + HOSTILE, "latest")
        agent.merge(branch, reason=HOSTILE)
    return path


def hostile_answers(path: Path, *options: str) -> Iterator[Answer]:
    for arguments in (
        ("branch", path, "eve"),
        ("log", path),
        ("show", path, "eve"),
        ("get", path, "eve", HOSTILE),
        ("history", path, "eve"),
        ("conflicts", path, "eve"),
        ("strategy", path, "eve"),
        ("diff", path, "eve", "--against", HOSTILE),
        ("search", path, "eve", "red"),
        ("search", path, "eve", "red", "--history"),
        ("blame", path, "eve", HOSTILE),
        ("blame", path, "eve", HOSTILE, "--path", HOSTILE + "?"),
        ("show", path, "eve", "--branch", HOSTILE + "?"),
        ("resolve", path, "eve", HOSTILE + "?", "1"),
        ("merge", path, "eve", "main", "--into", HOSTILE),
        ("merge", path, "eve", "main", "--strategy", HOSTILE),
        ("bisect", path, "eve", 1, 2, "--", "/no" + HOSTILE),
        ("what-if", path, "eve", "dry" + HOSTILE, "--skip", "1"),
        ("what-if", path, "eve", "drier", "--replace", HOSTILE),
        ("branch", path, "eve", HOSTILE, "--delete"),
        ("branch", path, "eve", HOSTILE, "--delete"),
    ):
        yield run(*arguments, *(() if arguments[0] == "bisect" else options))


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_nothing_of_what_is_stored_acts_on_the_terminal(hostile: Path, options: list[str]) -> None:
    answers = list(hostile_answers(hostile, *options))

    for answer in answers:
        assert ACTS_ON_TERMINAL.findall(answer.out + answer.err) == []
        assert "[red]x[/red]" in answer.out + answer.err, "it is shown, and no markup"
    assert sum(answer.code > 0 for answer in answers) == 7
