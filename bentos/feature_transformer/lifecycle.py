"""From definitions to a store that answers: load, probe, serve, drain.

As with a model server, one that cannot serve stays up and says why.
"""

import asyncio
import gc
import logging
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from bentos.feature_transformer.entity_rows import Asked, Codec
from bentos.feature_transformer.features import Clock, Features, Outcome, utc_now
from bentos.feature_transformer.lookup import store_down
from bentos.feature_transformer.metrics import Metrics
from bentos.feature_transformer.online_store import StoreDownError
from bentos.feature_transformer.settings import (
    FeaturesConfig,
    FeaturesError,
    Settings,
    read_config,
)
from bentos.model_server import process
from bentos.model_server.asgi import BODY_TIMEOUT_SECONDS, Header
from bentos.model_server.cors import Cors
from bentos.model_server.keys import Keys
from bentos.model_server.problems import Problem, unavailable
from feature_repo.description import Description, digest

if TYPE_CHECKING:
    from feast import FeatureStore

logger = logging.getLogger("slipway.feature_transformer")

NAME = "feature-transformer"
PROBE_SECONDS = 0.5
# The event loop needs the interpreter for a moment while the reading thread works; Python's
# default lets a busy thread keep it for 5 ms.
SWITCH_SECONDS = 0.0005

OpenStore = Callable[[Path, FeaturesConfig], "tuple[FeatureStore, Description]"]


def own_store(folder: Path, config: FeaturesConfig) -> "tuple[FeatureStore, Description]":
    """The store of `feature_repo`, with a registry of its own in `folder`."""
    from feature_repo import definitions
    from feature_repo.describe import DefinitionError, describe
    from feature_repo.store import FOLDER, StoreError, feast_objects, private_store

    try:
        store = private_store(folder, store=config.store)
        objects = feast_objects(definitions)
        return store, describe(store.project, objects, digest(FOLDER / config.store))
    except (DefinitionError, StoreError) as error:
        raise FeaturesError(str(error)) from error


class Lifecycle:
    """Where this worker stands. `features` is set once the definitions are loaded, `answers`
    once the store has answered."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        open_store: OpenStore = own_store,
        clock: Clock = utc_now,
    ) -> None:
        self.settings, self.metrics = settings, metrics
        self.keys = Keys(settings.server.keys, required=settings.server.keys_required)
        self.features: Features | None = None
        self.codec: Codec | None = None
        self.headers: tuple[Header, ...] = ()
        self.name, self.version = NAME, settings.server.bento.rpartition(":")[2]
        self.max_concurrency = FeaturesConfig().max_concurrency
        self.cors: Cors | None = None
        self.log = None  # what it answers is kept with the prediction that it was looked up for
        self.refusal: str | None = None
        self.answers = False
        self.draining = False
        self._open_store, self._clock = open_store, clock
        self._config = FeaturesConfig()
        # One thread: SQLite's connection and Redis' are its alone, and more of them would only
        # wait for the interpreter.
        self._thread = ThreadPoolExecutor(1, "features")
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to load and return at once, so that /health answers meanwhile."""
        server = self.settings.server
        process.drain_on_sigterm(self.drain, server.drain_seconds, self._last_answer)
        sys.setswitchinterval(SWITCH_SECONDS)
        self._tasks = [asyncio.create_task(self._load()), asyncio.create_task(self.keys.watch())]

    async def stop(self) -> None:
        """At shutdown, when no request is left."""
        for task in self._tasks:
            task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _last_answer(self) -> float:
        return self._config.timeout_seconds + BODY_TIMEOUT_SECONDS

    def drain(self) -> None:
        """Answer what still comes, but tell load balancers to send no more."""
        self.draining = True
        self.headers = (*self.headers, (b"connection", b"close"))

    async def look_up(self, asked: Asked) -> Outcome:
        """In the thread, until the deadline; then as if the store did not answer."""
        features = self.require_features()
        reading = asyncio.get_running_loop().run_in_executor(self._thread, features.answer, asked)
        try:
            return await asyncio.wait_for(reading, self._config.deadline_seconds)
        except TimeoutError:
            self.metrics.timed_out()
            return features.answer(asked, down=True)

    async def _load(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            features = await loop.run_in_executor(self._thread, self._opened)
        except FeaturesError as error:
            self.refusal = str(error)
            logger.error("The features are refused and will not be served: %s", error)
            return
        except Exception:
            self.refusal = "an unexpected error while loading; see the server's log"
            logger.exception("The features cannot be loaded")
            return
        # Feast's imports are a large heap; without this each full collection walks over it.
        gc.collect()
        gc.freeze()
        self._config = features.config
        self.max_concurrency = features.config.max_concurrency
        self.codec = Codec(features.description, features.config.max_rows)
        self.metrics.describe(self.settings.server.bento, features.description.digest)
        self.features = features
        await self._until_it_answers(features)

    def _opened(self) -> Features:
        config = read_config(self.settings.config)
        # Everything is looked up in the registry once, here: the folder may go.
        with tempfile.TemporaryDirectory(prefix="slipway-features-") as folder:
            store, description = self._open_store(Path(folder), config)
            return Features(store, description, config, self._clock)

    async def _until_it_answers(self, features: Features) -> None:
        loop, said = asyncio.get_running_loop(), False
        while not self.answers:
            try:
                await loop.run_in_executor(self._thread, features.probe)
                self.answers = True
            except StoreDownError as error:
                if not said:
                    logger.warning("The online store does not answer yet: %s", error)
                said = True
                await asyncio.sleep(PROBE_SECONDS)

    def not_ready(self) -> Problem | None:
        """Why no request should be sent here, as a 503 Problem."""
        if (problem := self._no_features()) is not None:
            return problem
        if self.draining:
            return unavailable("draining", "this server is shutting down", retry_after=1)
        if not self.answers:
            return store_down("the online store has not answered yet")
        return None

    def _no_features(self) -> Problem | None:
        if self.refusal is not None:
            return unavailable("features-refused", self.refusal)
        if self.features is None:
            return unavailable("features-loading", "Feast is being loaded", retry_after=1)
        return None

    def require_features(self) -> Features:
        """The features, also while draining; a 503 Problem where there are none."""
        if (problem := self._no_features()) is not None:
            raise problem
        assert self.features is not None  # noqa: S101 - as _no_features says
        return self.features

    def require_codec(self) -> Codec:
        """See require_features."""
        self.require_features()
        assert self.codec is not None  # noqa: S101 - set with the features
        return self.codec
