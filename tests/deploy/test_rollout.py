from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bentos.model_server.certificate import CertificateError
from deploy.changes import converge
from deploy.events import LedgerConflictError, LedgerError, State
from deploy.gateway.envoy import GatewayError
from deploy.gateway.routes import cluster_name
from deploy.ledger import Ledger
from deploy.release import Release
from deploy.rollout import Outcome, Request, roll_out
from deploy.targets.base import TargetError
from tests.deploy.releases import certificate, change, contract, http, live, release
from tests.deploy.targets.memory import Crash, MemoryTarget


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    yield opened
    opened.close()


@pytest.fixture
def target(ledger: Ledger) -> MemoryTarget:
    return MemoryTarget(ledger)


def request(
    which: Release, environment: str = "staging", *, older_allowed: bool = False
) -> Request:
    return Request(which, environment, "deploy", "ann", "run-1", older_allowed)


def deploy(target: MemoryTarget, which: Release, environment: str = "staging") -> Outcome:
    outcome = roll_out(target.ledger, target, request(which, environment, older_allowed=True))
    target.calls.clear()
    return outcome


def name(which: Release, environment: str = "staging") -> str:
    return cluster_name(environment, which.model, which.live())


def serves(target: MemoryTarget, *releases: Release, environment: str = "staging") -> None:
    """Exactly these: on the ledger, routed to, and with a server."""
    expected = {name(which, environment) for which in releases}
    assert target.routed == expected
    assert set(target.up) == expected
    states = target.ledger.states().items()
    assert {cluster_name(*place, item) for place, state in states for item in state.live} == (
        expected
    )
    target.ledger.check()


def test_the_first_release_is_ready_before_it_is_on_the_ledger_and_routed_to(
    target: MemoryTarget,
) -> None:
    first = release(1)
    on_ledger: dict[str, int] = {}
    target.before = lambda call: on_ledger.update({call: len(target.ledger.events())})
    outcome = roll_out(target.ledger, target, request(first))
    started = [f"start {name(first)}", f"wait_ready {name(first)}", "route"]
    assert target.calls == started
    assert on_ledger == dict(zip(started, (0, 0, 1), strict=True))
    assert outcome.status == "deployed"
    assert outcome.state == State("staging", "iris", 1, (first.live(),))
    assert outcome.event == target.ledger.events()[0]
    serves(target, first)


def test_the_old_server_is_drained_and_stopped_only_after_the_new_one_is_routed_to(
    target: MemoryTarget,
) -> None:
    old, new = release(1), release(2)
    deploy(target, old)
    roll_out(target.ledger, target, request(new))
    assert target.calls == [
        f"start {name(new)}",
        f"wait_ready {name(new)}",
        "route",
        f"drain {name(old)}",
        f"stop {name(old)}",
        "route",
    ]
    serves(target, new)


def test_the_event_says_who_released_which_bento_with_which_proof(target: MemoryTarget) -> None:
    first = release(1)
    event = roll_out(target.ledger, target, request(first)).event
    assert event is not None
    assert (event.action, event.actor, event.dagster_run) == ("deploy", "ann", "run-1")
    assert event.evidence == {
        "bento": first.tag,
        "certificate_sha256": first.certificate.digest(),
    }


def test_a_server_that_does_not_get_ready_is_removed_and_the_old_version_goes_on(
    target: MemoryTarget,
) -> None:
    old, new = release(1), release(2)
    deploy(target, old)
    target.unready.add(name(new))
    with pytest.raises(TargetError, match="not ready"):
        roll_out(target.ledger, target, request(new))
    serves(target, old)
    assert len(target.ledger.events()) == 1


def test_a_server_that_was_up_before_is_not_removed_for_being_slow(target: MemoryTarget) -> None:
    first = release(1)
    deploy(target, first)
    target.unready.add(name(first))
    with pytest.raises(TargetError):
        roll_out(target.ledger, target, request(first))
    serves(target, first)


