"""The clusters of all that is live."""

from deploy.gateway.routes import cluster_name
from deploy.ledger import Ledger


def live_clusters(ledger: Ledger) -> set[str]:
    """The clusters of all live versions."""
    return {
        cluster_name(state.environment, state.model, live)
        for state in ledger.states().values()
        for live in state.live
    }
