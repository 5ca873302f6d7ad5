"""Metrics under the names that monitoring knows them by: one list, for whatever exports it. Pure.

Names are of the form that Prometheus asks for: the unit last, ``_total`` for what only grows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from statecore.metrics.figures import Distribution, Metrics

Sample: TypeAlias = tuple[Mapping[str, str], float]
"""Labels and a number."""


class Type(StrEnum):
    """What a number is."""

    COUNTER = "counter"  # only grows, while the process lives
    GAUGE = "gauge"  # is as of now
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """Numbers of one name."""

    name: str
    type: Type
    unit: str
    text: str
    samples: tuple[Sample, ...] = ()
    distribution: Distribution | None = None
    is_of_process: bool = False
    """Whether it was counted by this process alone, since it opened the store."""


def families(metrics: Metrics) -> list[Family]:
    """Return all metrics; those that there is nothing to say of have no samples."""
    return [*_reading(metrics), *_writing(metrics), *_store(metrics), *_checks(metrics)]


def _reading(metrics: Metrics) -> Iterator[Family]:
    yield _counter("reads_total", "Keys read as they are now.", metrics.reads)
    text = "Time to read a key as it is now; one in 256 is timed."
    yield _histogram("read_seconds", text, metrics.read_seconds)
    text = "Keys read as they were, by whether they were found in memory."
    yield _found("past_reads_total", text, metrics.values_warm, metrics.values_cold)
    text = "States asked for, by whether they were open already."
    yield _found("states_total", text, metrics.states_warm, metrics.states_cold)


def _writing(metrics: Metrics) -> Iterator[Family]:
    samples: tuple[Sample, ...] = tuple(
        ({"type": kind}, count) for kind, count in metrics.events_by_type.items()
    )
    name = "statecore_events_written_total"
    yield Family(name, Type.COUNTER, "", "Events written.", samples, is_of_process=True)
    text = "Events that one commit made durable."
    yield _histogram("batch_events", text, metrics.batch_events, "events")
    yield _histogram("commit_seconds", "Time to make a batch durable.", metrics.commit_seconds)
    text = "Time to decide, seal and make durable a batch."
    yield _histogram("turn_seconds", text, metrics.turn_seconds)
    yield _counter("conflicts_total", "Writes that lost to others.", metrics.conflicts)
    yield _counter("retries_total", "Functions run again after a conflict.", metrics.retries)
    yield _counter("refused_total", "Writes refused for other reasons.", metrics.refused)
    text = "Bytes of written events before compression."
    yield _counter("packed_bytes_total", text, metrics.packed_bytes, "bytes")
    text = "Bytes of written events as they are stored."
    yield _counter("stored_bytes_total", text, metrics.stored_bytes, "bytes")


def _store(metrics: Metrics) -> Iterator[Family]:
    yield _gauge("log_events", "Events in the log.", metrics.log_events, "events")
    yield _gauge("log_streams", "Streams in the log.", metrics.log_streams, "streams")
    files: tuple[Sample, ...] = tuple(
        ({"file": name}, size) for name, size in metrics.files_bytes.items()
    )
    yield Family("statecore_file_bytes", Type.GAUGE, "bytes", "What each file takes.", files)
    for name, text, number, unit in (
        ("head_events", "Events under the last signed head.", metrics.head_events, "events"),
        ("unsigned_seconds", "Age of what no head covers.", metrics.unsigned_seconds, "seconds"),
        (
            "unanchored_seconds",
            "Age of what no head kept outside covers.",
            metrics.unanchored_seconds,
            "seconds",
        ),
        ("backup_lag_events", "Events that no backup has.", metrics.backup_lag_events, "events"),
        (
            "backup_lag_seconds",
            "Age of what no backup has.",
            metrics.backup_lag_seconds,
            "seconds",
        ),
    ):
        yield _gauge(name, text, number, unit)


def _checks(metrics: Metrics) -> Iterator[Family]:
    text = "What the last check of the store found."
    yield _gauge("check_findings", text, metrics.check_findings, "", is_of_process=True)
    text = "Time since the last check of the store ended."
    yield _gauge(
        "check_age_seconds", text, metrics.check_age_seconds, "seconds", is_of_process=True
    )


def _counter(name: str, text: str, number: float, unit: str = "") -> Family:
    samples: tuple[Sample, ...] = (({}, number),)
    return Family(f"statecore_{name}", Type.COUNTER, unit, text, samples, is_of_process=True)


def _found(name: str, text: str, warm: int, cold: int) -> Family:
    samples: tuple[Sample, ...] = (({"found": "yes"}, warm), ({"found": "no"}, cold))
    return Family(f"statecore_{name}", Type.COUNTER, "", text, samples, is_of_process=True)


def _gauge(
    name: str, text: str, number: float | None, unit: str, *, is_of_process: bool = False
) -> Family:
    samples: tuple[Sample, ...] = () if number is None else (({}, number),)
    return Family(f"statecore_{name}", Type.GAUGE, unit, text, samples, is_of_process=is_of_process)


def _histogram(name: str, text: str, of: Distribution, unit: str = "seconds") -> Family:
    return Family(
        f"statecore_{name}", Type.HISTOGRAM, unit, text, distribution=of, is_of_process=True
    )
