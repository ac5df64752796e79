"""One look a tick at each live server, for everybody who asks."""

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from deploy.control.observer import Observer
from deploy.events import Counters, Live
from deploy.gateway.routes import cluster_name
from deploy.ledger import Ledger
from deploy.live import live_clusters
from tests.deploy.releases import change, live
from tests.deploy.targets.memory import MemoryTarget


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield opened
    opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def target(ledger: Ledger) -> MemoryTarget:
    return MemoryTarget(ledger)


@pytest.fixture
def observer(ledger: Ledger, target: MemoryTarget, clock: Clock) -> Iterator[Observer]:
    made = Observer(partial(live_clusters, ledger), target, window_seconds=60, clock=clock)
    yield made
    made.close()


def name(of: Live) -> str:
    return cluster_name("production", "iris", of)


def serve(ledger: Ledger, target: MemoryTarget, *lives: Live) -> None:
    ledger.record(change(ledger.state("production", "iris"), *lives))
    for item in lives:
        target.up[name(item)] = 1


def test_each_live_server_is_asked_once_a_tick_whoever_reads(
    ledger: Ledger, target: MemoryTarget, observer: Observer
) -> None:
    serve(ledger, target, live(1, 90), live(2, 10))
    asked: list[str] = []
    target.before = asked.append
    target.counted[name(live(1))] = Counters(requests=7)
    observer.tick()
    for _ in range(3):
        found = observer.observations()
        assert found[name(live(1))].total == Counters(requests=7)
        assert found[name(live(2))].total == Counters()
    assert sorted(asked) == [f"observe {name(live(1))}", f"observe {name(live(2))}"]


def test_the_window_holds_what_was_counted_lately(
    ledger: Ledger, target: MemoryTarget, observer: Observer, clock: Clock
) -> None:
    serve(ledger, target, live(1))
    for second in range(0, 200, 10):
        clock.now = 100.0 + second
        target.counted[name(live(1))] = Counters(requests=5 * second)
        observer.tick()
    found = observer.observations()[name(live(1))]
    assert found.seconds == pytest.approx(60, abs=10)
    assert found.recent.requests == pytest.approx(5 * found.seconds)


def test_one_that_cannot_be_observed_is_an_error_and_not_an_empty_answer(
    ledger: Ledger, target: MemoryTarget, observer: Observer, clock: Clock
) -> None:
    serve(ledger, target, live(1))
    observer.tick()
    target.up.clear()
    for clock.now in (200.0, 201.0, 202.0):
        observer.tick()
    found = observer.observation(name(live(1)))
    assert found is not None
    assert found.failing_since == 200.0
    assert "does not answer" in str(found.failure)
    serve(ledger, target, live(1))
    observer.tick()
    found = observer.observation(name(live(1)))
    assert found is not None
    assert (found.total, found.failing_since, found.failure) == (Counters(), None, None)


def test_a_server_that_came_live_is_looked_at_and_one_that_left_is_forgotten(
    ledger: Ledger, target: MemoryTarget, observer: Observer
) -> None:
    serve(ledger, target, live(1))
    observer.tick()
    serve(ledger, target, live(2))
    assert observer.observation(name(live(2))) is None
    observer.tick()
    assert observer.observations().keys() == {name(live(2))}


def test_a_server_that_hangs_keeps_no_other_one_waiting(
    ledger: Ledger, target: MemoryTarget, observer: Observer
) -> None:
    serve(ledger, target, live(1, 50), live(2, 50))
    other_was_asked = threading.Event()

    def hang(call: str) -> None:
        if call == f"observe {name(live(1))}":
            assert other_was_asked.wait(5)
        else:
            other_was_asked.set()

    target.before = hang
    observer.tick()
    assert observer.observations().keys() == {name(live(1)), name(live(2))}
