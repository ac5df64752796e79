"""The latest findings as Prometheus' metrics, on a free port that targets.json names.

The control API is on a UNIX socket and behind keys, which Prometheus could not pass; like the
model servers' own metrics these need none on the machine itself.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deploy.control.finding_conditions import Unseen, is_configured, is_overdue
from deploy.findings import Finding, age_seconds, readable
from deploy.home import Home
from deploy.monitoring.catalog import FINDING_LABELS
from serving_config.schema import Configuration

_STATUS = {"passed": 0.0, "failed": 1.0, "not_enough_data": -1.0}
_STATUS_HELP = "0 passed, 1 failed, -1 not enough data; gone once it is overdue."
_MODEL = ["environment", "model", "version"]
_COLUMN = "column."


class FindingMetrics(Collector):
    """Reads the findings at each scrape."""

    def __init__(self, home: Home, configuration: Configuration) -> None:
        self._home, self._configuration = home, configuration
        self._unseen = Unseen()

    def serve(self, host: str = "127.0.0.1", port: int | None = None) -> int:
        """On that port of that address, or on a free one, until `close`. Returns the port."""
        registry = CollectorRegistry()
        registry.register(self)
        self._server, _ = start_http_server(port or 0, host, registry)
        return int(self._server.server_port)

    def close(self) -> None:
        """Serve no longer."""
        self._server.shutdown()
        self._server.server_close()

    def collect(self) -> Iterator[Metric]:
        """All metrics of the findings that the settings know."""
        found, damaged = readable(self._home)
        findings = [item for item in found if is_configured(self._configuration, item)]
        yield GaugeMetricFamily(
            "slipway_findings_damaged", "Findings that cannot be read.", value=len(damaged)
        )
        yield from self._general(findings)
        known = [item for item in findings if not self._overdue(item)]
        yield from _drift([item for item in known if item.kind == "drift"])
        yield from _quality([item for item in known if item.kind == "quality"])

    def _overdue(self, finding: Finding) -> bool:
        factor = self._configuration.platform.alerts.schedule_silence_factor
        return is_overdue(finding, self._unseen.seconds(finding), factor)

    def _general(self, findings: list[Finding]) -> Iterator[Metric]:
        status = GaugeMetricFamily("slipway_finding_status", _STATUS_HELP, labels=FINDING_LABELS)
        age = GaugeMetricFamily(
            "slipway_finding_age_seconds", "Since it was written.", labels=FINDING_LABELS
        )
        unseen = GaugeMetricFamily(
            "slipway_finding_unseen_seconds",
            "Since it was renewed, as far as the platform was running.",
            labels=FINDING_LABELS,
        )
        valid = GaugeMetricFamily(
            "slipway_finding_valid_seconds", "How often it is renewed.", labels=FINDING_LABELS
        )
        failures = GaugeMetricFamily(
            "slipway_finding_failures", "How often it failed in a row.", labels=FINDING_LABELS
        )
        now = datetime.now(UTC)
        for item in findings:
            labels = [item.kind, item.environment, item.subject]
            if not self._overdue(item):
                status.add_metric(labels, _STATUS[item.status])
            age.add_metric(labels, age_seconds(item, now))
            unseen.add_metric(labels, self._unseen.seconds(item))
            failures.add_metric(labels, item.failures_in_row)
            if item.valid_seconds is not None:
                valid.add_metric(labels, item.valid_seconds)
        yield from (status, age, unseen, valid, failures)


def _drift(findings: list[Finding]) -> Iterator[Metric]:
    status = GaugeMetricFamily("slipway_drift_status", _STATUS_HELP, labels=_MODEL)
    share = GaugeMetricFamily("slipway_drift_share", "Of the columns.", labels=_MODEL)
    rows = GaugeMetricFamily("slipway_drift_rows", "Answers in the window.", labels=_MODEL)
    score = GaugeMetricFamily(
        "slipway_drift_score",
        "Population stability index less chance; column (prediction): of the answers.",
        labels=[*_MODEL, "column"],
    )
    for item in findings:
        labels = _labels(item)
        status.add_metric(labels, _STATUS[item.status])
        for name, value in item.values.items():
            if name == "share":
                share.add_metric(labels, value)
            elif name == "rows":
                rows.add_metric(labels, value)
            elif name == "prediction":
                score.add_metric([*labels, "(prediction)"], value)
            elif name.startswith(_COLUMN):
                score.add_metric([*labels, name.removeprefix(_COLUMN)], value)
    yield from (status, share, rows, score)


def _quality(findings: list[Finding]) -> Iterator[Metric]:
    status = GaugeMetricFamily("slipway_quality_status", _STATUS_HELP, labels=_MODEL)
    quality = GaugeMetricFamily(
        "slipway_quality", "Over the labelled answers.", labels=[*_MODEL, "metric"]
    )
    for item in findings:
        labels = _labels(item)
        status.add_metric(labels, _STATUS[item.status])
        for name, value in item.values.items():
            quality.add_metric([*labels, name], value)
    yield from (status, quality)


def _labels(finding: Finding) -> list[str]:
    return [finding.environment, finding.subject, finding.version]