PROOFS = {
    "for another digest": ("staging", certificate(contract(version=9), smoke=http())),
    "that did not pass": ("staging", certificate(contract(), flips=1, smoke=http())),
    "without a smoke test": ("production", certificate(contract())),
    "with a failed smoke test": ("production", certificate(contract(), smoke=http(mismatches=1))),
    "for another digest, over HTTP": ("production", certificate(contract(version=9), smoke=http())),
}


@pytest.mark.parametrize(("environment", "proof"), PROOFS.values(), ids=PROOFS)
def test_nothing_is_started_with_a_certificate(
    environment: str, proof: object, target: MemoryTarget
) -> None:
    with pytest.raises(CertificateError):
        roll_out(target.ledger, target, request(release(proof=proof), environment))  # type: ignore[arg-type]
    assert target.calls == []
    assert target.ledger.events() == []


def test_staging_takes_a_version_whose_smoke_test_is_still_to_come(target: MemoryTarget) -> None:
    unsmoked = release(proof=certificate(contract()))
    assert roll_out(target.ledger, target, request(unsmoked)).status == "deployed"


def test_an_older_version_does_not_get_in_front_of_a_newer_one_by_itself(
    target: MemoryTarget,
) -> None:
    new = release(2)
    deploy(target, new)
    outcome = roll_out(target.ledger, target, request(release(1)))
    assert (outcome.status, outcome.event) == ("superseded", None)
    assert target.calls == []
    serves(target, new)


def test_a_person_may_put_an_older_version_in_front(target: MemoryTarget) -> None:
    old, new = release(1), release(2)
    deploy(target, new)
    outcome = roll_out(target.ledger, target, request(old, older_allowed=True))
    assert outcome.status == "deployed"
    serves(target, old)


def test_the_same_release_again_changes_nothing(target: MemoryTarget) -> None:
    first = release(1)
    deploy(target, first)
    outcome = roll_out(target.ledger, target, request(first))
    assert (outcome.status, outcome.event, outcome.state.generation) == ("unchanged", None, 1)
    serves(target, first)


def test_the_same_release_again_brings_back_what_is_lost_and_ends_what_is_left_over(
    target: MemoryTarget,
) -> None:
    first, leftover = release(1), release(5)
    deploy(target, first)
    target.up = {name(leftover): 1}
    target.routed = set()
    assert roll_out(target.ledger, target, request(first)).status == "unchanged"
    serves(target, first)


def test_a_version_built_anew_replaces_the_old_build(target: MemoryTarget) -> None:
    old, new = release(1), release(1, build="again")
    deploy(target, old)
    assert roll_out(target.ledger, target, request(new)).status == "deployed"
    serves(target, new)


def test_a_rollout_leaves_other_environments_and_models_alone(target: MemoryTarget) -> None:
    others = [
        (release(1), "production"),
        (release(1), "eu-staging"),
        (release(1, model="iris-1"), "staging"),
        (release(7, model="iris-1-int8"), "staging"),
        (release(1, model="iri"), "staging"),
        (release(1, model="x-iris"), "staging"),
    ]
    for which, environment in others:
        deploy(target, which, environment)
    kept = set(target.up)
    deploy(target, release(1))
    deploy(target, release(2))
    assert set(target.up) == kept | {name(release(2))}
    assert target.routed == set(target.up)


def test_of_two_that_race_the_loser_gets_a_conflict_and_its_server_is_stopped(
    target: MemoryTarget,
) -> None:
    loser, winner = release(2), release(3)

    def be_faster(call: str) -> None:
        target.before = lambda call: None
        target.ledger.record(change(State("staging", "iris"), winner.live()))
        target.up[name(winner)] = 1

    target.before = be_faster
    with pytest.raises(LedgerConflictError):
        roll_out(target.ledger, target, request(loser))
    assert set(target.up) == {name(winner)}
    assert target.ledger.state("staging", "iris").live == (winner.live(),)


