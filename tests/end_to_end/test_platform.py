"""The local platform: start, crash, restart, stop."""

import json
import os
import signal
import socket

import httpx
import psutil
import pytest

from deploy.processes import belonging_to
from deploy.supervision import Supervisor
from tests.end_to_end.harness import SETOSA, Checkout, wait_for


def status(platform: Checkout) -> dict[str, object]:
    return json.loads(platform.slipway("status", "--json").stdout)


def serving(platform: Checkout) -> list[tuple[object, ...]]:
    """What has traffic; a version without it may leave at any time, when a bake time ends."""
    fields = ("environment", "model", "version", "bento", "weight", "has_server")
    return [tuple(i[name] for name in fields) for i in status(platform)["live"] if i["weight"]]


def pid_of(platform: Checkout, name: str) -> int | None:
    found = {item.name.partition("@")[0]: item.pid for item in Supervisor(platform.home).status()}
    return next((pid for key, pid in found.items() if key.startswith(name)), None)


MODELS = ("customer-churn", "iris", "spam-detector")


def test_starting_twice_is_harmless(platform: Checkout) -> None:
    before = {item.name: item.pid for item in Supervisor(platform.home).status()}
    assert "up already" in platform.must("up", "--detach")
    assert {item.name: item.pid for item in Supervisor(platform.home).status()} == before


def test_status_tells_what_runs_where_and_which_versions_live(platform: Checkout) -> None:
    found = status(platform)
    assert found["running"] is True
    names = {item["name"] for item in found["processes"]}
    dagster = {"dagster-code", "dagster-daemon", "dagster-webserver"}
    assert names >= {"gateway", "control", "mlflow"} | dagster
    live = {(item["model"], item["environment"]) for item in found["live"]}
    assert live >= {(m, e) for m in MODELS for e in ("staging", "production")}
    for address in found["addresses"].values():
        assert httpx.get(address, follow_redirects=True).status_code < 500


@pytest.mark.parametrize(
    "part",
    [
        "gateway",
        "control",
        "mlflow",
        "dagster-code",
        "dagster-daemon",
        "iris-",
        "spam-detector-",
    ],
)
def test_a_part_that_is_killed_comes_back(platform: Checkout, part: str) -> None:
    killed = pid_of(platform, part)
    assert killed
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: pid_of(platform, part) not in (None, killed), f"a new {part}")
    platform.must("up", "--detach")
    assert platform.predict("iris", SETOSA).json()["prediction"] == "setosa"


def test_after_a_crash_of_the_supervisor_up_cleans_up_and_serves_what_was_live(
    platform: Checkout,
) -> None:
    live = serving(platform)
    (supervisor,) = [
        process
        for process in belonging_to(platform.home.root)
        if process.cmdline()[1:] == ["-m", "deploy.supervisor"]
    ]
    supervisor.kill()
    psutil.wait_procs([supervisor])
    assert "an earlier crash left behind" in platform.must("up", "--detach")
    assert serving(platform) == live
    assert platform.predict("iris", SETOSA).json()["prediction"] == "setosa"


def test_down_leaves_no_process_behind_even_after_a_crash(checkout: Checkout) -> None:
    checkout.must("up", "--detach")
    (supervisor,) = [
        process
        for process in belonging_to(checkout.home.root)
        if process.cmdline()[1:] == ["-m", "deploy.supervisor"]
    ]
    supervisor.kill()
    checkout.must("down")
    assert belonging_to(checkout.home.root) == []
    assert checkout.slipway("status").returncode == 3


def test_a_busy_port_is_named_with_the_setting_that_moves_it(checkout: Checkout) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(checkout.variables["SLIPWAY_GATEWAY_PORT"])))
        taken.listen()
        refused = checkout.slipway("up", "--detach")
    assert refused.returncode == 1
    assert f"port {checkout.variables['SLIPWAY_GATEWAY_PORT']} is in use" in refused.stderr
    assert "SLIPWAY_GATEWAY_PORT" in refused.stderr
    assert belonging_to(checkout.home.root) == []


def test_a_home_that_cannot_be_written_is_one_clear_line(checkout: Checkout) -> None:
    checkout.home.root.write_text("a file stands where the folder should be")
    refused = checkout.slipway("up", "--detach")
    assert refused.returncode == 1
    assert "SLIPWAY_HOME" in refused.stderr
    assert refused.stderr.count("\n") == 1
