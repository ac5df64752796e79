"""What an environment has once, whatever is live in it."""

from deploy.manifests.identity import metadata, service_account
from deploy.manifests.names import Json, namespace
from deploy.manifests.network import network_policies
from serving_config.schema import Configuration

_LEVEL = "restricted"


def environment_objects(configuration: Configuration, environment: str) -> list[Json]:
    """Namespace, ServiceAccount and NetworkPolicies. KeyError for an unknown environment."""
    settings = configuration.environments[environment]
    own = metadata(settings, namespace(settings))
    security = {
        f"pod-security.kubernetes.io/{mode}": _LEVEL for mode in ("enforce", "audit", "warn")
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": own["name"], "labels": own["labels"] | security},
        },
        service_account(settings),
        *network_policies(configuration, settings),
    ]
