"""The BentoML service: `bentoml serve <tag>`.

As with the model server, BentoML's master imports this file too: Feast is imported in the workers
alone.

Variables: those of the model server that concern any server (SLIPWAY_WORKERS, SLIPWAY_KEYS,
SLIPWAY_DRAIN_SECONDS, SLIPWAY_ACCESS_LOG), SLIPWAY_FEATURES_HOME, and those that the store's YAML
file names.
"""

from typing import TYPE_CHECKING

import bentoml
from _bentoml_sdk.service.factory import Service

from bentos.feature_transformer.settings import from_environment
from bentos.model_server.bento_worker import CONFIG, become_worker
from bentos.model_server.process import prepare_master
from bentos.model_server.settings import workers

if TYPE_CHECKING:
    from starlette.types import ASGIApp

NAME = "feature_transformer"


class FeatureTransformerService(Service):  # type: ignore[misc]
    """A BentoML service whose routes never pass BentoML's middleware."""

    def to_asgi(self, is_main: bool = True) -> "ASGIApp":
        """Our application in front, BentoML's behind it. Called once in each worker."""
        from bentos.feature_transformer.app import application
        from bentos.feature_transformer.lifecycle import Lifecycle
        from bentos.feature_transformer.metrics import Metrics

        folder = become_worker()
        settings = from_environment(str(self.bento.tag) if self.bento else "unpacked")
        lifecycle = Lifecycle(settings, Metrics(folder))
        return application(lifecycle, super().to_asgi(is_main=is_main))


class Inner:
    """Features of entities from Feast's online store; see /docs."""

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def prepare() -> None:
        """BentoML calls this in the master, once, before it starts the workers."""
        from_environment("")
        prepare_master(workers())


service = FeatureTransformerService(name=NAME, inner=Inner, config=CONFIG)
