"""Prometheus metrics of one model server: what is counted, and how it is written out."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bentos.model_server.answers import label_key
from bentos.model_server.cache import Counters
from bentos.model_server.cells import Cells
from bentos.model_server.contract import Contract
from bentos.model_server.exposition import Buckets, Gauges, Histograms, written_out
from bentos.model_server.exposition import Counters as CounterTable
from bentos.model_server.session import Scored

# Close together where limits are: a canary's counts from the next bound above it.
SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25,
    0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0,
)  # fmt: skip
WAITS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)
# A regression's values on any scale: from 1e-6 to 1e9 in steps of about a quarter (the preferred
# numbers R10 of ISO 3), the same below zero, and zero.
_R10 = ("1", "1.25", "1.6", "2", "2.5", "3.15", "4", "5", "6.3", "8")
_SIZES = (*(float(f"{step}e{power}") for power in range(-6, 9) for step in _R10), 1e9)
VALUES = (*(-size for size in reversed(_SIZES)), 0.0, *_SIZES)
# Names of callers beyond these are counted together: a label must not grow without bound.
MAX_CALLERS = 200

COUNTERS: CounterTable = {
    "slipway_requests": ("Answers by route and status.", ("route", "status")),
    "slipway_caller_requests": ("Answers to callers with an API key.", ("caller", "status")),
    "slipway_rows": ("Rows answered.", ()),
    "slipway_rows_squared": ("The squares of the answered requests' rows, added up.", ()),
    "slipway_predictions": ("Predictions by class.", ("label",)),
    "slipway_shed": ("Requests refused because the server was full, by the limit.", ("limit",)),
    "slipway_timeouts": ("Requests without an answer at their deadline.", ()),
    "slipway_access_log_dropped": ("Lines of the access log that could not be written.", ()),
    "slipway_entity_lookups": ("Look-ups for requests with entities, by result.", ("result",)),
    "slipway_entity_defaults": ("Looked up values that a default stands in for.", ("feature",)),
    "slipway_prediction_log_rows": ("Rows written to the prediction log.", ()),
    "slipway_prediction_log_bytes": ("Bytes written to the prediction log.", ()),
    "slipway_prediction_log_dropped_rows": (
        "Rows that are missing in the prediction log, by reason.",
        ("reason",),
    ),
    "slipway_prediction_log_segments": ("Segments of the prediction log completed.", ()),
    "slipway_cloud_events": ("CloudEvents of inferences: sent, failed, dropped.", ("outcome",)),
    "slipway_cache": ("Rows in the response cache: hits, misses and so on.", ("outcome",)),
}
GAUGES: Gauges = {
    "slipway_queue_rows": "Rows that wait for inference.",
    "slipway_requests_in_hand": "Requests that are being worked on.",
    "slipway_prediction_log_pending_rows": "Rows that wait to be written to the prediction log.",
}
HISTOGRAMS: Histograms = {
    "slipway_request_duration_seconds": (
        "From a request's headers to its answer, in seconds.",
        ("route",),
        SECONDS,
    ),
    "slipway_batch_rows": ("Rows computed together.", (), ROWS),
    "slipway_batch_wait_seconds": ("From the queue to a batch, in seconds.", (), WAITS),
    "slipway_entity_lookup_seconds": (
        "From a request's entities to their features, in seconds.",
        (),
        SECONDS,
    ),
    "slipway_prediction_log_flush_seconds": ("Writing a group of answers, in seconds.", (), WAITS),
    "slipway_top_probability": ("Probability of the predicted class.", (), SHARES),
    "slipway_prediction_value": ("Predicted values of a regression.", (), VALUES),
}
INFO_LABELS = ("model", "version", "variant", "run_id", "onnx_sha256", "bento")


class Histogram(Buckets):
    """One of HISTOGRAMS."""

    __slots__ = ()

    def __init__(self, cells: Cells, name: str, *labels: str) -> None:
        super().__init__(cells, name, HISTOGRAMS[name][2], *labels)


class RouteMetrics:
    """The cells of one route, looked up once."""

    __slots__ = ("_cells", "_name", "_statuses", "seconds")

    def __init__(self, cells: Cells, route: str) -> None:
        self._cells, self._name = cells, route
        self._statuses: dict[int, int] = {}
        self.seconds = Histogram(cells, "slipway_request_duration_seconds", route)

    def count(self, status: int) -> None:
        """One answer."""
        place = self._statuses.get(status)
        if place is None:
            place = self._cells.index("slipway_requests", self._name, str(status))
            self._statuses[status] = place
        self._cells.values[place] += 1.0


class Metrics:
    """folder: where the workers of one server share their numbers; None for a single worker."""

    def __init__(self, folder: Path | None) -> None:
        self._cells = Cells(folder)
        self._values = self._cells.values
        self._routes: dict[str, RouteMetrics] = {}
        self._callers: dict[str, dict[int, int]] = {}
        self._labels: dict[Any, int] = {}
        self._info: tuple[str, ...] | None = None
        self._regression: Histogram | None = None
        index = self._cells.index
        self._rows, self._timeouts = index("slipway_rows"), index("slipway_timeouts")
        self._rows_squared = index("slipway_rows_squared")
        self._dropped = index("slipway_access_log_dropped")
        self._queue = index("gauge:slipway_queue_rows")
        self._in_hand = index("gauge:slipway_requests_in_hand")
        self._logged = index("slipway_prediction_log_rows")
        self._logged_bytes = index("slipway_prediction_log_bytes")
        self._segments = index("slipway_prediction_log_segments")
        self._unlogged = index("gauge:slipway_prediction_log_pending_rows")
        self._flushes = Histogram(self._cells, "slipway_prediction_log_flush_seconds")
        self._batches = Histogram(self._cells, "slipway_batch_rows")
        self._waits = Histogram(self._cells, "slipway_batch_wait_seconds")
        self._top = Histogram(self._cells, "slipway_top_probability")

    @property
    def cells(self) -> Cells:
        """For what is counted elsewhere."""
        return self._cells

    def describe(self, contract: Contract, bento: str) -> None:
        """Set the info series, and start each class at zero so that a rate can be taken."""
        self._info = (
            contract.model,
            str(contract.version),
            contract.variant,
            contract.run_id or "",
            contract.onnx_sha256,
            bento,
        )
        if contract.outputs.kind == "regression":
            self._regression = Histogram(self._cells, "slipway_prediction_value")
        for label in contract.outputs.labels:
            self._label(label)

    def _label(self, label: Any) -> int:
        self._labels[label] = place = self._cells.index("slipway_predictions", label_key(label))
        return place

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one answer. route: the pattern, never the client's own path."""
        meter = self._routes.get(route)
        if meter is None:
            meter = self._routes[route] = RouteMetrics(self._cells, route)
        meter.count(status)
        meter.seconds.observe(seconds)

    def called_by(self, caller: str, status: int) -> None:
        """Count one answer to a caller with a key."""
        if caller not in self._callers:
            if len(self._callers) >= MAX_CALLERS:
                caller = "other"
            self._callers.setdefault(caller, {})
        statuses = self._callers[caller]
        place = statuses.get(status)
        if place is None:
            place = self._cells.index("slipway_caller_requests", caller, str(status))
            statuses[status] = place
        self._values[place] += 1.0

    def predicted(self, scored: Scored) -> None:
        """Count the rows of one request, by class and top probability, or by value."""
        values, labels = self._values, scored.labels
        values[self._rows] += len(labels)
        values[self._rows_squared] += len(labels) ** 2
        if self._regression is not None:
            for value in labels:
                self._regression.observe(value)
        else:
            for label in labels:
                place = self._labels.get(label)
                values[self._label(label) if place is None else place] += 1.0
        for row in scored.probabilities or ():
            self._top.observe(max(row))

    def batched(self, rows: int, queued: int) -> None:
        """A batch begins; `queued` rows are left behind it."""
        if rows:
            self._batches.observe(rows)
        self._values[self._queue] = queued

    def waited(self, seconds: float) -> None:
        """A request has come from the queue into a batch."""
        self._waits.observe(seconds)

    def timed_out(self) -> None:
        """A request had no answer at its deadline."""
        self._values[self._timeouts] += 1.0

    def shed(self, limit: str) -> None:
        """A request was refused because the server was full."""
        self._values[self._cells.index("slipway_shed", limit)] += 1.0

    def dropped(self, lines: int) -> None:
        """Lines of the access log were lost."""
        self._values[self._dropped] += lines

    def logged(self, rows: int, size: int, seconds: float) -> None:
        """Rows were written to the prediction log: so many bytes, in so many seconds."""
        self._values[self._logged] += rows
        self._values[self._logged_bytes] += size
        self._flushes.observe(seconds)

    def log_dropped(self, reason: str, rows: int) -> None:
        """Rows are missing in the prediction log."""
        self._values[self._cells.index("slipway_prediction_log_dropped_rows", reason)] += rows

    def log_waiting(self, rows: int) -> None:
        """How many rows the prediction log holds in memory."""
        self._values[self._unlogged] = rows

    def segments_closed(self, segments: int) -> None:
        """Segments of the prediction log were completed."""
        self._values[self._segments] += segments

    def cloud_events(self, outcome: str, events: int) -> None:
        """CloudEvents were sent, failed, or dropped."""
        self._values[self._cells.index("slipway_cloud_events", outcome)] += events

    def in_hand(self, requests: int) -> None:
        """How many requests are being worked on now."""
        self._values[self._in_hand] = requests

    def cached(self, counters: Counters) -> None:
        """Take over what the response cache has counted since the start."""
        for outcome, rows in asdict(counters).items():
            self._values[self._cells.index("slipway_cache", outcome)] = rows

    def exposition(self) -> tuple[bytes, str]:
        """The text for Prometheus, and its content type."""
        return written_out(self._cells.totals(), COUNTERS, GAUGES, HISTOGRAMS, self._info_family())

    def _info_family(self) -> Iterator[Any]:
        from prometheus_client import core

        if self._info is not None:
            gauge = core.GaugeMetricFamily(
                "slipway_model_info",
                "1 for the model version that this server answers with.",
                labels=INFO_LABELS,
            )
            gauge.add_metric(self._info, 1)
            yield gauge
