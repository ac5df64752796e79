"""Every alert in words, for Prometheus' rules and for the platform's own evaluation alike."""

from collections.abc import Mapping
from dataclasses import dataclass

LABELS = ("environment", "model", "version", "variant")
_RUNBOOK = "docs/alerts.md"


@dataclass(frozen=True)
class Kind:
    """One alert. The texts may name any of LABELS, `{value}` and `{limit}`."""

    severity: str
    summary: str
    description: str


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
