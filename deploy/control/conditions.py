"""What the settings' limits say of what the live servers counted: pure functions."""

from collections.abc import Iterable, Iterator, Mapping

from deploy.analysis.window import percentile
from deploy.control.condition import Condition, condition
from deploy.control.observer import Observation
from deploy.events import Counters, Event, Live, State
from deploy.gateway.routes import cluster_name
from deploy.monitoring.catalog import milliseconds, percent
from deploy.monitoring.rules import duration
from serving_config.schema import Configuration


def conditions(
    configuration: Configuration,
    states: Iterable[State],
    observations: Mapping[str, Observation],
    last_events: Iterable[Event],
) -> Iterator[Condition]:
    """Every condition that could alert now; states: configured ones; observations: by cluster."""
    for state in states:
        for live in state.live:
            name = cluster_name(state.environment, state.model, live)
            yield from _of_server(configuration, state, live, observations.get(name))
    for event in last_events:
        yield _rolled_back(event)


def _about(environment: str, model: str, version: str, variant: str) -> dict[str, str]:
    return {"environment": environment, "model": model, "version": version, "variant": variant}


def _of_server(
    configuration: Configuration, state: State, live: Live, seen: Observation | None
) -> Iterator[Condition]:
    alerts = configuration.platform.alerts
    health = configuration.release_policy(state.environment, state.model).health
    about = _about(state.environment, state.model, live.label, live.variant)
    down = None if seen is None else seen.failing_since is not None
    yield condition("ModelServerDown", about, down, "", duration(alerts.for_seconds))

    recent = Counters() if seen is None else seen.recent
    enough = recent.requests >= alerts.min_requests
    rate = recent.errors / recent.requests if enough else 0.0
    p99 = (percentile(recent.durations, 0.99) or 0.0) * 1000 if enough else 0.0

    def over(value: float, limit: float) -> bool | None:
        # Of a server that is not seen, or not for long, nobody knows that it got better.
        if seen is None or down or (value <= limit and seen.seconds < alerts.window_seconds / 2):
            return None
        return value > limit

    limit = health.max_error_rate
    yield condition("HighErrorRate", about, over(rate, limit), percent(rate), percent(limit))
    limit = health.p99_ms
    passed = over(p99, limit)
    yield condition("HighLatency", about, passed, milliseconds(p99), milliseconds(limit))


def _rolled_back(event: Event) -> Condition:
    about = _about(event.environment, event.model, event.label, event.variant)
    # The event is about the version that traffic went back to.
    found = event.evidence.get("from")
    left = ", ".join(map(str, found)) if isinstance(found, list) else ""
    reason = event.evidence.get("reason") or "no reason given"
    value = f"From version {left or '(unknown)'} back to {event.label}, by {event.actor}: {reason}"
    return condition("ReleaseRolledBack", about, event.action == "rollback", value, "", True)
