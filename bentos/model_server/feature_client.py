"""Asking the feature transformer, greedily together: what waits while a call is in flight goes as
one call when it ends.

No wait when idle, large calls under load. A call of several requests that is refused is asked
again without those whose entities it refuses, and one whose answer cannot be used request by
request, so that nobody pays for another's entities.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from bentos.model_server.asgi import ClientDisconnectedError, Request
from bentos.model_server.breaker import RETRY_SECONDS, Breaker
from bentos.model_server.feature_answer import FeatureAnswers, FeaturesRefusedError, LookedUp
from bentos.model_server.http_client import HttpClient, HttpError
from bentos.model_server.platform_key import PlatformKey
from bentos.model_server.problems import (
    FieldError,
    Problem,
    features_refused,
    features_unavailable,
    internal_error,
    overloaded,
)

# One is computed while the other travels; more would only make the calls smaller.
CALLS_IN_FLIGHT = 2
# As many as the transformer takes; fewer where their texts are long.
MAX_ROWS_PER_CALL = 1000
MAX_BYTES_PER_CALL = 1 << 20
MAX_ANSWER_BYTES = 16 << 20
logger = logging.getLogger("slipway.model_server")


@dataclass(frozen=True)
class Asked:
    """Rows to look up, as JSON objects.

    request: none where the service reads no such fields; first: the index of the first row in the
    client's request, None where it has a single one without an index.
    """

    entities: list[bytes]
    request: list[bytes]
    first: int | None = None

    def part(self, start: int, end: int) -> "Asked":
        """Some of its rows."""
        return Asked(self.entities[start:end], self.request[start:end], start)


class _Waiting:
    """One request's rows on their way."""

    __slots__ = ("alone", "asked", "bytes", "future", "request", "rows")

    def __init__(self, asked: Asked, request: Request) -> None:
        self.asked = asked
        self.request = request
        self.rows = len(asked.entities)
        self.bytes = sum(map(len, asked.entities)) + sum(map(len, asked.request))
        self.future: asyncio.Future[LookedUp] = asyncio.get_running_loop().create_future()
        self.alone = False  # asked by itself, after a common call has failed


