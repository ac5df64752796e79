"""Prometheus' alerting rules and configuration as pure functions of the settings."""

from typing import Any

from deploy.monitoring.catalog import LABELS, annotations, labels, milliseconds, percent
from serving_config.schema import Configuration

Json = dict[str, Any]

JOB = "slipway"
# The routes that predict; health, metrics, docs and unknown paths are nobody's predictions.
INFERENCE = "/predict|/predict/batch|/v2/models/.+/infer"
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
    """One group for each model in each environment, with that pair's own limits."""
    pairs = [(env, model) for env in configuration.environments for model in configuration.models]
    return {"groups": [_group(configuration, *pair) for pair in sorted(pairs)]}


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
    alerts = configuration.platform.alerts
    health = configuration.release_policy(environment, model).health
    window, held = duration(alerts.window_seconds), duration(alerts.for_seconds)
    pair = {"environment": environment, "model": model}
    own = f'job="{JOB}",environment="{environment}",model="{model}"'

    def increase(series: str, more: str = "", by: str = _BY) -> str:
        return f"{by} (increase({series}{{{own}{more}}}[{window}]))"

    inference = f',route=~"{INFERENCE}"'
    requests = increase("slipway_requests_total", inference)
    failed = increase("slipway_requests_total", f'{inference},status=~"5.."')
    by_bucket = f"sum by ({', '.join(LABELS)}, le)"
    durations = increase("slipway_request_duration_seconds_bucket", inference, by_bucket)
    enough = f"and {requests} >= {alerts.min_requests}"
    share = "{{ $value | humanizePercentage }}"

    def rule(alert: str, expression: str, value: str, limit: str) -> Json:
        versions = {name: f"{{{{ $labels.{name} }}}}" for name in ("version", "variant")}
        return {
            "alert": alert,
            "expr": expression,
            "for": held,
            "labels": labels(alert) | pair,
            "annotations": annotations(alert, versions | pair, value, limit),
        }

    return {
        "name": f"{model}/{environment}",
        "interval": duration(interval(configuration)),
        "rules": [
            rule(
                "HighErrorRate",
                f"{failed} / {requests} > {health.max_error_rate} {enough}",
                share,
                percent(health.max_error_rate),
            ),
            rule(
                "HighLatency",
                f"histogram_quantile(0.99, {durations}) * 1000 > {health.p99_ms} {enough}",
                '{{ $value | printf "%.4g" }} ms',
                milliseconds(health.p99_ms),
            ),
            rule("ModelServerDown", f"up{{{own}}} == 0", "", held),
            rule(
                "ModelNotReady",
                f"up{{{own}}} == 1 unless on ({', '.join(LABELS)}, instance) "
                f"slipway_model_info{{{own}}}",
                "",
                held,
            ),
            rule(
                "RequestsShed",
                f"{increase('slipway_shed_total')} / {requests} > {alerts.max_shed_rate} {enough}",
                share,
                percent(alerts.max_shed_rate),
            ),
            rule(
                "AccessLogDropping",
                f"{increase('slipway_access_log_dropped_total')} > 0",
                '{{ $value | printf "%.0f" }}',
                window,
            ),
        ],
    }
