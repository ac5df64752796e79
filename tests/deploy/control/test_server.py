"""The control process itself, on its UNIX socket."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

from deploy.control.loops import Loop
from deploy.gateway.routes import cluster_name
from deploy.home import Home
from deploy.keys import KeyStore
from deploy.ledger import Ledger
from deploy.monitoring.targets import targets_file
from deploy.targets.base import TargetError
from tests.deploy.gateway.running import until
from tests.deploy.releases import change, live

CHECKOUT = Path(__file__).parents[3]
_SECONDS = 30


@contextmanager
def process(home: Home, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
    environment = os.environ | {
        "SLIPWAY_HOME": str(home.root),
        "SLIPWAY_CONFIG": str(CHECKOUT / "serving_config"),
        **variables,
    }
    command = [sys.executable, "-m", "deploy.control"]
    with (
        (home.logs / "control.log").open("ab") as log,
        subprocess.Popen(command, env=environment, cwd=CHECKOUT, stderr=log) as started,
    ):
        try:
            yield started
        finally:
            started.kill()


def ask(home: Home, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
    transport = httpx.HTTPTransport(uds=str(home.run / "control.sock"))
    with httpx.Client(transport=transport, base_url="http://control", timeout=_SECONDS) as client:
        return client.get(path, headers=dict(headers or {}))


def wait_for_answer(home: Home, started: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        assert started.poll() is None, (home.logs / "control.log").read_text()
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(home.run / "control.sock")) == 0:
                break
        time.sleep(0.02)  # there is nothing to wait on but the socket itself
    assert ask(home, "/v1/health").json() == {"status": "ok"}


def test_it_answers_ends_when_told_to_and_starts_again_after_a_kill(home: Home) -> None:
    key = KeyStore(home).add("ann", ["admin"])
    with process(home) as started:
        wait_for_answer(home, started)
        mode = (home.run / "control.sock").stat().st_mode
        assert stat.S_IMODE(mode) == 0o600
        assert ask(home, "/v1/traffic-split").status_code == 401
        answer = ask(home, "/v1/traffic-split", {"X-API-Key": key})
        assert answer.json()["generation"] == 0
        with process(home) as second:  # one home, one control process
            assert second.wait(_SECONDS) != 0
        assert "is running already" in (home.logs / "control.log").read_text()
        assert ask(home, "/v1/health").status_code == 200
        started.send_signal(signal.SIGKILL)
        started.wait(_SECONDS)
    assert (home.run / "control.sock").exists()
    with process(home) as started:
        wait_for_answer(home, started)
        started.terminate()
        began = time.monotonic()
        assert started.wait(_SECONDS) == 0
        assert time.monotonic() - began < 2.5


def test_a_key_that_was_added_or_revoked_counts_within_seconds(home: Home) -> None:
    store = KeyStore(home)
    with process(home) as started:
        wait_for_answer(home, started)
        key = store.add("bob", ["admin"])
        wait_for_status(home, key, 200)
        store.revoke("bob")
        wait_for_status(home, key, 401)


def wait_for_status(home: Home, key: str, status: int) -> None:
    deadline = time.monotonic() + 5
    while ask(home, "/v1/ledger/check", {"X-API-Key": key}).status_code != status:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_ledger_that_is_none_ends_it_with_one_line(home: Home) -> None:
    with process(home, SLIPWAY_LEDGER_URL=f"sqlite:///{home.logs}") as started:
        assert started.wait(_SECONDS) == 1
    lines = (home.logs / "control.log").read_text().splitlines()
    assert "the control process cannot start: the ledger" in lines[-1]


def test_it_goes_on_where_a_part_of_the_platform_is_away(home: Home) -> None:
    """A live version without supervisor, server or gateway: the API answers all the same."""
    ledger = Ledger(home.ledger_url)
    ledger.record(change(ledger.state("production", "iris"), live(1)))
    ledger.close()
    key = KeyStore(home).add("cem", ["admin"])
    with process(home) as started:
        wait_for_answer(home, started)
        answer = ask(home, "/v1/traffic-split?environment=production", {"X-API-Key": key})
        assert answer.json()["weights"] == {"v1": 100}
        answer = ask(home, "/v1/models", {"X-API-Key": key})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert started.poll() is None


SUPERVISOR = """
import sys
from pathlib import Path
from circus.arbiter import Arbiter
from circus.watcher import Watcher
from deploy.home import Home
from deploy.supervision import endpoint

home = Home(Path(sys.argv[1]))
events = f"ipc://{home.run / 'supervisor-events.sock'}"
server = Watcher(sys.argv[2], sys.executable, args=["-c", "import time; time.sleep(60)"])
Arbiter([server], endpoint(home), events, check_delay=-1).start()
"""


def test_prometheus_is_told_which_servers_are_live(home: Home) -> None:
    with closing(Ledger(home.ledger_url)) as ledger:
        state = ledger.state("production", "iris")
        event = ledger.record(change(state, live(1), live(2, 0), subject=live(2, 0)))
    name = cluster_name("production", "iris", event.live[0])
    command = [sys.executable, "-c", SUPERVISOR, str(home.root), f"{name}@9001"]
    with subprocess.Popen(command, cwd=CHECKOUT) as supervisor:
        try:
            with process(home):
                until(targets_file(home).exists, _SECONDS)
        finally:
            supervisor.terminate()
            supervisor.wait(_SECONDS)
    own, group = json.loads(targets_file(home).read_text())
    assert own["labels"] == {"part": "control"}
    assert group["targets"] == ["127.0.0.1:9001"]
    assert (group["labels"]["model"], group["labels"]["version"]) == ("iris", "1")


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, deploy.control.server; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=CHECKOUT, check=True, text=True
    )
    roots = {name.partition(".")[0] for name in found.stdout.split()}
    assert not roots & {"dagster", "mlflow", "bentoml", "onnxruntime", "sklearn", "pandas"}


def test_a_loop_that_dies_is_told_and_one_that_fails_for_a_while_goes_on() -> None:
    died, calls = threading.Event(), []

    def tick() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise TargetError("away for a moment")
        raise ZeroDivisionError

    other: list[Any] = []
    Loop("loop", [tick, lambda: other.append(1)], died.set).start()
    assert died.wait(10)
    assert (len(calls), len(other)) == (2, 1)