class FeatureClient:
    """url: of the transformer; seconds: for one look-up; max_rows: that may wait.

    To be used on one event loop.
    """

    def __init__(
        self,
        url: str,
        key: PlatformKey,
        service: str,
        answers: FeatureAnswers,
        seconds: float,
        max_rows: int,
    ) -> None:
        self._http = HttpClient(url, MAX_ANSWER_BYTES)
        self._breaker = Breaker(
            self._http.place,
            store="The feature transformer",
            meanwhile="requests with entities are refused until it is back",
        )
        self._key = key
        self._head = b'{"service":%b,"entities":[' % msgspec.json.encode(service)
        self._answers = answers
        self._seconds = seconds
        self._max_rows = max_rows
        self._queue: deque[_Waiting] = deque()
        self._rows = 0  # in the queue
        self._calls: set[asyncio.Task[None]] = set()

    async def look_up(self, asked: Asked, request: Request) -> LookedUp:
        """The features of one request's rows; at least one.

        Raises a Problem: 422 naming the entities that are refused, 502 for an answer that cannot
        be used, 503 where there is none in time; ClientDisconnectedError.
        """
        rows = len(asked.entities)
        if self._rows + rows > self._max_rows:
            raise overloaded(f"{self._rows} rows wait for features, of at most {self._max_rows}")
        try:
            async with asyncio.timeout(self._seconds):
                if rows <= MAX_ROWS_PER_CALL:
                    return await self._wait(asked, request)
                starts = range(0, rows, MAX_ROWS_PER_CALL)
                parts = [asked.part(i, i + MAX_ROWS_PER_CALL) for i in starts]
                return _joined(await asyncio.gather(*(self._wait(p, request) for p in parts)))
        except TimeoutError:
            raise features_unavailable(
                f"the feature transformer gave no answer within {self._seconds:g} s"
            ) from None

    async def _wait(self, asked: Asked, request: Request) -> LookedUp:
        waiting = _Waiting(asked, request)
        self._queue.append(waiting)
        self._rows += waiting.rows
        if len(self._calls) < CALLS_IN_FLIGHT:
            # A task begins with the loop's next turn: what has come in this one goes with it.
            call = asyncio.create_task(self._work())
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
        return await waiting.future

    async def _work(self) -> None:
        while batch := self._take():
            try:
                await self._call(batch)
            except Exception as error:  # nobody may wait for ever, whatever it is
                _give_up(batch, error)

    def _take(self) -> list[_Waiting]:
        """The next call's requests in their order, as many as fit; one at least, if any waits."""
        batch: list[_Waiting] = []
        rows = size = 0
        while self._queue:
            head = self._queue[0]
            full = rows + head.rows > MAX_ROWS_PER_CALL or size + head.bytes > MAX_BYTES_PER_CALL
            if batch and (head.alone or full):
                break
            self._queue.popleft()
            self._rows -= head.rows
            if head.future.done():
                continue  # its time is over
            if head.request.gone():
                head.future.set_exception(ClientDisconnectedError())
                continue
            batch.append(head)
            rows, size = rows + head.rows, size + head.bytes
            if head.alone:
                break
        return batch

    async def _call(self, batch: list[_Waiting]) -> None:
        try:
            found = await self._ask(batch)
        except FeaturesRefusedError as refusal:
            self._refused(batch, refusal)
        except Problem as problem:
            if len(batch) == 1 or problem.status == problem.status.SERVICE_UNAVAILABLE:
                _fail(batch, problem)
            else:
                self._again(batch, alone=True)
        else:
            start = 0
            for waiting in batch:
                end = start + waiting.rows
                if not waiting.future.done():
                    waiting.future.set_result(found.part(start, end))
                start = end

    async def _ask(self, batch: list[_Waiting]) -> LookedUp:
        """One call; Problem or FeaturesRefusedError."""
        if not self._breaker.allows():
            raise features_unavailable(
                "the feature transformer does not answer", round(RETRY_SECONDS)
            )
        headers = self._key.headers()
        try:
            async with asyncio.timeout(self._seconds):
                answer = await self._http.post("/features", headers, self._body(batch))
        except (OSError, HttpError) as error:  # TimeoutError is one of them
            self._breaker.failed(error)
            raise features_unavailable("the feature transformer does not answer") from None
        self._breaker.succeeded()
        return self._answers.read(answer, sum(waiting.rows for waiting in batch))

    def _body(self, batch: Sequence[_Waiting]) -> bytes:
        parts = [self._head, b",".join(e for w in batch for e in w.asked.entities), b"]"]
        if batch[0].asked.request:
            given = b",".join(r for w in batch for r in w.asked.request)
            parts += [b',"request":[', given, b"]"]
        return b"".join([*parts, b"}"])

    def _refused(self, batch: list[_Waiting], refusal: FeaturesRefusedError) -> None:
        """Tell those whose entities are refused; ask again for the others."""
        others: list[_Waiting] = []
        start = 0
        for waiting in batch:
            end = start + waiting.rows
            own = [e for e in refusal.errors if e.row is not None and start <= e.row < end]
            if own or len(batch) == 1:
                first = waiting.asked.first
                errors = [_of_row(error, start, first) for error in own or refusal.errors]
                _fail([waiting], features_refused(errors))
            else:
                others.append(waiting)
            start = end
        self._again(others, alone=len(others) == len(batch))

    def _again(self, batch: list[_Waiting], *, alone: bool) -> None:
        for waiting in reversed(batch):
            waiting.alone = alone
            self._queue.appendleft(waiting)
            self._rows += waiting.rows

    async def close(self) -> None:
        """At shutdown."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        self._http.close()


def _of_row(error: FieldError, start: int, first: int | None) -> FieldError:
    """The error with the row as the client counts. start: of the request in the call."""
    row = None if error.row is None or first is None else error.row - start + first
    return FieldError(error.field, error.message, row)


def _fail(batch: Sequence[_Waiting], problem: Exception) -> None:
    for waiting in batch:
        if not waiting.future.done():
            waiting.future.set_exception(problem)


def _give_up(batch: Sequence[_Waiting], error: Exception) -> None:
    logger.error("A look-up of features failed unexpectedly", exc_info=error)
    _fail(batch, internal_error())


def _joined(parts: Sequence[LookedUp]) -> LookedUp:
    """The parts of one large request."""
    columns = [
        [value for p in parts for value in p.columns[i]] for i in range(len(parts[0].columns))
    ]
    lookups = [lookup for part in parts for lookup in part.lookups]
    return LookedUp(columns, lookups, [names for part in parts for names in part.defaulted])
