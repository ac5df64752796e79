"""A target in memory with its ledger, and what tests of changes ask of it."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from typing import Any

from deploy.analysis.verdict import Analysis
from deploy.events import Live
from deploy.gateway.routes import cluster_name
from deploy.ledger import Ledger
from deploy.live import live_clusters
from deploy.release import Release
from deploy.rollout import Gate, Outcome, Request, roll_out
from deploy.traffic import Actor, Traffic
from serving_config.release import ReleasePolicy
from tests.deploy.releases import release
from tests.deploy.targets.memory import MemoryTarget

PLACE = ("staging", "iris")
ANN = Actor("ann", "run-2")
PASSED = Analysis(decision="promote", reason="all golden rows came back", requests=3, seconds=1)
FAILED = Analysis(decision="rollback", reason="2 of 3 golden rows differ", requests=3, seconds=1)

# Of a canary's policy: soon enough for a test.
FAST = {"min_requests": 100, "min_seconds": 10, "max_seconds": 100}


class AtOnce(Executor):
    """Every job is done before `submit` returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


def stored(live: Live) -> Release:
    """As if every Bento were still in the store; of another build than the first there is none."""
    return release(live.version, variant=live.variant)


def traffic_of(target: MemoryTarget) -> Traffic:
    return Traffic(target.ledger, target, stored)


def policy(name: str = "direct", **settings: Any) -> ReleasePolicy:
    return ReleasePolicy.model_validate({"policy": name, "bake_seconds": 0} | settings)


def name_of(which: Release, environment: str = "staging") -> str:
    return cluster_name(environment, which.model, which.live())


def promote(
    target: MemoryTarget,
    which: Release,
    by: ReleasePolicy | None = None,
    gate: Gate = lambda request, state: PASSED,
) -> Outcome:
    request = Request(
        which, "staging", "promote", "ann", "run-1", older_allowed=True, policy=by or policy()
    )
    return roll_out(target.ledger, target, request, gate)


def weights(target: MemoryTarget, environment: str = "staging", model: str = "iris") -> Mapping:
    """Label → weight, or (0, mirror) as `~20`, of what is live."""
    state = target.ledger.state(environment, model)
    return {live.label: f"~{live.mirror}" if live.mirror else live.weight for live in state.live}


def is_settled(target: MemoryTarget) -> None:
    """Gateway and servers are exactly what the ledger says."""
    assert target.routed == set(target.up) == live_clusters(target.ledger)
    assert target.in_step()
    target.ledger.check()


def opened() -> MemoryTarget:
    return MemoryTarget(Ledger("sqlite://"))
