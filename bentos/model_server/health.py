"""What the server says about itself: health, readiness, metrics."""

from typing import Protocol

from bentos.model_server.asgi import Request, Response, Route
from bentos.model_server.problems import Problem


class Exposed(Protocol):
    """See metrics.Metrics."""

    def exposition(self) -> tuple[bytes, str]: ...


class Standing(Protocol):
    """See lifecycle.Lifecycle."""

    @property
    def metrics(self) -> Exposed: ...
    def not_ready(self) -> Problem | None: ...


class HealthRoutes:
    """Cheap to answer, and answered while the server loads."""

    def __init__(self, lifecycle: Standing) -> None:
        self._lifecycle = lifecycle

    def routes(self) -> list[Route]:
        """The routes of this file; /readyz stands in for BentoML's, which knows no model."""
        return [
            Route("/health", {"GET": self.health}),
            Route("/ready", {"GET": self.ready}),
            Route("/readyz", {"GET": self.ready}),
            Route("/metrics", {"GET": self.metrics}),
        ]

    async def health(self, request: Request) -> Response:
        """200 while the process answers at all."""
        return Response(b'{"status":"alive"}')

    async def ready(self, request: Request) -> Response:
        """200 while requests should be sent here, else 503 with the reason."""
        if (problem := self._lifecycle.not_ready()) is not None:
            raise problem
        return Response(b'{"status":"ready"}')

    async def metrics(self, request: Request) -> Response:
        """Prometheus text format."""
        return Response(*self._lifecycle.metrics.exposition())
