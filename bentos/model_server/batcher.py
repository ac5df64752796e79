"""Greedy adaptive batching: what arrives while one inference runs goes as one batch when it ends.

No timer and no wait: an idle server computes a request at once, a busy one has full batches. The
queue is bounded in rows, each request has a deadline, one whose client has left is not computed,
and a batch that fails is computed again request by request, so that one bad row harms nobody else.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from bentos.model_server.asgi import ClientDisconnectedError, Request
from bentos.model_server.bundle import Limits
from bentos.model_server.executors import Executor
from bentos.model_server.metrics import Metrics
from bentos.model_server.problems import (
    deadline_passed,
    inference_failed,
    no_finite_answer,
    overloaded,
)
from bentos.model_server.session import ModelSession, Predictions, Row, Scored

logger = logging.getLogger("slipway.model_server")


def finite_rows(predictions: Predictions) -> npt.NDArray[np.bool_] | None:
    """Which rows have an answer without NaN and infinity, for JSON has neither; None: all."""
    if predictions.probabilities is not None:
        finite = np.isfinite(predictions.probabilities)
    elif isinstance(predictions.labels[0], float):
        finite = np.isfinite(predictions.labels)
    else:
        return None
    if finite.all():
        return None
    return np.asarray(finite.all(axis=1) if finite.ndim > 1 else finite)


class Waiting:
    """One request's rows on their way. deadline, queued: `time.monotonic()`."""

    __slots__ = ("alone", "deadline", "future", "queued", "request", "rows")

    def __init__(
        self,
        rows: Sequence[Row],
        request: Request,
        future: "asyncio.Future[Scored]",
        seconds: float,
    ) -> None:
        self.rows = rows
        self.request = request
        self.future = future
        self.queued = time.monotonic()
        self.deadline = self.queued + seconds
        self.alone = False  # computed by itself, after its batch has failed


class Batcher:
    """One worker's queue in front of one session. To be made on the event loop, where all of its
    methods run."""

    def __init__(
        self, session: ModelSession, limits: Limits, metrics: Metrics, executor: Executor
    ) -> None:
        self._session = session
        self._limits = limits
        self._metrics = metrics
        self._executor = executor
        # Asking asyncio for it each time costs a system call (getpid) in Python 3.11.
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Waiting] = deque()
        self._rows = 0  # in the queue
        self._computing: list[Waiting] = []
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None

    async def infer(self, rows: Sequence[Row], request: Request) -> Scored:
        """Score the validated rows of one request; at least one.

        Raises a Problem: 422 for an answer that is not finite, 500 where ONNX Runtime fails on
        these rows, 503 where the queue is full, 504 past the deadline; ClientDisconnectedError
        where nobody waits any more.
        """
        if self._rows + len(rows) > self._limits.max_queue_rows:
            self._metrics.shed("queue")
            raise overloaded(
                f"{self._rows} rows wait for inference, of at most {self._limits.max_queue_rows}"
            )
        loop = self._loop
        waiting = Waiting(rows, request, loop.create_future(), self._limits.deadline_seconds)
        self._queue.append(waiting)
        self._rows += len(rows)
        if not self._busy:
            self._busy = True
            # Whatever else this turn of the loop has read from the network joins the batch.
            loop.call_soon(self._next)
        if self._timer is None:
            self._timer = loop.call_later(self._limits.deadline_seconds, self._expire)
        return await waiting.future

    def _take(self) -> list[Waiting]:
        """The next batch: requests in their order, as many as fit; always at least one, if any."""
        batch: list[Waiting] = []
        size, now = 0, time.monotonic()
        while self._queue:
            head = self._queue[0]
            if batch and (head.alone or size + len(head.rows) > self._limits.max_batch_rows):
                break
            self._queue.popleft()
            self._rows -= len(head.rows)
            if head.future.done():
                continue  # expired, or cancelled by its own task
            if head.request.gone():
                head.future.set_exception(ClientDisconnectedError())
            elif head.deadline <= now:
                self._time_out(head)
            else:
                batch.append(head)
                size += len(head.rows)
                self._metrics.waited(now - head.queued)
                if head.alone:
                    break
        self._metrics.batched(size, self._rows)
        return batch

    def _next(self) -> None:
        batch = self._take()
        self._computing = batch
        if not batch:
            self._busy = False
            return
        try:
            rows = batch[0].rows if len(batch) == 1 else [row for w in batch for row in w.rows]
            arrays = self._session.feeds(rows)
        except Exception as error:
            self._done(None, error)
            return
        self._executor.run(arrays, self._done)

    def _done(self, predictions: Predictions | None, error: Exception | None) -> None:
        """Called on the loop with the outcome of the batch that was computed."""
        batch, self._computing = self._computing, []
        try:
            if predictions is None:
                self._failed(batch, error)
            else:
                self._deliver(batch, predictions)
        except Exception as unexpected:  # nobody may wait for ever, whatever it is
            self._failed(batch, unexpected)
        if self._queue:
            self._loop.call_soon(self._next)
        else:
            self._busy = False

    def _deliver(self, batch: list[Waiting], predictions: Predictions) -> None:
        labels = predictions.labels
        if len(labels) != sum(len(waiting.rows) for waiting in batch):
            raise ValueError(f"the model gave {len(labels)} answers to another number of rows")
        finite = finite_rows(predictions)
        array = predictions.probabilities
        # float64 holds every float32 exactly; .tolist() of a float32 array widens the same way.
        rows: list[list[float]] | None = None if array is None else array.tolist()
        start = 0
        for waiting in batch:
            end = start + len(waiting.rows)
            if waiting.future.done():
                pass  # its deadline passed, or its client left, while it was computed
            elif finite is None or finite[start:end].all():
                part = None if rows is None else rows[start:end]
                waiting.future.set_result(Scored(labels[start:end], part))
            else:
                row = int(np.argmin(finite[start:end])) if end - start > 1 else None
                waiting.future.set_exception(no_finite_answer(row))
            start = end

    def _failed(self, batch: list[Waiting], error: Exception | None) -> None:
        """Try those of a failed batch one by one; what fails by itself has its answer."""
        unanswered = [waiting for waiting in batch if not waiting.future.done()]
        if len(batch) > 1:
            for waiting in reversed(unanswered):
                waiting.alone = True
                self._queue.appendleft(waiting)
                self._rows += len(waiting.rows)
            return
        for waiting in unanswered:
            logger.error("Inference of request %s failed: %s", waiting.request.id, error)
            waiting.future.set_exception(inference_failed())

    def _time_out(self, waiting: Waiting) -> None:
        self._metrics.timed_out()
        waiting.future.set_exception(deadline_passed(self._limits.deadline_seconds))

    def _expire(self) -> None:
        """Answer what is past its deadline, also while it is being computed; look again when the
        oldest of the others will be. All have the same time, so they expire in their order."""
        now, self._timer = time.monotonic(), None
        for waiting in chain(self._computing, self._queue):
            if waiting.future.done():
                continue
            if waiting.deadline > now:
                self._timer = self._loop.call_later(waiting.deadline - now, self._expire)
                break
            self._time_out(waiting)

    def close(self) -> None:
        """At shutdown: no timer and no thread stay behind."""
        if self._timer is not None:
            self._timer.cancel()
        self._executor.close()
