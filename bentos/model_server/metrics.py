"""Prometheus metrics of one model server.

With one worker (the default) the values live in a registry of this process. With several, each
worker would answer with its own share: there prometheus_client's multiprocess mode adds them up
through files in a folder that the master made for this server alone.
"""

import os
from collections.abc import Sequence
from typing import Any

from bentos.model_server.answers import label_key
from bentos.model_server.contract import Contract
from bentos.model_server.session import Scored

BUCKETS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"


def _prometheus(folder: str | None) -> Any:
    # prometheus_client picks its mode at import, by a variable that BentoML sets to one folder
    # for all servers of a BENTOML_HOME (and empties at each start): never that one.
    os.environ.pop(MULTIPROCESS, None)
    if folder:
        os.environ[MULTIPROCESS] = folder
    import prometheus_client
    import prometheus_client.multiprocess

    client: Any = prometheus_client
    client.disable_created_metrics()
    return client


class Metrics:
    """folder: where the workers of one server share their values; None for a single worker."""

    def __init__(self, folder: str | None) -> None:
        self._client: Any = _prometheus(folder)
        self._folder = folder
        self._registry = self._client.CollectorRegistry()
        self._requests = self._counter(
            "requests", "Answers by route and status.", "route", "status"
        )
        self._rows = self._counter("rows", "Rows answered.")
        self._predictions = self._counter("predictions", "Predictions by class.", "label")
        self._values = self._client.Summary(
            "slipway_prediction_value", "Predicted values of a regression.", registry=self._registry
        )
        self._latency = self._client.Histogram(
            "slipway_request_duration_seconds",
            "From a request's headers to its answer, in seconds.",
            ("route",),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._info = self._client.Gauge(
            "slipway_model_info",
            "1 for the model version that this server answers with.",
            ("model", "version", "variant", "run_id", "onnx_sha256", "bento"),
            registry=self._registry,
            multiprocess_mode="max",
        )
        self._classification = False

    def _counter(self, name: str, text: str, *labels: str) -> Any:
        return self._client.Counter(f"slipway_{name}", text, labels, registry=self._registry)

    def describe(self, contract: Contract, bento: str) -> None:
        """Set the info series, and start each class at zero so that a rate can be taken."""
        self._info.labels(
            contract.model,
            str(contract.version),
            contract.variant,
            contract.run_id or "",
            contract.onnx_sha256,
            bento,
        ).set(1)
        self._classification = contract.outputs.kind == "classification"
        for label in contract.outputs.labels:
            self._predictions.labels(label_key(label))

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one answer. route: the pattern, never the client's own path."""
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def predicted(self, scored: Scored) -> None:
        """Count rows and classes, or sum up values."""
        self._rows.inc(len(scored.labels))
        labels: Sequence[Any] = scored.labels
        if not self._classification:
            for value in labels:
                self._values.observe(value)
            return
        for label in set(labels):
            self._predictions.labels(label_key(label)).inc(labels.count(label))

    def exposition(self) -> tuple[bytes, str]:
        """The text for Prometheus, and its content type."""
        registry = self._registry
        if self._folder:
            registry = self._client.CollectorRegistry()
            self._client.multiprocess.MultiProcessCollector(registry, self._folder)
        return self._client.generate_latest(registry), self._client.CONTENT_TYPE_LATEST
