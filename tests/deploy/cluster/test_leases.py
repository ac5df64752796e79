"""Who starts and who stops a server, across replicas: two clients of one API server."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.cluster.errors import ClusterError
from deploy.cluster.leases import SECONDS, Leases
from tests.deploy.cluster.api_server import ApiServer, RefusalError, Request, api_server
from tests.deploy.cluster.kubeconfig import client_of

SERVER = "iris-1-staging-01234567"
LONG = "a-model-with-a-name-that-is-much-too-long-for-a-label-1-staging-01234567"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with api_server("slipway") as api:
        yield api


@pytest.fixture
def two(api: ApiServer, tmp_path: Path) -> Iterator[tuple[Leases, Leases]]:
    with client_of(api, tmp_path) as one, client_of(api, tmp_path) as other:
        yield Leases(one, "slipway"), Leases(other, "slipway")


def test_who_is_held_is_not_stopped_and_several_may_hold(two: tuple[Leases, Leases]) -> None:
    one, other = two
    with one.holding(LONG):
        with other.holding(LONG), other.alone(LONG) as is_free:
            assert not is_free
        with one.alone(LONG) as is_free:
            assert not is_free
        with other.alone(SERVER) as is_free:
            assert is_free
    with other.alone(LONG) as is_free, one.alone(LONG) as twice:
        assert (is_free, twice) == (True, False)


def test_nothing_is_left_behind(api: ApiServer, two: tuple[Leases, Leases]) -> None:
    with two[0].holding(SERVER), two[1].holding(SERVER):
        assert len(api.of("leases.coordination.k8s.io")) == 1
    with two[0].alone(SERVER):
        pass
    assert api.of("leases.coordination.k8s.io") == []


def test_a_hold_waits_for_who_stops(two: tuple[Leases, Leases]) -> None:
    one, other = two
    order: list[str] = []
    stopping = threading.Event()

    def stop() -> None:
        with other.alone(SERVER) as is_free:
            assert is_free
            stopping.set()
            assert not held.wait(0.3), "held while it was being stopped"
            order.append("stopped")

    held = threading.Event()
    thread = threading.Thread(target=stop)
    thread.start()
    assert stopping.wait(10)
    with one.holding(SERVER):
        held.set()
        order.append("held")
    thread.join()
    assert order == ["stopped", "held"]


def test_of_many_that_race_nobody_stops_what_somebody_holds(two: tuple[Leases, Leases]) -> None:
    holders, stoppers = [0], [0]
    lock = threading.Lock()

    def race(number: int) -> None:
        leases = two[number % 2]
        if number % 3:
            with leases.holding(SERVER):
                with lock:
                    holders[0] += 1
                    assert stoppers[0] == 0
                with lock:
                    holders[0] -= 1
            return
        with leases.alone(SERVER) as is_free:
            if is_free:
                with lock:
                    stoppers[0] += 1
                    assert (stoppers[0], holders[0]) == (1, 0)
                with lock:
                    stoppers[0] -= 1

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(race, range(30)))


def test_who_has_died_holds_nothing_after_a_while(api: ApiServer, tmp_path: Path) -> None:
    times = [NOW]
    with client_of(api, tmp_path) as cluster:
        leases = Leases(cluster, "slipway", lambda: times[0])
        died = leases.holding(SERVER)
        died.__enter__()
        times[0] = NOW + timedelta(seconds=SECONDS - 1)
        with leases.alone(SERVER) as is_free:
            assert not is_free
        times[0] = NOW + timedelta(seconds=SECONDS)
        with leases.alone(SERVER) as is_free:
            assert is_free
        died.__exit__(None, None, None)


def test_leases_of_the_dead_are_swept_up_and_those_of_the_living_are_not(
    api: ApiServer, tmp_path: Path
) -> None:
    times = [NOW]
    with client_of(api, tmp_path) as cluster:
        leases = Leases(cluster, "slipway", lambda: times[0])
        died = leases.alone(SERVER)
        died.__enter__()
        times[0] = NOW + timedelta(seconds=SECONDS)
        with leases.holding(LONG):
            leases.sweep()
            assert len(api.of("leases.coordination.k8s.io")) == 1
        assert api.of("leases.coordination.k8s.io") == []
        died.__exit__(None, None, None)


def test_whoever_lives_goes_on_holding(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.cluster.leases._RENEW_SECONDS", 0.01)
    times, renewed = [NOW], threading.Event()

    def follow(request: Request) -> None:
        if request.method == "PUT" and times[0] > NOW:
            renewed.set()

    api.after.append(follow)
    with client_of(api, tmp_path) as cluster:
        leases = Leases(cluster, "slipway", lambda: times[0])
        with leases.holding(SERVER):
            times[0] = NOW + timedelta(seconds=SECONDS - 1)
            assert renewed.wait(10)
            times[0] = NOW + timedelta(seconds=SECONDS + 1)
            with leases.alone(SERVER) as is_free:
                assert not is_free


def test_an_api_server_that_goes_away_does_not_undo_what_was_done_meanwhile(
    api: ApiServer, two: tuple[Leases, Leases]
) -> None:
    def gone(request: Request) -> None:
        raise RefusalError(400, "Gone", "gone")

    with two[0].holding(SERVER):
        api.faults.append(gone)
    with pytest.raises(ClusterError), two[0].holding(SERVER):
        raise AssertionError("held without a lease")
    with suppress(ValueError):
        api.faults.remove(gone)
