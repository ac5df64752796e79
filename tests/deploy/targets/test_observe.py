"""One look at a server: what a real Envoy and the server itself have counted."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from deploy.events import State
from deploy.gateway.routes import Routing, cluster_name
from deploy.home import Home
from deploy.ledger import Ledger
from deploy.processes import free_port
from deploy.targets.base import TargetError
from deploy.targets.local import LocalTarget
from serving_config.gateway import Gateway
from serving_config.schema import Configuration, Environment, Platform
from tests.bentos.model_server.clients import GOOD, served
from tests.bentos.model_server.models import iris
from tests.deploy.gateway.running import ADMIN_IS_ASKED_TOO_EARLY, running_envoy
from tests.deploy.releases import live

pytestmark = ADMIN_IS_ASKED_TOO_EARLY

NAME = cluster_name("staging", "iris", live(1))
ROUTING = Routing(
    ("staging",), "staging", ("iris",), "iris", (State("staging", "iris", 1, (live(1),)),)
)


@dataclass(frozen=True)
class At(LocalTarget):
    """Its servers are where the test has put them, not with a supervisor."""

    ports: tuple[tuple[str, int], ...] = ()

    def _server_ports(self) -> dict[str, int]:
        return dict(self.ports)


@pytest.fixture
def target(home: Home) -> Iterator[At]:
    ledger = Ledger("sqlite://")
    environments = {name: Environment(name=name) for name in ("staging", "production")}
    configuration = Configuration(platform=Platform(), environments=environments, models={})
    yield At(home, configuration, ledger, "/")
    ledger.close()


def test_what_clients_got_and_what_the_server_has_answered(target: At, tmp_path: Path) -> None:
    settings = Gateway(port=free_port())
    with (
        served(iris(), tmp_path) as (port, _),
        running_envoy(target.home, settings, ROUTING, {NAME: port}),
    ):
        here = replace(target, ports=((NAME, port), ("iris-9-staging-00000000", port)))
        with httpx.Client(base_url=f"http://127.0.0.1:{settings.port}") as client:
            for _ in range(3):
                assert client.post("/predict", json={"features": GOOD}).status_code == 200
            assert client.post("/predict", json={"features": {}}).status_code == 422
        found = here.observe(NAME)
        assert (found.requests, found.errors, found.refusals) == (4, 0, 1)
        assert sum(found.durations.values()) == 4
        assert sum(found.predictions.values()) == sum(found.confidences.values()) == 3
        with pytest.raises(TargetError, match="the gateway does not know iris-9"):
            here.observe("iris-9-staging-00000000")


def test_a_server_that_was_removed_cannot_be_observed(target: At) -> None:
    with pytest.raises(TargetError, match=f"{NAME} is not running"):
        target.observe(NAME)


def test_without_the_gateway_nothing_can_be_observed(target: At) -> None:
    here = replace(target, ports=((NAME, free_port()),))
    with pytest.raises(TargetError, match=f"{NAME} cannot be observed: .*admin socket"):
        here.observe(NAME)
