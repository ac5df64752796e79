"""Weights and sides: what share each version gets, and that a client stays where it is."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from scipy.stats import binom

from deploy.events import Live, State
from deploy.gateway.envoy import GatewayAdmin, write_routes
from deploy.gateway.routes import Routing, cluster_name
from deploy.home import Home
from deploy.processes import free_port
from serving_config.gateway import Gateway as Settings
from serving_config.gateway import Limits, RateLimit
from tests.deploy.gateway.fast import answering, ask, load, request, shares
from tests.deploy.gateway.running import ADMIN_IS_ASKED_TOO_EARLY, running_envoy
from tests.deploy.releases import live

pytestmark = ADMIN_IS_ASKED_TOO_EARLY

MOST = RateLimit(requests_per_second=1_000_000)
LIMITS = Limits(per_key=MOST, per_address=MOST)
REQUESTS = 10_000
# What is outside comes up once in a million runs.
SURELY = 1 - 1e-6


def routing(*lives: Live, sticky: Sequence[str] = ("session",)) -> Routing:
    state = State("staging", "iris", 1, lives)
    return Routing(("staging",), "staging", ("iris",), "iris", (state,), sticky={"staging": sticky})


@dataclass(frozen=True)
class Gateway:
    home: Home
    admin: GatewayAdmin
    port: int

    def split(self, old: int, new: int, sticky: Sequence[str] = ("session",)) -> None:
        """Version 1 gets `old` percent, version 2 `new`, in the order the ledger may have."""
        lives = routing(live(1, old), live(2, new), sticky=sticky)
        self.admin.wait_for("rds", write_routes(self.home, lives), seconds=1)

    def sides(self, **headers: str) -> set[str]:
        """Who answers 40 requests with those headers."""
        return set(ask(self.port, [request(**headers)] * 40))


@pytest.fixture(scope="module")
def gateway(home: Home) -> Iterator[Gateway]:
    settings = Settings(port=free_port(), limits=LIMITS, access_log=False)
    with ExitStack() as stack:
        ports = {
            cluster_name("staging", "iris", live(version)): stack.enter_context(
                answering(str(version))
            ).port
            for version in (1, 2)
        }
        admin = stack.enter_context(running_envoy(home, settings, routing(live(1)), ports))
        yield Gateway(home, admin, settings.port)


def expected(count: int, percent: int, of: int) -> bool:
    low, high = binom.interval(SURELY, of, percent / 100)
    return bool(low <= count <= high)


@pytest.mark.parametrize("percent", [0, 1, 10, 50])
def test_ten_thousand_requests_are_split_by_the_weights(percent: int, gateway: Gateway) -> None:
    gateway.split(100 - percent, percent)
    counted = shares(gateway.port, REQUESTS)
    assert sum(counted.values()) == REQUESTS
    assert set(counted) <= {"1", "2"}
    assert expected(counted["2"], percent, REQUESTS), counted


def test_weights_change_within_a_second_under_load_and_no_request_fails(gateway: Gateway) -> None:
    gateway.split(100, 0)
    with load(gateway.port) as counted:
        for number in range(20):
            percent = (0, 50, 100, 10)[number % 4]
            started = time.monotonic()
            gateway.split(100 - percent, percent)
            assert time.monotonic() - started < 1
            measured = shares(gateway.port, 400)
            assert expected(measured["2"], percent, 400), (percent, measured)
    assert set(counted) == {"1", "2"}
    assert sum(counted.values()) > 1000


def test_whoever_is_on_the_candidate_s_side_stays_there_as_its_share_grows(
    gateway: Gateway,
) -> None:
    requests = [request(x_session_id=f"session-{number}") for number in range(2000)]
    before: set[int] = set()
    for percent in (5, 10, 25, 50, 100):
        gateway.split(100 - percent, percent)
        answers = ask(gateway.port, requests)
        there = {number for number, name in enumerate(answers) if name == "2"}
        assert before <= there
        assert expected(len(there), percent, len(requests)), (percent, len(there))
        before = there


@pytest.mark.parametrize("header", ["x_session_id", "x_api_key", "authorization"])
def test_a_client_stays_on_one_side(header: str, gateway: Gateway) -> None:
    gateway.split(50, 50, sticky=("session", "key"))
    sides = [gateway.sides(**{header: f"someone-{number}"}) for number in range(40)]
    assert {len(side) for side in sides} == {1}
    assert set.union(*sides) == {"1", "2"}


def test_the_first_that_a_request_has_of_session_and_key_counts(gateway: Gateway) -> None:
    for sticky, first, second in [
        (("session", "key"), "x_session_id", "x_api_key"),
        (("key", "session"), "authorization", "x_session_id"),
    ]:
        gateway.split(50, 50, sticky=sticky)
        sides = set.union(
            *(gateway.sides(**{first: "me", second: str(other)}) for other in range(20))
        )
        assert sides == gateway.sides(**{first: "me"})
        assert len(sides) == 1


def test_what_is_not_sticky_is_left_to_chance(gateway: Gateway) -> None:
    gateway.split(50, 50)
    assert gateway.sides() == {"1", "2"}
    assert gateway.sides(x_api_key="me") == {"1", "2"}
    gateway.split(50, 50, sticky=())
    assert gateway.sides(x_session_id="me") == {"1", "2"}


@pytest.mark.parametrize("sticky", [("session",), ("key",), ("key", "session"), ()])
def test_a_probe_belongs_to_no_side_whoever_sends_it(
    sticky: Sequence[str], gateway: Gateway
) -> None:
    gateway.split(90, 10, sticky=sticky)
    who = {"x_api_key": "the platform's", "x_session_id": "me"}
    requests = [request(x_slipway_probe=f"{number:016x}", **who) for number in range(4000)]
    answers = ask(gateway.port, requests)
    assert expected(answers.count("2"), 10, len(requests)), answers.count("2")


@pytest.mark.parametrize("session", ["x" * 30_000, "%00\\\"'{}$(x)", "\xff" * 100, "1,2,3"])
def test_whatever_a_session_is_called_it_stays_on_one_side(session: str, gateway: Gateway) -> None:
    gateway.split(50, 50)
    sides = gateway.sides(x_session_id=session)
    assert sides in ({"1"}, {"2"})
