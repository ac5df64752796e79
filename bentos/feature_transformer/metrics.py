"""Prometheus metrics of the feature transformer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bentos.feature_transformer.features import Outcome
from bentos.model_server.cells import Cells
from bentos.model_server.exposition import Buckets, Counters, Gauges, Histograms, written_out

SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
)  # fmt: skip
# A minute, an hour, a day, a week, a month, and in between.
AGES = (
    60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 43200.0, 86400.0, 129600.0,
    172800.0, 259200.0, 432000.0, 604800.0, 1209600.0, 2592000.0,
)  # fmt: skip
COUNTERS: Counters = {
    "slipway_features_requests": ("Answers by route and status.", ("route", "status")),
    "slipway_features_caller_requests": (
        "Answers to callers with an API key.",
        ("caller", "status"),
    ),
    "slipway_features_rows": ("Entity rows looked up.", ("service",)),
    "slipway_features_lookups": (
        "Entity rows by feature view and what was found; `defaulted` counts once more those that "
        "got the view's defaults.",
        ("view", "status"),
    ),
    "slipway_features_store_errors": ("Reads that the online store did not answer.", ()),
    "slipway_features_shed": (
        "Requests refused because the server was full, by the limit.",
        ("limit",),
    ),
    "slipway_features_timeouts": ("Requests without an answer at their deadline.", ()),
    "slipway_features_access_log_dropped": ("Lines of the access log that were lost.", ()),
}
GAUGES: Gauges = {"slipway_features_requests_in_hand": "Requests that are being worked on."}
HISTOGRAMS: Histograms = {
    "slipway_features_request_duration_seconds": (
        "From a request's headers to its answer, in seconds.",
        ("route",),
        SECONDS,
    ),
    "slipway_features_age_seconds": (
        "Age of the values that were found, by feature view, in seconds.",
        ("view",),
        AGES,
    ),
}
# Names of callers beyond these are counted together: a label must not grow without bound.
MAX_CALLERS = 200


class Metrics:
    """folder: where the workers of one server share their numbers; None for a single worker."""

    def __init__(self, folder: Path | None) -> None:
        self._cells = Cells(folder)
        self._buckets: dict[tuple[str, str], Buckets] = {}
        self._callers: set[str] = set()
        self._info: tuple[str, str] | None = None

    def describe(self, bento: str, definitions: str) -> None:
        """Set the info series. definitions: their digest."""
        self._info = (bento, definitions)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one answer. route: the pattern, never the client's own path."""
        self._add("slipway_features_requests", route, str(status))
        self._histogram("slipway_features_request_duration_seconds", route).observe(seconds)

    def called_by(self, caller: str, status: int) -> None:
        """Count one answer to a caller with a key."""
        if caller not in self._callers and len(self._callers) >= MAX_CALLERS:
            caller = "other"
        self._callers.add(caller)
        self._add("slipway_features_caller_requests", caller, str(status))

    def looked_up(self, service: str, rows: int, outcome: Outcome) -> None:
        """Count what one request found."""
        self._add("slipway_features_rows", service, by=rows)
        for (view, status), count in outcome.lookups.items():
            self._add("slipway_features_lookups", view, status, by=count)
        for view, age in outcome.ages:
            self._histogram("slipway_features_age_seconds", view).observe(max(age, 0.0))
        self._add("slipway_features_store_errors", by=outcome.failures)

    def timed_out(self) -> None:
        """A request had no answer at its deadline."""
        self._add("slipway_features_timeouts")

    def shed(self, limit: str) -> None:
        """A request was refused because the server was full."""
        self._add("slipway_features_shed", limit)

    def dropped(self, lines: int) -> None:
        """Lines of the access log were lost."""
        self._add("slipway_features_access_log_dropped", by=lines)

    def in_hand(self, requests: int) -> None:
        """How many requests are being worked on now."""
        index = self._cells.index("gauge:slipway_features_requests_in_hand")
        self._cells.values[index] = requests

    def exposition(self) -> tuple[bytes, str]:
        """The text for Prometheus, and its content type."""
        return written_out(self._cells.totals(), COUNTERS, GAUGES, HISTOGRAMS, self._info_family())

    def _add(self, *key: str, by: float = 1.0) -> None:
        self._cells.values[self._cells.index(*key)] += by

    def _histogram(self, name: str, label: str) -> Buckets:
        found = self._buckets.get((name, label))
        if found is None:
            found = Buckets(self._cells, name, HISTOGRAMS[name][2], label)
            self._buckets[name, label] = found
        return found

    def _info_family(self) -> Iterator[Any]:
        from prometheus_client import core

        if self._info is not None:
            gauge = core.GaugeMetricFamily(
                "slipway_features_info",
                "1 for the Bento that answers, and the digest of its definitions.",
                labels=("bento", "definitions"),
            )
            gauge.add_metric(self._info, 1)
            yield gauge
