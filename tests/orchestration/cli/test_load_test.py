"""`slipway load-test` against the real model server, as the gateway shows it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from time import monotonic_ns
from typing import Any

import pytest
from rich.console import Console

from deploy.processes import free_port
from orchestration.cli import main
from orchestration.cli.load_display import watching
from orchestration.load_test.connection import Address
from orchestration.load_test.loops import generator
from orchestration.load_test.plan import SECOND, ClosedLoop
from orchestration.load_test.recorder import Recorder
from tests.bentos.model_server import models
from tests.orchestration.load_test.servers import App, below, http_server, model_server

KEY = "slipway_abc_s3cr3t"
Headers = dict[bytes, bytes]


@dataclass
class Gateway:
    """What came in, and `status(n)` for the n-th prediction, from 0, instead of an answer."""

    seen: list[tuple[str, Headers]] = field(default_factory=list)
    status: Callable[[int, Headers], int] = lambda number, headers: 200
    url: str = ""

    @property
    def predictions(self) -> list[tuple[str, Headers]]:
        return [item for item in self.seen if "predict" in item[0]]

    def around(self, app: App) -> App:
        inner = below("/models/iris", app)

        async def recorded(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await inner(scope, receive, send)
                return
            number, headers = len(self.predictions), dict(scope["headers"])
            self.seen.append((scope["path"], headers))
            status = self.status(number, headers)
            if status == 200:
                await inner(scope, receive, send)
            else:
                length = [(b"content-length", b"16"), (b"retry-after", b"1")]
                await send({"type": "http.response.start", "status": status, "headers": length})
                await send({"type": "http.response.body", "body": b'{"detail": "no"}'})

        return recorded


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    made = Gateway()
    with model_server(models.iris(), tmp_path_factory.mktemp("iris"), made.around) as url:
        made.url = f"{url}/models/iris"
        yield made


@pytest.fixture
def gateway(served: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Gateway:
    """The served one as new, and as this checkout's own."""
    served.seen.clear()
    served.status = lambda number, headers: 200
    monkeypatch.delenv("SLIPWAY_API_KEY", raising=False)
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))
    monkeypatch.setenv("SLIPWAY_GATEWAY_PORT", served.url.split(":")[2].split("/")[0])
    return served


@dataclass(frozen=True)
class Called:
    code: int
    out: str
    err: str

    @property
    def result(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Called]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: str) -> Called:
        monkeypatch.setattr(sys, "argv", ["slipway", "load-test", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr()
        return Called(int(caught.value.code or 0), said.out, said.err)

    return run


FEW = ("--requests", "40", "--warm-up", "0s", "--connections", "4")


def test_the_gateway_of_the_checkout_is_asked_for_the_contract_s_example(
    gateway: Gateway, call: Call
) -> None:
    called = call("iris", *FEW)
    assert (called.code, called.err) == (0, "")
    assert "iris in staging at http://127.0.0.1:" in called.out
    assert "closed loop, 4 connections, a row in each request" in called.out
    for wanted in ("40 in ", "200: 40", "3: 40", "p99.9", "max"):
        assert wanted in called.out
    assert len(gateway.predictions) == 41  # one was asked before the load
    assert {path for path, _ in gateway.predictions} == {"/models/iris/predict"}
    assert {headers[b"x-environment"] for _, headers in gateway.seen} == {b"staging"}


def test_json_is_all_there_is_on_stdout(gateway: Gateway, call: Call) -> None:
    called = call("iris", "--json", "--rate", "200/s", "--duration", "500ms", "--warm-up", "0s")
    assert (called.code, called.err) == (0, "")
    found = called.result
    assert (found["loop"], found["planned_rate"], found["connections"]) == ("open", 200, 16)
    assert (found["requests"], found["failed"], found["unsent"], found["shed"]) == (100, 0, 0, 0)
    assert (found["statuses"], found["versions"]) == ({"200": 100}, {"3": 100})
    latency = found["latency_ms"]
    ordered = [latency[name] for name in ("min", "p50", "p90", "p95", "p99", "p99.9", "max")]
    assert ordered == sorted(ordered)
    assert ordered[0] > 0


def test_environment_version_and_key_are_sent_and_the_key_is_never_shown(
    gateway: Gateway, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_API_KEY", KEY)
    gateway.status = lambda number, headers: 401 if number == 3 else 200
    called = call("iris", *FEW, "--environment", "production", "--version", "3")
    assert called.code == 1
    for _, headers in gateway.seen:
        assert headers[b"x-environment"] == b"production"
        assert headers[b"x-model-version"] == b"3"
        assert headers[b"x-api-key"] == KEY.encode()
    assert "s3cr3t" not in called.out + called.err


def test_a_key_that_is_no_header_is_refused_and_not_shown(gateway: Gateway, call: Call) -> None:
    called = call("iris", *FEW, "--key", f"{KEY}\r\nX-Environment: production")
    assert called.code == 1
    assert "the value of x-api-key" in called.err
    assert "s3cr3t" not in called.out + called.err
    assert gateway.seen == []


def test_rows_of_a_file_are_sent_in_batches(gateway: Gateway, call: Call, tmp_path: Path) -> None:
    row = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps(row | {"petal_width": w / 10}) for w in range(5)))
    called = call("iris", *FEW, "--json", "--input", str(rows), "--rows", "3")
    assert called.code == 0
    assert called.result["rows"] == 3
    assert {path for path, _ in gateway.predictions} == {"/models/iris/predict/batch"}


def test_shed_requests_make_it_fail_and_are_counted(gateway: Gateway, call: Call) -> None:
    gateway.status = lambda number, headers: 503 if number % 4 == 1 else 200
    called = call("iris", *FEW)
    assert called.code == 1
    assert called.err == "slipway: 10 of 40 requests failed: 10 x 503\n"
    assert "shed (429, 503)" in called.out


def test_a_plot_is_written(gateway: Gateway, call: Call, tmp_path: Path) -> None:
    called = call("iris", *FEW, "--json", "--plot", str(tmp_path / "load.svg"))
    assert called.code == 0
    assert called.result["requests"] == 40
    assert "iris in staging, closed loop" in (tmp_path / "load.svg").read_text()


def test_an_address_of_a_model_server_needs_no_checkout(
    gateway: Gateway, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    called = call("iris", *FEW, "--json", "--url", gateway.url + "/")
    assert called.code == 0
    assert called.result["url"] == gateway.url
    assert all(b"x-environment" not in headers for _, headers in gateway.seen)


def refused(called: Called, *words: str) -> None:
    """One line with the words, and nothing on stdout."""
    assert called.code in (1, 2)
    assert called.out == ""
    (line,) = called.err.splitlines()
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rose"], ["no model 'rose'", "models: customer-churn, iris"]),
        (["iris", "--environment", "prod"], ["no environment 'prod'", "production, staging"]),
        (["iris", "--rate", "fast"], ["--rate", "'fast' is no rate"]),
        (["iris", "--rate", "0"], ["--rate", "is no rate"]),
        (["iris", "--rate", "nan"], ["--rate", "is no rate"]),
        (["iris", "--duration", "ten"], ["--duration", "10s, 500ms, 2m or 1h"]),
        (["iris", "--duration", "0s"], ["--duration", "more than 0"]),
        (["iris", "--duration", "25h"], ["--duration", "longer than 24h"]),
        (["iris", "--rate", "5", "--delay", "1s"], ["--delay", "--rate"]),
        (["iris", "--plot", "load.gif"], ["--plot", ".svg or .png"]),
        (["iris", "--plot", "nowhere/load.svg"], ["--plot", "no folder nowhere"]),
        (["iris", "--input", "nowhere.json"], ["nowhere.json", "No such file"]),
        (["iris", "--url", "ftp://x/"], ["--url ftp://x", "expected http://"]),
        (["iris", "--url", "http://me:s3cr3t@x/"], ["--url http://", "SLIPWAY_API_KEY"]),
    ],
)
def test_a_mistake_is_one_line_and_no_load(
    arguments: list[str], words: list[str], gateway: Gateway, call: Call
) -> None:
    called = call(*arguments)
    refused(called, *words)
    assert "s3cr3t" not in called.err
    assert gateway.seen == []


