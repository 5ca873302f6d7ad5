"""Figures of an open store: how it is doing, and what it holds; for people, Prometheus, OTel."""

from statecore.metrics.exposition import prometheus
from statecore.metrics.families import Family, Sample, families
from statecore.metrics.figures import Distribution, Metrics
from statecore.metrics.measuring import measure
from statecore.metrics.telemetry import Measured, instrument

__all__ = [
    "Distribution",
    "Family",
    "Measured",
    "Metrics",
    "Sample",
    "families",
    "instrument",
    "measure",
    "prometheus",
]
