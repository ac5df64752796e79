"""The local platform: which processes there are, with which files and environment."""

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from deploy.dagster_files import (
    socket_file,
    workspace_file,
    write_dagster_yaml,
    write_workspace,
)
from deploy.features import TRANSFORMER, transformer_process, uses_features
from deploy.gateway.clusters import LOOPBACK
from deploy.gateway.envoy import envoy_command, write_static
from deploy.home import Home, write_atomically
from deploy.manifests.dagster import STORAGE_VARIABLE
from deploy.processes import MARKER, require_free
from deploy.supervision import ProcessSpec
from serving_config.parts import Registry
from serving_config.schema import Configuration

_SCRIPTS = Path(sys.executable).parent
_ALLOWED_HOSTS = "MLFLOW_SERVER_ALLOWED_HOSTS"
# The parts by name, as processes and for `slipway run`.
GATEWAY, CONTROL, MLFLOW = "gateway", "control", "mlflow"
WEBSERVER, DAEMON, CODE = "dagster-webserver", "dagster-daemon", "dagster-code"


@dataclass(frozen=True)
class LocalPlatform:
    """One checkout's settings on one home."""

    home: Home
    configuration: Configuration
    config_folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "home", self.home.sharing(self.configuration.platform))

    @property
    def working_directory(self) -> str:
        """Where the processes run: the folder that holds serving_config/."""
        return str(self.config_folder.parent)

    def environment(self) -> dict[str, str]:
        """What every process of the platform inherits."""
        found = {
            MARKER: str(self.home.root),
            "SLIPWAY_HOME": str(self.home.root),
            "SLIPWAY_CONFIG": str(self.config_folder),
            "DAGSTER_HOME": str(self.home.dagster),
            "BENTOML_HOME": str(self.home.bentoml),
            "SLIPWAY_FEATURES_HOME": str(self.home.features),
            "MLFLOW_TRACKING_URI": self.configuration.platform.mlflow.uri,
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_LOGGING_LEVEL": "WARNING",
            # Enough for a registry that is being restarted; MLflow's own 7 retries take minutes.
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
            "BENTOML_DO_NOT_TRACK": "True",
            "ORT_DISABLE_TELEMETRY": "1",
            "DO_NOT_TRACK": "true",
            "PYTHONUNBUFFERED": "1",
        }
        if storage := self.configuration.platform.dagster.storage:
            found[STORAGE_VARIABLE] = storage
        return found

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the settings, to see whether they changed since the start."""
        return hashlib.sha256(self.configuration.model_dump_json().encode()).hexdigest()

    def started_with(self) -> str | None:
        """The fingerprint of the settings that the running platform has read."""
        try:
            return (self.home.run / "settings.sha256").read_text()
        except FileNotFoundError:
            return None

    @property
    def host(self) -> str:
        """The address that every part listens on."""
        return self.configuration.platform.host

    def require_ports(self) -> None:
        """Raise PortInUseError for the first configured port that is taken."""
        self.require_port(GATEWAY)
        self.require_port(WEBSERVER)
        if not self.configuration.platform.mlflow.tracking_uri:
            self.require_port(MLFLOW)
        if uses_features(self.configuration):
            self.require_port(TRANSFORMER)

    def require_port(self, part: str) -> None:
        """Raise PortInUseError where a part's port is taken; nothing for one without a port."""
        platform, file = self.configuration.platform, "serving_config/platform.yaml"
        ports = {
            GATEWAY: (platform.gateway.port, "gateway.port", "SLIPWAY_GATEWAY_PORT"),
            WEBSERVER: (platform.dagster.port, "dagster.port", "SLIPWAY_DAGSTER_PORT"),
            MLFLOW: (platform.mlflow.port, "mlflow.port", "SLIPWAY_MLFLOW_PORT"),
            CODE: (
                *(platform.dagster.code_server.port, "dagster.code_server.port"),
                "SLIPWAY_CODE_SERVER_PORT",
            ),
        }
        if part == TRANSFORMER:
            setting = "port in serving_config/features.yaml or SLIPWAY_FEATURES_PORT"
            require_free(self.configuration.features.port, setting, self.host)
        elif part in ports:
            port, setting, variable = ports[part]
            require_free(port, f"{setting} in {file} or {variable}", self.host)

    def write_files(self) -> None:
        """Dagster's and Envoy's own configuration files."""
        home = self.home
        write_dagster_yaml(home, self.configuration)
        write_workspace(home)
        write_atomically(home.run / "settings.sha256", self.fingerprint().encode())
        self.write_gateway()

    def write_gateway(self) -> None:
        """What of Envoy's configuration does not change while it runs."""
        gateway, most = self.configuration.platform.gateway, self.configuration.max_body_bytes
        write_static(self.home, gateway, most, self.host)

    def processes(self) -> list[ProcessSpec]:
        """All parts but the model servers, in the order they start."""
        own_registry = [] if self.configuration.platform.mlflow.tracking_uri else [self.mlflow()]
        transformer = transformer_process(self.home, self.configuration)
        features = [] if transformer is None else [transformer]
        return [
            *(self.gateway(), self.control(), *own_registry, *features),
            *(self.code_server(separate=False), self.webserver(), self.daemon()),
        ]

    def gateway(self) -> ProcessSpec:
        """Envoy."""
        return ProcessSpec(GATEWAY, envoy_command(self.home))

    def control(self) -> ProcessSpec:
        """The control process. Its grace is above the two seconds in which it ends."""
        return ProcessSpec(CONTROL, [sys.executable, "-m", "deploy.control"], {}, 5.0)

    def mlflow(self) -> ProcessSpec:
        """The MLflow server. The database's URL, with its password, is no argument: those are
        for all users of the machine to see."""
        folder, settings = self.home.mlflow, self.configuration.platform.mlflow
        command = [sys.executable, "-m", "mlflow", "server", "--host", self.host]
        command += ["--port", str(settings.port), "--workers", "1"]
        command += ["--artifacts-destination", settings.artifacts or str(folder / "artifacts")]
        variables = {
            "MLFLOW_BACKEND_STORE_URI": settings.backend_url or f"sqlite:///{folder / 'mlflow.db'}"
        }
        if self.host != LOOPBACK:
            variables[_ALLOWED_HOSTS] = _allowed_hosts(settings)
        return ProcessSpec(MLFLOW, command, variables)

    def code_server(self, *, separate: bool) -> ProcessSpec:
        """Dagster's code location; separate: on its TCP port instead of a UNIX socket."""
        command = [str(_SCRIPTS / "dagster"), "api", "grpc", "--module-name"]
        command += ["orchestration.definitions"]
        if separate:
            port = self.configuration.platform.dagster.code_server.port
            command += ["--host", self.host, "--port", str(port)]
        else:
            command += ["--socket", str(socket_file(self.home))]
        return ProcessSpec(CODE, command)

    def webserver(self) -> ProcessSpec:
        """Dagster's UI."""
        port = str(self.configuration.platform.dagster.port)
        command = [str(_SCRIPTS / "dagster-webserver"), "--host", self.host, "--port", port]
        return ProcessSpec(WEBSERVER, [*command, *self._workspace()])

    def daemon(self) -> ProcessSpec:
        """Dagster's sensors, schedules and run queue."""
        command = [str(_SCRIPTS / "dagster-daemon"), "run"]
        return ProcessSpec(DAEMON, [*command, *self._workspace()])

    def _workspace(self) -> list[str]:
        return ["--workspace", str(workspace_file(self.home))]


def _allowed_hosts(settings: Registry) -> str:
    """The Host headers that MLflow answers, against DNS rebinding: left alone it takes this
    machine's only. Its own variable goes over it."""
    if given := os.environ.get(_ALLOWED_HOSTS):
        return given
    names = dict.fromkeys(["localhost", LOOPBACK, urlsplit(settings.uri).hostname or LOOPBACK])
    return ",".join(f"{name}{port}" for name in names for port in ("", ":*"))
