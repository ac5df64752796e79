"""`/predict` and `/predict/batch`: a body becomes rows, rows become an answer."""

from bentos.model_server.asgi import Request, Response, Route
from bentos.model_server.codec import decoded
from bentos.model_server.entity_codec import MARK
from bentos.model_server.lifecycle import Lifecycle


class PredictRoutes:
    """Reading one way: request, codec, inference, answer."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    def routes(self) -> list[Route]:
        """The routes of this file."""
        return [
            Route("/predict", {"POST": self.one}, inference=True),
            Route("/predict/batch", {"POST": self.many}, inference=True),
        ]

    async def one(self, request: Request) -> Response:
        """One row in, one prediction out."""
        model = self._lifecycle.require_model()
        request.require_json()
        body = await request.body(model.limits.max_body_bytes)
        if model.entities is not None and MARK in body:
            asked = await decoded(model.entities.codec.decode_one, body)
            if asked is not None:
                scored, found = await model.entities.infer(asked, request, model.infer)
                return Response(model.answers.one(scored, request.id, found))
        row = await decoded(model.codec.decode_one, body)
        scored = await model.infer([row], request)
        return Response(model.answers.one(scored, request.id))

    async def many(self, request: Request) -> Response:
        """Several rows in, as many predictions out, in the same order."""
        model = self._lifecycle.require_model()
        request.require_json()
        body = await request.body(model.limits.max_body_bytes)
        if model.entities is not None and MARK in body:
            asked = await decoded(model.entities.codec.decode_batch, body)
            if asked is not None:
                scored, found = await model.entities.infer(asked, request, model.infer)
                return Response(model.answers.many(scored, request.id, found))
        rows = await decoded(model.codec.decode_batch, body)
        scored = await model.infer(rows, request)
        return Response(model.answers.many(scored, request.id))
