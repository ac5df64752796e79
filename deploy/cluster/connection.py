"""Which API server, and as whom: the kubeconfig's context, or a pod's own service account."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.cluster.errors import ClusterError
from serving_config.kubernetes import Kubernetes

_INSTALL = ".venv/bin/uv pip install -e '.[kubernetes]'"


@dataclass(frozen=True)
class Connection:
    """client: `kubernetes.client.ApiClient`. server: how sentences call the API server. inside:
    this process is a pod of the cluster, and reaches other pods by their addresses."""

    client: Any
    server: str
    inside: bool


def connect(settings: Kubernetes) -> Connection:
    """Read the credentials; no request is made. ClusterError says what is missing."""
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise ClusterError(
            f"the Kubernetes client is not installed: `{_INSTALL}` ({error.name} is missing)"
        ) from error
    configuration = client.Configuration()
    kubeconfig = os.environ.get("KUBECONFIG", "~/.kube/config")
    exists = any(Path(path).expanduser().exists() for path in kubeconfig.split(os.pathsep) if path)
    inside = not exists and "KUBERNETES_SERVICE_HOST" in os.environ
    try:
        if inside:
            config.load_incluster_config(client_configuration=configuration)
        else:
            config.load_kube_config(kubeconfig, settings.context, configuration)
    except (config.ConfigException, OSError) as error:
        raise ClusterError(
            f"no cluster to talk to: {error}; KUBECONFIG ({kubeconfig}) names the file, and "
            "kubernetes.context in platform.yaml the context"
        ) from error
    context = settings.context or ("the pod's own" if inside else "current")
    server = f"the API server {configuration.host} ({context} context)"
    return Connection(client.ApiClient(configuration), server, inside)
