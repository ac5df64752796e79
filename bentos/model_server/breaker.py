"""A circuit breaker for what may fail: the response cache's Redis, the feature transformer."""

import logging
import time
from collections.abc import Callable

logger = logging.getLogger("slipway.model_server")

# In a row: a single one is often a worker that was busy itself.
FAILURES = 2
# After these it is left alone this long; then one look-up tries whether it is back.
RETRY_SECONDS = 2.0


class Breaker:
    """Leaves a failing store alone but for one trial now and then.

    place: for the log; store, meanwhile: what is said of it there.
    """

    def __init__(
        self,
        place: str,
        clock: Callable[[], float] = time.monotonic,
        *,
        store: str = "The response cache",
        meanwhile: str = "answers are computed until it is back",
    ) -> None:
        self.open = False
        self._place, self._store, self._meanwhile = place, store, meanwhile
        self._clock = clock
        self._failures = 0
        self._next_trial = 0.0

    def allows(self) -> bool:
        """Whether to ask. While open, the first to call once the time has come is the trial."""
        if not self.open:
            return True
        if self._clock() < self._next_trial:
            return False
        self._next_trial = self._clock() + RETRY_SECONDS
        return True

    def failed(self, error: Exception) -> None:
        """Logs the beginning of an outage, by class: a text of Redis may quote a password."""
        self._next_trial = self._clock() + RETRY_SECONDS
        self._failures += 1
        if not self.open and self._failures >= FAILURES:
            self.open = True
            # redis-py wraps a refused password into an error of the connection.
            cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
            logger.warning(
                "%s at %s fails (%s); %s",
                self._store,
                self._place,
                type(cause).__name__,
                self._meanwhile,
            )

    def succeeded(self) -> None:
        """Logs the end of an outage."""
        self._failures = 0
        if self.open:
            self.open = False
            logger.warning("%s at %s is back", self._store, self._place)
