"""The queue and its batches, on real sessions; only the moment a batch is computed is ours."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bentos.model_server.asgi import ArrivingBodies, ClientDisconnectedError, Request
from bentos.model_server.batcher import Batcher
from bentos.model_server.bundle import Limits
from bentos.model_server.executors import Done, Executor, Inline, OneThread
from bentos.model_server.metrics import Metrics
from bentos.model_server.problems import Problem
from bentos.model_server.session import Feeds, ModelSession, Row, Scored
from tests.bentos.model_server import models

ROWS: list[Row] = [(5.1, 3.5, 1.4, 0.2), (6.3, 2.5, 5.0, 1.9), (5.7, 2.8, 4.1, 1.3)]


class OnCommand:
    """An executor that computes when the test says so, and remembers the sizes of its batches."""

    def __init__(self, session: ModelSession) -> None:
        self._inline = Inline(session)
        self.waiting: list[tuple[Feeds, Done]] = []
        self.sizes: list[int] = []

    def run(self, arrays: Feeds, done: Done) -> None:
        self.sizes.append(len(next(iter(arrays.values()))))
        self.waiting.append((arrays, done))

    def compute(self) -> None:
        self._inline.run(*self.waiting.pop(0))

    def close(self) -> None:
        """Nothing to end."""


class Client:
    """What uvicorn knows of a connection."""

    def __init__(self) -> None:
        self.disconnected = False


def request(client: Client | None = None) -> Request:
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": []}

    async def receive() -> dict[str, Any]:
        raise AssertionError("the batcher reads no body")

    made = Request(scope, receive, ArrivingBodies())
    made.uvicorn = client
    return made


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def exposed(metrics: Metrics, line: str) -> float:
    text = metrics.exposition()[0].decode()
    found = [float(row.rsplit(" ", 1)[1]) for row in text.splitlines() if row.startswith(line)]
    assert found, text
    return found[0]


Held = Callable[[Batcher, OnCommand, Metrics], Awaitable[None]]


def held(parts: models.Parts, limits: Limits, body: Held) -> None:
    """Run a coroutine with a batcher that computes on command."""

    async def run() -> None:
        session, metrics = parts.session(), Metrics(None)
        executor = OnCommand(session)
        batcher = Batcher(session, limits, metrics, executor)
        await body(batcher, executor, metrics)
        batcher.close()

    asyncio.run(run())


def ask(batcher: Batcher, *rows: Row, client: Client | None = None) -> "asyncio.Task[Scored]":
    return asyncio.ensure_future(batcher.infer(rows, request(client)))


def test_an_idle_server_computes_at_once_and_a_busy_one_all_that_came_meanwhile(
    iris: models.Parts,
) -> None:
    async def body(batcher: Batcher, executor: OnCommand, metrics: Metrics) -> None:
        first = ask(batcher, ROWS[0])
        await turns()
        assert executor.sizes == [1]
        others = [ask(batcher, row) for row in ROWS]
        await turns()
        assert executor.sizes == [1]
        assert exposed(metrics, "slipway_queue_rows") == 0
        executor.compute()
        await first
        await turns()
        assert executor.sizes == [1, 3]
        executor.compute()
        answers = await asyncio.gather(*others)
        assert [answer.labels for answer in answers] == [["setosa"], ["virginica"], ["versicolor"]]
        assert exposed(metrics, "slipway_batch_rows_count") == 2
        assert exposed(metrics, "slipway_batch_rows_sum") == 4
        assert exposed(metrics, "slipway_batch_wait_seconds_count") == 4

    held(iris, Limits(), body)


def test_a_batch_keeps_its_limit_and_never_cuts_a_request_in_two(iris: models.Parts) -> None:
    async def body(batcher: Batcher, executor: OnCommand, _: Metrics) -> None:
        tasks = [ask(batcher, *ROWS[:n]) for n in (2, 2, 1, 3, 1)]
        for _ in tasks:
            await turns()
            if executor.waiting:
                executor.compute()
        await asyncio.gather(*tasks)
        assert executor.sizes == [2, 3, 3, 1]

    held(iris, Limits(max_batch_rows=3), body)


def test_a_request_larger_than_a_batch_goes_by_itself(iris: models.Parts) -> None:
    async def body(batcher: Batcher, executor: OnCommand, _: Metrics) -> None:
        task = ask(batcher, *ROWS)
        await turns()
        executor.compute()
        assert len((await task).labels) == 3

    held(iris, Limits(max_batch_rows=1), body)


def test_what_does_not_fit_into_the_queue_is_refused_at_once(iris: models.Parts) -> None:
    async def body(batcher: Batcher, executor: OnCommand, metrics: Metrics) -> None:
        computing = ask(batcher, ROWS[0])
        await turns()
        queued = ask(batcher, *ROWS[:2])
        await turns()
        with pytest.raises(Problem, match="2 rows wait for inference, of at most 3") as caught:
            await batcher.infer(ROWS[:2], request())
        assert caught.value.status == 503
        assert ("retry-after", "1") in caught.value.headers
        assert exposed(metrics, 'slipway_shed_total{limit="queue"}') == 1
        executor.compute()
        await turns()
        executor.compute()
        await asyncio.gather(computing, queued)

    held(iris, Limits(max_queue_rows=3), body)


def test_a_deadline_is_kept_in_the_queue_and_while_computing(iris: models.Parts) -> None:
    async def body(batcher: Batcher, executor: OnCommand, metrics: Metrics) -> None:
        computing, queued = ask(batcher, ROWS[0]), None
        await turns()
        queued = ask(batcher, ROWS[1])
        for task in (computing, queued):
            with pytest.raises(Problem, match=r"no answer within 0.5 s") as caught:
                await task
            assert caught.value.status == 504
        assert exposed(metrics, "slipway_timeouts_total") == 2
        executor.compute()  # too late: nobody is told, and the next one is served
        later = ask(batcher, ROWS[2])
        await turns()
        assert executor.sizes == [1, 1]
        executor.compute()
        assert (await later).labels == ["versicolor"]

    held(iris, Limits(deadline_seconds=0.5), body)


def test_a_client_that_has_left_is_not_computed(iris: models.Parts) -> None:
    async def body(batcher: Batcher, executor: OnCommand, _: Metrics) -> None:
        first = ask(batcher, ROWS[0])
        await turns()
        client = Client()
        left, stayed = ask(batcher, ROWS[1], client=client), ask(batcher, ROWS[2])
        cancelled = ask(batcher, ROWS[1])
        await turns()
        client.disconnected = True
        cancelled.cancel()
        executor.compute()
        await turns()
        assert executor.sizes == [1, 1]
        executor.compute()
        with pytest.raises(ClientDisconnectedError):
            await left
        assert (await stayed).labels == ["versicolor"]
        await first

    held(iris, Limits(), body)


class Poisoned(ModelSession):
    """A session that fails on any batch with a negative first value, as a graph may on a text."""

    computed: list[int]

    def run(self, arrays: Feeds) -> Any:
        values = next(iter(arrays.values()))
        self.computed.append(len(values))
        if (values[:, 0] < 0).any():
            raise RuntimeError("Non-zero status code returned while running the node")
        return super().run(arrays)


@pytest.mark.parametrize("kind", [Inline, OneThread])
def test_one_bad_row_harms_nobody_else_in_its_batch(
    iris: models.Parts, kind: Callable[[ModelSession], Executor]
) -> None:
    async def run() -> None:
        session = Poisoned(iris.onnx, iris.contract)
        session.computed = []
        batcher = Batcher(session, Limits(), Metrics(None), kind(session))
        rows: list[Row] = [ROWS[0], (-1.0, 0.0, 0.0, 0.0), ROWS[1]]
        answers = await asyncio.gather(
            *(batcher.infer([row], request()) for row in rows), return_exceptions=True
        )
        batcher.close()
        good, bad, other = answers
        assert isinstance(good, Scored)
        assert isinstance(other, Scored)
        assert (good.labels, other.labels) == (["setosa"], ["virginica"])
        assert isinstance(bad, Problem)
        assert (bad.status, bad.kind) == (500, "inference-failed")
        assert session.computed == [3, 1, 1, 1]

    asyncio.run(run())


def test_an_answer_that_is_not_finite_refuses_its_own_request_alone() -> None:
    parts = models.petal_width()

    async def run() -> None:
        session = parts.session()
        batcher = Batcher(session, Limits(), Metrics(None), Inline(session))
        extreme: Row = (3e38, 3e38, 3e38)
        good: Row = (5.1, 3.5, 1.4)
        answers = await asyncio.gather(
            batcher.infer([good], request()),
            batcher.infer([good, extreme], request()),
            batcher.infer([extreme], request()),
            return_exceptions=True,
        )
        batcher.close()
        fine, second, alone = answers
        assert isinstance(fine, Scored)
        assert isinstance(second, Problem)
        assert isinstance(alone, Problem)
        assert (second.status, second.errors[0].row) == (422, 1)
        assert (alone.status, alone.errors[0].row) == (422, None)

    asyncio.run(run())


MEASURES = st.tuples(*[st.floats(min_value=0, max_value=10, width=32)] * 4)
TREE, LINEAR = models.iris_tree().session(), models.iris().session()


@pytest.mark.parametrize("kind", [Inline, OneThread])
@settings(deadline=None, max_examples=25)
@given(requests=st.lists(st.lists(MEASURES, min_size=1, max_size=4), min_size=1, max_size=12))
def test_answers_under_concurrency_are_the_offline_ones(
    kind: Callable[[ModelSession], Executor], requests: list[Sequence[Row]]
) -> None:
    """Each client gets its own rows, in its order: bit for bit from a tree, which computes each
    row by itself; from a linear model, whose float32 sums depend on the batch, within 1e-6."""

    async def run(session: ModelSession) -> list[Scored]:
        batcher = Batcher(session, Limits(max_batch_rows=5), Metrics(None), kind(session))
        found = await asyncio.gather(*(batcher.infer(rows, request()) for rows in requests))
        batcher.close()
        return found

    for session, tolerance in ((TREE, 0.0), (LINEAR, 1e-6)):
        for rows, scored in zip(requests, asyncio.run(run(session)), strict=True):
            offline = session.predict(rows)
            assert offline.probabilities is not None
            if not tolerance:
                assert scored.labels == offline.labels
            differences = np.abs(np.array(scored.probabilities) - offline.probabilities)
            assert differences.max() <= tolerance
