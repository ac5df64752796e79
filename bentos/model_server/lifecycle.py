"""From a folder to a model that answers: load, verify, warm up, serve, drain.

A server whose model cannot be served stays up and says so: /health 200, /ready and /predict 503
with the reason, one line in the log. Were it to exit, BentoML's master would start it again and
again, and whoever waits for it would learn nothing.
"""

import asyncio
import gc
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from bentos.model_server import process
from bentos.model_server.answers import Answers, version_header
from bentos.model_server.asgi import BODY_TIMEOUT_SECONDS, Header, Request
from bentos.model_server.batcher import Batcher
from bentos.model_server.bundle import BundleError, Limits, ModelFolder, read_model_folder
from bentos.model_server.cache import CachedInference, CacheError, cached_inference
from bentos.model_server.certificate import CertificateError
from bentos.model_server.codec import Codec
from bentos.model_server.contract import ContractError
from bentos.model_server.cors import Cors
from bentos.model_server.entities import EntityInference, entity_inference
from bentos.model_server.executors import (
    Executor,
    Inline,
    OneThread,
    runs_inline,
    seconds_of_a_batch,
)
from bentos.model_server.golden import reproduce
from bentos.model_server.keys import Keys
from bentos.model_server.metrics import Metrics
from bentos.model_server.prediction_log import PredictionLog
from bentos.model_server.problems import Problem, unavailable
from bentos.model_server.session import ModelLoadError, ModelSession, Row, Scored
from bentos.model_server.settings import Execution, Settings
from bentos.prediction_log.masking import PredictionLogError

logger = logging.getLogger("slipway.model_server")
REFUSALS = (
    BundleError,
    CacheError,
    CertificateError,
    ContractError,
    ModelLoadError,
    PredictionLogError,
)


@dataclass(frozen=True)
class Verified:
    """A session that reproduced its golden rows. batch_seconds: see seconds_of_a_batch."""

    folder: ModelFolder
    session: ModelSession
    batch_seconds: float


def load_model(folder: ModelFolder, threads: int) -> Verified:
    """Load, verify, warm up and measure; raises one of REFUSALS with the reason."""
    contract, certificate = folder.contract, folder.certificate
    certificate.require_parity(contract, contract.onnx_sha256)
    session = ModelSession.load(folder.onnx, contract, threads)
    reproduce(session, contract, certificate)
    rows = [tuple(row.get(f.name) for f in contract.inputs) for row in certificate.golden.rows]
    return Verified(folder, session, seconds_of_a_batch(session, rows))


class LoadedModel:
    """A verified model with all that answers requests for it. To be made on the event loop."""

    def __init__(
        self,
        verified: Verified,
        execution: Execution,
        metrics: Metrics,
        cache: CachedInference | None,
        entities: EntityInference | None = None,
    ) -> None:
        folder, session = verified.folder, verified.session
        self.contract = folder.contract
        self.certificate = folder.certificate
        self.limits = folder.limits
        self.codec = Codec(folder.contract, folder.limits.max_rows)
        self.answers = Answers(folder.contract)
        self._metrics = metrics
        inline = runs_inline(execution, verified.batch_seconds)
        executor: Executor = Inline(session) if inline else OneThread(session)
        self._batcher = Batcher(session, folder.limits, metrics, executor)
        self.cache = cache
        self.entities = entities

    async def infer(self, rows: Sequence[Row], request: Request) -> Scored:
        """Score the validated rows of one request; at least one row. Raises as Batcher.infer."""
        if self.cache is None or b"no-cache" in request.headers.get(b"cache-control", b""):
            scored = await self._batcher.infer(rows, request)
        else:
            scored = await self.cache.infer(rows, request, self._batcher.infer)
            self._metrics.cached(self.cache.counters)
        request.rows = len(rows)
        request.inputs, request.scored = rows, scored
        self._metrics.predicted(scored)
        return scored

    async def close(self) -> None:
        """At shutdown."""
        self._batcher.close()
        if self.entities is not None:
            await self.entities.close()
        if self.cache is not None:
            await self.cache.close()


