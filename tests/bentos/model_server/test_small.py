"""One process without BentoML: the same answers, logs and end."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from bentos.model_server.settings import SOURCE_ROOT
from bentos.model_server.small import tag
from bentos.prediction_log.segments import read_blocks, read_header
from tests.bentos.model_server.clients import GOOD, Server, free_port, port_is_free, wait_for
from tests.bentos.model_server.models import Parts
from tests.bentos.prediction_log.writing import paths

COMMAND = [sys.executable, "-m", "bentos.model_server.small", "--port"]


def environment(folder: Path, **variables: str) -> dict[str, str]:
    own = {"PYTHONPATH": str(SOURCE_ROOT), "SLIPWAY_MODEL_DIR": str(folder), **variables}
    return {name: text for name, text in os.environ.items() if "SLIPWAY" not in name} | own


@contextmanager
def small(folder: Path, log: Path, **variables: str) -> Iterator[Server]:
    port = free_port()
    with log.open("wb") as file:
        popen = subprocess.Popen(
            [*COMMAND, str(port)],
            env=environment(folder, **variables),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            server = Server(psutil.Process(popen.pid), client, log)
            wait_for(server, "/health", 200)
            yield server
    finally:
        popen.kill()
        popen.wait()


@pytest.fixture(scope="module")
def folder(iris: Parts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return iris.write(tmp_path_factory.mktemp("small") / "model")


def test_it_answers_logs_and_ends_as_ever_in_less_than_200_mb(
    iris: Parts, folder: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with small(
        folder, tmp_path / "out", SLIPWAY_PREDICTION_LOG=str(log), SLIPWAY_DRAIN_SECONDS="1"
    ) as server:
        wait_for(server, "/ready", 200)
        answer = server.client.post("/predict", json={"features": GOOD})
        assert answer.json()["model"]["name"] == iris.contract.model
        assert "slipway_requests_total{" in server.client.get("/metrics").text
        (alone,) = server.family()
        assert alone.memory_info().rss < 200 << 20
        server.master.send_signal(signal.SIGTERM)
        problem = wait_for(server, "/ready", 503).json()
        assert problem["type"].endswith("draining")
        assert server.client.post("/predict", json={"features": GOOD}).status_code == 200
        assert server.master.wait(20) == 0
        assert port_is_free(server.client.base_url.port or 0)
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert [line["status"] for line in lines if line.get("path") == "/predict"] == [200, 200]
    (path,) = paths(log)
    with path.open("rb") as file:
        assert read_header(file) is not None
        logged = [status for block in read_blocks(file) for status in block.status]
    assert logged == [200, 200]


def test_bentoml_is_not_imported(folder: Path) -> None:
    code = """
import sys
for name in ("bentoml", "_bentoml_sdk", "_bentoml_impl", "circus", "aiohttp", "pydantic", "yaml"):
    sys.modules[name] = None
from bentos.model_server import small
small.main(["--port", "70000"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: cannot listen on 127.0.0.1:70000: ")


def test_a_model_without_a_certificate_is_refused_with_the_reason(
    folder: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    (copy / "certificate.json").unlink()
    with small(copy, tmp_path / "out") as server:
        problem = wait_for(server, "/ready", 503).json()
        assert "certificate.json" in problem["detail"] or problem["type"].endswith("loading")
        answer = server.client.post("/predict", json={"features": GOOD})
        assert answer.status_code == 503


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"SLIPWAY_WORKERS": "2"}, "SLIPWAY_WORKERS must be 1 here"),
        ({"SLIPWAY_THREADS": "many"}, "SLIPWAY_THREADS must be a number"),
        ({}, "Address already in use"),
    ],
)
def test_what_hinders_the_start_is_one_line(
    folder: Path, variables: dict[str, str], words: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1] if not variables else free_port()
        done = subprocess.run(
            [*COMMAND, str(port)],
            env=environment(folder, **variables),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_it_knows_the_bento_that_its_sources_are_of(tmp_path: Path) -> None:
    assert tag(tmp_path / "src") == "unpacked"
    (tmp_path / "bento.yaml").write_text("service: x\nname: iris\nversion: 1-fp32-abc\n")
    assert tag(tmp_path / "src") == "iris:1-fp32-abc"
