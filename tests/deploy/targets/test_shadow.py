"""A shadow from end to end: Envoy copies requests, two model servers write down their answers."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from sklearn.datasets import load_iris

from bentos.model_server.bundle import Bundle, Limits
from bentos.model_server.session import Row
from deploy.events import State
from deploy.gateway.routes import Routing, cluster_name
from deploy.home import Home
from deploy.processes import free_port
from deploy.release import Release
from deploy.replay import replay
from deploy.targets.base import Endpoint
from deploy.targets.compare_logs import ComparedLogs
from orchestration.build_bento import build_bento
from serving_config.gateway import Gateway as Settings
from serving_config.release import Replay
from serving_config.schema import Serving
from tests.bentos.model_server.clients import Server, bentoml_serve, wait_for
from tests.bentos.model_server.models import IRIS, Parts, iris, iris_tree
from tests.deploy.gateway.running import ADMIN_IS_ASKED_TOO_EARLY, running_envoy, until
from tests.deploy.releases import live

pytestmark = ADMIN_IS_ASKED_TOO_EARLY

STABLE, CANDIDATE = BOTH = iris(), iris_tree()
MOST_ROWS = 20  # that the candidate takes in one request
LIVES = (live(3), replace(live(1, 0), mirror=100))
ROUTING = Routing(
    environments=("production",),
    default_environment="production",
    models=("iris",),
    default_model="iris",
    states=(State("production", "iris", 1, LIVES),),
)


@dataclass(frozen=True)
class Shadow:
    client: httpx.Client
    logs: dict[str, Path]

    def compared(self, since: datetime) -> ComparedLogs:
        return ComparedLogs(self.logs["1"], self.logs["3"], since.isoformat(), slowdown=3)

    def predict(self, request_id: str, body: Any, **headers: str) -> httpx.Response:
        named = {"x-request-id": request_id} | {k.replace("_", "-"): v for k, v in headers.items()}
        path = "/predict" if "features" in body else "/predict/batch"
        return self.client.post(path, json=body, headers=named)

    def endpoint(self, label: str) -> Endpoint:
        return Endpoint(f"{self.client.base_url}/models/iris", {"X-Model-Version": label})


@pytest.fixture(scope="module")
def shadow(home: Home) -> Iterator[Shadow]:
    settings = Settings(port=free_port())
    with ExitStack() as stack:
        servers = {
            which: stack.enter_context(served(parts, home))
            for parts, which in zip((STABLE, CANDIDATE), LIVES, strict=True)
        }
        ports = {
            cluster_name("production", "iris", which): server.client.base_url.port or 0
            for which, server in servers.items()
        }
        stack.enter_context(running_envoy(home, settings, ROUTING, ports))
        client = httpx.Client(base_url=f"http://127.0.0.1:{settings.port}")
        logs = {which.label: server.log for which, server in servers.items()}
        yield Shadow(stack.enter_context(client), logs)


@contextmanager
def served(parts: Parts, home: Home) -> Iterator[Server]:
    """A Bento of the model, built and served as it is in production."""
    settings = Serving(max_rows=MOST_ROWS) if parts is CANDIDATE else Serving()
    bento = build_bento(parts.write(home.versions / parts.contract.model), settings, home.bentoml)
    with bentoml_serve(bento.tag, home.bentoml) as server:
        wait_for(server, "/ready", 200)
        yield server


def labels(parts: Parts, rows: Sequence[Row]) -> list[Any]:
    return list(parts.session().predict(rows).labels)


def test_every_copied_request_is_a_pair_and_every_other_class_a_disagreement(
    shadow: Shadow,
) -> None:
    rows: list[Row] = [tuple(map(float, row)) for row in load_iris().data]
    bodies = [dict(zip(IRIS, row, strict=True)) for row in rows]
    differing = sum(a != b for a, b in zip(*(labels(p, rows) for p in BOTH), strict=True))
    assert 0 < differing < len(rows)
    compared = shadow.compared(datetime.now(UTC))
    for number, features in enumerate(bodies):
        answer = shadow.predict(f"single-{number}", {"features": features})
        assert (answer.status_code, answer.headers["x-model-version"]) == (200, "3")
    until(lambda: compared.look().pairs == len(rows))
    assert compared.look().disagreements == differing
    shadow.predict("batch", {"instances": bodies[50:60]})
    until(lambda: compared.look().pairs == len(rows) + 1)
    found = compared.look()
    assert (found.rows, found.failed) == (len(rows) + 10, 0)
    assert found.difference > 0
    assert found.candidate_ms > 0


def test_what_only_the_candidate_refuses_has_failed(shadow: Shadow) -> None:
    compared = shadow.compared(datetime.now(UTC))
    rows = [dict.fromkeys(IRIS, 1.0)] * (MOST_ROWS + 1)
    assert shadow.predict("refused", {"instances": rows}).status_code == 200
    until(lambda: compared.look().failed == 1)
    assert compared.look().pairs == 0


def test_a_client_cannot_ask_for_its_answers_to_be_logged(shadow: Shadow) -> None:
    features = dict.fromkeys(IRIS, 1.0)
    pinned = {"x_model_version": "3", "x_slipway_compare": "1"}
    assert shadow.predict("pinned", {"features": features}, **pinned).status_code == 200
    until(lambda: '"pinned"' in shadow.logs["3"].read_text())
    (line,) = [text for text in shadow.logs["3"].read_text().splitlines() if '"pinned"' in text]
    assert "predictions" not in line


def test_a_candidate_without_traffic_is_replayed_through_the_gateway(shadow: Shadow) -> None:
    proof = CANDIDATE.certificate
    bundle = Bundle(CANDIDATE.contract, proof, Limits(), proof.onnx_sha256, "d" * 64)
    found = replay(
        shadow.endpoint("1"),
        Release("bento:1", bundle, proof),
        shadow.endpoint("3"),
        STABLE.certificate.golden,
        Replay(),
    )
    assert found.decision == "promote", found.reason
    assert found.requests == 15 + 1 + 15
