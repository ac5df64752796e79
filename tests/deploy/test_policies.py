"""How a release begins by each policy, and that the same release again goes on."""

from collections.abc import Iterator
from typing import Any

import pytest

from deploy.changes import carry_out
from deploy.events import Counters, Event, ReleaseInProgressError
from deploy.ledger import Ledger
from deploy.phases import without
from deploy.release import ReleaseError
from deploy.rollout import GateError
from deploy.targets.base import TargetError
from tests.deploy.releases import release
from tests.deploy.serving_things import (
    ANN,
    FAILED,
    PASSED,
    PLACE,
    is_settled,
    name_of,
    policy,
    promote,
    traffic_of,
    weights,
)
from tests.deploy.targets.memory import MemoryTarget

OLD, NEW, THIRD = release(1), release(2), release(3)
CANARY = policy("canary", steps=[10, 50], bake_seconds=60)
BLUE_GREEN = policy("blue_green", bake_seconds=60)


@pytest.fixture
def target() -> Iterator[MemoryTarget]:
    ledger = Ledger("sqlite://")
    made = MemoryTarget(ledger)
    promote(made, OLD)
    made.calls.clear()
    yield made
    ledger.close()


def last(target: MemoryTarget) -> Event:
    return target.ledger.events()[-1]


def actions(target: MemoryTarget) -> list[str]:
    return [event.action for event in target.ledger.events()]


def test_blue_green_keeps_the_old_version_loaded_for_the_bake_time(target: MemoryTarget) -> None:
    target.counted[name_of(OLD)] = Counters(requests=7)
    outcome = promote(target, NEW, BLUE_GREEN)
    assert (outcome.status, weights(target)) == ("deployed", {"2": 100, "1": 0})
    assert actions(target) == ["promote", "load", "promote"]
    phase = last(target).phase
    assert phase is not None
    assert (phase.name, phase.candidate, phase.policy["bake_seconds"]) == ("bake", "2", 60)
    assert phase.stable == OLD.live(100)
    assert phase.baseline == {"2": Counters(), "1": Counters(requests=7)}
    assert last(target).evidence["analysis"]["reason"] == "all golden rows came back"
    is_settled(target)


def test_blue_green_without_a_bake_time_lets_the_old_version_go(target: MemoryTarget) -> None:
    promote(target, NEW, policy("blue_green"))
    assert weights(target) == {"2": 100}
    assert last(target).phase is None
    is_settled(target)


def test_a_canary_begins_with_its_first_step(target: MemoryTarget) -> None:
    outcome = promote(target, NEW, CANARY)
    assert outcome.event is not None
    assert (outcome.status, outcome.event.id) == ("started", last(target).id)
    assert weights(target) == {"2": 10, "1": 90}
    assert (last(target).action, last(target).actor) == ("canary", "ann")
    is_settled(target)


@pytest.mark.parametrize("name", ["direct", "blue_green", "canary"])
def test_a_first_version_is_released_at_once(name: str) -> None:
    target = MemoryTarget(Ledger("sqlite://"))
    assert promote(target, NEW, policy(name, bake_seconds=60)).status == "deployed"
    assert weights(target) == {"2": 100}
    phase = last(target).phase
    assert phase is not None
    assert (phase.name, phase.stable) == ("bake", None)
    target.ledger.close()


@pytest.mark.parametrize("by", [BLUE_GREEN, CANARY], ids=["blue_green", "canary"])
def test_a_candidate_that_the_gate_refuses_leaves_with_the_reason_on_the_record(
    by: Any, target: MemoryTarget
) -> None:
    with pytest.raises(GateError, match="iris version 2 was not released: 2 of 3 golden rows"):
        promote(target, NEW, by, lambda request, state: FAILED)
    assert weights(target) == {"1": 100}
    assert (actions(target), last(target).version) == (["promote", "load", "retire"], 2)
    assert last(target).evidence["analysis"]["decision"] == "rollback"
    is_settled(target)


