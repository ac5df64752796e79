"""The platform's parts each by itself, as containers run them, with a real PostgreSQL."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import httpx
import psutil
import pytest

from deploy.events import State
from deploy.ledger import Ledger
from deploy.part_health import answers
from deploy.parts import CODE_SERVER, running
from deploy.platform import CONTROL, DAEMON, GATEWAY, MLFLOW, WEBSERVER, LocalPlatform
from deploy.processes import belonging_to, free_ports
from deploy.release import Release
from deploy.supervision import MODEL_SERVERS, Supervisor
from orchestration.build_bento import build_bento
from serving_config.load import load
from serving_config.schema import Serving
from tests.bentos.model_server.models import iris
from tests.deploy.postgres_server import PASSWORD, PostgresServer, postgres_server
from tests.deploy.releases import change
from tests.end_to_end.harness import SETOSA, SLIPWAY, Checkout, wait_for

PARTS = (GATEWAY, CONTROL, MODEL_SERVERS, MLFLOW, WEBSERVER, DAEMON, CODE_SERVER)


@dataclass
class Parts:
    checkout: Checkout
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def start(self, part: str) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SLIPWAY_")}
        with (self.checkout.folder / f"{part}.log").open("ab") as log:
            self.processes[part] = subprocess.Popen(
                [str(SLIPWAY), "run", part],
                cwd=self.checkout.folder,
                env=inherited | self.checkout.variables,
                stdout=log,
                stderr=log,
            )

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Meanwhile no part ends by itself."""

        def holds() -> bool:
            for part, process in self.processes.items():
                assert process.poll() is None, f"{part}: {self.said(part)}"
            return condition()

        wait_for(holds, what, 90)

    def kill(self, part: str) -> None:
        """With all that it has started, as the end of a container does."""
        for process in belonging_to(self.checkout.home.root, part):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.processes.pop(part).wait()

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    def said(self, part: str) -> str:
        return (self.checkout.folder / f"{part}.log").read_text()

    def answer(self) -> bool:
        """Whether all parts do."""
        folder = self.checkout.folder / "serving_config"
        settings = load(folder, self.checkout.variables)
        platform = LocalPlatform(self.checkout.home, settings, folder)
        return all(answers(platform, part) for part in PARTS)

    def status(self) -> dict[str, bool]:
        """Which parts answer, by the command."""
        found = json.loads(self.checkout.must("status", "--json"))
        return {item["name"]: item["answers"] for item in found["parts"]}

    def serve(self) -> bool:
        with suppress(httpx.HTTPError):
            answer = self.checkout.predict("iris", SETOSA)
            return answer.status_code == 200 and answer.json()["prediction"] == "setosa"
        return False

    def control_answers(self) -> bool:
        with suppress(httpx.HTTPError):
            health = f"{self.checkout.url('gateway')}/v1/health"
            return httpx.get(health).status_code == httpx.codes.OK
        return False


@contextmanager
def databases(postgres: PostgresServer) -> Iterator[dict[str, str]]:
    urls = [postgres.url(postgres.create_database()) for _ in range(3)]
    yield {
        "SLIPWAY_DAGSTER_STORAGE_URL": urls[0].replace("+psycopg", ""),
        "SLIPWAY_MLFLOW_BACKEND_URL": urls[1],
        "SLIPWAY_LEDGER_URL": urls[2],
    }


@pytest.fixture
def parts() -> Iterator[Parts]:
    with ExitStack() as stack:
        variables = stack.enter_context(databases(stack.enter_context(postgres_server())))
        made = Checkout.make(
            **variables,
            SLIPWAY_CODE_SERVER_PORT=str(free_ports(1)[0]),
            # A name, which the gateway looks up.
            SLIPWAY_MODEL_SERVERS_HOST="localhost",
        )
        stack.callback(made.close)
        release(made)
        parts = Parts(made)
        stack.callback(parts.end)
        yield parts


def release(checkout: Checkout) -> None:
    """A small model to production, on the ledger alone: the model servers follow it."""
    home = checkout.home.create()
    bento = build_bento(iris().write(home.versions / "iris"), Serving(), home.bentoml)
    live = Release.load(bento.tag, home.bentoml).live()
    with Ledger(checkout.variables["SLIPWAY_LEDGER_URL"]) as ledger:
        ledger.record(change(State("production", "iris"), live))


def test_parts_that_are_killed_in_any_order_come_back_and_requests_succeed(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in PARTS:
        parts.start(part)
    parts.wait(parts.serve, "a prediction")
    monkeypatch.setattr("deploy.supervision.pid_namespace", lambda: "another container")
    (server,) = Supervisor(parts.checkout.home).status()
    assert server.name.startswith("iris-")
    assert server.memory_bytes > 0, "as the supervisor says, to whom the pids mean something"
    for part in (GATEWAY, MODEL_SERVERS, GATEWAY):
        parts.kill(part)
        assert not parts.serve()
        parts.start(part)
        parts.wait(parts.serve, f"a prediction after {part} was killed")
    parts.kill(CONTROL)
    assert parts.serve()
    assert not parts.control_answers()
    parts.start(CONTROL)
    parts.wait(parts.control_answers, "the control API")
    parts.wait(parts.answer, "all parts")
    rest = (MLFLOW, CODE_SERVER, DAEMON, WEBSERVER)
    for part in rest:
        parts.kill(part)
        assert parts.serve()
    for part in reversed(rest):
        parts.start(part)
    parts.wait(parts.answer, "all parts")
    status = parts.status()
    assert {part: status[part] for part in PARTS} == dict.fromkeys(PARTS, True)
    parts.wait(lambda: parts.checkout.dagster.not_ready() is None, "Dagster")
    assert parts.serve()

    shown = " ".join(" ".join(item.cmdline()) for item in belonging_to(parts.checkout.home.root))
    assert "mlflow" in shown
    files = [*parts.checkout.folder.glob("*.log"), *parts.checkout.home.root.rglob("*.yaml")]
    for text in (shown, *(path.read_text() for path in files)):
        assert PASSWORD not in text
        assert "p%40ss" not in text
    refused = parts.checkout.slipway("up", "--detach")
    assert "run by themselves" in refused.stderr

    assert set(running(parts.checkout.home)) == set(PARTS)
    for process in parts.processes.values():
        process.terminate()
    for part, process in parts.processes.items():
        assert process.wait(30) in (0, -15), parts.said(part)
    assert running(parts.checkout.home) == []
