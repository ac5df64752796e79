"""A Kubernetes target on the stand-in, whose pods are real HTTP servers on loopback ports.

What a pod answers is made by the model server's own metrics; no model is behind them.
"""

import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bentos.model_server.metrics import Metrics
from deploy.cluster.client import Cluster
from deploy.home import Home
from deploy.ledger import Ledger
from deploy.targets.kserve import KServeTarget
from deploy.targets.kubernetes import KubernetesTarget
from serving_config.kubernetes import Artifacts, Kubernetes
from serving_config.schema import Configuration, Environment, Model, Platform
from tests.deploy.cluster.api_server import ApiServer, Json, api_server
from tests.deploy.cluster.controllers import Controllers
from tests.deploy.cluster.kubeconfig import client_of
from tests.deploy.releases import contract

SPACE = "slipway-staging"


def settings(**more: Any) -> Configuration:
    environment = {"target": "kubernetes", "ready_timeout_seconds": 5, "drain_timeout_seconds": 1}
    return Configuration(
        platform=Platform(
            default_model="iris",
            artifacts=Artifacts(url="s3://bucket/slipway"),
            kubernetes=Kubernetes(url="http://gateway.example"),
        ),
        environments={
            name: Environment.model_validate({"name": name, **environment, **more})
            for name in ("staging", "production")
        },
        models={name: Model(name=name) for name in ("iris", "wine")},
    )


class PodServer:
    """What a pod of a model server says of itself; its metrics are the model server's own."""

    def __init__(self, onnx_sha256: str) -> None:
        self.metrics = Metrics(None)
        self.refusal: str | None = None
        of = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None: ...

            def do_GET(self) -> None:
                status, content = 200, b'{"status":"ready"}'
                if self.path == "/metrics":
                    content = of.metrics.exposition()[0]
                elif self.path == "/model/info":
                    content = json.dumps({"contract": {"onnx_sha256": onnx_sha256}}).encode()
                elif of.refusal is not None:
                    status, content = 503, of.refusal.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def answered(self, times: int, status: int = 200) -> None:
        for _ in range(times):
            self.metrics.answered("/predict", status, 0.01)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@dataclass
class Place:
    """servers: by pod; kept: those of pods that have gone. digests: what pods of a version serve
    instead of its own."""

    api: ApiServer
    controllers: Controllers
    target: KubernetesTarget | KServeTarget
    servers: dict[str, PodServer] = field(default_factory=dict)
    kept: list[PodServer] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def ledger(self) -> Ledger:
        return self.target.ledger

    def made(self, pod: Json, deployment: Json) -> None:
        labels = deployment["metadata"]["labels"]
        version = labels["slipway.dev/version"]
        number, _, variant = version.partition("-")
        of = contract(labels["slipway.dev/model"], int(number), variant or "fp32")
        server = PodServer(self.digests.get(version, of.onnx_sha256))
        self.servers[pod["metadata"]["name"]] = server
        self.api.backends[pod["metadata"]["name"]] = server.port

    def gone(self, pod: Json) -> None:
        name = pod["metadata"]["name"]
        self.api.backends.pop(name, None)
        if (server := self.servers.pop(name, None)) is not None:
            self.kept.append(server)  # a test may bring the pod back

    def pods_of(self, server: str) -> list[str]:
        return [pod["metadata"]["name"] for pod in self.target.pods(server)]


@contextmanager
def place(
    folder: Path,
    ledger: Ledger,
    configuration: Configuration | None = None,
    of: type[KubernetesTarget] | type[KServeTarget] = KubernetesTarget,
) -> Iterator[Place]:
    with api_server("slipway") as api, client_of(api, folder) as cluster:
        api.groups |= {"gateway.networking.k8s.io", "serving.kserve.io"}
        controllers = Controllers(api).step_at_each_look()
        target = on(cluster, ledger, configuration or settings(), of)
        found = Place(api, controllers, target)
        controllers.pod_made, controllers.pod_gone = found.made, found.gone
        try:
            yield found
        finally:
            for server in (*found.servers.values(), *found.kept):
                server.close()


def on(
    cluster: Cluster,
    ledger: Ledger,
    configuration: Configuration,
    of: type[KubernetesTarget] | type[KServeTarget] = KubernetesTarget,
) -> Any:
    home = Home(Path(tempfile.gettempdir()) / "no-such-home")
    return of(home, configuration, ledger, cluster, tuple(configuration.environments), 0.01)