def test_what_the_target_is_not_is_one_line_and_no_load(
    gateway: Gateway, call: Call, tmp_path: Path
) -> None:
    refused(call("rose", "--url", gateway.url), "serves iris, not rose")
    refused(call("iris", "--url", gateway.url + "/no"), "/no/model/info answers 404")
    rows = tmp_path / "rows.json"
    rows.write_text('[{"sepal_length": "long"}]')
    refused(
        call("iris", "--input", str(rows)), "the first request is refused", "422", "sepal_length"
    )
    assert len(gateway.predictions) == 1


def test_nothing_live_and_a_missing_key_are_said_with_what_helps(
    gateway: Gateway, call: Call
) -> None:
    gateway.status = lambda number, headers: 503
    refused(call("iris"), "answers 503: no", "`slipway release iris`")
    gateway.status = lambda number, headers: 401
    refused(call("iris"), "answers 401: no", "SLIPWAY_API_KEY")


def test_a_gateway_that_is_down_is_one_line_that_says_how_to_start_it(
    gateway: Gateway, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_GATEWAY_PORT", str(free_port()))
    refused(call("iris"), "does not answer", "`slipway up --detach`")


def test_another_server_is_no_model_server(call: Call) -> None:
    async def hello(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"hello"})

    with http_server(hello, lifespan="off") as url:
        refused(call("iris", "--url", url), "is not a model server's answer", "http://gateway/")


@contextmanager
def started(*arguments: str) -> "Iterator[subprocess.Popen[str]]":
    slipway = Path(sys.executable).parent / "slipway"
    process = subprocess.Popen(
        [slipway, "load-test", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_ctrl_c_ends_the_load_and_still_shows_the_results(gateway: Gateway) -> None:
    arguments = ("iris", "--url", gateway.url, "--duration", "1h", "--warm-up", "0s")
    with started(*arguments) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if " requests/s  " in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.strip() == "slipway: interrupted"
    assert "model versions" in out
    assert "p99.9" in out


def test_a_terminal_has_a_bar_the_rate_latency_and_errors() -> None:
    plan = ClosedLoop(duration=10.0, warm_up=0.0)
    recorder = Recorder()
    running = generator(plan, Address("127.0.0.1", 1), [b""], recorder)
    for number in range(100):
        recorder.answered(0, (number + 1) * 1_000_000, 200, "1", 10)
    recorder.answered(0, SECOND, 503, "1", 10)
    recorder.failed(0, SECOND, "an [error] with [/] brackets")
    running.in_flight, running.started = 16, monotonic_ns() - SECOND
    text = StringIO()
    shown = Console(file=text, force_terminal=True, width=120, color_system=None)
    with watching(plan, shown, plain=True) as watch:
        watch.show_every = 0.0
        watch(running)
    for wanted in (
        "━━━ ",
        "10%\n",
        "requests/s",
        "16 in flight",
        "p50 49.94 ms",
        "503: 1, an [error] with [/]",
    ):
        assert wanted in text.getvalue()
