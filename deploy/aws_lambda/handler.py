"""The model server's application behind API Gateway or a load balancer: events in, answers out.

It is the application that BentoML serves, without BentoML. Imported in the function itself, where
only `bentos.model_server`, `bentos.prediction_log` and what they need are installed.
"""

import asyncio
import os
from collections.abc import MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mangum import Mangum
from mangum.adapter import DEFAULT_TEXT_MIME_TYPES
from starlette.types import Receive, Send

from bentos.model_server.app import ModelServer
from bentos.model_server.json_logging import log_as_json
from bentos.model_server.lifecycle import Lifecycle
from bentos.model_server.metrics import Metrics
from bentos.model_server.problems import CONTENT_TYPE
from bentos.model_server.settings import SOURCE_ROOT, Settings, from_environment

Json = dict[str, Any]


class Function:
    """One execution environment: the model is loaded once, requests come one at a time.

    A model that cannot be served is no exception: an answer of 503 says why, where a function that
    fails to start would be started again and again and say nothing.
    """

    def __init__(self, settings: Settings, base_path: str = "/") -> None:
        log = settings.prediction_log
        if log is not None and not log.durable:
            raise ValueError(
                "SLIPWAY_PREDICTION_DURABILITY must be durable on Lambda: what is written after "
                "an answer would be lost with the function"
            )
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._lifecycle = Lifecycle(settings, Metrics(None))
        self._application = ModelServer(self._lifecycle)
        # The others are binary: API Gateway wants those in Base64.
        texts = [*DEFAULT_TEXT_MIME_TYPES, CONTENT_TYPE]
        self._mangum = Mangum(
            self._answer, lifespan="off", api_gateway_base_path=base_path, text_mime_types=texts
        )
        self._loop.run_until_complete(self._start())

    async def _start(self) -> None:
        await self._lifecycle.start()
        await self._lifecycle.loaded()

    async def _answer(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        # Without keys a server answers clients on its own machine; here is none, whatever address
        # an event names.
        await self._application({**scope, "client": None}, receive, send)

    def __call__(self, event: Json, context: object) -> Json:
        """An event of API Gateway (REST or HTTP API, a function URL) or of a load balancer."""
        asyncio.set_event_loop(self._loop)
        self._lifecycle.keys.refresh()  # the loop stood still since the last request
        answer: Json = self._mangum(event, context)
        return answer

    def close(self) -> None:
        """For tests: a function is not told that it ends."""
        self._loop.run_until_complete(self._lifecycle.stop())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        asyncio.set_event_loop(None)
        self._loop.close()


def function(bento: str) -> Function:
    """What `lambda_function.py` calls. bento: the tag that was packaged.

    Variables as everywhere; `keys.json` of the package is used where SLIPWAY_KEYS names none, and
    SLIPWAY_LAMBDA_BASE_PATH is what stands in front of the paths (a stage's name, say).
    """
    log_as_json()
    settings = from_environment(bento)
    packaged = Path(SOURCE_ROOT) / "keys.json"
    if settings.keys is None and packaged.exists():
        settings = replace(settings, keys=packaged, keys_required=True)
    return Function(settings, os.environ.get("SLIPWAY_LAMBDA_BASE_PATH") or "/")
