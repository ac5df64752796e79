"""dagster-k8s's client, less patient with a pod that no node takes: imported where it is used."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dagster_k8s import PipesK8sClient


class PodClient(PipesK8sClient):
    """await_start: returns once the pod's container has started, or raises; by itself dagster-k8s
    waits a day for it. context: of the kubeconfig, outside of a cluster."""

    def __init__(
        self, await_start: Callable[[], None], poll_seconds: float, context: str | None
    ) -> None:
        inside = "KUBERNETES_SERVICE_HOST" in os.environ
        kubeconfig = None if inside else os.environ.get("KUBECONFIG")
        super().__init__(
            poll_interval=poll_seconds,
            kubeconfig_file=kubeconfig,
            kube_context=None if inside else context,
        )
        self._await_start = await_start

    @contextmanager
    def consume_pod_logs(self, *arguments: Any, **named: Any) -> Iterator[None]:
        """See PipesK8sClient, which calls it when the pod is created."""
        self._await_start()
        with super().consume_pod_logs(*arguments, **named):
            yield
