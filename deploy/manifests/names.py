"""How objects on a cluster are named and labelled, so that each is found again by what it is for.

https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/
"""

import hashlib
from typing import Any

from deploy.events import Live
from deploy.gateway.routes import cluster_name
from serving_config.schema import Environment

Json = dict[str, Any]

# The field manager of server-side apply: what it set is ours.
FIELD_MANAGER = "slipway"
# Where a model server listens in its pod, and its Service.
PORT = 3000
# A Service's name is a DNS label (RFC 1035); the names of a Deployment's pods add 17 characters to
# its own, and are their host names.
_LONGEST = 63 - 17


def namespace(environment: Environment) -> str:
    """Where the environment's model servers run."""
    return environment.kubernetes.namespace or object_name(f"slipway-{environment.name}")


def object_name(name: str) -> str:
    """A name that fits, the same for the same `name`, another for another."""
    return _fitting(name, _LONGEST)


def label_value(name: str) -> str:
    """A label's value that fits, likewise."""
    return _fitting(name, 63)


def _fitting(name: str, longest: int) -> str:
    """Neither objects nor labels may end with the dash that a model or an environment may."""
    if len(name) <= longest and not name.endswith("-"):
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: longest - 9].rstrip('-')}-{digest}"


def server_name(environment: str, model: str, live: Live) -> str:
    """The Deployment, the Service and all else of one live version: `cluster_name`, made to fit."""
    return object_name(cluster_name(environment, model, live))


def labels(environment: str, model: str, live: Live | None = None) -> Json:
    """What selectors and people find the objects by."""
    found = {
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        "app.kubernetes.io/part-of": "slipway",
        "app.kubernetes.io/component": "model-server",
        "slipway.dev/environment": label_value(environment),
        "slipway.dev/model": label_value(model),
    }
    if live is not None:
        found |= {
            "app.kubernetes.io/name": server_name(environment, model, live),
            "app.kubernetes.io/version": live.label,
            "slipway.dev/version": live.label,
        }
    return found


def selector(name: str) -> Json:
    """The one label of one version's pods that tells them from all others: what a Deployment
    selects by can never be changed. name: `server_name`."""
    return {"app.kubernetes.io/name": name}
