"""A variant beside the version that it was made of: loaded, released, rolled back, split."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bentos.model_server.certificate import CertificateError
from deploy.history import last_healthy
from deploy.home import Home
from deploy.ledger import Ledger
from deploy.live import most_traffic
from deploy.load_and_split import load_and_split
from deploy.phases import stable_beside
from deploy.release import Release
from deploy.rollout import Outcome, ReleaseInProgressError, Request, roll_out
from deploy.traffic import NotLiveError, TrafficError
from deploy.versions import live_release
from tests.deploy.control.controls import build
from tests.deploy.releases import certificate, contract, http, live, release
from tests.deploy.serving_things import (
    ANN,
    PLACE,
    is_settled,
    name_of,
    policy,
    promote,
    traffic_of,
    weights,
)
from tests.deploy.targets.memory import MemoryTarget

THREE, INT8, FOUR = release(3), release(3, variant="int8"), release(4)
CANARY = policy("canary", steps=[10, 50], bake_seconds=60)


@pytest.fixture
def target() -> Iterator[MemoryTarget]:
    """Version 3 has all traffic of staging."""
    ledger = Ledger("sqlite://")
    made = MemoryTarget(ledger)
    promote(made, THREE)
    yield made
    ledger.close()


def to_staging(target: MemoryTarget, which: Release, *, asked_for: bool = False) -> Outcome:
    """As the staging deployment asks for it."""
    beside = which.live().variant != "fp32"
    request = Request(
        which, "staging", "deploy", "sensor", "run-1", older_allowed=asked_for, beside=beside
    )
    return roll_out(target.ledger, target, request)


def test_a_variant_comes_beside_what_serves_without_traffic_and_again_changes_nothing(
    target: MemoryTarget,
) -> None:
    assert to_staging(target, INT8).status == "loaded"
    assert weights(target) == {"3-int8": 0, "3": 100}
    assert [event.action for event in target.ledger.events()] == ["promote", "load"]
    assert to_staging(target, INT8).status == "unchanged"
    assert len(target.ledger.events()) == 2
    is_settled(target)


def test_where_nothing_serves_a_variant_is_deployed() -> None:
    target = MemoryTarget(Ledger("sqlite://"))
    assert to_staging(target, INT8).status == "deployed"
    assert weights(target) == {"3-int8": 100}
    assert to_staging(target, INT8).status == "unchanged"
    rebuilt = release(3, variant="int8", build="again")
    assert to_staging(target, rebuilt).status == "deployed"
    assert target.ledger.state(*PLACE).live == (rebuilt.live(),)
    is_settled(target)
    target.ledger.close()


def test_another_build_of_a_variant_takes_its_place_unless_it_has_traffic(
    target: MemoryTarget,
) -> None:
    to_staging(target, INT8)
    rebuilt = release(3, variant="int8", build="again")
    assert to_staging(target, rebuilt).status == "loaded"
    assert target.ledger.state(*PLACE).live == (rebuilt.live(0), THREE.live())
    is_settled(target)
    traffic_of(target).split(*PLACE, {"3": 60, "3-int8": 40}, ANN)
    with pytest.raises(TrafficError, match="version 3-int8: it has 40 %"):
        to_staging(target, INT8)
    assert weights(target) == {"3-int8": 40, "3": 60}
    is_settled(target)


def test_a_variant_is_loaded_beside_a_release_in_progress_which_goes_on(
    target: MemoryTarget,
) -> None:
    promote(target, FOUR, CANARY)
    assert to_staging(target, INT8).status == "superseded"
    assert to_staging(target, INT8, asked_for=True).status == "loaded"
    assert weights(target) == {"3-int8": 0, "4": 10, "3": 90}
    phase = target.ledger.events()[-1].phase
    assert phase is not None
    assert phase.candidate == "4"


def test_a_variant_leaves_with_the_version_it_was_made_of(target: MemoryTarget) -> None:
    to_staging(target, INT8)
    to_staging(target, FOUR)
    assert weights(target) == {"4": 100}
    is_settled(target)
    assert to_staging(target, INT8).status == "superseded"
    assert weights(target) == {"4": 100}


def test_nothing_that_nobody_asked_for_takes_traffic_from_a_variant(target: MemoryTarget) -> None:
    to_staging(target, INT8)
    assert to_staging(target, THREE).status == "unchanged"
    traffic_of(target).split(*PLACE, {"3-int8": 100}, ANN)
    outcome = to_staging(target, THREE)
    assert (outcome.status, weights(target)) == ("superseded", {"3-int8": 100, "3": 0})
    assert to_staging(target, THREE, asked_for=True).status == "deployed"
    assert weights(target) == {"3": 100}


def test_a_variant_is_released_by_canary_against_its_version_and_rolled_back(
    target: MemoryTarget,
) -> None:
    outcome = promote(target, INT8, CANARY)
    assert (outcome.status, weights(target)) == ("started", {"3-int8": 10, "3": 90})
    phase = target.ledger.events()[-1].phase
    assert phase is not None
    assert phase.stable is not None
    assert (phase.candidate, phase.stable.label) == ("3-int8", "3")
    with pytest.raises(ReleaseInProgressError, match="3-int8"):
        promote(target, FOUR, CANARY)
    traffic = traffic_of(target)
    traffic.rollback(*PLACE, ANN, "slower")
    assert weights(target) == {"3": 100}
    traffic.tidy(*PLACE)
    is_settled(target)


def test_from_a_variant_one_gets_back_to_its_version_and_from_there_not_to_the_variant(
    target: MemoryTarget,
) -> None:
    promote(target, INT8)
    assert weights(target) == {"3-int8": 100}
    events = target.ledger.events(PLACE[1], PLACE[0])
    assert last_healthy(events) == THREE.live()
    traffic = traffic_of(target)
    traffic.rollback(*PLACE, ANN, "flips labels")
    assert weights(target) == {"3": 100}
    assert last_healthy(target.ledger.events(PLACE[1], PLACE[0])) is None


def test_of_a_split_in_halves_the_version_as_it_was_trained_counts() -> None:
    halves = (live(3, 50, variant="int8"), live(3, 50))
    for lives in (halves, halves[::-1]):
        assert most_traffic(lives) == live(3, 50)
        assert stable_beside(lives, "4") == live(3, 50)
        assert stable_beside(lives, "3") == live(3, 50, variant="int8")


def test_the_release_of_a_live_variant_has_the_variant_s_certificate(tmp_path: Path) -> None:
    home = Home(tmp_path)
    build(home, 3)
    variant = build(home, 3, variant="int8")
    found = live_release(home, variant.live())
    assert found.certificate.variant == "int8"
    assert found.bundle.onnx_sha256 == variant.bundle.onnx_sha256


def split(target: MemoryTarget, wanted: dict[str, int], **builds: Release) -> Any:
    def built(label: str) -> Release:
        return builds[f"v{label.replace('-', '_')}"]

    return load_and_split(traffic_of(target), *PLACE, wanted, ANN, built)


def test_a_split_loads_what_is_verified_and_not_live(target: MemoryTarget) -> None:
    split(target, {"3": 50, "3-int8": 30, "4": 20}, v3_int8=INT8, v4=FOUR)
    assert weights(target) == {"4": 20, "3-int8": 30, "3": 50}
    split(target, {"3": 100})
    assert weights(target) == {"4": 0, "3-int8": 0, "3": 100}
    is_settled(target)


def test_a_split_with_a_version_that_was_not_verified_changes_nothing(
    target: MemoryTarget,
) -> None:
    before = target.ledger.events()
    made = contract(version=4)
    unproved = release(4, proof=certificate(made, flips=1, smoke=http()))
    with pytest.raises(CertificateError, match="did not pass conversion_parity"):
        split(target, {"3": 50, "3-int8": 30, "4": 20}, v3_int8=INT8, v4=unproved)
    with pytest.raises(TrafficError, match="sum to 100"):
        split(target, {"3": 50, "3-int8": 30}, v3_int8=INT8)
    with pytest.raises(NotLiveError, match="version 5: not live"):
        split(target, {"3": 100, "5": 0})
    assert target.ledger.events() == before
    is_settled(target)


def test_what_a_split_has_loaded_leaves_where_the_rest_does_not_come_up(
    target: MemoryTarget,
) -> None:
    target.unready.add(name_of(FOUR))
    with pytest.raises(Exception, match="4"):
        split(target, {"3": 50, "3-int8": 30, "4": 20}, v3_int8=INT8, v4=FOUR)
    assert weights(target) == {"3": 100}
    is_settled(target)
