"""Metrics for OpenTelemetry (``statecore[otel]``): observable instruments, read when collected."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from statecore.errors import InputError, StatecoreError
from statecore.metrics.families import Family, Type, families
from statecore.metrics.figures import Metrics

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

_FRESH_SECONDS: Final = 1.0  # one collection asks every instrument in turn
_QUANTILES: Final = (0.5, 0.9, 0.99)


class Measured(Protocol):
    """An open store, under either face."""

    def blocking(self) -> Any:
        """Return the same store for plain functions."""


def instrument(
    store: Measured,
    provider: MeterProvider | None = None,
    *,
    backup: str | Path | None = None,
) -> None:
    """Have a store's metrics collected by OpenTelemetry, as long as it is open.

    The names are those for Prometheus, without ``statecore_`` but with ``statecore.`` in front.
    What is distributed comes as its ``.count``, its ``.sum``, and quantiles: what was counted
    without OpenTelemetry can't be given to a histogram of it.

    Args:
        store: an open store, under either face.
        provider: of meters, in place of the one set for the process.
        backup: where the store's backup lies, to tell how far behind it is. While that can't be
            looked at, the rest is told.

    Raises:
        InputError: ``statecore[otel]`` is not installed.
    """
    try:
        from opentelemetry.metrics import get_meter
    except ImportError as error:
        raise InputError("this needs statecore[otel], which is not installed") from error
    meter = get_meter("statecore", meter_provider=provider)
    measure = store.blocking().metrics

    def metrics() -> Metrics:
        try:
            found: Metrics = measure(backup=backup)
        except StatecoreError:
            found = measure()
        return found

    look = _Look(metrics)
    makers = {
        Type.COUNTER: meter.create_observable_counter,
        Type.GAUGE: meter.create_observable_gauge,
    }
    for name, family in _flat(look()).items():
        makers[family.type](name, [look.callback(name)], unit=family.unit, description=family.text)


class _Look:
    """The metrics of a store as of this second, shared by all instruments."""

    def __init__(self, metrics: Callable[[], Metrics]) -> None:
        self._metrics = metrics
        self._last: Metrics | None = None
        self._until = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> Metrics:
        with self._lock:
            if self._last is None or time.monotonic() > self._until:
                self._last = self._metrics()
                self._until = time.monotonic() + _FRESH_SECONDS
            return self._last

    def callback(self, name: str) -> Callable[[Any], Iterable[Any]]:
        """Return what an instrument is to call: nothing to say of a store that can't be read."""
        from opentelemetry.metrics import Observation

        def observe(_: object) -> Iterator[Any]:
            try:
                found = _flat(self()).get(name)
            except StatecoreError:
                return
            for labels, number in found.samples if found else ():
                yield Observation(number, dict(labels))

        return observe


def _flat(metrics: Metrics) -> dict[str, Family]:
    """Return families of plain numbers by their names."""
    return {
        family.name.replace("_", ".", 1).removesuffix("_total"): family
        for each in families(metrics)
        for family in _parts(each)
    }


def _parts(family: Family) -> Iterator[Family]:
    of = family.distribution
    if of is None:
        yield family
        return
    yield Family(f"{family.name}.count", Type.COUNTER, "", family.text, (({}, of.count),))
    yield Family(f"{family.name}.sum", Type.COUNTER, family.unit, family.text, (({}, of.total),))
    quantiles = tuple(
        ({"quantile": str(share)}, reached)
        for share in _QUANTILES
        if (reached := of.quantile(share)) is not None
    )
    yield Family(f"{family.name}.quantile", Type.GAUGE, family.unit, family.text, quantiles)
