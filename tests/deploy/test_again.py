"""A rollback that a person asks for when it is done already."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from deploy.again import RolledBackAlreadyError, roll_back
from deploy.ledger import Ledger
from tests.deploy.releases import release
from tests.deploy.serving_things import ANN, PLACE, promote, traffic_of, weights
from tests.deploy.targets.memory import MemoryTarget


@pytest.fixture
def target() -> Iterator[MemoryTarget]:
    """Version 3 serves, after 2 and 1."""
    with Ledger("sqlite://") as ledger:
        target = MemoryTarget(ledger)
        for version in (1, 2, 3):
            promote(target, release(version))
        yield target


def after(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def test_it_is_not_done_twice_and_says_what_serves_and_how_to_go_further(
    target: MemoryTarget,
) -> None:
    traffic = traffic_of(target)
    traffic.rollback(*PLACE, ANN, "too slow")
    traffic.tidy(*PLACE)
    with pytest.raises(RolledBackAlreadyError) as caught:
        roll_back(traffic, *PLACE, ANN, "by hand", clock=lambda: after(12))
    assert str(caught.value) == (
        "version 3 was rolled back 12 s ago (too slow); iris in staging has 2=100. To go back one "
        'further: `slipway rollback iris --environment staging --again`, over the API "again": true'
    )
    assert weights(target) == {"2": 100}
    roll_back(traffic, *PLACE, ANN, "by hand", again=True)
    assert weights(target) == {"1": 100}


def test_five_minutes_later_it_is_a_new_one(target: MemoryTarget) -> None:
    traffic = traffic_of(target)
    roll_back(traffic, *PLACE, ANN, "too slow")
    traffic.tidy(*PLACE)
    roll_back(traffic, *PLACE, ANN, "too slow as well", clock=lambda: after(301))
    assert weights(target) == {"1": 100}


def test_one_that_was_killed_is_ended_and_going_further_has_to_wait_for_that(
    target: MemoryTarget,
) -> None:
    traffic = traffic_of(target)
    first = traffic.rollback(*PLACE, ANN, "too slow")  # version 3's server is there still
    assert roll_back(traffic, *PLACE, ANN, "by hand") == first
    with pytest.raises(RolledBackAlreadyError, match="was not over, and was ended"):
        roll_back(traffic, *PLACE, ANN, "by hand", again=True)
    assert weights(target) == {"2": 100}


def test_one_that_the_controller_does_meanwhile_is_not_followed_by_another(
    target: MemoryTarget,
) -> None:
    traffic, read = traffic_of(target), target.ledger.last_event

    def read_before(environment: str, model: str) -> object:
        target.ledger.last_event = read  # type: ignore[method-assign]
        found = read(environment, model)
        traffic.rollback(*PLACE, ANN, "the controller's")
        traffic.tidy(*PLACE)
        return found

    target.ledger.last_event = read_before  # type: ignore[method-assign, assignment]
    with pytest.raises(RolledBackAlreadyError, match="the controller's"):
        roll_back(traffic, *PLACE, ANN, "by hand")
    assert weights(target) == {"2": 100}
