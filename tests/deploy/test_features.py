"""The feature transformer among the platform's processes."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.features import (
    TRANSFORMER,
    TransformerRecord,
    keep_running,
    read_record,
    transformer_process,
    transformer_url,
    write_record,
)
from deploy.home import Home
from deploy.monitoring.targets import targets
from deploy.platform import LocalPlatform
from deploy.processes import MARKER, PortInUseError, end_all, free_port
from deploy.supervision import ProcessSpec, Supervisor
from serving_config.load import FOLDER, load
from serving_config.schema import Configuration

RECORD = TransformerRecord("feature-transformer:0123456789ab", "0" * 64)
# A supervisor of nothing, as deploy.supervisor makes one.
SUPERVISOR = """
import sys
from pathlib import Path
from circus.arbiter import Arbiter
from deploy.home import Home
from deploy.supervision import endpoint
home = Home(Path(sys.argv[1]))
Arbiter([], endpoint(home), f"ipc://{home.run / 'events.sock'}", check_delay=0.5).start()
"""


def configured(service: str | None = "customer_churn", **variables: str) -> Configuration:
    found = load(FOLDER, variables)
    models = {
        name: model.model_copy(update={"feature_service": service})
        for name, model in found.models.items()
    }
    return found.model_copy(update={"models": models})


def test_it_runs_where_a_model_has_a_feature_service_and_it_was_built(home: Home) -> None:
    assert transformer_process(home, configured()) is None
    assert transformer_url(home, configured()) is None
    write_record(home, RECORD)
    assert read_record(home) == RECORD
    assert transformer_process(home, configured(None)) is None
    process = transformer_process(home, configured(SLIPWAY_FEATURES_PORT="8123"))
    assert process is not None
    assert process.command[1:] == [
        *("serve", RECORD.tag, "--host", "127.0.0.1", "--port", "8123"),
    ]
    assert process.environment["SLIPWAY_KEYS"] == str(home.keys)
    platform = LocalPlatform(home, configured(SLIPWAY_FEATURES_PORT="8123"), FOLDER)
    assert TRANSFORMER in [item.name for item in platform.processes()]
    assert platform.environment()["SLIPWAY_FEATURES_HOME"] == str(home.features)
    assert transformer_url(home, platform.configuration) == "http://127.0.0.1:8123"
    assert targets([], {}, {TRANSFORMER: "127.0.0.1:8123"}) == [
        {"targets": ["127.0.0.1:8123"], "labels": {"part": "feature-transformer"}}
    ]


def test_its_port_must_be_free_where_it_is_needed(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {
            f"SLIPWAY_{name}_PORT": str(free_port()) for name in ("GATEWAY", "DAGSTER", "MLFLOW")
        }
        ports["SLIPWAY_FEATURES_PORT"] = str(taken.getsockname()[1])
        LocalPlatform(home, configured(None, **ports), FOLDER).require_ports()
        with pytest.raises(PortInUseError, match="SLIPWAY_FEATURES_PORT"):
            LocalPlatform(home, configured(**ports), FOLDER).require_ports()


@pytest.fixture
def supervisor(home: Home) -> Iterator[Supervisor]:
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(home.root)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {MARKER: str(home.root)},
    )
    try:
        deadline = time.monotonic() + 30
        while not (home.run / "supervisor.sock").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield Supervisor(home)
    finally:
        end_all(home.root, grace_seconds=1)
        process.wait()


def test_a_running_one_is_replaced_only_by_another(
    home: Home, supervisor: Supervisor, tmp_path: Path
) -> None:
    def pid() -> int:
        deadline = time.monotonic() + 30
        while True:
            found = supervisor.process(TRANSFORMER).pid
            # The shell that sets up its log becomes the command.
            if found is not None and psutil.Process(found).cmdline()[0] == "sleep":
                return found
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def spec(seconds: str) -> ProcessSpec:
        return ProcessSpec(TRANSFORMER, ["sleep", seconds])

    folder = str(tmp_path)
    assert keep_running(supervisor, spec("1001"), folder)
    first = pid()
    assert not keep_running(supervisor, spec("1001"), folder)
    assert pid() == first
    assert keep_running(supervisor, spec("1002"), folder)
    assert psutil.Process(pid()).cmdline() == ["sleep", "1002"]
    assert not psutil.pid_exists(first)
    assert keep_running(supervisor, None, folder)
    assert TRANSFORMER not in supervisor.names()
    assert not keep_running(supervisor, None, folder)
