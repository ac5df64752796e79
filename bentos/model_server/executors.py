"""Where a batch is computed: on the event loop, or in one thread beside it.

A small model is done before a thread would have started; a large one would keep the loop from
reading what comes next. Which of them a model is, is measured when it is loaded.
"""

import asyncio
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from bentos.model_server.session import Feeds, ModelSession, Predictions, Row
from bentos.model_server.settings import Execution

Done = Callable[[Predictions | None, Exception | None], None]

# A batch of this many rows decides, by the time it takes.
MEASURED_ROWS = 32
INLINE_SECONDS = 0.001
# The thread needs the interpreter for a moment at the end of each batch; Python's default lets a
# busy loop keep it for 5 ms.
SWITCH_SECONDS = 0.0005


class Executor(Protocol):
    """Computes one batch at a time and tells the outcome on the event loop."""

    def run(self, arrays: Feeds, done: Done) -> None:
        """Begin; `done` gets the predictions or the error."""

    def close(self) -> None:
        """Nothing more will be computed."""


class Inline:
    """On the loop, before `run` returns."""

    def __init__(self, session: ModelSession) -> None:
        self._session = session

    def run(self, arrays: Feeds, done: Done) -> None:
        """See Executor."""
        try:
            predictions = self._session.run(arrays)
        except Exception as error:  # ONNX Runtime raises a dozen classes without a common base
            done(None, error)
        else:
            done(predictions, None)

    def close(self) -> None:
        """See Executor."""


class OneThread:
    """In a thread of its own: the loop goes on reading. To be made on the loop."""

    def __init__(self, session: ModelSession) -> None:
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[tuple[Feeds, Done] | None] = queue.SimpleQueue()
        sys.setswitchinterval(SWITCH_SECONDS)
        threading.Thread(target=self._work, name="inference", daemon=True).start()

    def run(self, arrays: Feeds, done: Done) -> None:
        """See Executor."""
        self._jobs.put((arrays, done))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            arrays, done = job
            predictions: Predictions | None = None
            failure: Exception | None = None
            try:
                predictions = self._session.run(arrays)
            except Exception as error:
                failure = error
            try:
                self._loop.call_soon_threadsafe(done, predictions, failure)
            except RuntimeError:  # the loop was closed meanwhile: nobody waits for this
                return

    def close(self) -> None:
        """See Executor."""
        self._jobs.put(None)


def seconds_of_a_batch(session: ModelSession, rows: Sequence[Row]) -> float:
    """The best of five times of MEASURED_ROWS rows, made of the given ones, after one to warm up.

    rows: in the order of the contract's inputs; at least one.
    """
    batch = [rows[i % len(rows)] for i in range(MEASURED_ROWS)]
    session.predict(batch)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        session.predict(batch)
        times.append(time.perf_counter() - started)
    return min(times)


def runs_inline(execution: Execution, seconds: float) -> bool:
    """Whether a model whose batch takes so long is computed on the loop."""
    return execution == "inline" or (execution == "auto" and seconds < INLINE_SECONDS)
