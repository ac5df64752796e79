"""Settings of the platform's parts, which run under one supervisor or each by itself."""

import re
from typing import Annotated

from pydantic import Field

from serving_config.base import HostName, Port, Service, Settings


class Registry(Service):
    """The MLflow registry."""

    port: Port = 5000
    """The TCP port of the MLflow server that the platform starts, on `host` of platform.yaml."""
    tracking_uri: Annotated[str, Field(pattern=r"^https?://")] | None = None
    """An MLflow server of yours; then the platform starts none. `SLIPWAY_MLFLOW_TRACKING_URI`."""
    backend_url: (
        Annotated[str, Field(pattern=r"^(sqlite:///|postgresql(\+psycopg)?://)")] | None
    ) = Field(default=None, repr=False)
    """Its database's SQLAlchemy URL; a SQLite file in the home where it is left out.
    `SLIPWAY_MLFLOW_BACKEND_URL`, so that no password need stand here."""
    artifacts: Annotated[str, Field(pattern=r"^(/|[a-z0-9+]+://)[^@]*$")] | None = None
    """Where it keeps artifacts: an absolute folder, or a URL such as `s3://bucket/mlflow`; a
    folder of the home where it is left out. `SLIPWAY_MLFLOW_ARTIFACTS`."""

    @property
    def uri(self) -> str:
        """Where the registry answers."""
        return self.tracking_uri or self.url


class CodeServer(Settings):
    """Dagster's code location as a part by itself (`slipway run code-server`), by gRPC. It runs
    what it is asked to by anybody who reaches it: never publish its port."""

    host: HostName = "127.0.0.1"
    """Where the webserver and the daemon reach it. `SLIPWAY_CODE_SERVER_HOST`."""
    port: Port = 4266
    """Its TCP port. `SLIPWAY_CODE_SERVER_PORT`."""


class Dagster(Service):
    """Dagster: its UI, its storage, its code location."""

    port: Port = 3000
    """The TCP port of its UI, on `host` of platform.yaml."""
    storage_url: Annotated[str, Field(pattern=r"^postgresql(\+psycopg2)?://")] | None = Field(
        default=None, repr=False
    )
    """The PostgreSQL that keeps runs, events and schedules; SQLite files in the home where it is
    left out. `SLIPWAY_DAGSTER_STORAGE_URL`, so that no password need stand here."""
    code_server: CodeServer = CodeServer()
    """Where the code location answers; under `slipway up`, on a UNIX socket of the home."""

    @property
    def storage(self) -> str | None:
        """The URL with the driver that Dagster's storage is written for: SQLAlchemy's own choice,
        psycopg 3, has other `with` blocks, and loses the webserver its connections."""
        if self.storage_url is None:
            return None
        return re.sub(r"^postgresql://", "postgresql+psycopg2://", self.storage_url)


class ModelServers(Settings):
    """The model servers of this machine, each on a free port."""

    host: HostName = "127.0.0.1"
    """Where the other parts reach them. The gateway looks a name up again each second.
    `SLIPWAY_MODEL_SERVERS_HOST`."""


class ControlProcess(Settings):
    """The control process, whose API is behind the gateway."""

    host: HostName = "127.0.0.1"
    """Where Prometheus reaches its metrics. `SLIPWAY_CONTROL_HOST`."""
    port: Port | None = None
    """A TCP port on which the API listens, on the platform's `host`, beside the UNIX socket: for a
    gateway on another machine. Off loopback nobody is let in without an API key.
    `SLIPWAY_CONTROL_PORT`."""
    metrics_port: Port | None = None
    """The port of its metrics; a free one where it is left out. `SLIPWAY_CONTROL_METRICS_PORT`."""
