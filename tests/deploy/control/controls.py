"""The control API on a real ledger and a target in memory, without a process."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
from fastapi import FastAPI

from bentos.model_server.bundle import Limits, tree_digest
from bentos.model_server.contract import version_label
from bentos.model_server.keys import Keys
from deploy.control.alert import Alert
from deploy.control.api import control_api
from deploy.control.control import Control
from deploy.control.observer import Observer
from deploy.control.usage import Usage
from deploy.dagster_client import DagsterClient, DagsterError, RunStatus
from deploy.events import Change, Event, Live
from deploy.gateway.routes import cluster_name
from deploy.home import Home
from deploy.keys import KeyStore
from deploy.ledger import Ledger
from deploy.live import live_clusters
from deploy.release import Release
from deploy.traffic import Traffic
from deploy.versions import BuiltRelease, VersionFolder, built_release, live_release
from serving_config.schema import Configuration
from tests.deploy.releases import certificate, contract, http, sha256
from tests.deploy.targets.memory import MemoryTarget

SETTINGS: dict[str, Any] = {
    "platform": {"default_environment": "staging", "default_model": "iris"},
    "environments": {name: {"name": name} for name in ("staging", "production")},
    "models": {name: {"name": name} for name in ("iris", "spam-detector")},
}


class Dagster(DagsterClient):
    """Notes what it is asked to start; `down` as a stopped webserver."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:3000")
        self.launched: list[tuple[str, str | None, dict[str, str]]] = []
        self.configurations: list[dict[str, Any] | None] = []
        self.attempts: dict[str, RunStatus] = {}
        self.down = False

    def _require_up(self) -> None:
        if self.down:
            raise DagsterError("Dagster at http://127.0.0.1:3000 does not answer")

    def add_partition(self, partitions: str, key: str) -> None:
        self._require_up()

    def launch(
        self,
        job: str,
        partition: str | None,
        tags: dict[str, str],
        steps: list[str] | None = None,
        configuration: dict[str, Any] | None = None,
    ) -> str:
        self._require_up()
        self.launched.append((job, partition, tags))
        self.configurations.append(configuration)
        return "run-7"

    def last_attempt(self, run_id: str) -> RunStatus | None:
        self._require_up()
        return self.attempts.get(run_id)


@dataclass
class Running:
    """The API with its parts; `ask` sends a request with the key of `ann`, who has admin."""

    app: FastAPI
    control: Control
    ledger: Ledger
    target: MemoryTarget
    dagster: Dagster
    key: str

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        own_key: bool = True,
    ) -> httpx.Response:
        sent = ({"X-API-Key": self.key} if own_key else {}) | dict(headers or {})
        if content is not None:
            sent = {"Content-Type": "application/json"} | sent

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
                return await client.request(method, path, json=body, headers=sent, content=content)

        return asyncio.run(send())

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", path, body, headers=named)

    def serve(
        self, *lives: Live, environment: str = "staging", model: str = "iris", **evidence: Any
    ) -> Event:
        """Make it live: on the ledger, up and routed."""
        state = self.ledger.state(environment, model)
        for live in lives:
            self.target.up.setdefault(cluster_name(environment, model, live), 9_000)
        change = Change(
            base=state,
            action="promote",
            subject=lives[0],
            live=lives,
            actor="ann",
            evidence=evidence,
        )
        event = self.ledger.record(change)
        self.target.route()
        return event


def build(
    home: Home,
    version: int,
    *,
    smoked: bool = True,
    model: str = "iris",
    variant: str = "fp32",
) -> Release:
    """A Bento in the store and the version's folder, made by hand."""
    label = version_label(version, variant)
    onnx = f"graph {label}".encode()
    made = contract(model, version, variant)
    made = msgspec.structs.replace(made, onnx_sha256=sha256(onnx.decode()))
    proved = certificate(made)
    source = home.bentoml / "new" / "src"
    (source / "model").mkdir(parents=True)
    for name, data in {
        "model.onnx": onnx,
        "contract.json": made.encode(),
        "certificate.json": proved.encode(),
        "serving.json": msgspec.json.encode(Limits()),
    }.items():
        (source / "model" / name).write_bytes(data)
    digest = tree_digest(source)
    build = f"{version}-{variant}-{digest[:12]}"
    tag = f"{model}:{build}"
    manifest = {"service": "bentos.x", "name": model, "version": build, "envs": []}
    (source.parent / "bento.yaml").write_bytes(msgspec.json.encode(manifest))
    place = home.bentoml / "bentos" / tag.replace(":", "/")
    place.parent.mkdir(parents=True, exist_ok=True)
    (home.bentoml / "new").rename(place)
    if smoked:
        proved = msgspec.structs.replace(proved, http=http(bento=digest))
    folder = VersionFolder.of(home, model, label)
    folder.write_certificate(proved)
    folder.write_bento(BuiltRelease(tag, digest))
    return built_release(home, model, label)


@contextmanager
def running(folder: Path) -> Iterator[Running]:
    home = Home(folder).create()
    ledger = Ledger(home.ledger_url)
    target, dagster = MemoryTarget(ledger), Dagster()
    key = KeyStore(home).add("ann", ["admin"])
    observer = Observer(partial(live_clusters, ledger), target, window_seconds=60)
    alert = Alert(
        state="firing", labels={"alertname": "HighErrorRate"}, annotations={}, since="2026-01-01"
    )
    control = Control(
        home=home,
        configuration=Configuration.model_validate(SETTINGS),
        ledger=ledger,
        target=target,
        traffic=Traffic(ledger, target, partial(live_release, home)),
        observer=observer,
        keys=Keys(home.keys),
        dagster=dagster,
        usage=lambda name: Usage(0.25, 100 << 20),
        alerts=lambda: [alert],
        changes=threading.BoundedSemaphore(2),
    )
    try:
        yield Running(control_api(control), control, ledger, target, dagster, key)
    finally:
        observer.close()
        ledger.close()
