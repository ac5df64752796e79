"""Golden requests in a canary's traffic: where they go, what of, and what they may not change."""

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from bentos.model_server.certificate import Answer, Golden
from deploy.analysis.verdict import Analysis, compare
from deploy.control.probes import Probes, send
from deploy.events import Counters, Event, Live
from deploy.release import Release
from deploy.targets.base import Endpoint
from deploy.traffic import Traffic
from serving_config.release import ReleasePolicy
from tests.deploy.releases import release
from tests.deploy.serving_things import PLACE, opened, policy, promote, stored
from tests.deploy.targets.memory import MemoryTarget

OLD, NEW = release(1), release(2)
POLICY = policy("canary", steps=[10], min_requests=1_000_000, probe_requests_per_second=200)
Headers = dict[str, str]


class Gateway:
    """Versions 1 and 2, the same model: "yes" where the width is above 5. Version 2 gets 10 % of
    the requests that name no version. asked: who got what; enough: a condition, looked at after
    each request."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[tuple[str, bytes, Headers]] = []
        self.enough: Callable[[], bool] = lambda: False
        self.done = threading.Event()
        self._chance = random.Random(20)  # noqa: S311

    def take(self, body: bytes, headers: Headers) -> None:
        side = headers.get("x-model-version") or self._chance.choices("12", (90, 10))[0]
        self.asked.append((side, body, headers))
        if self.enough():
            self.done.set()

    def counted(self, side: str) -> Counters:
        bodies = [json.loads(body) for asked, body, _ in self.asked if asked == side]
        answers = ["yes" if body["features"]["width"] > 5 else "no" for body in bodies]
        return Counters(
            requests=len(bodies), durations={"0.01": len(bodies)}, predictions=Counter(answers)
        )


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            made.take(body, {name.lower(): value for name, value in self.headers.items()})
            self.send_response(500)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        made = Gateway(f"http://127.0.0.1:{server.server_port}/models/iris")
        threading.Thread(target=server.serve_forever).start()
        yield made
        server.shutdown()


@contextmanager
def probing(
    gateway: Gateway, releases: Callable[[Live], Release] = stored, pause_seconds: float = 30
) -> Iterator[tuple[Probes, dict[Any, Event]]]:
    """A canary that gets golden requests."""
    target: MemoryTarget = opened()
    target.url = gateway.url
    promote(target, OLD)
    promote(target, NEW, POLICY)
    event = target.ledger.events()[-1]
    probes = Probes(Traffic(target.ledger, target, releases), pause_seconds)
    probes.follow({PLACE: event})
    yield probes, {PLACE: event}
    probes.close()
    target.ledger.close()


def clients(gateway: Gateway, stop: threading.Event) -> None:
    """200 requests a second, all of the class that no golden row has."""
    body = b'{"features": {"width": 9.0}}'
    send(Endpoint(gateway.url, {}), [body], 200, stop)


def judged(gateway: Gateway, by: ReleasePolicy = POLICY) -> Analysis:
    return compare(by, gateway.counted("2"), gateway.counted("1"), Counters(), 1)


def test_golden_requests_beside_other_traffic_make_identical_versions_no_different(
    gateway: Gateway,
) -> None:
    gateway.enough = lambda: len(gateway.asked) >= 900
    stop = threading.Event()
    client = threading.Thread(target=clients, args=(gateway, stop))
    client.start()
    with probing(gateway):
        assert gateway.done.wait(30)
    stop.set()
    client.join()
    assert judged(gateway).decision == "hold", judged(gateway).reason
    for side in "12":
        assert min(gateway.counted(side).predictions.values()) > 20


def test_a_golden_request_names_neither_version_nor_session_and_is_no_other_ones_equal(
    gateway: Gateway,
) -> None:
    gateway.enough = lambda: len(gateway.asked) >= 50
    with probing(gateway):
        assert gateway.done.wait(30)
    headers = [headers for _, _, headers in gateway.asked]
    assert not {"x-model-version", "x-session-id"} & {name for one in headers for name in one}
    assert all(one["x-environment"] == "staging" for one in headers)
    assert len({one["x-slipway-probe"] for one in headers}) == len(headers)


def with_rows(which: Release, *widths: float, **field: Any) -> Release:
    """The release with other golden rows, and its first input changed."""
    contract = which.bundle.contract
    inputs = (msgspec.structs.replace(contract.inputs[0], **field), *contract.inputs[1:])
    rows = tuple({"width": width} for width in widths)
    golden = Golden(rows, (Answer("no", (0.5, 0.5)),) * len(rows), ())
    return Release(
        which.tag,
        replace(which.bundle, contract=msgspec.structs.replace(contract, inputs=inputs)),
        msgspec.structs.replace(which.certificate, golden=golden),
    )


def test_the_rows_are_those_of_both_versions_that_both_take(gateway: Gateway) -> None:
    made = {1: with_rows(OLD, 1, 2, 7), 2: with_rows(NEW, 2, 3, maximum=4)}
    gateway.enough = lambda: len(gateway.asked) >= 100
    with probing(gateway, lambda live: made[live.version]):
        assert gateway.done.wait(30)
    assert {json.loads(body)["features"]["width"] for _, body, _ in gateway.asked} == {1, 2, 3}


def test_golden_requests_that_could_not_be_made_are_tried_again(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    missing = [FileNotFoundError("no Bento")]

    def releases(live: Live) -> Release:
        if missing:
            raise missing.pop()
        return stored(live)

    gateway.enough = lambda: True
    with probing(gateway, releases, pause_seconds=0) as (probes, wanted):
        while not gateway.done.wait(0.05):
            probes.follow(wanted)
    assert caplog.messages == ["no golden requests for iris: no Bento"]


def test_they_are_not_tried_again_at_once(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(_: Live) -> Release:
        raise FileNotFoundError("no Bento")

    with probing(gateway, gone, pause_seconds=1000) as (probes, wanted):
        for _ in range(100):
            probes.follow(wanted)
    assert len(caplog.messages) == 1


def test_a_gateway_that_closes_a_connection_is_asked_over_another(gateway: Gateway) -> None:
    gateway.enough = lambda: len(gateway.asked) >= 20
    stop = threading.Event()
    closed = Endpoint(gateway.url, {"connection": "close"})
    sender = threading.Thread(target=send, args=(closed, [b"{}"], 100, stop))
    sender.start()
    assert gateway.done.wait(30)
    stop.set()
    sender.join()
