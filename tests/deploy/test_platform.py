import json
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from deploy.events import State
from deploy.home import Home
from deploy.ledger import Ledger
from deploy.platform import LocalPlatform
from deploy.processes import MARKER, PortInUseError, free_port
from deploy.supervisor import live_servers
from serving_config.load import FOLDER, load
from tests.deploy.releases import change, live


def platform(home: Path, **variables: str) -> LocalPlatform:
    return LocalPlatform(Home(home).create(), load(FOLDER, variables), FOLDER)


@pytest.mark.parametrize("part", ["gateway", "dagster", "mlflow"])
def test_a_busy_port_is_named_with_its_key_and_its_variable(part: str, home: Home) -> None:
    ports = {f"SLIPWAY_{name}_PORT": str(free_port()) for name in ("GATEWAY", "DAGSTER", "MLFLOW")}
    made = platform(home.root, **ports)
    made.require_ports()
    variable = f"SLIPWAY_{part.upper()}_PORT"
    with (
        socket.create_server(("127.0.0.1", int(ports[variable]))),
        pytest.raises(PortInUseError) as caught,
    ):
        made.require_ports()
    assert f"port {ports[variable]} is in use" in str(caught.value)
    assert f"set {part}.port in serving_config/platform.yaml or {variable}" in str(caught.value)


def test_with_an_mlflow_of_ones_own_none_is_started_and_its_port_may_be_taken(home: Home) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        made = platform(
            home.root,
            SLIPWAY_GATEWAY_PORT=str(free_port()),
            SLIPWAY_DAGSTER_PORT=str(free_port()),
            SLIPWAY_MLFLOW_PORT=str(server.getsockname()[1]),
            SLIPWAY_MLFLOW_TRACKING_URI="https://mlflow.example",
        )
        made.require_ports()
    assert "mlflow" not in {process.name for process in made.processes()}
    assert made.environment()["MLFLOW_TRACKING_URI"] == "https://mlflow.example"


def test_every_process_can_be_found_by_its_home_and_listens_on_this_machine_only(
    home: Home,
) -> None:
    made = platform(home.root)
    assert made.environment()[MARKER] == str(home.root)
    names = [process.name for process in made.processes()]
    assert names == [
        "gateway",
        "control",
        "mlflow",
        "dagster-code",
        "dagster-webserver",
        "dagster-daemon",
    ]
    for process in made.processes():
        assert Path(process.command[0]).is_file()
        if "--host" in process.command:
            assert process.command[process.command.index("--host") + 1] == "127.0.0.1"


def test_the_files_of_dagster_and_envoy_are_theirs(home: Home) -> None:
    made = platform(home.root, SLIPWAY_GATEWAY_PORT="1234")
    assert made.started_with() is None
    made.write_files()
    assert made.started_with() == made.fingerprint()
    assert platform(home.root, SLIPWAY_GATEWAY_PORT="1235").fingerprint() != made.fingerprint()
    settings = yaml.safe_load((home.dagster / "dagster.yaml").read_text())
    assert settings["concurrency"]["runs"]["max_concurrent_runs"] == 10
    assert settings["concurrency"]["pools"]["default_limit"] == 1
    workspace = yaml.safe_load((home.dagster / "workspace.yaml").read_text())
    server = workspace["load_from"][0]["grpc_server"]
    assert server["socket"] == str(home.run / "code.sock")
    listener = json.loads((home.gateway / "lds.json").read_text())["resources"][0]
    address = listener["address"]["socket_address"]
    assert address == {"address": "127.0.0.1", "port_value": 1234}


def test_a_live_bento_that_is_gone_or_of_no_configured_place_does_not_keep_the_rest_from_starting(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger("sqlite://")
    ledger.record(change(State("staging", "iris"), live(3)))
    ledger.record(change(State("gone", "iris"), live(3)))
    ledger.record(change(State("staging", "gone"), live(3, model="gone")))
    assert live_servers(platform(home.root), ledger) == []
    ledger.close()
    (record,) = caplog.records
    assert record.getMessage().startswith("iris-3-staging-")
    assert "must not be deployed" in record.getMessage()
