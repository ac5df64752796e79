"""Training against a real `mlflow server`."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from orchestration.examples.registration import REFERENCE
from orchestration.training import RegisteredVersion, mlflow_client, train
from serving_config.schema import Model

Download = Callable[[str, RegisteredVersion], Path]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    family = [psutil.Process(process.pid)] if process.poll() is None else []
    for parent in tuple(family):
        family += parent.children(recursive=True)
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.terminate()
    for survivor in psutil.wait_procs(family, timeout=10)[1]:
        with suppress(psutil.NoSuchProcess):
            survivor.kill()
    process.wait(timeout=10)


def _wait_until_healthy(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + 300  # 10 s on an idle machine
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if httpx.get(f"{address}/health", timeout=2).is_success:
                return
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(f"mlflow server did not get ready: {log.read_text()}")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of an MLflow server with a registry of its own."""
    port, log = _free_port(), tmp_path / "server.log"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    command += ["--artifacts-destination", str(tmp_path / "artifacts")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_healthy(process, f"http://127.0.0.1:{port}", log)
        yield f"http://127.0.0.1:{port}"
    finally:
        _end(process)


def test_two_versions_are_registered_over_http_with_their_artifacts(
    server: str, download: Download, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    before = {name for name in os.environ if "MLFLOW" in name}
    model = Model(name="iris", training="orchestration.examples.iris:train")
    versions = [train(model, server), train(model, server)]
    assert {name for name in os.environ if "MLFLOW" in name} == before

    client = mlflow_client(server)
    registered = client.search_model_versions("name='iris'", order_by=["version_number ASC"])
    assert [int(version.version) for version in registered] == [1, 2]
    assert [version.run_id for version in registered] == [version.run_id for version in versions]
    assert (download(server, versions[1]) / "model.skops").stat().st_size > 1000
    reference = client.download_artifacts(versions[1].run_id, REFERENCE, str(tmp_path))
    assert pd.read_parquet(reference).shape == (105, 4)
