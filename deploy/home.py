"""SLIPWAY_HOME: the one folder that holds the local platform's state."""

import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from serving_config.schema import Platform

# A UNIX socket's path may have 107 bytes (sun_path in unix(7)); the longest name below run/ is
# `supervisor-events.sock`.
_LONGEST_SOCKET_FOLDER = 107 - len("/run/supervisor-events.sock")


class HomeError(RuntimeError):
    """SLIPWAY_HOME cannot be used."""


@dataclass(frozen=True)
class Home:
    """The layout below SLIPWAY_HOME, and what lies elsewhere where several machines share it."""

    root: Path
    artifacts_url: str | None = None
    """The store that versions and Bentos are published in; see `deploy.artifacts`."""
    configured_ledger: str | None = field(default=None, repr=False)
    """The ledger's URL where it is not in the home; it may hold a password."""

    @property
    def run(self) -> Path:
        """Sockets, locks and the gateway's configuration; 0700."""
        return self.root / "run"

    @property
    def gateway(self) -> Path:
        """The folder that Envoy watches."""
        return self.run / "gateway"

    @property
    def logs(self) -> Path:
        """One log file for each process, rotated."""
        return self.root / "logs"

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME."""
        return self.root / "dagster"

    @property
    def mlflow(self) -> Path:
        """MLflow's database and artifacts."""
        return self.root / "mlflow"

    @property
    def bentoml(self) -> Path:
        """BENTOML_HOME: the Bento store."""
        return self.root / "bentoml"

    @property
    def versions(self) -> Path:
        """`<model>/<version>/`: ONNX, contract and certificate of each version."""
        return self.root / "versions"

    @property
    def predictions(self) -> Path:
        """The prediction log: `segments/`, and `parquet/` unless that is kept elsewhere."""
        return self.root / "predictions"

    @property
    def labels(self) -> Path:
        """Ground truth: `segments/`, and `drop/` for Parquet files of yours."""
        return self.root / "labels"

    @property
    def features(self) -> Path:
        """The feature store's data, registry and description."""
        return self.root / "features"

    @property
    def reports(self) -> Path:
        """Evidently's reports and workspace."""
        return self.root / "reports"

    @property
    def batch(self) -> Path:
        """`jobs/`, and of each model `<model>/drop`, `<model>/input` and `<model>/predictions`."""
        return self.root / "batch"

    @property
    def keys(self) -> Path:
        """The API keys' hashes; there once a key was added."""
        return self.root / "keys.json"

    @property
    def platform_key(self) -> Path:
        """The platform's own API key, in clear, for its owner alone."""
        return self.run / "platform.key"

    @property
    def pii_key(self) -> Path:
        """The key by which the prediction log hashes columns, for its owner alone. With another
        one the same value has another hash."""
        return self.root / "pii.key"

    @property
    def ledger_url(self) -> str:
        """The ledger's SQLAlchemy URL."""
        return self.configured_ledger or f"sqlite:///{self.root / 'ledger.db'}"

    def sharing(self, platform: Platform) -> "Home":
        """With what the settings say lies elsewhere."""
        return replace(
            self, artifacts_url=platform.artifacts.url, configured_ledger=platform.ledger_url
        )

    def create(self) -> "Home":
        """Make the folders, for their owner alone; HomeError says what is wrong and what helps."""
        if len(str(self.root).encode()) > _LONGEST_SOCKET_FOLDER:
            raise HomeError(
                f"SLIPWAY_HOME {self.root} is too long for UNIX sockets (at most "
                f"{_LONGEST_SOCKET_FOLDER} bytes): set SLIPWAY_HOME to a shorter path"
            )
        try:
            for folder in (
                self.root,
                self.run,
                self.gateway,
                self.logs,
                self.dagster,
                self.mlflow,
                self.bentoml,
                self.versions,
                self.predictions,
                self.labels,
                self.features,
                self.reports,
                self.batch,
            ):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make_key(self.pii_key)
            probe = _beside(self.run / "probe")
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise HomeError(
                f"SLIPWAY_HOME {self.root} cannot be written: {error.strerror}: "
                "fix its permissions or set SLIPWAY_HOME to a folder of yours"
            ) from error
        if self.run.stat().st_uid != os.getuid():
            raise HomeError(f"{self.run} belongs to another user: set SLIPWAY_HOME")
        self.run.chmod(stat.S_IRWXU)
        return self


def _make_key(path: Path) -> None:
    """32 random bytes as hex, where there is no key yet; of two processes one makes it."""
    if path.exists():
        return
    temporary = _beside(path)
    write_atomically(temporary, secrets.token_hex(32).encode(), mode=0o600)
    with suppress(FileExistsError):
        os.link(temporary, path)
    temporary.unlink()


def _beside(path: Path) -> Path:
    """A name of nobody else's; of two containers with the same home, pids may be the same."""
    return path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")


def find_home(checkout: Path, variables: Mapping[str, str] = os.environ) -> Home:
    """SLIPWAY_HOME, or `.slipway` in the checkout; nothing is created."""
    return Home(Path(variables.get("SLIPWAY_HOME") or checkout / ".slipway").resolve())


def write_atomically(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Replace a file by rename: a reader sees the old bytes or the new ones, never a part.

    mode: its permissions, less the umask; those of the old file do not count.
    """
    temporary = _beside(path)
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
