"""Reviews, which say what to do; upgrades, which are rehearsed before they are done."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import apsw
import pytest
from typer.testing import CliRunner

import statecore
from statecore.cli.app import app
from statecore.recorders.sqlite.reading import StoreFile
from statecore.recorders.sqlite.schema import TREE_SCHEMA
from statecore.reviewing import Period, Rank, Review, rendering, review, sections
from statecore.reviewing.report import Concern, Plot, Section
from statecore.reviewing.sections import DATA_KEY_MAX
from statecore.upgrading import upgrade
from tests.conftest import KEY, Clock

OLD = Path(__file__).parent / "vectors" / "format-1" / "agents.db"
OLD_KEY = bytes(range(32))
NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of its account alone."""
    folder = tmp_path / "store"
    folder.mkdir(mode=0o700)
    return folder


def reviewed(path: Path, period: Period, now: datetime, **options: Any) -> Review:
    with statecore.open(path, key=KEY) as store:
        return review(store, path, period, now, **options)


def figures(found: Review) -> dict[str, str]:
    return {name: figure for section in found.sections for name, figure in section.figures}


def said(found: Review, rank: Rank) -> str:
    return "\n".join(each.text for each in found.concerns if each.rank == rank)


# Reviews


def test_each_period_has_the_sections_of_those_before(folder: Path) -> None:
    path = folder / "agents.db"
    with statecore.open(path, key=KEY) as store:
        store.manager("a").set_state("n", 1)

    titles = [
        [section.title for section in reviewed(path, period, datetime.now(UTC)).sections]
        for period in Period
    ]

    assert titles == [["State", "Performance", "Security", "Audit"][:many] for many in (1, 2, 3, 4)]


def test_events_of_the_time_are_counted_where_they_happened(folder: Path) -> None:
    path, clock = folder / "agents.db", Clock(int(NOW.timestamp() * 1e6))
    clock.tick(-3 * 86400)
    with statecore.open(path, key=KEY, clock=clock) as store:
        ada, bob = store.manager("ada", actor="planner"), store.manager("bob")
        ada.set_state("n", 0)
        clock.tick(2.5 * 86400)
        ada.set_state("n", 1)
        ada.branch("other").set_state("n", 2, actor="tool")
        clock.tick(6 * 3600)
        bob.set_state("n", 3)
        bob.tag("here")

    found = reviewed(path, Period.DAILY, NOW)

    assert figures(found)["events in this time"] == "4"
    assert figures(found)["events in all"] == "6"  # one is of the register
    assert figures(found)["by agent"] == "ada 2, bob 2"
    assert figures(found)["by actor"] == "(nobody) 2, planner 1, tool 1"
    assert figures(found)["by type"] == "changed 3, tagged 1"
    (plot,) = found.sections[0].plots
    assert [n for _, n in plot.points] == [0] * 12 + [2] + [0] * 5 + [2] + [0] * 5
    assert figures(reviewed(path, Period.WEEKLY, NOW))["events in this time"] == "5"


def test_conflicts_and_broken_rules_are_told_and_what_to_do(folder: Path) -> None:
    path = folder / "agents.db"
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("a")
        agent.set_state("goal", "fly")
        agent.set_state("n", "five")
        other = agent.branch("other")
        other.set_state("goal", "sail")
        agent.set_state("goal", "walk")
        agent.merge(other)
        agent.set_schema("n", {"type": "number"})

    found = reviewed(path, Period.DAILY, datetime.now(UTC))

    assert "a has 1 places in conflict" in said(found, Rank.NOTICE)
    assert "a violates its rules in 1 places" in said(found, Rank.WARNING)
    assert all(each.advice for each in found.concerns)
    assert [each.rank for each in found.concerns] == sorted(each.rank for each in found.concerns)


def test_damage_is_critical_and_the_rest_is_still_counted(folder: Path) -> None:
    path = folder / "agents.db"
    with statecore.open(path, key=KEY, snapshots=False) as store:
        for name in ("a", "b"):
            store.manager(name).set_state("n", 1)
            store.manager(name).set_state("n", 2)
    database = apsw.Connection(str(path))
    database.execute("UPDATE events SET state = zeroblob(length(state)) WHERE position = 2")
    database.close()

    found = reviewed(path, Period.QUARTERLY, datetime.now(UTC))

    assert "a can't be read" in said(found, Rank.CRITICAL)
    assert figures(found)["by agent"].endswith("b 2")
    assert figures(found)["verdict"] == "INVALID"
    assert found.concerns[0].rank == Rank.CRITICAL
    assert rendering.is_critical(found)


