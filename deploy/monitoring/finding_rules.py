"""Prometheus' rules about findings, as the control process tells them (see finding_metrics)."""

from collections.abc import Sequence
from typing import Any

from deploy.monitoring.catalog import FINDING_LABELS, annotations, labels
from serving_config.schema import Configuration

JOB = "slipway"
_MODEL_LABELS = ("environment", "model", "version")


def finding_rules(configuration: Configuration, interval: str) -> dict[str, Any]:
    """One group; interval: as Prometheus writes it. A finding is at most as new as its schedule's
    last run, so that no rule waits."""
    factor = configuration.platform.alerts.schedule_silence_factor
    on = f"on ({', '.join(FINDING_LABELS)})"
    unseen, valid = (_of_all(f"finding_{name}_seconds") for name in ("unseen", "valid"))
    hours = "{{ $value | humanizeDuration }}"
    overdue = f"{unseen} > {on} {valid} * {factor:g}"
    return {
        "name": "findings",
        "interval": interval,
        "rules": [
            _rule("DataDrift", f"{_of_all('drift_status', _MODEL_LABELS)} == 1", "Drift was found"),
            _rule(
                "PredictionQuality",
                f"{_of_all('quality_status', _MODEL_LABELS)} == 1",
                "The metric passed its limit",
            ),
            _rule("StaleFeatures", _failed("features"), "The last materialization is too old"),
            _rule("ScheduleFailed", _failed("schedule"), "The run failed"),
            _rule("ScheduleOverdue", overdue, hours, f"{factor:g} times its interval"),
        ],
    }


def _of_all(metric: str, names: Sequence[str] = FINDING_LABELS, more: str = "") -> str:
    """Each control process tells the same; of several on a cluster, one series."""
    return f'max by ({", ".join(names)}) (slipway_{metric}{{job="{JOB}"{more}}})'


def _failed(kind: str) -> str:
    own = f',kind="{kind}"'
    return f"{_of_all('finding_status', more=own)} == 1"


def _rule(alert: str, expression: str, value: str, limit: str = "") -> dict[str, Any]:
    names = _MODEL_LABELS if alert in ("DataDrift", "PredictionQuality") else FINDING_LABELS
    about = {name: f"{{{{ $labels.{name} }}}}" for name in names}
    return {
        "alert": alert,
        "expr": expression,
        "labels": labels(alert),
        "annotations": annotations(alert, about, value, limit),
    }
