"""One condition that could alert."""

from dataclasses import dataclass

from deploy.monitoring.catalog import annotations, labels


@dataclass(frozen=True)
class Condition:
    """passed: whether the limit is, None where that cannot be said now. at_once: fires without
    waiting for `alerts.for_seconds`."""

    labels: dict[str, str]
    annotations: dict[str, str]
    passed: bool | None
    at_once: bool = False


def condition(
    alert: str,
    about: dict[str, str],
    passed: bool | None,
    value: str,
    limit: str,
    at_once: bool = False,
) -> Condition:
    """In the catalog's words."""
    named = {"alertname": alert} | labels(alert) | about
    return Condition(named, annotations(alert, about, value, limit), passed, at_once)