def test_what_others_could_reach_is_told(folder: Path) -> None:
    path = folder / "agents.db"
    with statecore.open(path, key=KEY) as store:
        store.manager("a").set_state("n", 1)
    (folder / "agents.db-keys").chmod(0o644)
    folder.chmod(0o777)

    found = reviewed(path, Period.MONTHLY, datetime.now(UTC))

    assert "agents.db-keys is open to other accounts: mode 0644" in said(found, Rank.WARNING)
    assert "anybody may write to" in said(found, Rank.CRITICAL)


def test_an_old_key_an_old_anchor_and_denials_are_told(folder: Path) -> None:
    path = folder / "agents.db"
    begun = datetime.now(UTC) - DATA_KEY_MAX - timedelta(days=20)
    clock = Clock(int(begun.timestamp() * 1e6))
    with statecore.open(path, key=KEY, clock=clock) as store:
        store.manager("a").set_state("n", 1)
        (folder / "head").write_bytes(store.signed_head())
        clock.tick(86400)
        store.manager("a").set_state("n", 2)

    found = reviewed(path, Period.QUARTERLY, datetime.now(UTC), anchors=[folder / "head"])

    assert "1 data keys are older than 365 days" in said(found, Rank.NOTICE)
    assert "oldest event without a head outside: 384 days" in said(found, Rank.WARNING)
    assert figures(found)["verdict"] == "VALID-ANCHORED"


def test_a_backup_that_nobody_took_for_days_is_told(folder: Path) -> None:
    path, now = folder / "agents.db", datetime.now(UTC)
    clock = Clock(int((now - timedelta(days=9)).timestamp() * 1e6))
    with statecore.open(path, key=KEY, clock=clock) as store:
        store.manager("a").set_state("n", 1)
        store.backup(folder / "backup")
        clock.tick(86400)
        store.manager("a").set_state("n", 2)

    late = reviewed(path, Period.DAILY, now, backup=folder / "backup")
    with statecore.open(path, key=KEY) as store:
        store.backup(folder / "backup")
    fresh = reviewed(path, Period.DAILY, now, backup=folder / "backup")

    assert "there was no backup for 8 days: 1 events" in said(late, Rank.WARNING)
    assert figures(fresh)["events that no backup has"] == "0"
    assert not fresh.concerns


def test_changes_of_the_policy_and_denials_are_told(folder: Path) -> None:
    path = folder / "agents.db"
    rule = {"id": "all", "effect": "permit", "operations": ["*"], "principals": ["ada"]}
    with statecore.open(path, key=KEY) as store:
        store.manager("a").set_state("n", 1)
        store.as_principal("ada").access.set_policy({"owners": ["ada"], "rules": [rule]})
        with pytest.raises(statecore.AccessDenied):
            store.as_principal("eve").manager("a").get_state("n")
        found = review(
            store.as_principal("ada"), path, Period.MONTHLY, datetime.now(UTC) + timedelta(hours=1)
        )

    assert "the policy was changed" in said(found, Rank.NOTICE)
    assert "eve was denied read 1 times" in said(found, Rank.NOTICE)


def test_an_anchor_that_is_not_there_is_the_callers_mistake(folder: Path) -> None:
    path = folder / "agents.db"
    with statecore.open(path, key=KEY) as store:
        store.manager("a").set_state("n", 1)

    with pytest.raises(statecore.InputError, match="can't be read"):
        reviewed(path, Period.DAILY, NOW, anchors=[folder / "none"])


def test_the_thresholds_are_those_that_are_documented() -> None:
    page = (Path(__file__).parent.parent / "docs" / "operations.md").read_text()
    text = " ".join(page.partition("## Reviews")[2].partition("## Upgrades")[0].split())

    for said in (
        f"over {sections.WAL_BYTES_MAX >> 20} MiB",
        f"full within {sections.DAYS_LEFT_MIN} days",
        f"over {sections.UNANCHORED_MAX.days} days",
        f"over {DATA_KEY_MAX.days} days",
        f"over {sections.COLD_READ_SECONDS_MAX * 1000:.0f} ms",
    ):
        assert said in text
    assert timedelta(hours=1) == sections.UNSIGNED_MAX
    assert "a backup over a day behind" in text
    assert timedelta(days=1) == sections.UNBACKED_MAX
    assert "over an hour old" in text
    assert sections.COLD_STATE_SECONDS_MAX == 1
    assert "over a second" in text


# How they are read

HOSTILE = "<script>alert(1)</script>|`*[x](y)"
FOUND = Review(
    "Daily review",
    HOSTILE,
    NOW - timedelta(days=1),
    NOW,
    (
        Section(
            "State",
            [("agents", HOSTILE)],
            [Plot("events", (("00:00", 3), (HOSTILE, 0), ("02:00", 12)))],
            [
                Concern(Rank.NOTICE, "small", "wait"),
                Concern(Rank.CRITICAL, HOSTILE, "run"),
            ],
        ),
    ),
)


