"""Grafana's dashboards, as data: what is shown of the metrics that exist."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deploy.monitoring.finding_rules import JOB
from deploy.monitoring.rules import INFERENCE

Json = dict[str, Any]

SOURCE = {"type": "prometheus", "uid": "slipway-prometheus"}
_OWN = f'job="{JOB}",environment=~"$environment",model=~"$model"'
_VERSION = "environment, model, version"
_BY_VERSION = "{{environment}} {{model}} {{version}}"
_COLUMNS, _HEIGHT = 2, 8


@dataclass(frozen=True)
class Panel:
    """One graph. unit: Grafana's name of it; each query is PromQL and its legend."""

    title: str
    unit: str
    queries: Sequence[tuple[str, str]]
    kind: str = "timeseries"


def _rate(series: str, more: str = "") -> str:
    return f"rate({series}{{{_OWN}{more}}}[$__rate_interval])"


def _by(labels: str, expression: str) -> str:
    return f"sum by ({labels}) ({expression})"


def _quantile(share: float, series: str, more: str = "") -> str:
    buckets = _by(f"{_VERSION}, le", _rate(f"{series}_bucket", more))
    return f"histogram_quantile({share:g}, {buckets})"


def _quantiles(series: str, more: str = "") -> list[tuple[str, str]]:
    return [
        (_quantile(share, series, more), f"{_BY_VERSION} p{share * 100:g}")
        for share in (0.5, 0.95, 0.99)
    ]


def _per_version(series: str, more: str = "") -> list[tuple[str, str]]:
    return [(_by(_VERSION, _rate(series, more)), _BY_VERSION)]


_REQUESTS = _rate("slipway_requests_total", INFERENCE)
_ERRORS = _rate("slipway_requests_total", f'{INFERENCE},status=~"5.."')

_TRAFFIC = [
    Panel("Predictions per second", "reqps", [(_by(_VERSION, _REQUESTS), _BY_VERSION)]),
    Panel("Latency", "s", _quantiles("slipway_request_duration_seconds", INFERENCE)),
    Panel("Rows per second", "rowsps", _per_version("slipway_rows_total")),
    Panel("Waiting for a batch", "s", _quantiles("slipway_batch_wait_seconds")),
    Panel(
        "Rows in a batch, median",
        "short",
        [(_quantile(0.5, "slipway_batch_rows"), _BY_VERSION)],
    ),
    Panel(
        "Answers by class",
        "short",
        [(_by(f"{_VERSION}, label", _rate("slipway_predictions_total")), "{{version}} {{label}}")],
    ),
    Panel(
        "Callers",
        "reqps",
        [(_by("caller", _rate("slipway_caller_requests_total")), "{{caller}}")],
    ),
    Panel(
        "Looking up features",
        "s",
        _quantiles("slipway_entity_lookup_seconds"),
    ),
]

_FAILURES = [
    Panel(
        "Share of requests that fail (5xx)",
        "percentunit",
        [(f"{_by(_VERSION, _ERRORS)} / {_by(_VERSION, _REQUESTS)}", _BY_VERSION)],
    ),
    Panel(
        "Answers by status",
        "reqps",
        [(_by("status", _rate("slipway_requests_total")), "{{status}}")],
    ),
    Panel(
        "Refused: the server was full",
        "reqps",
        [(_by("version, limit", _rate("slipway_shed_total")), "{{version}} {{limit}}")],
    ),
    Panel("Past the deadline", "reqps", _per_version("slipway_timeouts_total")),
    Panel(
        "Look-ups of features by result",
        "reqps",
        [(_by("result", _rate("slipway_entity_lookups_total")), "{{result}}")],
    ),
    Panel(
        "Feature transformer: reads that the store did not answer",
        "reqps",
        [(f'rate(slipway_features_store_errors_total{{job="{JOB}"}}[$__rate_interval])', "reads")],
    ),
    Panel("Firing alerts", "short", [('ALERTS{alertstate="firing"}', "")], "table"),
]

_RELEASES = [
    Panel(
        "Share of the predictions",
        "percentunit",
        [
            (
                f"{_by(_VERSION, _REQUESTS)} / on (environment, model) group_left "
                f"{_by('environment, model', _REQUESTS)}",
                _BY_VERSION,
            )
        ],
    ),
    Panel("Servers that answer", "short", [(_by(_VERSION, f"up{{{_OWN}}}"), _BY_VERSION)]),
    Panel("What is served", "short", [(f"slipway_model_info{{{_OWN}}}", "")], "table"),
    Panel(
        "Latency, p99",
        "s",
        [(_quantile(0.99, "slipway_request_duration_seconds", INFERENCE), _BY_VERSION)],
    ),
    Panel(
        "Certainty of the answers, median",
        "percentunit",
        [(_quantile(0.5, "slipway_top_probability"), _BY_VERSION)],
    ),
    Panel(
        "Predicted values, median",
        "short",
        [(_quantile(0.5, "slipway_prediction_value"), _BY_VERSION)],
    ),
]

