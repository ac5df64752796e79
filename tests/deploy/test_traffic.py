from collections.abc import Iterator
from typing import Any

import pytest

from bentos.model_server.certificate import CertificateError
from deploy.events import LedgerConflictError, Live
from deploy.gateway.envoy import GatewayError
from deploy.ledger import Ledger
from deploy.release import Release, ReleaseError
from deploy.rollout import ReleaseInProgressError, Request, roll_out
from deploy.traffic import NothingToRollBackToError, NotLiveError, Traffic, TrafficError
from tests.deploy.releases import certificate, contract, release
from tests.deploy.serving_things import (
    ANN,
    PLACE,
    is_settled,
    name_of,
    policy,
    promote,
    stored,
    traffic_of,
    weights,
)
from tests.deploy.targets.memory import MemoryTarget

CANARY = policy("canary", steps=[10, 50], bake_seconds=60)


@pytest.fixture
def target() -> Iterator[MemoryTarget]:
    ledger = Ledger("sqlite://")
    yield MemoryTarget(ledger)
    ledger.close()


@pytest.fixture
def two(target: MemoryTarget) -> Traffic:
    """Version 1 has all traffic, version 2 is resident."""
    promote(target, release(1))
    traffic = traffic_of(target)
    traffic.load(release(2), "staging", ANN)
    target.calls.clear()
    return traffic


def test_a_split_gives_live_versions_their_shares_by_one_change_and_starts_nothing(
    two: Traffic, target: MemoryTarget
) -> None:
    event = two.split(*PLACE, {"1": 90, "2": 10.0}, ANN)
    assert weights(target) == {"2": 10, "1": 90}
    assert target.calls == ["route"]
    assert (event.action, event.actor, event.dagster_run) == ("split", "ann", "run-2")
    assert event.evidence == {"weights": {"1": 90, "2": 10}}
    is_settled(target)


def test_a_version_that_a_split_does_not_name_stays_resident(
    two: Traffic, target: MemoryTarget
) -> None:
    two.split(*PLACE, {"2": 100}, ANN)
    assert weights(target) == {"2": 100, "1": 0}
    is_settled(target)


BAD_WEIGHTS: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({}, "weights: none given"),
    "below 100": ({"1": 50, "2": 49}, "sum to 100, these sum to 99: 1=50, 2=49"),
    "above 100": ({"1": 90, "2": 20}, "sum to 100, these sum to 110"),
    "NaN": ({"1": float("nan"), "2": 100}, "version 1: nan must be a whole number of 0 to 100"),
    "infinite": ({"1": float("inf")}, "version 1: inf must be"),
    "part": ({"1": 99.5, "2": 0.5}, "version 1: 99.5 must be"),
    "negative": ({"1": -10, "2": 110}, "version 1: -10 must be"),
    "too much": ({"1": 10**400}, "must be a whole number"),
    "bool": ({"1": True, "2": 99}, "version 1: True must be"),
    "text": ({"1": "90", "2": 10}, "version 1: '90' must be"),
    "null": ({"1": None, "2": 100}, "version 1: None must be"),
    "not live": ({"1": 50, "7": 50}, "version 7: not live in staging; .* iris: 2=0, 1=100"),
    "variant": ({"1-int8": 100}, "version 1-int8: not live"),
}


