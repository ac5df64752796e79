"""What is done about a release whose golden requests fail, on a ledger and servers in memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deploy.ledger import Ledger
from deploy.rollout import Request, roll_out
from deploy.traffic import Traffic
from orchestration.defs.lifecycle.health import _rolled_back
from orchestration.resources.serving import Serving
from serving_config.load import FOLDER
from serving_config.release import ReleasePolicy
from tests.deploy.releases import release
from tests.deploy.serving_things import PASSED
from tests.deploy.targets.memory import MemoryTarget

_TARGETS: list[MemoryTarget] = []


class InMemory(Serving):
    @contextmanager
    def traffic(self) -> Iterator[Traffic]:
        (target,) = _TARGETS
        yield Traffic(target.ledger, target, lambda item: release(item.version))


@pytest.fixture
def target() -> Iterator[MemoryTarget]:
    """Versions 1 and 2, one after the other."""
    made = MemoryTarget(Ledger("sqlite://"))
    _TARGETS.append(made)
    for version in (1, 2):
        promote(made, version, ReleasePolicy(bake_seconds=0))
    yield made
    _TARGETS.clear()
    made.ledger.close()


def promote(target: MemoryTarget, version: int, policy: ReleasePolicy) -> None:
    request = Request(release(version), "production", "promote", "ann", policy=policy)
    roll_out(target.ledger, target, request, lambda *_: PASSED)


def go_back(version: int) -> str:
    serving = InMemory(home="/nowhere", config_folder=str(FOLDER))
    return _rolled_back(serving, release(version), "2 golden requests differ", "run-1")


def serves(target: MemoryTarget) -> dict[str, int]:
    state = target.ledger.state("production", "iris")
    return {live.label: live.weight for live in state.live}


def test_a_release_whose_golden_requests_fail_goes_back(target: MemoryTarget) -> None:
    assert "version 1 serves again" in go_back(2)
    assert serves(target) == {"1": 100}


def test_a_canary_beside_it_does_not_go_back_to_the_version_that_fails(
    target: MemoryTarget,
) -> None:
    promote(target, 3, ReleasePolicy(policy="canary", steps=(10,)))
    assert serves(target) == {"3": 10, "2": 90}
    assert "version 1 serves again" in go_back(2)
    assert serves(target) == {"1": 100}


def test_a_version_that_has_no_traffic_any_more_is_left_alone(target: MemoryTarget) -> None:
    assert "not needed" in go_back(1)
    assert serves(target) == {"2": 100}