_FINDINGS = [
    Panel(
        "Drift: share of the columns",
        "percentunit",
        [(f"slipway_drift_share{{{_OWN}}}", _BY_VERSION)],
    ),
    Panel(
        "Drift by column",
        "short",
        [(f"slipway_drift_score{{{_OWN}}}", "{{model}} {{version}} {{column}}")],
    ),
    Panel(
        "Quality over the labelled answers",
        "short",
        [(f"slipway_quality{{{_OWN}}}", "{{model}} {{version}} {{metric}}")],
    ),
    Panel("Answers in the window", "short", [(f"slipway_drift_rows{{{_OWN}}}", _BY_VERSION)]),
    Panel(
        "Findings: 0 passed, 1 failed, -1 not enough data",
        "short",
        [(f'slipway_finding_status{{job="{JOB}"}}', "{{kind}} {{environment}} {{subject}}")],
        "table",
    ),
    Panel(
        "Since a finding was renewed",
        "s",
        [(f'slipway_finding_unseen_seconds{{job="{JOB}"}}', "{{kind}} {{subject}}")],
    ),
    Panel(
        "Age of the features that were found, p99",
        "s",
        [
            (
                "histogram_quantile(0.99, sum by (view, le) (rate("
                f'slipway_features_age_seconds_bucket{{job="{JOB}"}}[$__rate_interval])))',
                "{{view}}",
            )
        ],
    ),
]

_RESOURCES = [
    Panel(
        "Requests in hand",
        "short",
        [(_by(_VERSION, f"slipway_requests_in_hand{{{_OWN}}}"), _BY_VERSION)],
    ),
    Panel(
        "Rows that wait", "short", [(_by(_VERSION, f"slipway_queue_rows{{{_OWN}}}"), _BY_VERSION)]
    ),
    Panel("Prediction log", "Bps", _per_version("slipway_prediction_log_bytes_total")),
    Panel(
        "Rows missing in the prediction log",
        "rowsps",
        [
            (
                _by("version, reason", _rate("slipway_prediction_log_dropped_rows_total")),
                "{{reason}}",
            )
        ],
    ),
    Panel(
        "Response cache",
        "rowsps",
        [(_by("outcome", _rate("slipway_cache_total")), "{{outcome}}")],
    ),
    Panel(
        "Lines of the access log that are lost",
        "short",
        _per_version("slipway_access_log_dropped_total"),
    ),
    Panel(
        "Feature transformer: latency, p99",
        "s",
        [
            (
                "histogram_quantile(0.99, sum by (le) (rate("
                f'slipway_features_request_duration_seconds_bucket{{job="{JOB}"}}'
                "[$__rate_interval])))",
                "p99",
            )
        ],
    ),
]

DASHBOARDS: dict[str, tuple[str, Sequence[Panel]]] = {
    "traffic": ("Traffic and latency", _TRAFFIC),
    "errors": ("Errors", _FAILURES),
    "releases": ("Releases", _RELEASES),
    "findings": ("Drift, quality and features", _FINDINGS),
    "resources": ("Resources", _RESOURCES),
}


def dashboard(name: str) -> Json:
    """One dashboard as Grafana reads it from a file."""
    title, panels = DASHBOARDS[name]
    return {
        "uid": f"slipway-{name}",
        "title": f"Slipway: {title}",
        "tags": ["slipway"],
        "schemaVersion": 39,
        "timezone": "utc",
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "editable": False,
        "templating": {"list": [_variable(label) for label in ("environment", "model")]},
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }


def _variable(label: str) -> Json:
    return {
        "name": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": f'label_values(up{{job="{JOB}"}}, {label})', "refId": label},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panel(number: int, panel: Panel) -> Json:
    width = 24 // _COLUMNS
    row, column = divmod(number, _COLUMNS)
    as_table = {"instant": True, "format": "table"} if panel.kind == "table" else {}
    return {
        "id": number + 1,
        "title": panel.title,
        "type": panel.kind,
        "datasource": SOURCE,
        "gridPos": {"x": column * width, "y": row * _HEIGHT, "w": width, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "expr": query, "legendFormat": legend} | as_table
            for place, (query, legend) in enumerate(panel.queries)
        ],
    }
