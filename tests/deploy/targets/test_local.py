import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.events import State
from deploy.gateway.envoy import write_routes
from deploy.gateway.routes import cluster_name
from deploy.home import Home
from deploy.keys import KeyStore
from deploy.ledger import Ledger
from deploy.processes import free_port
from deploy.release import Release
from deploy.supervision import ProcessSpec
from deploy.targets.base import TargetError
from deploy.targets.local import LocalTarget, routing, server_ports, server_process
from serving_config.features import Features
from serving_config.gateway import Gateway
from serving_config.predictions import PredictionLog
from serving_config.schema import Configuration, Environment, Model, Platform
from tests.deploy.gateway.running import ADMIN_IS_ASKED_TOO_EARLY, running_envoy, until
from tests.deploy.releases import change, live, release

HOME = Home(Path("/home"))
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)


def configuration(seconds: float = 60) -> Configuration:
    return Configuration(
        platform=Platform(default_model="iris"),
        environments={
            name: Environment(name=name, workers=2, threads=3, ready_timeout_seconds=seconds)
            for name in ("staging", "production")
        },
        models={name: Model(name=name) for name in ("iris", "spam")},
    )


def test_a_server_is_bentoml_serve_of_this_environment_with_the_settings_of_its_place() -> None:
    environment = Environment(name="staging", workers=2, threads=3, drain_timeout_seconds=7)
    process = server_process("iris-3-staging-abcdef01", 1234, "iris:3-fp32-ab", environment, HOME)
    bentoml = str(Path(sys.executable).parent / "bentoml")
    assert process.command == [
        *(bentoml, "serve", "iris:3-fp32-ab", "--host", "127.0.0.1", "--port", "1234")
    ]
    assert Path(bentoml).is_file()
    assert process.environment == {
        "SLIPWAY_WORKERS": "2",
        "SLIPWAY_THREADS": "3",
        "SLIPWAY_KEYS": "/home/keys.json",
        "SLIPWAY_ACCESS_LOG": "1",
        "SLIPWAY_FEATURES_URL": "http://127.0.0.1:8090",
        "SLIPWAY_FEATURES_TIMEOUT": "2",
        "SLIPWAY_FEATURES_KEY_FILE": "/home/run/platform.key",
        "SLIPWAY_ENVIRONMENT": "staging",
        "SLIPWAY_PREDICTION_LOG": "/home/predictions",
        "SLIPWAY_PREDICTION_DURABILITY": "best_effort",
        "SLIPWAY_PREDICTION_FLUSH_SECONDS": "1",
        "SLIPWAY_PREDICTION_MAX_PENDING": "50000",
        "SLIPWAY_PREDICTION_SEGMENT_BYTES": str(64 << 20),
        "SLIPWAY_PREDICTION_SEGMENT_SECONDS": "60",
        "SLIPWAY_CLOUD_EVENTS_URL": "",
        "SLIPWAY_PII_KEY": "/home/pii.key",
    }
    assert process.grace_seconds == 7
    shared = Environment(name="staging", cache_url="redis://cache.example", access_log=False)
    with_cache = server_process("iris-3-staging-abcdef01", 1234, "iris:3-fp32-ab", shared, HOME)
    assert with_cache.environment["SLIPWAY_CACHE_URL"] == "redis://cache.example"
    assert with_cache.environment["SLIPWAY_ACCESS_LOG"] == "0"
    assert process.log == "iris-3-staging-abcdef01"


def test_a_server_asks_the_feature_transformer_of_the_configuration() -> None:
    features = Features(port=9999, timeout_seconds=0.5)
    environment = Environment(name="staging")
    variables = server_process("n", 1, "t", environment, HOME, features).environment
    assert variables["SLIPWAY_FEATURES_URL"] == "http://127.0.0.1:9999"
    assert variables["SLIPWAY_FEATURES_TIMEOUT"] == "0.5"


def test_an_environment_without_a_prediction_log_sends_no_events_either() -> None:
    log = PredictionLog(enabled=False, cloud_events_url="http://events.example/")
    environment = Environment(name="staging", prediction_log=log)
    process = server_process("n", 1, "t", environment, HOME)
    assert process.environment["SLIPWAY_PREDICTION_LOG"] == ""
    assert process.environment["SLIPWAY_CLOUD_EVENTS_URL"] == ""