@pytest.mark.parametrize(("bad", "message"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_a_split_that_cannot_be_changes_nothing_and_says_why(
    bad: dict[str, Any], message: str, two: Traffic, target: MemoryTarget
) -> None:
    before = target.ledger.events()
    with pytest.raises(TrafficError, match=message):
        two.split(*PLACE, bad, ANN)
    assert target.ledger.events() == before
    assert target.calls == []


def test_what_is_not_served_cannot_be_split(target: MemoryTarget) -> None:
    with pytest.raises(NotLiveError, match="live there of iris: nothing"):
        traffic_of(target).split(*PLACE, {"1": 100}, ANN)


def test_traffic_is_not_given_to_a_server_that_is_not_ready_but_may_be_taken_from_it(
    two: Traffic, target: MemoryTarget
) -> None:
    two.split(*PLACE, {"1": 50, "2": 50}, ANN)
    target.unready.add(name_of(release(2)))
    with pytest.raises(TrafficError, match="version 2: its server is not ready"):
        two.split(*PLACE, {"1": 49, "2": 51}, ANN)
    assert weights(target) == {"2": 50, "1": 50}
    two.split(*PLACE, {"1": 100}, ANN)
    assert weights(target) == {"2": 0, "1": 100}


def test_whoever_saw_another_generation_is_told_both(two: Traffic, target: MemoryTarget) -> None:
    for act in (
        lambda: two.split(*PLACE, {"1": 100}, ANN, expected=1),
        lambda: two.load(release(3), "staging", ANN, expected=1),
        lambda: two.retire(*PLACE, "2", ANN, expected=1),
        lambda: two.rollback(*PLACE, ANN, "slow", expected=1),
    ):
        with pytest.raises(LedgerConflictError, match="is at generation 2, not 1"):
            act()
    assert target.calls == []
    two.split(*PLACE, {"1": 90, "2": 10}, ANN, expected=2)


def test_the_same_split_again_only_sees_to_the_gateway(two: Traffic, target: MemoryTarget) -> None:
    first = two.split(*PLACE, {"1": 90, "2": 10}, ANN)
    target.routed = set()
    assert two.split(*PLACE, {"1": 90, "2": 10}, ANN) == first
    is_settled(target)


def test_a_split_that_the_gateway_does_not_take_is_taken_back_on_the_record(
    two: Traffic, target: MemoryTarget
) -> None:
    def fail_once(call: str) -> None:
        target.before = lambda call: None
        raise GatewayError("the gateway did not take rds")

    target.before = fail_once
    with pytest.raises(GatewayError):
        two.split(*PLACE, {"2": 100}, ANN)
    assert weights(target) == {"2": 0, "1": 100}
    assert target.ledger.events()[-1].action == "revert"
    is_settled(target)


def test_a_change_in_a_canary_that_the_gateway_does_not_take_leaves_the_canary_going(
    target: MemoryTarget,
) -> None:
    promote(target, release(1))
    started = promote(target, release(2), CANARY).event

    def fail_once(call: str) -> None:
        target.before = lambda call: None
        raise GatewayError("the gateway did not take rds")

    target.before = fail_once
    with pytest.raises(GatewayError):
        traffic_of(target).split(*PLACE, {"2": 100}, ANN)
    last = target.ledger.last_event(*PLACE)
    assert started is not None
    assert last is not None
    assert last.phase is not None
    assert (last.phase.candidate, last.phase.since) == ("2", started.at)
    assert weights(target) == {"2": 10, "1": 90}


def test_a_split_by_hand_ends_the_release_in_progress_even_with_the_same_weights(
    target: MemoryTarget,
) -> None:
    promote(target, release(1))
    promote(target, release(2), CANARY)
    event = traffic_of(target).split(*PLACE, {"1": 90, "2": 10}, ANN)
    assert (event.action, event.phase) == ("split", None)


def test_copied_requests_stay_with_a_version_that_a_split_gives_nothing(
    target: MemoryTarget,
) -> None:
    promote(target, release(1))
    promote(target, release(2), policy("canary", shadow={"share": 30}))
    assert weights(target) == {"2": "~30", "1": 100}
    traffic = traffic_of(target)
    traffic.split(*PLACE, {"1": 100}, ANN)
    assert weights(target) == {"2": "~30", "1": 100}
    traffic.split(*PLACE, {"1": 99, "2": 1}, ANN)
    assert weights(target) == {"2": 1, "1": 99}


def test_a_loaded_version_is_ready_and_pinned_but_gets_nothing(two: Traffic, target: MemoryTarget):
    assert weights(target) == {"2": 0, "1": 100}
    event = target.ledger.events()[-1]
    assert (event.action, event.version, event.evidence["bento"]) == ("load", 2, release(2).tag)
    assert two.load(release(2), "staging", ANN) == event
    is_settled(target)


def test_nothing_is_loaded_where_nothing_is_live(target: MemoryTarget) -> None:
    with pytest.raises(NotLiveError, match="promote it instead"):
        traffic_of(target).load(release(1), "staging", ANN)
    assert target.calls == []


def test_a_version_with_another_certificate_is_not_loaded(
    two: Traffic, target: MemoryTarget
) -> None:
    with pytest.raises(CertificateError):
        two.load(release(3, proof=certificate(contract(version=9))), "staging", ANN)
    assert target.calls == []


def test_another_build_of_a_live_version_is_not_loaded_beside_it(two: Traffic) -> None:
    with pytest.raises(TrafficError, match="another build of iris version 2 is live"):
        two.load(release(2, build="again"), "staging", ANN)


def test_a_version_that_does_not_get_ready_is_not_loaded(
    two: Traffic, target: MemoryTarget
) -> None:
    target.unready.add(name_of(release(3)))
    with pytest.raises(Exception, match="not ready"):
        two.load(release(3), "staging", ANN)
    assert weights(target) == {"2": 0, "1": 100}
    is_settled(target)


def test_a_retired_version_leaves_the_routes_before_its_server_stops(
    two: Traffic, target: MemoryTarget
) -> None:
    event = two.retire(*PLACE, "2", ANN)
    gone = name_of(release(2))
    assert target.calls == ["route", f"drain {gone}", f"stop {gone}", "route"]
    assert (event.action, event.version, weights(target)) == ("retire", 2, {"1": 100})
    assert two.retire(*PLACE, "2", ANN) == event
    is_settled(target)


def test_a_version_with_traffic_or_a_part_in_a_release_is_not_retired(
    two: Traffic, target: MemoryTarget
) -> None:
    with pytest.raises(TrafficError, match="version 1: it has 100 % of the traffic"):
        two.retire(*PLACE, "1", ANN)
    with pytest.raises(NotLiveError, match="version 9: not live"):
        two.retire(*PLACE, "9", ANN)
    promote(target, release(2), policy("canary", shadow={}))
    with pytest.raises(TrafficError, match=r"part in the release of version 2 \(shadow\)"):
        two.retire(*PLACE, "2", ANN)


def test_a_third_version_comes_and_goes_while_a_canary_goes_on(target: MemoryTarget) -> None:
    promote(target, release(1))
    started = promote(target, release(2), CANARY).event
    traffic = traffic_of(target)
    loaded = traffic.load(release(3), "staging", ANN)
    retired = traffic.retire(*PLACE, "3", ANN)
    assert started is not None
    for event in (loaded, retired):
        assert event.phase is not None
        assert (event.phase.candidate, event.phase.since) == ("2", started.at)
    assert weights(target) == {"2": 10, "1": 90}
    is_settled(target)


def test_a_canary_is_rolled_back_without_starting_or_waiting_for_anything(
    target: MemoryTarget,
) -> None:
    promote(target, release(1))
    promote(target, release(2), CANARY)
    target.calls.clear()
    traffic = traffic_of(target)
    event = traffic.rollback(*PLACE, ANN, "answers nonsense", evidence={"analysis": {}})
    assert target.calls == ["route"]
    assert weights(target) == {"1": 100}
    assert (event.action, event.version, event.phase) == ("rollback", 1, None)
    assert event.evidence == {"reason": "answers nonsense", "from": ["2"], "analysis": {}}
    traffic.tidy(*PLACE)
    is_settled(target)


def test_a_rollback_to_a_version_that_left_starts_its_server_before_it_gets_traffic(
    target: MemoryTarget,
) -> None:
    old, new = release(1), release(2)
    promote(target, old)
    promote(target, new)
    target.calls.clear()
    traffic = traffic_of(target)
    traffic.rollback(*PLACE, ANN, "slow")
    assert target.calls == [f"start {name_of(old)}", f"wait_ready {name_of(old)}", "route"]
    traffic.tidy(*PLACE)
    assert weights(target) == {"1": 100}
    is_settled(target)


def test_a_resident_version_that_is_not_ready_is_waited_for(target: MemoryTarget) -> None:
    promote(target, release(1))
    promote(target, release(2), policy("blue_green", bake_seconds=60))
    target.unready.add(name_of(release(1)))
    with pytest.raises(Exception, match="not ready"):
        traffic_of(target).rollback(*PLACE, ANN, "slow")
    assert weights(target) == {"2": 100, "1": 0}
    assert target.unserved() == set()


def test_two_rollbacks_go_back_two_versions_and_a_killed_one_is_only_ended(
    target: MemoryTarget,
) -> None:
    for version in (1, 2, 3):
        promote(target, release(version))
    traffic = traffic_of(target)
    first = traffic.rollback(*PLACE, ANN, "slow")
    assert traffic.rollback(*PLACE, ANN, "slow") == first, "version 3's server is still there"
    traffic.tidy(*PLACE)
    traffic.rollback(*PLACE, ANN, "slow")
    traffic.tidy(*PLACE)
    assert weights(target) == {"1": 100}
    with pytest.raises(NothingToRollBackToError, match=r"no version in staging .*\(1=100\)"):
        traffic.rollback(*PLACE, ANN, "slow")


def test_resident_versions_that_had_no_part_in_it_stay(two: Traffic, target: MemoryTarget) -> None:
    promote(target, release(3), CANARY)
    two.rollback(*PLACE, ANN, "slow")
    assert weights(target) == {"1": 100, "2": 0}


def test_nothing_is_rolled_back_to_without_its_bento_and_its_proof(target: MemoryTarget) -> None:
    promote(target, release(1))
    promote(target, release(2))

    def changed(live: Live) -> Release:
        raise ReleaseError("Bento iris:1 must not be deployed")

    def exchanged(live: Live) -> Release:
        return release(1, proof=certificate(contract(version=9)))

    for loader, error in ((changed, ReleaseError), (exchanged, CertificateError)):
        with pytest.raises(error):
            Traffic(target.ledger, target, loader).rollback(*PLACE, ANN, "slow")
    assert weights(target) == {"2": 100}
    is_settled(target)


def test_while_a_canary_runs_another_candidate_is_told_to_wait(target: MemoryTarget) -> None:
    promote(target, release(1))
    promote(target, release(2), CANARY)
    text = r"version 2 is in progress in staging \(canary, 10 %\): wait for it, or `slipway"
    with pytest.raises(ReleaseInProgressError, match=text):
        promote(target, release(3), CANARY)
    with pytest.raises(ReleaseInProgressError):
        promote(target, release(1))
    assert weights(target) == {"2": 10, "1": 90}
    assert stored(release(3).live()).model == "iris"


def test_a_state_that_moves_while_a_version_is_loaded_is_no_reason_to_start_it_again(
    two: Traffic, target: MemoryTarget
) -> None:
    third, ninth = release(3), release(9)
    moved: list[str] = []

    def move(call: str) -> None:
        if call == f"wait_ready {name_of(third)}" and not moved:
            moved.append(call)
            traffic_of(target).load(ninth, PLACE[0], ANN)

    target.after = move
    two.load(third, PLACE[0], ANN)
    assert set(weights(target)) == {"1", "2", "3", "9"}
    assert target.calls.count(f"start {name_of(third)}") == 1


def test_two_rollbacks_at_once_go_back_once(target: MemoryTarget) -> None:
    for version in (1, 2, 3):
        promote(target, release(version))
    at_once: list[str] = []

    def other(call: str) -> None:
        if call.startswith("wait_ready") and not at_once:
            at_once.append(call)
            traffic_of(target).rollback(*PLACE, ANN, "slow")

    target.after = other
    traffic_of(target).rollback(*PLACE, ANN, "wrong")
    assert weights(target) == {"2": 100}
    assert [event.action for event in target.ledger.events()].count("rollback") == 1


def test_a_build_that_served_is_the_way_back_though_the_version_was_built_and_proved_again(
    target: MemoryTarget,
) -> None:
    old, again = release(1), release(1, build="again")
    for build in (old, again):
        request = Request(build, "production", "promote", "ann", older_allowed=True)
        roll_out(target.ledger, target, request)
    proof = again.certificate  # of the version there is one: the latest
    traffic = Traffic(target.ledger, target, lambda live: release(1, proof=proof))
    traffic.rollback("production", "iris", ANN, "slow")
    assert target.ledger.state("production", "iris").live == (old.live(),)
