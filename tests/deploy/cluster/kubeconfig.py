"""A client of the stand-in, with credentials from a real kubeconfig."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.cluster.client import Cluster
from deploy.cluster.connection import connect
from serving_config.kubernetes import Kubernetes
from tests.deploy.cluster.api_server import ApiServer


def write_kubeconfig(path: Path, url: str, token: str = "good") -> Path:  # noqa: S107
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": {"token": token}}],
                "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            }
        )
    )
    return path


@contextmanager
def client_of(
    api: ApiServer,
    folder: Path,
    *,
    seconds: float = 5,
    token: str = "good",  # noqa: S107
) -> Iterator[Cluster]:
    config = write_kubeconfig(folder / "kubeconfig", api.url, token)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(config))
        connection = connect(Kubernetes())
    yield Cluster(connection, seconds)
    connection.client.rest_client.pool_manager.clear()
