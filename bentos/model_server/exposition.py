"""Cells as Prometheus' metric families: counters, gauges and histograms from tables of theirs."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from bentos.model_server.cells import Cells, Key

# name: (help, labels)
Counters = dict[str, tuple[str, tuple[str, ...]]]
# name: help; its cell is called `gauge:<name>`
Gauges = dict[str, str]
# name: (help, labels, bounds)
Histograms = dict[str, tuple[str, tuple[str, ...], tuple[float, ...]]]


class Buckets:
    """Cells for each bucket of a histogram, not cumulated, then one for the sum."""

    __slots__ = ("_bounds", "_buckets", "_sum", "_values")

    def __init__(self, cells: Cells, name: str, bounds: tuple[float, ...], *labels: str) -> None:
        self._bounds = bounds
        places = [*map(str, bounds), "+Inf", "sum"]
        indexes = [cells.index(name, *labels, place) for place in places]
        self._values = cells.values
        self._buckets, self._sum = indexes[:-1], indexes[-1]

    def observe(self, value: float) -> None:
        """Count one value."""
        self._values[self._buckets[bisect_left(self._bounds, value)]] += 1.0
        self._values[self._sum] += value


def written_out(
    totals: dict[Key, float],
    counters: Counters,
    gauges: Gauges,
    histograms: Histograms,
    more: Iterable[Any] = (),
) -> tuple[bytes, str]:
    """The text for Prometheus, and its content type. more: families made elsewhere."""
    import prometheus_client

    found = chain(families(totals, counters, gauges, histograms), more)
    registry: Any = prometheus_client.CollectorRegistry()
    registry.register(_Collector(lambda: found))
    text: bytes = prometheus_client.generate_latest(registry)
    return text, prometheus_client.CONTENT_TYPE_LATEST


class _Collector:
    """What prometheus_client asks for its families."""

    def __init__(self, collect: Callable[[], Iterator[Any]]) -> None:
        self.collect = collect


def families(
    totals: dict[Key, float], counters: Counters, gauges: Gauges, histograms: Histograms
) -> Iterator[Any]:
    """Totals by key as prometheus_client's metric families."""
    from prometheus_client import core

    series: dict[str, list[tuple[Key, float]]] = {}
    for key, value in sorted(totals.items()):
        series.setdefault(key[0].removeprefix("gauge:"), []).append((key[1:], value))
    for name, (text, labels) in counters.items():
        counter = core.CounterMetricFamily(name, text, labels=labels)
        for values, value in series.get(name, ()):
            counter.add_metric(values, value)
        yield counter
    for name, text in gauges.items():
        yield core.GaugeMetricFamily(name, text, value=sum(v for _, v in series.get(name, ())))
    for name, (text, labels, bounds) in histograms.items():
        histogram = core.HistogramMetricFamily(name, text, labels=labels)
        for values, buckets, total in _histograms(series.get(name, ()), bounds):
            histogram.add_metric(values, buckets, total)
            if bounds[0] < 0:  # prometheus_client leaves these out, as OpenMetrics has it
                series_labels = dict(zip(labels, values, strict=True))
                histogram.add_sample(f"{name}_count", series_labels, buckets[-1][1])
                histogram.add_sample(f"{name}_sum", series_labels, total)
        yield histogram


def _histograms(
    cells: "list[tuple[Key, float]] | tuple[()]", bounds: tuple[float, ...]
) -> Iterator[tuple[Key, list[tuple[str, float]], float]]:
    """Cells by labels and bucket, cumulated as Prometheus wants them."""
    by_labels: dict[Key, dict[str, float]] = {}
    for key, value in cells:
        by_labels.setdefault(key[:-1], {})[key[-1]] = value
    for labels, values in by_labels.items():
        seen, buckets = 0.0, []
        for bound in [*map(str, bounds), "+Inf"]:
            seen += values.get(bound, 0.0)
            buckets.append((bound, seen))
        yield labels, buckets, values.get("sum", 0.0)
