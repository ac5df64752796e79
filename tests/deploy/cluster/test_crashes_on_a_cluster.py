"""A kill at any request to the API server: the same release again ends where an undisturbed one
would have, and what served goes on meanwhile."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy.cluster.client import Cluster
from deploy.events import State
from deploy.ledger import Ledger
from deploy.live import live_clusters
from tests.deploy.cluster.places import SPACE, Place, on, place, settings
from tests.deploy.releases import change, live, release
from tests.deploy.serving_things import PLACE, name_of, policy, promote, traffic_of
from tests.deploy.targets.memory import Crash

OLD, NEW = release(1), release(2)


class Fragile(Cluster):
    """Its process may be killed before and after each request that changes something; a dead one
    does nothing more."""

    left = 1_000_000

    def _send(self, asked: Any, method: str, *args: Any) -> tuple[int, bytes, float]:
        if method == "GET":
            return super()._send(asked, method, *args)
        self._live()
        answer = super()._send(asked, method, *args)
        self._live()
        return answer

    def _live(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Crash("killed")


def later(target: Any) -> Any:
    """Another process, after the leases of the dead one have expired."""
    object.__setattr__(target.leases, "clock", lambda: datetime.now(UTC) + timedelta(seconds=60))
    return target


def result(here: Place) -> Mapping[str, Any]:
    """What is there in the end, as far as it may not depend on a kill."""
    return {
        "live": here.ledger.state(*PLACE).live,
        "objects": {
            key
            for key in here.api.objects
            if key[0] not in ("pods", "replicasets.apps", "configmaps")
        },
        "routes": [
            item["spec"] for item in here.api.of("httproutes.gateway.networking.k8s.io", SPACE)
        ],
    }


def direct(target: Any) -> None:
    promote(target, NEW)
    traffic_of(target).tidy(*PLACE)


def canary(target: Any) -> None:
    promote(target, NEW, policy("canary", steps=[10], bake_seconds=60))


def of_the_first(ledger: Ledger) -> None:
    """The ledger as it was when the first version had been released."""
    with ledger._database.engine.begin() as connection:
        for table in ("deployment_events", "deployment_state"):
            connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608
    ledger.record(change(State(*PLACE), live(1)))


@pytest.mark.parametrize(("act", "step"), [(direct, 1), (canary, 4)])
def test_after_a_kill_at_any_request(
    act: Callable[[Any], None], step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.cluster.leases._RENEW_SECONDS", 100)
    ledger = Ledger("sqlite://")
    with place(tmp_path, ledger) as here:
        promote(here.target, OLD)
        restore = here.api.saved()
        of_the_first(ledger)
        act(here.target)
        goal = result(here)
        moment, was_killed = 0, True
        while was_killed:
            restore()
            of_the_first(ledger)
            fragile = Fragile(here.target.cluster._connection, 5)
            fragile.left, was_killed = moment, False
            try:
                act(on(fragile, ledger, here.target.configuration))
            except Crash:
                was_killed = True
            assert live_clusters(ledger) <= set(here.target.servers()), moment
            again = later(on(here.target.cluster, ledger, here.target.configuration))
            act(again)
            again.leases.sweep()
            assert result(here) == goal, moment
            ledger.check()
            moment += step
        assert moment > 40, "there was nothing to be killed at"
    ledger.close()


def test_two_processes_that_release_the_same_version(tmp_path: Path) -> None:
    ledger = Ledger("sqlite://")
    with place(tmp_path, ledger) as here:
        promote(here.target, OLD)
        other = on(here.target.cluster, ledger, settings())
        name = name_of(NEW)
        with other.hold(name):
            here.target.start(NEW, "staging")
            other.stop(name)
            here.target.stop(name)
            assert name in here.target.servers()
        here.target.stop(name)
        assert name not in here.target.servers()
        here.target.stop(name_of(OLD))  # it is live
        assert name_of(OLD) in here.target.servers()
    ledger.close()