def test_a_lost_race_against_the_same_release_does_not_stop_its_server(
    target: MemoryTarget,
) -> None:
    same = release(2)

    def be_faster(call: str) -> None:
        if call.startswith("wait_ready"):
            target.ledger.record(change(State("staging", "iris"), same.live()))

    target.before = be_faster
    with pytest.raises(LedgerConflictError):
        roll_out(target.ledger, target, request(same))
    assert set(target.up) == {name(same)}


def failing_once() -> Callable[[str], None]:
    """The gateway fails at the first call of `route`."""
    left = ["route"]

    def fail(call: str) -> None:
        if call in left:
            left.remove(call)
            raise GatewayError("the gateway did not take rds")

    return fail


def test_a_gateway_that_does_not_follow_puts_the_old_version_back_on_the_record(
    target: MemoryTarget,
) -> None:
    old, new = release(1), release(2)
    deploy(target, old)
    target.before = failing_once()
    with pytest.raises(GatewayError):
        roll_out(target.ledger, target, request(new))
    serves(target, old)
    assert [event.action for event in target.ledger.events()] == ["deploy", "deploy", "revert"]
    reverted = target.ledger.events()[-1]
    assert (reverted.version, reverted.weight, reverted.live) == (2, 0, (old.live(),))
    assert reverted.evidence == {"reason": "the gateway did not take the new routes"}


def test_a_gateway_that_follows_too_late_is_sent_back_before_the_new_server_stops(
    target: MemoryTarget,
) -> None:
    """Envoy reads the file that was written for it even after nobody waits for it any more."""
    old, new = release(1), release(2)
    deploy(target, old)
    target.after = failing_once()
    with pytest.raises(GatewayError):
        roll_out(target.ledger, target, request(new))
    serves(target, old)
    name = cluster_name("staging", "iris", new.live())
    assert target.calls[-3:] == ["route", f"drain {name}", f"stop {name}"]


def test_a_first_release_that_the_gateway_does_not_take_leaves_nothing_live(
    target: MemoryTarget,
) -> None:
    target.before = failing_once()
    with pytest.raises(GatewayError):
        roll_out(target.ledger, target, request(release(1)))
    serves(target)
    assert target.ledger.state("staging", "iris").generation == 2


@pytest.mark.parametrize("step", ["drain", "stop", "route"])
def test_a_failure_after_the_new_version_gets_the_traffic_does_not_take_it_away_again(
    step: str, target: MemoryTarget
) -> None:
    old, new = release(1), release(2)
    deploy(target, old)

    def fail(call: str) -> None:
        if "route" in target.calls and call.startswith(step):
            raise GatewayError("the admin socket does not answer")

    target.before = fail
    with pytest.raises(GatewayError):
        roll_out(target.ledger, target, request(new))
    assert target.unserved() == set()
    assert target.routed == {name(new)}
    assert target.ledger.state("staging", "iris").live == (new.live(),)
    target.before = lambda call: None
    assert roll_out(target.ledger, target, request(new)).status == "unchanged"
    serves(target, new)


def test_putting_the_old_version_back_does_not_undo_a_release_that_came_in_between(
    target: MemoryTarget,
) -> None:
    old, new, newest = release(1), release(2), release(3)
    deploy(target, old)

    def overtake(call: str) -> None:
        if call == "route":
            target.before = lambda call: None
            target.up[name(newest)] = 1
            target.ledger.record(change(target.ledger.state("staging", "iris"), newest.live()))
            raise GatewayError("the gateway did not take rds")

    target.before = overtake
    with pytest.raises(GatewayError):
        roll_out(target.ledger, target, request(new))
    assert target.ledger.state("staging", "iris").live == (newest.live(),)
    assert name(newest) in target.up
    assert name(new) not in target.up
    converge(target.ledger, target, "staging", "iris")
    serves(target, newest)


