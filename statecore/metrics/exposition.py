"""Metrics as text that Prometheus reads, version 0.0.4. Pure.

Format: https://prometheus.io/docs/instrumenting/exposition_formats
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from math import isfinite

from statecore.metrics.families import Family
from statecore.metrics.figures import Distribution


def prometheus(families: Iterable[Family]) -> str:
    """Return metrics as text: to be served as ``text/plain; version=0.0.4``, or kept in a file.

    Nothing is said of those without samples.
    """
    return "".join(f"{line}\n" for family in families for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    if not family.samples and family.distribution is None:
        return
    yield f"# HELP {family.name} {_escaped(family.text)}"
    yield f"# TYPE {family.name} {family.type}"
    for labels, number in family.samples:
        yield _line(family.name, labels, number)
    if family.distribution is not None:
        yield from _histogram(family.name, family.distribution)


def _histogram(name: str, of: Distribution) -> Iterator[str]:
    """Yield the buckets that say something, each with all that is in those before."""
    for bound, count, so_far in zip(of.bounds, of.counts, accumulate(of.counts), strict=True):
        if count and isfinite(bound):
            yield _line(f"{name}_bucket", {"le": repr(float(bound))}, so_far)
    yield _line(f"{name}_bucket", {"le": "+Inf"}, of.count)
    yield _line(f"{name}_sum", {}, of.total)
    yield _line(f"{name}_count", {}, of.count)


def _line(name: str, labels: Mapping[str, str], number: float) -> str:
    said = ",".join(
        f'{label}="{_escaped(text).replace(chr(34), chr(92) + chr(34))}"'
        for label, text in labels.items()
    )
    return f"{name}{{{said}}} {number!r}" if said else f"{name} {number!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
