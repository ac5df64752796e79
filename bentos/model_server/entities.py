"""Inference by entities: look up what a request leaves out, put the rows together, score them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from bentos.model_server.asgi import Request
from bentos.model_server.bundle import Limits
from bentos.model_server.contract import Contract
from bentos.model_server.entity_codec import EntityCodec, EntityRows
from bentos.model_server.feature_answer import FeatureAnswers, LookedUp
from bentos.model_server.feature_client import FeatureClient
from bentos.model_server.feature_metrics import LookupMetrics
from bentos.model_server.fields import compile_fields
from bentos.model_server.metrics import Metrics
from bentos.model_server.platform_key import PlatformKey
from bentos.model_server.problems import Problem, deadline_passed, unavailable
from bentos.model_server.session import Row, Scored
from bentos.model_server.settings import Settings

Compute = Callable[[Sequence[Row], Request], Awaitable[Scored]]


class EntityInference:
    """codec: reads the requests; client: None where no transformer is configured."""

    def __init__(
        self,
        codec: EntityCodec,
        client: FeatureClient | None,
        places: Sequence[int | None],
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self.codec = codec
        self._client = client
        self._places = places
        self._seconds = limits.deadline_seconds
        self._metrics = metrics
        self._lookups = LookupMetrics(metrics)

    async def infer(
        self, asked: EntityRows, request: Request, compute: Compute
    ) -> tuple[Scored, LookedUp]:
        """Score the rows of one request, and tell what was looked up for them.

        compute: scores whole rows; its Problems pass through, as do those of `FeatureClient`. A
        504 Problem at the request's deadline, which look-up and inference share.
        """
        request.entities = [key.decode() for key in asked.asked.entities]
        left = request.started + self._seconds - time.monotonic()
        try:
            async with asyncio.timeout(left):
                found = await self._look_up(asked, request)
                request.lookups = found.lookups
                return await compute(self._whole(asked.given, found), request), found
        except TimeoutError:
            self._metrics.timed_out()
            raise deadline_passed(self._seconds) from None

    async def _look_up(self, asked: EntityRows, request: Request) -> LookedUp:
        started = time.monotonic()
        try:
            if self._client is None:
                raise unavailable(
                    "features-not-configured",
                    "this server has no feature transformer to ask (SLIPWAY_FEATURES_URL is not "
                    "set); give every input instead of entities",
                )
            found = await self._client.look_up(asked.asked, request)
        except Problem as problem:
            self._lookups.failed(problem, time.monotonic() - started)
            raise
        self._lookups.found(found, time.monotonic() - started)
        return found

    def _whole(self, given: Sequence[Row], found: LookedUp) -> list[Row]:
        """Rows in the contract's order; places: where an input stands in `columns`, None for the
        next that is given."""
        by_input = iter(zip(*given, strict=True))
        columns = [next(by_input) if p is None else found.columns[p] for p in self._places]
        return list(zip(*columns, strict=True))

    async def close(self) -> None:
        """At shutdown."""
        if self._client is not None:
            await self._client.close()


def entity_inference(
    contract: Contract, limits: Limits, settings: Settings, metrics: Metrics
) -> EntityInference | None:
    """None for a model without a feature service. To be made on the event loop."""
    source = contract.feature_source
    if source is None:
        return None
    fields = compile_fields(contract)
    provided = [field for field in fields if field.name in source.provided]
    places = [provided.index(field) if field in provided else None for field in fields]
    client = None
    if settings.features_url is not None:
        client = FeatureClient(
            settings.features_url,
            PlatformKey(settings.features_key),
            source.service,
            FeatureAnswers(source, provided),
            min(settings.features_timeout, limits.deadline_seconds),
            limits.max_queue_rows,
        )
    codec = EntityCodec(contract, source, fields, limits.max_rows)
    return EntityInference(codec, client, places, limits, metrics)
