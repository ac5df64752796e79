"""Dagster's own files: dagster.yaml and workspace.yaml."""

import json
from pathlib import Path

from deploy.dagster_yaml import dagster_yaml
from deploy.home import Home, write_atomically
from serving_config.parts import CodeServer
from serving_config.schema import Configuration

LOCATION = "slipway"


def write_dagster_yaml(home: Home, configuration: Configuration) -> None:
    """How runs are queued, retried and kept, and where."""
    write_atomically(home.dagster / "dagster.yaml", dagster_yaml(configuration).encode())


def write_workspace(home: Home, code_server: CodeServer | None = None) -> None:
    """Where webserver and daemon find the code location: on a UNIX socket of the home, or at the
    address of one that runs by itself."""
    if code_server is None:
        server: dict[str, object] = {"socket": str(socket_file(home)), "host": "localhost"}
    else:
        server = {"host": code_server.host, "port": code_server.port}
    # JSON is YAML.
    workspace = json.dumps({"load_from": [{"grpc_server": server | {"location_name": LOCATION}}]})
    write_atomically(workspace_file(home), workspace.encode())


def workspace_file(home: Home) -> Path:
    """What webserver and daemon are given."""
    return home.dagster / "workspace.yaml"


def socket_file(home: Home) -> Path:
    """Where the code server listens under `slipway up`."""
    return home.run / "code.sock"
