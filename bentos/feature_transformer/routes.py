"""`/features` and `/services`."""

import logging
from http import HTTPStatus

import msgspec

from bentos.feature_transformer.lifecycle import Lifecycle
from bentos.feature_transformer.on_demand import TransformationError
from bentos.model_server.asgi import Request, Response, Route
from bentos.model_server.codec import decoded
from bentos.model_server.problems import Problem

logger = logging.getLogger("slipway.feature_transformer")


class FeatureRoutes:
    """Reading one way: request, codec, look-up, answer."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    def routes(self) -> list[Route]:
        """The routes of this file."""
        return [
            Route("/features", {"POST": self.features}, inference=True),
            Route("/services", {"GET": self.services}),
        ]

    async def features(self, request: Request) -> Response:
        """The features of some entities."""
        lifecycle = self._lifecycle
        config, codec = lifecycle.require_features().config, lifecycle.require_codec()
        request.require_json()
        asked = await decoded(codec.decode, await request.body(config.max_body_bytes))
        request.rows = len(asked.entities)
        try:
            outcome = await lifecycle.look_up(asked)
        except TransformationError as error:
            logger.exception("Request %s failed", request.id)
            raise transformation_failed(error) from None
        lifecycle.metrics.looked_up(asked.service, request.rows, outcome)
        if isinstance(outcome.body, Problem):
            raise outcome.body
        return Response(outcome.body)

    async def services(self, request: Request) -> Response:
        """What can be asked for: views, services, and their types."""
        description = self._lifecycle.require_features().description
        return Response(msgspec.json.encode(description))


def transformation_failed(error: TransformationError) -> Problem:
    """500: the definitions' own code fails on this request."""
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "transformation-failed",
        f"{error}; the server's log has it under this request_id",
    )
