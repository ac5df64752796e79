"""The clusters of what is live."""

from collections.abc import Iterable

from deploy.events import State
from deploy.gateway.routes import cluster_name
from deploy.ledger import Ledger


def clusters(states: Iterable[State]) -> set[str]:
    """The clusters of all live versions of these states."""
    return {
        cluster_name(state.environment, state.model, live)
        for state in states
        for live in state.live
    }


def live_clusters(ledger: Ledger) -> set[str]:
    """The clusters of all live versions."""
    return clusters(ledger.states().values())