def test_a_ledger_that_takes_nothing_leaves_the_old_version_live(target: MemoryTarget) -> None:
    old, new = release(1), release(2)
    deploy(target, old)
    rename = "ALTER TABLE {} RENAME TO {}"
    with target.ledger._database.engine.begin() as connection:
        connection.exec_driver_sql(rename.format("deployment_events", "away"))
    with pytest.raises(LedgerError, match="no such table"):
        roll_out(target.ledger, target, request(new))
    with target.ledger._database.engine.begin() as connection:
        connection.exec_driver_sql(rename.format("away", "deployment_events"))
    serves(target, old)


# Beginning and end of: start, wait_ready, route, drain, stop, route. The ledger is written between.
MOMENTS = 12


def _killed(target: MemoryTarget, which: Release, moment: int) -> bool:
    """One rollout, killed at the moment of that number; whether it went on for so long.

    A dead process does nothing more: whatever a handler still calls is refused without effect.
    """
    left = [moment]

    def die(call: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Crash(call)

    target.before = target.after = die
    try:
        roll_out(target.ledger, target, request(which, older_allowed=True))
    except Crash:
        return True
    finally:
        target.before = target.after = lambda call: None
    return False


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_after_a_kill_at_any_moment_the_same_rollout_again_ends_where_it_should(
    moment: int, target: MemoryTarget
) -> None:
    old, new = release(1), release(2)
    deploy(target, old)
    assert _killed(target, new, moment)
    assert target.unserved() == set()
    roll_out(target.ledger, target, request(new))
    serves(target, new)
    assert [event.version for event in target.ledger.events()] == [1, 2]


def test_a_rollout_has_no_further_moment_to_be_killed_at(target: MemoryTarget) -> None:
    deploy(target, release(1))
    assert not _killed(target, release(2), MOMENTS)


@settings(max_examples=60, deadline=None)
@given(rollouts=st.lists(st.tuples(st.integers(1, 3), st.integers(0, MOMENTS)), max_size=6))
def test_whatever_was_killed_before_the_next_rollout_ends_where_it_should(
    rollouts: list[tuple[int, int]],
) -> None:
    ledger = Ledger("sqlite://")
    target = MemoryTarget(ledger)
    for version, moment in rollouts:
        _killed(target, release(version), moment)
        assert target.unserved() == set()
    last = release(3)
    roll_out(ledger, target, request(last))
    serves(target, last)
    ledger.close()


@pytest.mark.parametrize(
    ("lives", "version", "expected"),
    [((), 1, False), ((1,), 1, False), ((1,), 2, False), ((2,), 1, True), ((1, 3), 2, True)],
)
def test_a_version_is_superseded_by_a_newer_one_that_is_live(
    lives: tuple[int, ...], version: int, expected: bool
) -> None:
    state = State("staging", "iris", 1, tuple(live(number) for number in lives))
    stays = request(release(version)).superseded_by(state)
    assert (stays is not None) is expected
    assert stays is None or stays.version == max(lives)
    assert request(release(version), older_allowed=True).superseded_by(state) is None


def test_a_smoke_test_of_another_build_does_not_open_production(target: MemoryTarget) -> None:
    proof = certificate(contract(), smoke=http(bento="another build"))
    with pytest.raises(CertificateError, match="no passing smoke test of this Bento"):
        deploy(target, release(1, proof=proof), environment="production")
    assert target.calls == []


def test_any_failure_to_route_takes_the_ledger_back(target: MemoryTarget) -> None:
    deploy(target, release(1))

    def fail_once(call: str) -> None:
        if call == "route":
            target.before = lambda call: None
            raise OSError("no space left on device")

    target.before = fail_once
    with pytest.raises(OSError, match="no space"):
        roll_out(target.ledger, target, request(release(2)))
    serves(target, release(1))
    assert target.ledger.events()[-1].action == "revert"