def test_a_candidate_that_cannot_be_asked_leaves_too(target: MemoryTarget) -> None:
    def unreachable(request: Any, state: Any) -> Any:
        raise TargetError("POST /predict: connection refused")

    with pytest.raises(GateError, match="connection refused"):
        promote(target, NEW, CANARY, unreachable)
    is_settled(target)
    assert weights(target) == {"1": 100}


@pytest.mark.parametrize("raised", [ReleaseError("the Bento is gone"), KeyboardInterrupt()])
def test_a_candidate_leaves_whatever_the_gate_raises(
    raised: BaseException, target: MemoryTarget
) -> None:
    def fail(request: Any, state: Any) -> Any:
        raise raised

    with pytest.raises(type(raised)):
        promote(target, NEW, CANARY, fail)
    assert weights(target) == {"1": 100}
    assert "the gate failed: " in last(target).evidence["reason"]
    is_settled(target)


def test_the_gate_is_asked_while_the_candidate_can_be_pinned_but_gets_nothing(
    target: MemoryTarget,
) -> None:
    def gate(request: Any, state: Any) -> Any:
        assert weights(target) == {"2": 0, "1": 100}
        assert name_of(NEW) in target.routed
        assert state == target.ledger.state(*PLACE)
        return FAILED

    with pytest.raises(GateError):
        promote(target, NEW, CANARY, gate)


def test_a_loaded_version_is_released_with_the_server_it_has(target: MemoryTarget) -> None:
    traffic_of(target).load(NEW, "staging", ANN)
    promote(target, NEW, CANARY)
    assert actions(target) == ["promote", "load", "canary"]
    assert target.calls.count(f"stop {name_of(NEW)}") == 0
    is_settled(target)


@pytest.mark.parametrize("by", [BLUE_GREEN, CANARY], ids=["blue_green", "canary"])
def test_the_same_release_again_changes_nothing_while_it_is_in_progress(
    by: Any, target: MemoryTarget
) -> None:
    first = promote(target, NEW, by)
    again = promote(target, NEW, by)
    assert again.state == first.state
    assert again.status == ("unchanged" if by is BLUE_GREEN else "started")
    if by is CANARY:
        assert again.event == last(target)
    is_settled(target)


@pytest.mark.parametrize("by", [BLUE_GREEN, CANARY], ids=["blue_green", "canary"])
def test_a_candidate_waits_for_the_bake_of_the_version_before_whose_watch_it_would_end(
    by: Any, target: MemoryTarget
) -> None:
    promote(target, NEW, BLUE_GREEN)
    before = last(target)
    with pytest.raises(ReleaseInProgressError, match="iris version 2 is in its bake time"):
        promote(target, THIRD, by)
    assert last(target) == before
    is_settled(target)


def test_what_bakes_may_be_replaced_at_once(target: MemoryTarget) -> None:
    promote(target, NEW, BLUE_GREEN)
    promote(target, THIRD, policy(bake_seconds=60))
    assert weights(target) == {"3": 100}
    is_settled(target)


def test_while_a_candidate_of_a_first_version_is_asked_the_bake_of_that_goes_on() -> None:
    """There is nothing to go back to from it, so it is not waited for."""
    target = MemoryTarget(Ledger("sqlite://"))
    promote(target, NEW, BLUE_GREEN)
    baking = last(target)
    with pytest.raises(GateError):
        promote(target, THIRD, CANARY, lambda request, state: FAILED)
    phase = last(target).phase
    assert phase is not None
    assert (phase.name, phase.candidate, phase.since) == ("bake", "2", baking.at)
    promote(target, THIRD, CANARY)
    assert weights(target) == {"3": 10, "2": 90}
    target.ledger.close()


def test_another_build_of_the_version_that_serves_is_released_at_once(
    target: MemoryTarget,
) -> None:
    again = release(1, build="again")
    assert promote(target, again, CANARY).status == "deployed"
    assert target.routed == {name_of(again)}
    is_settled(target)


