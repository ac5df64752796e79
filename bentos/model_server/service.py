"""The BentoML service: `bentoml serve <tag>`.

BentoML's master imports this file to learn about workers, and again each worker; the parts that
load ONNX Runtime are imported in the workers alone.

Variables: SLIPWAY_WORKERS and SLIPWAY_THREADS (1), SLIPWAY_MODEL_DIR (`model` beside `bentos`),
SLIPWAY_DRAIN_SECONDS (0.5), SLIPWAY_ACCESS_LOG (1; 0 writes none), SLIPWAY_EXECUTION (auto),
SLIPWAY_KEYS (none), SLIPWAY_CACHE_URL (of a Redis, for a model with a response cache; none),
SLIPWAY_FEATURES_URL, SLIPWAY_FEATURES_TIMEOUT and SLIPWAY_FEATURES_KEY_FILE (of the feature
transformer, for a model with a feature service; none, 2 s, none).
Of the prediction log: SLIPWAY_PREDICTION_LOG (its folder; none), SLIPWAY_ENVIRONMENT (default),
SLIPWAY_PREDICTION_DURABILITY (best_effort), _FLUSH_SECONDS (1), _MAX_PENDING (50000 rows),
_SEGMENT_BYTES (64 MiB), _SEGMENT_SECONDS (60), SLIPWAY_CLOUD_EVENTS_URL (none), SLIPWAY_PII_KEY
(the key file, for a model with hashed columns).
"""

from typing import TYPE_CHECKING

import bentoml
from _bentoml_sdk.service.factory import Service

from bentos.model_server.bento_worker import CONFIG, become_worker
from bentos.model_server.process import prepare_master
from bentos.model_server.settings import from_environment, workers

if TYPE_CHECKING:
    from starlette.types import ASGIApp

NAME = "model_server"


class ModelServerService(Service):  # type: ignore[misc]
    """A BentoML service whose hot routes never pass BentoML's middleware."""

    def to_asgi(self, is_main: bool = True) -> "ASGIApp":
        """Our application in front, BentoML's behind it. Called once in each worker."""
        from bentos.model_server.app import ModelServer
        from bentos.model_server.lifecycle import Lifecycle
        from bentos.model_server.metrics import Metrics

        folder = become_worker()
        settings = from_environment(str(self.bento.tag) if self.bento else "unpacked")
        lifecycle = Lifecycle(settings, Metrics(folder))
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


service = ModelServerService(name=NAME, inner=Inner, config=CONFIG)
