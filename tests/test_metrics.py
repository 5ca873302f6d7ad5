"""Metrics: what an open store tells of itself, to people, to Prometheus and to OpenTelemetry."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client.parser import text_string_to_metric_families

import statecore
from statecore.metrics import Distribution, Family, families, instrument, prometheus
from statecore.metrics.families import Type
from statecore.tally import RANGES, SAMPLED, Spread
from tests.conftest import KEY, Clock


def read_back(text: str) -> dict[str, Any]:
    """Read a text as Prometheus does."""
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_writes_are_counted_by_type_and_batch(
    store: statecore.BlockingStore, agent: statecore.BlockingManager
) -> None:
    agent.set_state("a", 1)
    agent.set_state("b", "x" * 1000)
    agent.tag("here")
    store.erase("agent-7")

    metrics = store.metrics()

    assert metrics.events_by_type == {"changed": 2, "tagged": 1}
    assert (metrics.events_written, metrics.batch_events.count) == (3, 3)
    assert metrics.batch_events.total == 3
    assert metrics.commit_seconds.count == 3
    assert metrics.turn_seconds.total > metrics.commit_seconds.total > 0
    assert metrics.packed_bytes > metrics.stored_bytes > 0


def test_what_one_sync_served_is_told(path: Path) -> None:
    async def write_together() -> statecore.metrics.Metrics:
        async with statecore.open(path, key=KEY) as store:
            agent = store.manager("a")
            await asyncio.gather(*(agent.set_state(f"k{n}", n) for n in range(50)))
            return await store.metrics()

    batches = asyncio.run(write_together()).batch_events

    assert batches.total == 50
    assert batches.count < 50


def test_conflicts_refusals_and_retries_are_told_apart(
    store: statecore.BlockingStore, agent: statecore.BlockingManager
) -> None:
    version = agent.set_state("n", 1)
    agent.set_state("n", 2)

    with pytest.raises(statecore.Conflict):
        agent.set_state("n", 3, expected_version=version)
    with pytest.raises(statecore.OperationMismatch):
        agent.extend("n", [1])
    calls: list[Any] = []

    def interfered(n: Any) -> Any:
        calls.append(n)
        if len(calls) == 1:
            agent.set_state("n", 10)
        return n + 1

    agent.atomic_update("n", interfered)

    metrics = store.metrics()
    assert agent.get_state("n") == 11
    assert (metrics.conflicts, metrics.refused, metrics.retries) == (2, 1, 1)


def test_readings_are_counted_and_some_timed(
    store: statecore.BlockingStore, agent: statecore.BlockingManager
) -> None:
    agent.set_state("n", 1)

    for _ in range(2 * (SAMPLED + 1)):
        agent.get_state("n")

    metrics = store.metrics()
    assert (metrics.reads, metrics.read_seconds.count) == (2 * (SAMPLED + 1), 2)
    assert metrics.read_seconds.mean is not None


def test_the_share_found_in_memory_is_told(
    store: statecore.BlockingStore, agent: statecore.BlockingManager
) -> None:
    version = agent.set_state("n", 1)
    agent.set_state("n", 2)
    assert store.metrics().values_hit_ratio is None

    for _ in range(4):
        assert agent.value_at("n", version) == 1
    again = store.manager("agent-7")

    metrics = store.metrics()
    assert metrics.values_hit_ratio == 0.75
    assert again.get_state("n") == 2
    assert metrics.states_warm >= 1


def test_what_lies_there_is_told_whoever_wrote_it(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        store.manager("a").set_state("n", 1)
    with statecore.open(path, key=KEY) as store:
        metrics = store.metrics()

    assert (metrics.events_written, metrics.log_events, metrics.log_streams) == (0, 1, 1)
    assert set(metrics.files_bytes) >= {"agents.db", "agents.db-keys"}
    assert metrics.bytes_per_event == sum(metrics.files_bytes.values())


def test_the_age_of_what_no_head_no_anchor_and_no_backup_covers(path: Path, clock: Clock) -> None:
    with statecore.open(path, key=KEY, clock=clock) as store:
        agent = store.manager("a")
        for n in range(300):
            agent.set_state("n", n)
        anchor = store.signed_head()
        assert store.metrics(anchor=anchor).unanchored_seconds == 0
        clock.tick(100)
        agent.set_state("n", 300)
        clock.tick(60)
        agent.set_state("n", 301)
        store.signed_head()

        metrics = store.metrics(anchor=anchor, backup=301)

        assert metrics.unanchored_seconds == 60
        assert metrics.backup_lag_seconds == 0
        assert (metrics.head_events, metrics.unsigned_seconds) == (302, 0)
        clock.tick(5)
        assert store.metrics(backup=0).backup_lag_seconds == 165


def test_how_far_behind_a_backup_is_its_place_tells(
    tmp_path: Path, path: Path, clock: Clock
) -> None:
    place = tmp_path / "backup"
    with statecore.open(path, key=KEY, clock=clock) as store:
        agent = store.manager("a")
        agent.set_state("n", 1)
        assert store.metrics().backup_lag_events is None
        assert store.metrics(backup=place).backup_lag_events == 1
        store.backup(place)
        assert store.metrics(backup=str(place)).backup_lag_events == 0
        clock.tick(7)
        agent.set_state("n", 2)
        agent.set_state("n", 3)
        clock.tick(60)

        metrics = store.metrics(backup=place)

    assert (metrics.backup_lag_events, metrics.backup_lag_seconds) == (2, 60)
    found = read_back(metrics.prometheus())
    assert found["statecore_backup_lag_seconds"].samples[0].value == 60
    assert found["statecore_backup_lag_events"].samples[0].value == 2


def test_a_backup_of_another_store_or_of_more_events_is_refused(tmp_path: Path, path: Path) -> None:
    with (
        statecore.open(path, key=KEY) as store,
        statecore.open(tmp_path / "other.db", key=KEY) as other,
    ):
        store.manager("a").set_state("n", 1)
        other.manager("a").set_state("n", 1)
        other.backup(tmp_path / "backup")

        with pytest.raises(statecore.InputError, match="another store"):
            store.metrics(backup=tmp_path / "backup")
        with pytest.raises(statecore.Damage, match="went back"):
            store.metrics(backup=2)


def test_what_the_last_check_found_is_told(path: Path, clock: Clock) -> None:
    with statecore.open(path, key=KEY, clock=clock) as store:
        store.manager("a").set_state("n", 1)
        before = store.metrics()
        store.check()
        clock.tick(30)

        after = store.metrics()

    assert (before.check_findings, before.check_age_seconds) == (None, None)
    assert (after.check_findings, after.check_age_seconds) == (0, 30)
    assert "check_findings" not in before.prometheus()
    assert "statecore_check_findings 0" in after.prometheus()


def test_an_anchor_of_another_log_or_a_longer_one_is_refused(tmp_path: Path, path: Path) -> None:
    with (
        statecore.open(path, key=KEY) as store,
        statecore.open(tmp_path / "other.db", key=KEY) as other,
    ):
        store.manager("a").set_state("n", 1)
        other.manager("a").set_state("n", 1)
        store.signed_head()

        with pytest.raises(statecore.InputError, match="another log"):
            store.metrics(anchor=other.signed_head())
        with pytest.raises(statecore.Malformed):
            store.metrics(anchor=b"no head")


def test_both_faces_tell_the_same(path: Path) -> None:
    async def ask() -> tuple[Any, Any]:
        async with statecore.open(path, key=KEY) as store:
            await store.manager("a").set_state("n", 1)
            return await store.metrics(), await asyncio.to_thread(store.blocking().metrics)

    one, other = asyncio.run(ask())

    assert one.events_by_type == other.events_by_type == {"changed": 1}


# For Prometheus


def test_prometheus_reads_what_is_exposed(
    store: statecore.BlockingStore, agent: statecore.BlockingManager
) -> None:
    for n in range(300):
        agent.set_state("n", n)
        agent.get_state("n")
    metrics = store.metrics()

    found = read_back(metrics.prometheus())

    assert {f"statecore_{name}" for name in ("reads", "conflicts", "log_events")} <= found.keys()
    events = found["statecore_events_written"]
    assert (events.type, events.samples[0].labels) == ("counter", {"type": "changed"})
    assert events.samples[0].value == 300
    assert found["statecore_log_events"].type == "gauge"
    commits = {
        (sample.name, sample.labels.get("le")): sample.value
        for sample in found["statecore_commit_seconds"].samples
    }
    assert found["statecore_commit_seconds"].type == "histogram"
    assert commits["statecore_commit_seconds_bucket", "+Inf"] == 300
    assert commits["statecore_commit_seconds_count", None] == 300
    assert commits["statecore_commit_seconds_sum", None] == metrics.commit_seconds.total


@given(label=some.text(), number=some.floats())
def test_labels_and_numbers_of_any_kind_come_back(label: str, number: float) -> None:
    family = Family("x", Type.GAUGE, "", 'a "help"\\\nin lines', (({"name": label}, number),))

    text = prometheus([family])

    (sample,) = read_back(text)["x"].samples
    if "\r" not in label:  # the reader takes that for the end of a line
        assert sample.labels == {"name": label}
    assert sample.value == number or math.isnan(number)


@given(some.lists(some.floats(min_value=0, max_value=1e6, allow_subnormal=False)))
def test_buckets_hold_what_they_say(amounts: list[float]) -> None:
    spread = Spread(1e-6)

    for amount in amounts:
        spread.note(amount)

    of = Distribution(
        (*(1e-6 * 2**n for n in range(RANGES - 1)), math.inf), tuple(spread.counts), spread.total
    )
    assert of.count == len(amounts)
    for at, bound in enumerate(of.bounds):
        within = sum(amount <= bound * (1 + 1e-9) for amount in amounts)
        assert abs(sum(of.counts[: at + 1]) - within) <= sum(
            math.isclose(amount, bound, rel_tol=1e-6) for amount in amounts
        )
    if amounts:
        assert of.quantile(1.0) >= max(amounts) * (1 - 1e-9)
    else:
        assert of.quantile(0.5) is of.mean is None


def test_every_name_has_its_unit_and_only_counters_a_total(file_store: Any) -> None:
    for family in families(file_store.metrics()):
        assert family.name.startswith("statecore_")
        assert family.name.endswith("_total") == (family.type == Type.COUNTER)
        if family.unit:
            assert family.unit in family.name


# For OpenTelemetry


def collected(reader: InMemoryMetricReader) -> dict[str, Any]:
    data = reader.get_metrics_data()
    return {
        metric.name: metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_opentelemetry_collects_it(path: Path) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    with statecore.open(path, key=KEY) as store:
        store.manager("a").set_state("n", 1)
        instrument(store, provider)

        found = collected(reader)

        (events,) = found["statecore.events_written"].data.data_points
        assert (events.value, dict(events.attributes)) == (1, {"type": "changed"})
        assert found["statecore.commit_seconds.sum"].unit == "seconds"
        assert found["statecore.commit_seconds.count"].data.data_points[0].value == 1
        shares = {
            point.attributes["quantile"]
            for point in found["statecore.commit_seconds.quantile"].data.data_points
        }
        assert shares == {"0.5", "0.9", "0.99"}
        assert {
            point.attributes["file"] for point in found["statecore.file_bytes"].data.data_points
        }
    provider.shutdown()


def test_opentelemetry_is_told_of_the_backup_and_of_checks_made_later(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("statecore.metrics.telemetry._FRESH_SECONDS", -1.0)  # looked at each time
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    with statecore.open(path, key=KEY) as store:
        store.manager("a").set_state("n", 1)
        instrument(store, provider, backup=tmp_path / "backup")
        store.check()

        found = collected(reader)

        assert found["statecore.backup_lag_events"].data.data_points[0].value == 1
        assert found["statecore.check_findings"].data.data_points[0].value == 0
    provider.shutdown()


def test_a_backup_that_cannot_be_looked_at_hides_nothing_else(path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    with statecore.open(path, key=KEY) as store:
        instrument(store, provider, backup=tmp_path / "file")

        found = collected(reader)

        assert "statecore.log_events" in found
        assert "statecore.backup_lag_events" not in found
    provider.shutdown()


def test_a_closed_store_has_nothing_to_tell_and_harms_no_collection(path: Path) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])

    async def use() -> None:
        async with statecore.open(path, key=KEY) as store:
            await store.manager("a").set_state("n", 1)
            instrument(store, provider)

    asyncio.run(use())

    reader.get_metrics_data()
    provider.shutdown()
