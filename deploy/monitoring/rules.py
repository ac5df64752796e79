"""Prometheus' alerting rules and configuration as pure functions of the settings."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from deploy.monitoring.catalog import LABELS, annotations, labels, milliseconds, percent
from deploy.monitoring.finding_rules import JOB, finding_rules
from serving_config.alerts import Alerts
from serving_config.schema import Configuration

Json = dict[str, Any]

# The routes that predict; health, metrics, docs and unknown paths are nobody's predictions.
INFERENCE = ',route=~"/predict|/predict/batch|/v2/models/.+/infer"'
_REQUESTS, _DURATIONS = "slipway_requests_total", "slipway_request_duration_seconds_bucket"
_BY = f"sum by ({', '.join(LABELS)})"
_LONGEST_INTERVAL = 5.0


def interval(configuration: Configuration) -> float:
    """Seconds between two scrapes, and two evaluations: some must lie in the window."""
    alerts = configuration.platform.alerts
    return max(1.0, min(_LONGEST_INTERVAL, alerts.window_seconds / 6, alerts.for_seconds))


def duration(seconds: float) -> str:
    """Seconds as Prometheus writes them."""
    return f"{seconds:g}s" if seconds == int(seconds) else f"{round(seconds * 1000)}ms"


def alerting_rules(configuration: Configuration) -> Json:
    """One group for each model in each environment, with that pair's own limits, and one for what
    the scheduled checks found."""
    pairs = [(env, model) for env in configuration.environments for model in configuration.models]
    groups = [_group(configuration, *pair) for pair in sorted(pairs)]
    return {"groups": [*groups, finding_rules(configuration, duration(interval(configuration)))]}


def prometheus_config(configuration: Configuration, targets: str) -> Json:
    """Scrapes what the file `targets` lists (see deploy.monitoring.targets), and loads the rules.

    targets: absolute, or relative to the configuration's own folder, as is rules.yml.
    """
    seconds = duration(interval(configuration))
    found = [{"files": [targets], "refresh_interval": seconds}]
    return {
        "global": {"scrape_interval": seconds, "evaluation_interval": seconds},
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": JOB, "file_sd_configs": found}],
    }


def _group(configuration: Configuration, environment: str, model: str) -> Json:
    pair = _Pair(configuration, environment, model)
    return {
        "name": f"{model}/{environment}",
        "interval": duration(interval(configuration)),
        "rules": [*pair.rates(), *pair.servers()],
    }


@dataclass(frozen=True)
class _Pair:
    """The rules of one model in one environment."""

    configuration: Configuration
    environment: str
    model: str

    @property
    def _alerts(self) -> Alerts:
        return self.configuration.platform.alerts

    @property
    def _own(self) -> str:
        return f'job="{JOB}",environment="{self.environment}",model="{self.model}"'

    def _increase(self, series: str, more: str = "", by: str = _BY) -> str:
        return f"{by} (increase({series}{{{self._own}{more}}}[{self._window}]))"

    @property
    def _window(self) -> str:
        return duration(self._alerts.window_seconds)

    def _rule(self, alert: str, expression: str, value: str, limit: str) -> Json:
        pair = {"environment": self.environment, "model": self.model}
        versions = {name: f"{{{{ $labels.{name} }}}}" for name in ("version", "variant")}
        return {
            "alert": alert,
            "expr": expression,
            "for": duration(self._alerts.for_seconds),
            "labels": labels(alert) | pair,
            "annotations": annotations(alert, versions | pair, value, limit),
        }

    def rates(self) -> Iterator[Json]:
        """What is judged only with enough requests."""
        health = self.configuration.release_policy(self.environment, self.model).health
        requests = self._increase(_REQUESTS, INFERENCE)
        failed = self._increase(_REQUESTS, f'{INFERENCE},status=~"5.."')
        shed = self._increase("slipway_shed_total")
        durations = self._increase(_DURATIONS, INFERENCE, f"{_BY[:-1]}, le)")
        enough = f"and {requests} >= {self._alerts.min_requests}"
        share, most_shed = "{{ $value | humanizePercentage }}", self._alerts.max_shed_rate

        expression = f"{failed} / {requests} > {health.max_error_rate} {enough}"
        yield self._rule("HighErrorRate", expression, share, percent(health.max_error_rate))
        expression = f"histogram_quantile(0.99, {durations}) * 1000 > {health.p99_ms} {enough}"
        value = '{{ $value | printf "%.4g" }} ms'
        yield self._rule("HighLatency", expression, value, milliseconds(health.p99_ms))
        expression = f"{shed} / {requests} > {most_shed} {enough}"
        yield self._rule("RequestsShed", expression, share, percent(most_shed))

    def servers(self) -> Iterator[Json]:
        """What is judged whether requests come or not."""
        held, target = duration(self._alerts.for_seconds), f"{', '.join(LABELS)}, instance"
        yield self._rule("ModelServerDown", f"up{{{self._own}}} == 0", "", held)
        model = f"slipway_model_info{{{self._own}}}"
        expression = f"up{{{self._own}}} == 1 unless on ({target}) {model}"
        yield self._rule("ModelNotReady", expression, "", held)
        expression = f"{self._increase('slipway_access_log_dropped_total')} > 0"
        lines = '{{ $value | printf "%.0f" }}'
        yield self._rule("AccessLogDropping", expression, lines, self._window)