def test_once_there_are_keys_a_server_is_told_that_they_are_required(tmp_path: Path) -> None:
    home = Home(tmp_path).create()
    environment = Environment(name="staging")
    assert "SLIPWAY_KEYS_REQUIRED" not in server_process("n", 1, "t", environment, home).environment
    KeyStore(home).add("ann", ["predict"])
    assert (
        server_process("n", 1, "t", environment, home).environment["SLIPWAY_KEYS_REQUIRED"] == "1"
    )


@settings(deadline=None)
@given(servers=st.dictionaries(NAMES, st.integers(1, 65535)), others=st.lists(NAMES))
def test_the_watchers_names_say_which_servers_listen_where(
    servers: dict[str, int], others: list[str]
) -> None:
    environment = Environment(name="staging")
    watchers = [
        server_process(name, port, "t", environment, HOME).name for name, port in servers.items()
    ]
    assert server_ports([*others, *watchers]) == servers


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    opened = Ledger("sqlite://")
    yield opened
    opened.close()


def test_only_what_is_configured_is_routed_to(ledger: Ledger) -> None:
    for model, environment in [
        ("spam", "staging"),
        ("iris", "staging"),
        ("iris", "production"),
        ("gone", "staging"),
        ("iris", "gone"),
    ]:
        ledger.record(change(State(environment, model), live(1, model=model)))
    found = routing(configuration(), ledger)
    assert [(state.environment, state.model) for state in found.states] == [
        ("production", "iris"),
        ("staging", "iris"),
        ("staging", "spam"),
    ]
    assert (found.environments, found.default_environment) == (("production", "staging"), "staging")
    assert (found.models, found.default_model) == (("iris", "spam"), "iris")
    assert found.sticky == {"production": ("session",), "staging": ("session",)}


