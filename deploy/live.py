"""The clusters of what is live."""

from collections.abc import Iterable, Mapping, Sequence

from bentos.model_server.contract import VARIANTS
from deploy.events import Live, State
from deploy.gateway.routes import cluster_name
from deploy.ledger import Ledger
from serving_config.schema import Configuration

Key = tuple[str, str]


def clusters(states: Iterable[State]) -> set[str]:
    """The clusters of all live versions of these states."""
    return {
        cluster_name(state.environment, state.model, live)
        for state in states
        for live in state.live
    }


def configured(states: Mapping[Key, State], configuration: Configuration) -> dict[Key, State]:
    """Those whose environment and model the settings still have, by both, in order.

    The ledger keeps what was live when a model or an environment was taken out of the settings;
    nothing serves it any more.
    """
    return {
        (environment, model): state
        for (environment, model), state in sorted(states.items())
        if environment in configuration.environments and model in configuration.models
    }


def configured_clusters(ledger: Ledger, configuration: Configuration) -> set[str]:
    """The clusters of all live versions that are to be served."""
    return clusters(configured(ledger.states(), configuration).values())


def live_clusters(ledger: Ledger) -> set[str]:
    """The clusters of all live versions."""
    return clusters(ledger.states().values())


def most_traffic(live: Sequence[Live]) -> Live | None:
    """The one with the most traffic, which has MLflow's alias; of two with as much, the older, and
    of that the one as it was trained."""
    ranked = sorted(live, key=lambda item: (item.version, item.variant != VARIANTS[0]))
    return max(ranked, key=lambda item: item.weight, default=None)
