"""Every alert in words, for Prometheus' rules and for the platform's own evaluation alike."""

from collections.abc import Mapping
from dataclasses import dataclass

LABELS = ("environment", "model", "version", "variant")
# Those of an alert about a finding; of DataDrift and PredictionQuality: LABELS, no variant.
FINDING_LABELS = ("kind", "environment", "subject")
_RUNBOOK = "docs/alerts.md"


@dataclass(frozen=True)
class Kind:
    """One alert. The texts may name any of LABELS, or of a finding's, `{value}` and `{limit}`."""

    severity: str
    summary: str
    description: str


_SHOW = "Look: `slipway drift {model} --environment {environment}`, `/v1/drift/{model}`."
_RUNS = "Look at its runs in Dagster, and `slipway status`."
_LOOK = "Look: `slipway status`, `slipway ledger {model}`."
_BACK = f"{_LOOK} Back: `slipway rollback {{model}} --environment {{environment}}`."

KINDS = {
    "HighErrorRate": Kind(
        "critical",
        "{model} {version} in {environment}: requests fail",
        f"{{value}} of its requests fail (5xx); allowed are {{limit}}. {_BACK}",
    ),
    "HighLatency": Kind(
        "critical",
        "{model} {version} in {environment}: predictions are slow",
        f"The p99 of its predictions is {{value}}; allowed are {{limit}}. {_BACK}",
    ),
    "ModelServerDown": Kind(
        "critical",
        "{model} {version} in {environment}: its server does not answer",
        f"The model server cannot be reached for {{limit}} or longer. {_BACK}",
    ),
    "ModelNotReady": Kind(
        "critical",
        "{model} {version} in {environment}: its server has no model",
        "The model server answers, but for {limit} or longer it has been loading its model, or "
        f"has refused it: its `/ready` says why. {_BACK}",
    ),
    "RequestsShed": Kind(
        "warning",
        "{model} {version} in {environment}: requests are refused because the server is full",
        f"{{value}} of its requests are refused (503); allowed are {{limit}}. {_LOOK} "
        "More workers, or less traffic for this version: `slipway split {model}`.",
    ),
    "AccessLogDropping": Kind(
        "warning",
        "{model} {version} in {environment}: lines of the access log are lost",
        f"{{value}} lines of the access log could not be written in the last {{limit}}. {_LOOK}",
    ),
    "DataDrift": Kind(
        "warning",
        "{model} {version} in {environment}: live traffic is another than it was trained on",
        f"{{value}}. {_SHOW} Train on fresh data: `slipway train {{model}}`.",
    ),
    "PredictionQuality": Kind(
        "critical",
        "{model} {version} in {environment}: its answers are worse than the limit",
        "{value}. Look at the asset {model}/quality in Dagster. Back: `slipway rollback {model} "
        "--environment {environment}`; train on fresh data: `slipway train {model}`.",
    ),
    "StaleFeatures": Kind(
        "warning",
        "feature view {subject}: the online features are stale",
        "{value}. Look at the asset features/{subject} in Dagster; `slipway materialize`.",
    ),
    "ScheduleFailed": Kind(
        "warning",
        "{subject} {environment}: its last scheduled run failed",
        f"{{value}}. {_RUNS}",
    ),
    "ScheduleOverdue": Kind(
        "warning",
        "{kind} of {subject} {environment}: nobody looked for too long",
        f"The last result is {{value}} old, allowed are {{limit}}. {_RUNS}",
    ),
    "ReleaseRolledBack": Kind(
        "info",
        "{model} in {environment}: a release was rolled back",
        f"{{value}}. {_LOOK}",
    ),
}


def labels(alert: str) -> dict[str, str]:
    """What an alert of that name carries beside LABELS."""
    return {"severity": KINDS[alert].severity}


def annotations(alert: str, about: Mapping[str, str], value: str, limit: str) -> dict[str, str]:
    """Summary, description and runbook; about: the values of LABELS."""
    kind, words = KINDS[alert], {**about, "value": value, "limit": limit}
    return {
        "summary": kind.summary.format(**words),
        "description": kind.description.format(**words),
        "runbook_url": f"{_RUNBOOK}#{alert.lower()}",
    }


def percent(share: float) -> str:
    """A share for people, with the digits of Prometheus' humanizePercentage."""
    return f"{share * 100:.4g}%"


def milliseconds(value: float) -> str:
    """Milliseconds for people."""
    return f"{value:.4g} ms"
