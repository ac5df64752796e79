"""A model or an environment that was taken out of the settings while the ledger has it live."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy.events import State
from deploy.gateway.envoy import GatewayError
from deploy.gateway.routes import cluster_name
from deploy.home import Home
from deploy.ledger import Ledger
from deploy.live import configured_clusters
from deploy.targets.local import LocalTarget
from serving_config.schema import Configuration
from tests.deploy.gateway.running import ADMIN_IS_ASKED_TOO_EARLY
from tests.deploy.releases import change, live

SETTINGS = Configuration.model_validate(
    {
        "platform": {"default_environment": "staging", "default_model": "iris"},
        "environments": {name: {"name": name} for name in ("staging", "production")},
        "models": {"iris": {"name": "iris"}},
    }
)
PLACES = (("staging", "iris"), ("staging", "rose"), ("moon", "iris"))
STAYS, *GONE = (cluster_name(*place, live(1, model=place[1])) for place in PLACES)


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger("sqlite://") as opened:
        for place in PLACES:
            opened.record(change(State(*place), live(1, model=place[1])))
        yield opened


@dataclass(frozen=True)
class Target(LocalTarget):
    """Its supervisor and its gateway only note what they are asked."""

    up: dict[str, int] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def _server_ports(self) -> dict[str, int]:
        return dict(self.up)

    def drain(self, name: str, environment: str) -> None:
        self.calls.append(f"drain {name}")

    @property
    def _supervisor(self) -> Any:
        return self

    def remove(self, watcher: str, timeout: float) -> None:
        self.calls.append(f"remove {watcher}")
        del self.up[watcher.partition("@")[0]]


def test_its_servers_are_drained_and_stopped_and_the_ledger_keeps_its_record(
    tmp_path: Path, ledger: Ledger
) -> None:
    up = dict.fromkeys((STAYS, *GONE), 9001)
    target = Target(Home(tmp_path).create(), SETTINGS, ledger, "/", up)
    assert sorted(target.stop_unconfigured()) == sorted(GONE)
    assert sorted(target.calls) == sorted(
        call for name in GONE for call in (f"drain {name}", f"remove {name}@9001")
    )
    assert list(up) == [STAYS]
    assert target.stop_unconfigured() == []
    assert len(ledger.states()) == len(PLACES)


def test_it_is_not_among_what_is_looked_at(ledger: Ledger) -> None:
    assert configured_clusters(ledger, SETTINGS) == {STAYS}


@ADMIN_IS_ASKED_TOO_EARLY
def test_a_server_without_settings_can_be_drained(tmp_path: Path, ledger: Ledger) -> None:
    target = LocalTarget(Home(tmp_path).create(), SETTINGS, ledger, "/")
    with pytest.raises(GatewayError):  # there is none: so far it comes
        target.drain(GONE[1], "moon")
