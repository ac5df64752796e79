"""The application of the feature transformer: the model server's, with other routes."""

from starlette.applications import Starlette

from bentos.feature_transformer.lifecycle import Lifecycle
from bentos.feature_transformer.openapi import openapi
from bentos.feature_transformer.routes import FeatureRoutes
from bentos.model_server.app import Application
from bentos.model_server.docs import DocsRoutes
from bentos.model_server.health import HealthRoutes
from bentos.model_server.openapi_parts import Schema


def application(lifecycle: Lifecycle, behind: Starlette | None = None) -> Application:
    """behind: BentoML's application, see Application."""

    def document() -> Schema:
        features = lifecycle.require_features()
        return openapi(features.description, features.config.max_rows)

    parts = (FeatureRoutes(lifecycle), HealthRoutes(lifecycle), DocsRoutes(document))
    return Application(lifecycle, (route for part in parts for route in part.routes()), behind)
