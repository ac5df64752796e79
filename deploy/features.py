"""The feature transformer as a part of the platform: which Bento it is, and its process."""

import sys
from pathlib import Path

import msgspec
import psutil

from deploy.home import Home, write_atomically
from deploy.supervision import ProcessSpec, Supervisor
from serving_config.schema import Configuration

TRANSFORMER = "feature-transformer"
_GRACE_SECONDS = 10.0


class TransformerRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`transformer.json`: the Bento that was built for the definitions and settings as they are.
    digest: of its source tree."""

    tag: str
    digest: str


def record_file(home: Home) -> Path:
    """Where it is kept."""
    return home.features / "transformer.json"


def read_record(home: Home) -> TransformerRecord | None:
    """None where no transformer was built yet."""
    try:
        return msgspec.json.decode(record_file(home).read_bytes(), type=TransformerRecord)
    except FileNotFoundError:
        return None


def write_record(home: Home, record: TransformerRecord) -> None:
    """Replace it, if it is another."""
    if read_record(home) != record:
        write_atomically(record_file(home), msgspec.json.encode(record))


def uses_features(configuration: Configuration) -> bool:
    """Whether any model has a feature service."""
    return any(model.feature_service for model in configuration.models.values())


def transformer_process(home: Home, configuration: Configuration) -> ProcessSpec | None:
    """Its process; None where no model needs it, or it was not built yet."""
    record = read_record(home)
    if record is None or not uses_features(configuration):
        return None
    environment = configuration.environments[configuration.platform.default_environment]
    command = [str(Path(sys.executable).parent / "bentoml"), "serve", record.tag]
    command += ["--host", configuration.platform.host, "--port", str(configuration.features.port)]
    variables = {
        "SLIPWAY_WORKERS": "1",
        "SLIPWAY_KEYS": str(home.keys),
        "SLIPWAY_ACCESS_LOG": "1" if environment.access_log else "0",
    }
    if home.platform_key.exists():  # keys are in use: without them nobody is let in
        variables["SLIPWAY_KEYS_REQUIRED"] = "1"
    return ProcessSpec(TRANSFORMER, command, variables, _GRACE_SECONDS)


def transformer_url(home: Home, configuration: Configuration) -> str | None:
    """Where it is reached; None without one."""
    needed = uses_features(configuration) and record_file(home).exists()
    return configuration.features.url if needed else None


def keep_running(
    supervisor: Supervisor, process: ProcessSpec | None, working_directory: str
) -> bool:
    """Bring the supervised transformer to this process, or to none; returns whether it changed.

    Looks at what runs, so it may be killed at any moment and called again.
    """
    there = TRANSFORMER in supervisor.names()
    if there and process is not None and _runs(supervisor, process):
        return False
    if there:
        supervisor.remove(TRANSFORMER, timeout=3 * _GRACE_SECONDS)
    if process is not None:
        supervisor.add(process, working_directory)
    return there or process is not None


def _runs(supervisor: Supervisor, process: ProcessSpec) -> bool:
    pid = supervisor.process(TRANSFORMER).pid
    try:
        # The interpreter stands before a script.
        running = [] if pid is None else psutil.Process(pid).cmdline()
    except psutil.NoSuchProcess:
        return False
    return running[-len(process.command) :] == process.command