class Page(HTMLParser):
    """Collects what a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.bars: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)
        if tag == "rect":
            self.bars.append(dict(attributes))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_page_is_whole_loads_nothing_and_plots_what_is() -> None:
    page = Page(rendering.html(FOUND))

    assert page.open == []
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert "http" not in rendering.html(FOUND)
    assert [float(bar["height"] or 0) for bar in page.bars] == [30, 0, 120]


def test_the_most_urgent_comes_first_in_every_form() -> None:
    text = "\n".join(rendering.lines(FOUND))
    for form in (text, rendering.markdown(FOUND), rendering.html(FOUND)):
        assert form.index("run") < form.index("wait")
    assert "<script>" not in rendering.markdown(FOUND)
    assert json.loads(json.dumps(rendering.data(FOUND)))["concerns"][0]["rank"] == "critical"


def test_the_command_ends_with_a_code_where_something_is_urgent(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATECORE_KEY", KEY.hex())
    with statecore.open(folder / "agents.db", key=KEY) as store:
        store.manager("a").set_state("n", 1)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["review", *arguments, str(folder / "agents.db")])

    quiet, page = run("daily"), run("--format", "html", "monthly")
    folder.chmod(0o777)
    urgent = run("--json", "monthly")

    assert (quiet.exit_code, page.exit_code, urgent.exit_code) == (0, 0, 5)
    assert "Nothing to be done." in quiet.stdout
    assert page.stdout.startswith("<!DOCTYPE html>")
    assert json.loads(urgent.stdout)["concerns"][0]["rank"] == "critical"


def test_both_commands_are_told_where_the_backup_lies(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATECORE_KEY", KEY.hex())
    path, place = str(folder / "agents.db"), str(folder / "backup")
    with statecore.open(path, key=KEY) as store:
        store.manager("a").set_state("n", 1)
        store.backup(place)
        store.manager("a").set_state("n", 2)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, [*arguments, path])

    told = json.loads(run("metrics", "--json", "--backup", place).stdout)
    silent = json.loads(run("metrics", "--json").stdout)
    review = run("review", "--backup", place, "daily").stdout

    assert told["statecore_backup_lag_events"] == 1
    assert "statecore_backup_lag_events" not in silent
    assert "events that no backup has" in review


# Upgrades


@pytest.fixture
def old(folder: Path) -> Path:
    """A store that was made before there was an audit tree."""
    for end in ("", "-keys"):
        shutil.copy(f"{OLD}{end}", folder)
    return folder / "agents.db"


def tables(path: Path) -> set[str]:
    file = StoreFile(path)
    try:
        return {what for (what,) in file.all("SELECT type || ' ' || name FROM sqlite_schema")}
    finally:
        file.close()


def test_a_rehearsal_changes_nothing_and_leaves_nothing(old: Path) -> None:
    before = old.read_bytes()

    done = upgrade(old, dry_run=True)

    assert [step.name for step in done.steps] == ["audit-tree"]
    assert (done.is_done, done.before.events) == (False, 15)
    assert done.after is not None
    assert done.after.root == done.before.root
    assert old.read_bytes() == before
    assert not TREE_SCHEMA.keys() & tables(old)
    assert not [each for each in old.parent.iterdir() if "upgrade" in each.name]


def test_an_upgrade_adds_what_was_planned_and_the_store_goes_on(old: Path) -> None:
    stages: list[str] = []
    before = StoreFile(old)
    events = before.all("SELECT * FROM events")
    before.close()

    done = upgrade(old, on_stage=stages.append)

    assert done.is_done
    assert stages == [
        "analysing", "verifying", "rehearsing on a copy", "upgrading", "verifying again",
    ]  # fmt: skip
    assert TREE_SCHEMA.keys() <= tables(old)
    with statecore.open(old, key=OLD_KEY) as store:
        store.manager("agent-7").set_state("new", 1)
        assert store.manager("agent-7").get_state("new") == 1
    after = StoreFile(old)
    assert after.all("SELECT * FROM events")[: len(events)] == events
    after.close()
    again = upgrade(old)
    assert (again.steps, again.is_done) == ((), False)


def test_a_damaged_store_is_not_upgraded(old: Path) -> None:
    database = apsw.Connection(str(old))
    database.execute("DELETE FROM events WHERE position = 3")
    database.close()
    before = tables(old)

    with pytest.raises(statecore.Damage, match="was not upgraded"):
        upgrade(old)

    assert tables(old) == before


def test_what_is_no_store_is_not_upgraded(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database" * 1000)

    with pytest.raises(statecore.ForeignSchema):
        upgrade(tmp_path / "text.db")
    with pytest.raises(statecore.StoreNotFound):
        upgrade(tmp_path / "none.db")