def test_of_two_canaries_from_the_same_state_one_wins_and_the_other_is_told(
    target: MemoryTarget,
) -> None:
    def be_faster(call: str) -> None:
        if call == f"wait_ready {name_of(NEW)}":
            target.before = lambda call: None
            promote(target, THIRD, CANARY)

    target.before = be_faster
    with pytest.raises(Exception, match="another release was faster"):
        promote(target, NEW, CANARY)
    assert weights(target) == {"3": 10, "1": 90}
    with pytest.raises(ReleaseInProgressError):
        promote(target, NEW, CANARY)
    traffic_of(target).tidy(*PLACE)
    is_settled(target)


def healthy(target: MemoryTarget) -> None:
    """The controller ends the bake time."""
    state = target.ledger.state(*PLACE)
    stays = without(state.live, "1")
    carry_out(target.ledger, target, ANN.change(state, "healthy", stays[0], stays, {}))
    traffic_of(target).tidy(*PLACE)


def test_a_bake_that_ends_while_the_next_server_loads_does_not_fail_its_release(
    target: MemoryTarget,
) -> None:
    promote(target, NEW, BLUE_GREEN)

    def end(call: str) -> None:
        if call == f"wait_ready {name_of(THIRD)}":
            target.before = lambda call: None
            healthy(target)

    target.before = end
    assert promote(target, THIRD, policy(bake_seconds=60)).status == "deployed"
    assert weights(target) == {"3": 100}
    phase = last(target).phase
    assert phase is not None
    assert phase.stable == NEW.live()
    assert target.calls.count(f"start {name_of(THIRD)}") == 1
    is_settled(target)


@pytest.mark.parametrize("by", [BLUE_GREEN, CANARY], ids=["blue_green", "canary"])
@pytest.mark.parametrize("answer", [PASSED, FAILED], ids=["passed", "failed"])
def test_what_others_load_while_the_server_loads_and_the_gate_asks_does_not_fail_a_release(
    by: Any, answer: Any, target: MemoryTarget
) -> None:
    traffic = traffic_of(target)

    def load(call: str) -> None:
        if call == f"wait_ready {name_of(NEW)}":
            target.before = lambda call: None
            traffic.load(THIRD, "staging", ANN)

    def gate(request: Any, state: Any) -> Any:
        traffic.retire(*PLACE, "3", ANN)
        return answer

    target.before = load
    if answer is FAILED:
        with pytest.raises(GateError):
            promote(target, NEW, by, gate)
        assert weights(target) == {"1": 100}
    else:
        promote(target, NEW, by, gate)
        assert weights(target) == ({"2": 10, "1": 90} if by is CANARY else {"2": 100, "1": 0})
    is_settled(target)


def test_what_a_server_counted_before_a_direct_release_is_not_held_against_it(
    target: MemoryTarget,
) -> None:
    target.up[name_of(NEW)] = 1
    target.counted[name_of(NEW)] = Counters(requests=7, errors=7)
    promote(target, NEW, policy(bake_seconds=60))
    phase = last(target).phase
    assert phase is not None
    assert phase.baseline == {"2": Counters(requests=7, errors=7)}


def test_a_server_that_cannot_be_observed_yet_has_counted_nothing(target: MemoryTarget) -> None:
    def unknown(call: str) -> None:
        if call.startswith("observe"):
            raise TargetError("the gateway does not know it")

    target.before = unknown
    promote(target, NEW, policy(bake_seconds=60))
    phase = last(target).phase
    assert phase is not None
    assert phase.baseline == {}


def test_a_split_while_the_gate_asks_wins_over_the_release(target: MemoryTarget) -> None:
    def gate(request: Any, state: Any) -> Any:
        traffic_of(target).split(*PLACE, {"2": 40, "1": 60}, ANN)
        return PASSED

    with pytest.raises(Exception, match="another release was faster"):
        promote(target, NEW, CANARY, gate)
    assert weights(target) == {"2": 40, "1": 60}
    is_settled(target)


def test_of_a_split_by_hand_the_version_with_most_traffic_is_the_stable_one(
    target: MemoryTarget,
) -> None:
    traffic = traffic_of(target)
    traffic.load(NEW, "staging", ANN)
    traffic.split(*PLACE, {"1": 40, "2": 60}, ANN)
    promote(target, THIRD, CANARY)
    assert weights(target) == {"3": 10, "2": 90, "1": 0}
