"""The local platform: which processes there are, with which files and environment."""

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from deploy.features import transformer_process, uses_features
from deploy.gateway.envoy import envoy_command, write_static
from deploy.home import Home, write_atomically
from deploy.processes import MARKER, require_free
from deploy.supervision import ProcessSpec
from serving_config.schema import Configuration

_DAGSTER_YAML = """\
telemetry: {enabled: false}
nux: {enabled: false}
concurrency:
  # A run that follows a canary holds its place for hours, and does nothing else.
  runs: {max_concurrent_runs: 10}
  pools: {default_limit: 1, granularity: op}
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config: {dequeue_interval_seconds: 1}
# A run whose process died starts once more; a step that failed does not.
run_retries: {enabled: true, max_retries: 1, retry_on_asset_or_op_failure: false}
run_monitoring:
  enabled: true
  start_timeout_seconds: 180
  max_runtime_seconds: 3600
  # A run that was killed holds its deployment pool no longer than this.
  free_slots_after_run_end_seconds: 1
sensors: {use_threads: true, num_workers: 4}
retention:
  sensor: {purge_after_days: {skipped: 1, failure: 30, success: -1}}
"""


@dataclass(frozen=True)
class LocalPlatform:
    """One checkout's settings on one home."""

    home: Home
    configuration: Configuration
    config_folder: Path

    @property
    def working_directory(self) -> str:
        """Where the processes run: the folder that holds serving_config/."""
        return str(self.config_folder.parent)

    def environment(self) -> dict[str, str]:
        """What every process of the platform inherits."""
        return {
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

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the settings, to see whether they changed since the start."""
        return hashlib.sha256(self.configuration.model_dump_json().encode()).hexdigest()

    def started_with(self) -> str | None:
        """The fingerprint of the settings that the running platform has read."""
        try:
            return (self.home.run / "settings.sha256").read_text()
        except FileNotFoundError:
            return None

    def require_ports(self) -> None:
        """Raise PortInUseError for the first configured port that is taken."""
        platform = self.configuration.platform
        for name in ("gateway", "dagster") + (() if platform.mlflow.tracking_uri else ("mlflow",)):
            variable = f"SLIPWAY_{name.upper()}_PORT"
            port = getattr(platform, name).port
            require_free(port, f"{name}.port in serving_config/platform.yaml or {variable}")
        if uses_features(self.configuration):
            setting = "port in serving_config/features.yaml or SLIPWAY_FEATURES_PORT"
            require_free(self.configuration.features.port, setting)

    def write_files(self) -> None:
        """Dagster's and Envoy's own configuration files."""
        home = self.home
        write_atomically(home.dagster / "dagster.yaml", _DAGSTER_YAML.encode())
        socket = str(home.run / "code.sock")
        server = {"socket": socket, "host": "localhost", "location_name": "slipway"}
        # JSON is YAML.
        workspace = json.dumps({"load_from": [{"grpc_server": server}]})
        write_atomically(home.dagster / "workspace.yaml", workspace.encode())
        write_atomically(home.run / "settings.sha256", self.fingerprint().encode())
        gateway = self.configuration.platform.gateway
        write_static(home, gateway, self.configuration.max_body_bytes)

    def processes(self) -> list[ProcessSpec]:
        """All parts but the model servers, in the order they start."""
        mlflow = self.configuration.platform.mlflow
        own_registry = [] if mlflow.tracking_uri else [self._mlflow()]
        gateway = ProcessSpec("gateway", envoy_command(self.home))
        # Its grace is above the two seconds in which it ends.
        control = ProcessSpec("control", [sys.executable, "-m", "deploy.control"], {}, 5.0)
        transformer = transformer_process(self.home, self.configuration)
        features = [] if transformer is None else [transformer]
        return [gateway, control, *own_registry, *features, *self._dagster()]

    def _mlflow(self) -> ProcessSpec:
        folder = self.home.mlflow
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.configuration.platform.mlflow.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(folder / "artifacts")]
        return ProcessSpec("mlflow", command)

    def _dagster(self) -> list[ProcessSpec]:
        scripts = Path(sys.executable).parent
        workspace = ["--workspace", str(self.home.dagster / "workspace.yaml")]
        port = str(self.configuration.platform.dagster.port)
        code = [str(scripts / "dagster"), "api", "grpc", "--module-name"]
        code += ["orchestration.definitions", "--socket", str(self.home.run / "code.sock")]
        web = [str(scripts / "dagster-webserver"), "--host", "127.0.0.1", "--port", port]
        return [
            ProcessSpec("dagster-code", code),
            ProcessSpec("dagster-webserver", web + workspace),
            ProcessSpec("dagster-daemon", [str(scripts / "dagster-daemon"), "run", *workspace]),
        ]
