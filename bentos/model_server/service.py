"""The BentoML service: `bentoml serve <tag>`.

BentoML's master imports this file to learn about workers, and again each worker; the parts that
load ONNX Runtime are imported in the workers alone.

Variables: SLIPWAY_WORKERS and SLIPWAY_THREADS (1), SLIPWAY_MODEL_DIR (`model` beside `bentos`),
SLIPWAY_DRAIN_SECONDS (0.5), SLIPWAY_ACCESS_LOG (1; 0 writes none), SLIPWAY_EXECUTION (auto).
"""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
from _bentoml_sdk.service.factory import Service

from bentos.model_server.process import (
    METRICS_FOLDER,
    die_with_master,
    prepare_master,
    quiet_uvicorn,
)

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from bentos.model_server.executors import Execution
    from bentos.model_server.lifecycle import Settings

SOURCE_ROOT = Path(__file__).resolve().parents[2]
NAME = "model_server"


def _number(variable: str, default: str, least: float) -> float:
    text = os.environ.get(variable) or default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= 3600:
        raise ValueError(f"{variable} must be a number from {least:g} to 3600, is {text!r}")
    return value


def workers() -> int:
    """Worker processes, from the environment."""
    return int(_number("SLIPWAY_WORKERS", "1", least=1))


def threads() -> int:
    """ONNX Runtime threads of each worker, from the environment."""
    return int(_number("SLIPWAY_THREADS", "1", least=1))


def drain_seconds() -> float:
    """Seconds between SIGTERM and the end of listening, from the environment."""
    return _number("SLIPWAY_DRAIN_SECONDS", "0.5", least=0)


def settings(bento: str) -> "Settings":
    """The worker's settings, from the environment."""
    from bentos.model_server.lifecycle import Settings

    return Settings(
        model_folder=Path(os.environ.get("SLIPWAY_MODEL_DIR") or SOURCE_ROOT / "model"),
        bento=bento,
        threads=threads(),
        drain_seconds=drain_seconds(),
        access_log=os.environ.get("SLIPWAY_ACCESS_LOG", "1") != "0",
        execution=execution(),
    )


def execution() -> "Execution":
    """Where batches are computed, from the environment."""
    match os.environ.get("SLIPWAY_EXECUTION") or "auto":
        case "auto" | "inline" | "thread" as known:
            return known
        case other:
            raise ValueError(f"SLIPWAY_EXECUTION must be auto, inline or thread, is {other!r}")


class ModelServerService(Service):  # type: ignore[misc]
    """A BentoML service whose hot routes never pass BentoML's middleware."""

    def to_asgi(self, is_main: bool = True) -> "ASGIApp":
        """Our application in front, BentoML's behind it. Called once in each worker."""
        from bentos.model_server.app import ModelServer
        from bentos.model_server.json_logging import log_as_json
        from bentos.model_server.lifecycle import Lifecycle
        from bentos.model_server.metrics import Metrics

        die_with_master()
        quiet_uvicorn()
        log_as_json()
        mine = settings(str(self.bento.tag) if self.bento else "unpacked")
        folder = os.environ.get(METRICS_FOLDER)
        lifecycle = Lifecycle(mine, Metrics(Path(folder) if folder else None))
        return ModelServer(lifecycle, super().to_asgi(is_main=is_main))


class Inner:
    """One version of one model behind HTTP; see /docs."""

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def prepare() -> None:
        """BentoML calls this in the master, once, before it starts the workers.

        A setting that no worker could read stops the master here: it would start them for ever.
        """
        threads(), drain_seconds(), execution()
        prepare_master(workers())


# BentoML's own metrics, access log and tracing cost more than the inference, and its timers are
# never cancelled; what passes through it here is a probe now and then.
CONFIG: dict[str, Any] = {
    "workers": workers(),
    "traffic": {"timeout": 5},
    "metrics": {"enabled": False},
    "logging": {"access": {"enabled": False}},
    "tracing": {"excluded_urls": ".*"},
}

service = ModelServerService(name=NAME, inner=Inner, config=CONFIG)