class Lifecycle:
    """Where this worker stands. `model` is set once it is ready, and so is `log` where one is
    configured."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.keys = Keys(settings.keys, required=settings.keys_required)
        self.model: LoadedModel | None = None
        self.log: PredictionLog | None = None
        # Of every answer: X-Model-Version once it is known, Connection while draining.
        self.headers: tuple[Header, ...] = ()
        self.name = self.version = ""
        self.max_concurrency = Limits().max_concurrency
        self.cors: Cors | None = None
        self.refusal: str | None = None
        self.draining = False
        self._loading: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to load and return at once, so that /health answers meanwhile."""
        process.drain_on_sigterm(self.drain, self.settings.drain_seconds, self._last_answer)
        self._loading = asyncio.create_task(self._load())
        self._watching = asyncio.create_task(self.keys.watch())

    async def stop(self) -> None:
        """At shutdown, when no request is left."""
        for task in (self._loading, self._watching):
            if task is not None:
                task.cancel()
        if self.model is not None:
            await self.model.close()
        if self.log is not None:
            await self.log.close()

    def _last_answer(self) -> float:
        """Seconds after which nobody waits for an answer any more, only to be disconnected."""
        limits = Limits() if self.model is None else self.model.limits
        return limits.deadline_seconds + BODY_TIMEOUT_SECONDS

    def drain(self) -> None:
        """Answer what still comes, but tell load balancers to send no more."""
        self.draining = True
        self.headers = (*self.headers, (b"connection", b"close"))

    async def loaded(self) -> None:
        """Wait until the model is ready or refused."""
        if self._loading is not None:
            await self._loading

    async def _load(self) -> None:
        try:
            folder = await asyncio.to_thread(read_model_folder, self.settings.model_folder)
            self._describe(folder)
            verified = await asyncio.to_thread(load_model, folder, self.settings.threads)
            cache = await self._start_cache(folder)
            entities = entity_inference(folder.contract, folder.limits, self.settings, self.metrics)
            model = LoadedModel(verified, self.settings.execution, self.metrics, cache, entities)
            self.metrics.describe(model.contract, self.settings.bento)
            if self.settings.prediction_log is not None:
                folder.limits.prediction_log.require_known(folder.contract)
                self.log = PredictionLog(self.settings.prediction_log, folder, self.metrics)
        except REFUSALS as error:
            self.refusal = str(error)
            logger.error("The model is refused and will not be served: %s", error)
            return
        except Exception:
            self.refusal = "an unexpected error while loading; see the server's log"
            logger.exception("The model cannot be loaded")
            return
        # BentoML's imports are a large heap; without this each full collection walks over it.
        gc.collect()
        gc.freeze()
        self.model = model

    async def _start_cache(self, folder: ModelFolder) -> CachedInference | None:
        if folder.limits.cache is None:
            return None
        url = self.settings.cache_url
        cache = cached_inference(folder.limits.cache, folder.contract, url)
        await cache.start()
        return cache

    def _describe(self, folder: ModelFolder) -> None:
        version = version_header(folder.contract)
        self.name, self.version = folder.contract.model, version
        self.headers = (*self.headers, (b"x-model-version", version.encode()))
        self.max_concurrency = folder.limits.max_concurrency
        if folder.limits.cors_origins:
            self.cors = Cors(folder.limits.cors_origins)

    def not_ready(self) -> Problem | None:
        """Why no request should be sent here, as a 503 Problem."""
        if self.refusal is not None:
            return unavailable("model-refused", self.refusal)
        if self.model is None:
            return unavailable("model-loading", "the model is being loaded", retry_after=1)
        if self.draining:
            return unavailable("draining", "this server is shutting down", retry_after=1)
        return None

    def require_model(self) -> LoadedModel:
        """The model, also while draining; a 503 Problem where there is none."""
        if self.model is not None:
            return self.model
        raise self.not_ready() or unavailable("model-loading", "there is no model")