@contextmanager
def server(answers: dict[str, tuple[int, str]]) -> Iterator[int]:
    """A model server as far as readiness goes: path → status and body, which may be changed."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers[self.path]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield http.server_address[1]
        finally:
            http.shutdown()
            thread.join()


def ready(which: Release) -> dict[str, tuple[int, str]]:
    info = {"contract": {"onnx_sha256": which.bundle.onnx_sha256}}
    return {"/ready": (200, "{}"), "/model/info": (200, json.dumps(info))}


@dataclass(frozen=True)
class At(LocalTarget):
    """Its servers are where the test has put them, not with a supervisor."""

    ports: Any = None

    def _server_ports(self) -> dict[str, int]:
        return dict(self.ports)


@dataclass
class Place:
    home: Home
    ledger: Ledger
    which: Release

    @property
    def name(self) -> str:
        return cluster_name("staging", "iris", self.which.live())

    def wait(self, port: int | None, seconds: float) -> None:
        ports = {} if port is None else {self.name: port}
        target = At(self.home, configuration(seconds), self.ledger, "/", ports)
        target.wait_ready(self.name, self.which, "staging")


@pytest.fixture
def place(tmp_path: Path, ledger: Ledger) -> Place:
    home = Home(tmp_path)
    home.logs.mkdir()
    return Place(home, ledger, release(3))


def test_a_server_is_ready_when_it_says_so_and_serves_this_very_digest(place: Place) -> None:
    with server(ready(place.which)) as port:
        place.wait(port, 30)


def test_a_server_of_another_digest_is_refused_at_once(place: Place) -> None:
    other = release(4)
    with server(ready(other)) as port, pytest.raises(TargetError) as caught:
        place.wait(port, 30)
    assert other.bundle.onnx_sha256 in str(caught.value)
    assert place.which.bundle.onnx_sha256 in str(caught.value)


@pytest.mark.parametrize("info", ["[]", "{}", "<html>", ""])
def test_a_server_that_does_not_say_its_digest_is_refused(info: str, place: Place) -> None:
    answers = ready(place.which) | {"/model/info": (200, info)}
    with server(answers) as port, pytest.raises(TargetError, match=place.which.tag):
        place.wait(port, 0.2)


def test_a_server_that_is_not_ready_in_time_is_named_with_its_words_and_its_log(
    place: Place,
) -> None:
    (place.home.logs / f"{place.name}.log").write_text("first\nIt said: no model\n\n")
    answers = ready(place.which) | {"/ready": (503, "golden rows differ")}
    with server(answers) as port, pytest.raises(TargetError) as caught:
        place.wait(port, 0.2)
    message = str(caught.value)
    assert f"{place.which.tag} did not get ready in staging (within 0.2 s)" in message
    assert "/ready answers 503: golden rows differ" in message
    assert message.endswith(f"last line of {place.name}.log: It said: no model")


@pytest.mark.parametrize(
    ("log", "words"), [(None, "no log at"), ("", "is empty"), ("\n\n", "is empty")]
)
def test_a_server_that_never_answers_is_named(log: str | None, words: str, place: Place) -> None:
    if log is not None:
        (place.home.logs / f"{place.name}.log").write_text(log)
    with pytest.raises(TargetError, match=f"it does not answer; .*{words}"):
        place.wait(free_port(), 0.2)


def test_a_server_that_refuses_its_model_for_good_is_not_waited_for(place: Place) -> None:
    answers = ready(place.which) | {"/ready": (503, '{"type": "about:model-refused"}')}
    started = time.monotonic()
    with server(answers) as port, pytest.raises(TargetError, match="model-refused"):
        place.wait(port, 60)
    assert time.monotonic() - started < 30


def test_a_server_that_somebody_removed_is_an_explained_error(place: Place) -> None:
    with pytest.raises(TargetError, match=f"{place.name} is gone"):
        place.wait(None, 0.2)


@dataclass
class Removed:
    """A supervisor that only takes away."""

    names: list[str]

    def remove(self, name: str, timeout: float) -> None:
        self.names.append(name)


class Stopping(At):
    @property
    def _supervisor(self) -> Any:
        return Removed(self.removed)


def stopping(place: Place, *ports: str) -> Any:
    place.home.create()
    target = Stopping(place.home, configuration(), place.ledger, "/", dict.fromkeys(ports, 1234))
    object.__setattr__(target, "removed", [])
    return target


def test_only_a_server_that_is_neither_live_nor_being_started_is_stopped(place: Place) -> None:
    target = stopping(place, place.name)
    with target.hold(place.name):
        target.stop(place.name)
    target.stop("iris-9-staging-00000000")
    assert target.removed == []
    target.stop(place.name)
    assert target.removed == [f"{place.name}@1234"]
    assert list((place.home.run / "servers").iterdir()) == []
    place.ledger.record(change(State("staging", "iris"), place.which.live()))
    target.stop(place.name)
    assert len(target.removed) == 1


@dataclass(frozen=True)
class Starting(LocalTarget):
    """A supervisor that only adds; both starters look before one adds, if nothing keeps them."""

    up: Any = None
    added: Any = None
    both_look: Any = None

    def _server_ports(self) -> dict[str, int]:
        found = dict(self.up)
        with suppress(threading.BrokenBarrierError):
            self.both_look.wait(0.5)
        return found

    @property
    def _supervisor(self) -> Any:
        return self

    def add(self, process: ProcessSpec, working_directory: str) -> None:
        self.up.update(server_ports([process.name]))
        self.added.append(process.name)


def test_two_who_start_the_same_server_at_once_start_it_once(place: Place) -> None:
    home = place.home.create()
    barrier = threading.Barrier(2)
    target = Starting(home, configuration(), place.ledger, "/", {}, [], barrier)
    starters = [
        threading.Thread(target=target.start, args=(place.which, "staging")) for _ in range(2)
    ]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    assert len(target.added) == 1


def test_a_server_is_ready_at_one_look_or_not(place: Place) -> None:
    answers = ready(place.which)
    with server(answers) as port:
        target = At(place.home, configuration(), place.ledger, "/", {place.name: port})
        assert target.ready(place.name)
        answers["/ready"] = (503, "")
        assert not target.ready(place.name)
        assert not target.ready("iris-9-staging-00000000")
    assert not target.ready(place.name)


@ADMIN_IS_ASKED_TOO_EARLY
def test_the_gateway_is_in_step_once_it_serves_by_what_the_ledger_says(
    home: Home, ledger: Ledger
) -> None:
    place = Place(home, ledger, release(3))
    target = stopping(place, place.name)
    assert not target.in_step()
    before = routing(target.configuration, ledger)
    settings = Gateway(port=free_port())
    with running_envoy(home, settings, before, target._server_ports()):
        until(target.in_step)
        ledger.record(change(State("staging", "iris"), place.which.live()))
        assert not target.in_step()
        (envoy,) = (child for child in psutil.Process().children() if child.name() == "envoy")
        envoy.suspend()
        write_routes(home, routing(target.configuration, ledger))
        assert not target.in_step(), "it is written, and Envoy has not read it"
        envoy.resume()
        until(target.in_step)
        assert not stopping(place).in_step(), "a server is gone, and its cluster is there"
    assert not target.in_step(), "nobody answers"
