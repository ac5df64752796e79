"""Whether a part that runs by itself answers, asked at its address: `slipway status`, and
`python -m deploy.part_health PART` as a container's health check."""

import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

import httpx

from deploy.dagster_client import DagsterClient
from deploy.features import TRANSFORMER, uses_features
from deploy.gateway.envoy import NO_TLS, GatewayAdmin
from deploy.home import find_home
from deploy.parts import CODE_SERVER, PARTS
from deploy.platform import CONTROL, DAEMON, GATEWAY, MLFLOW, WEBSERVER, LocalPlatform
from deploy.supervision import MODEL_SERVERS, Supervisor, SupervisorError
from serving_config.load import FOLDER, load

_SECONDS = 2.0


def needed(platform: LocalPlatform) -> list[str]:
    """The parts that the settings ask for."""
    spared = set() if uses_features(platform.configuration) else {TRANSFORMER}
    return [part for part in PARTS if part not in spared]


def address(platform: LocalPlatform, part: str) -> str:
    """Where the other parts reach it; '' for one that has no address, but files in the home."""
    settings = platform.configuration.platform
    code = settings.dagster.code_server
    known = {
        GATEWAY: settings.gateway.url,
        MLFLOW: settings.mlflow.uri,
        WEBSERVER: settings.dagster.url,
        CODE_SERVER: f"{code.host}:{code.port}",
        TRANSFORMER: platform.configuration.features.url,
        MODEL_SERVERS: settings.model_servers.host,
    }
    return known.get(part, "")


def answers(platform: LocalPlatform, part: str) -> bool:
    """Whether it does, within seconds."""
    url = address(platform, part)
    if part == GATEWAY:
        return GatewayAdmin(platform.home).ready()
    if part == CONTROL:
        return _control_answers(platform)
    if part == DAEMON:
        reason = DagsterClient(platform.configuration.platform.dagster.url).not_ready() or ""
        return not reason.startswith(("the daemon", "the webserver"))
    if part == CODE_SERVER:
        return _listens(url)
    if part == MODEL_SERVERS:
        return _supervisor_answers(platform)
    path = {MLFLOW: "/health", WEBSERVER: "/server_info", TRANSFORMER: "/services"}[part]
    return _is_ok(httpx.Client(timeout=_SECONDS), f"{url}{path}")


def _control_answers(platform: LocalPlatform) -> bool:
    socket_file = str(platform.home.run / "control.sock")
    transport = httpx.HTTPTransport(uds=socket_file, verify=NO_TLS)
    client = httpx.Client(transport=transport, timeout=_SECONDS)
    return _is_ok(client, "http://control/v1/health")


def _is_ok(client: httpx.Client, url: str) -> bool:
    with client, suppress(httpx.HTTPError):
        return client.get(url).status_code == httpx.codes.OK
    return False


def _listens(name: str) -> bool:
    host, _, port = name.rpartition(":")
    with suppress(OSError), socket.create_connection((host, int(port)), timeout=_SECONDS):
        return True
    return False


def _supervisor_answers(platform: LocalPlatform) -> bool:
    supervisor = Supervisor(platform.home)
    if not supervisor.running():
        return False
    try:
        supervisor.names()
    except SupervisorError:
        return False
    return True


def main() -> None:
    """Exit code 1 where the part does not answer. By SLIPWAY_HOME and SLIPWAY_CONFIG."""
    (part,) = sys.argv[1:]
    folder = Path(os.environ.get("SLIPWAY_CONFIG") or FOLDER)
    platform = LocalPlatform(find_home(folder.parent), load(folder), folder)
    if not answers(platform, part):
        sys.exit(f"{part} does not answer")


if __name__ == "__main__":
    main()
