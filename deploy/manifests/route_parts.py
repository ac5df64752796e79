"""What the three ways to share a cluster's traffic have in common."""

import hashlib
from dataclasses import replace
from typing import Any

from deploy.events import Live, State
from deploy.gateway.routes import Routing
from deploy.manifests.names import FIELD_MANAGER, PORT, namespace, object_name, server_name
from serving_config.schema import Configuration

Json = dict[str, Any]

# The control API's Service, in the platform's namespace.
CONTROL_SERVICE = "slipway-control"
CONTROL_PORT = 80
# A Service without pods: every gateway answers 503 for it.
NOTHING_LIVE = "slipway-nothing-live"


class UnroutableError(ValueError):
    """What the ledger says cannot be said to this gateway; nothing was rendered."""


def on_cluster(routing: Routing, configuration: Configuration) -> Routing:
    """The same for a gateway on the cluster: an environment that runs elsewhere is as unknown to it
    as one that nobody configured."""
    here = tuple(
        name
        for name in routing.environments
        if configuration.environments[name].target == "kubernetes"
    )
    states = tuple(state for state in routing.states if state.environment in here)
    return replace(routing, environments=here, states=states)


def prefixes(routing: Routing) -> list[tuple[str, str]]:
    """(what stands in front of the server's own paths, model); '' for the default model."""
    named = [(f"/models/{model}", model) for model in routing.models]
    return named + ([("", routing.default_model)] if routing.default_model else [])


def state_of(routing: Routing, environment: str, model: str) -> State:
    """What is live; nothing where the ledger has no word of it."""
    for state in routing.states:
        if (state.environment, state.model) == (environment, model):
            return state
    return State(environment, model)


def weighted(state: State) -> list[Live]:
    """Who shares the requests that name no version; newest first, as in our own gateway."""
    return sorted((live for live in state.live if live.weight > 0), reverse=True)


def service(state: State, live: Live) -> str:
    """The Service of one live version, in its environment's namespace."""
    return server_name(state.environment, state.model, live)


def namespace_of(configuration: Configuration, environment: str) -> str:
    """Where the environment's servers and routes are."""
    return namespace(configuration.environments[environment])


def route_name(*parts: str) -> str:
    """The same for the same parts, another for others, and readable."""
    digest = hashlib.sha256("/".join(parts).encode()).hexdigest()[:8]
    return object_name(f"{'-'.join(parts)}-{digest}")


def metadata(name: str, where: str, environment: str = "", model: str = "") -> Json:
    """With labels by which routes are found again that are no longer rendered."""
    labels = {
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        "app.kubernetes.io/part-of": "slipway",
        "app.kubernetes.io/component": "route",
    }
    labels |= {"slipway.dev/environment": environment} if environment else {}
    labels |= {"slipway.dev/model": model} if model else {}
    return {"name": name, "namespace": where, "labels": labels}


def nothing_live(where: str) -> Json:
    """What requests are sent to that no version can answer."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(NOTHING_LIVE, where),
        "spec": {"ports": [{"name": "http", "port": PORT, "targetPort": PORT}]},
    }
