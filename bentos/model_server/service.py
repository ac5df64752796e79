"""The BentoML service: `bentoml serve <tag>`.

BentoML's master imports this file to learn about workers, and again each worker; the parts that
load ONNX Runtime are imported in the workers alone.

Variables: SLIPWAY_WORKERS and SLIPWAY_THREADS (1), SLIPWAY_MODEL_DIR (`model` beside `bentos`),
SLIPWAY_DRAIN_SECONDS (0.5), SLIPWAY_ACCESS_LOG (1; 0 writes none), SLIPWAY_EXECUTION (auto),
SLIPWAY_KEYS (none), SLIPWAY_CACHE_URL (of a Redis, for a model with a response cache; none),
SLIPWAY_FEATURES_URL, SLIPWAY_FEATURES_TIMEOUT and SLIPWAY_FEATURES_KEY_FILE (of the feature
transformer, for a model with a feature service; none, 2 s, none).
"""

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
from bentos.model_server.settings import from_environment, workers

if TYPE_CHECKING:
    from starlette.types import ASGIApp

NAME = "model_server"


class ModelServerService(Service):  # type: ignore[misc]
    """A BentoML service whose hot routes never pass BentoML's middleware."""

    def to_asgi(self, is_main: bool = True) -> "ASGIApp":
        """Our application in front, BentoML's behind it. Called once in each worker."""
        from bentos.model_server import event_loop
        from bentos.model_server.app import ModelServer
        from bentos.model_server.json_logging import log_as_json
        from bentos.model_server.lifecycle import Lifecycle
        from bentos.model_server.metrics import Metrics

        die_with_master()
        event_loop.install()
        quiet_uvicorn()
        log_as_json()
        settings = from_environment(str(self.bento.tag) if self.bento else "unpacked")
        folder = os.environ.get(METRICS_FOLDER)
        lifecycle = Lifecycle(settings, Metrics(Path(folder) if folder else None))
        return ModelServer(lifecycle, super().to_asgi(is_main=is_main))


class Inner:
    """One version of one model behind HTTP; see /docs."""

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def prepare() -> None:
        """BentoML calls this in the master, once, before it starts the workers.

        A setting that no worker could read stops the master here: it would start them for ever.
        """
        from_environment("")
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
