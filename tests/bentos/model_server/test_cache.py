"""The response cache in memory, and what is the same wherever answers are kept."""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bentos.model_server.bundle import CacheLimits, Limits
from bentos.model_server.cache import (
    Answer,
    Counters,
    MemoryCache,
    RowKeys,
    cached_inference,
)
from bentos.model_server.codec import Codec, Row
from bentos.model_server.contract import Contract, GraphInput, Input, Outputs
from bentos.model_server.problems import unavailable
from bentos.model_server.session import Scored
from tests.bentos.model_server.clients import GOOD, JSON, App, assert_problem, serving
from tests.bentos.model_server.models import IRIS, Parts, petal_width

LIMITS = Limits(cache=CacheLimits())
MIXED = Contract(
    model="mixed",
    version=1,
    onnx_sha256="0" * 64,
    inputs=(
        Input("size", "float64"),
        Input("count", "int64"),
        Input("note", "string"),
        Input("more", "float32", required=False),
        Input("text", "string"),
    ),
    graph_inputs=(GraphInput("size", "float64", ("size",)),),
    outputs=Outputs("regression", "value"),
    example={"size": 1.0, "count": 1, "note": "", "text": ""},
)
KEY = RowKeys(MIXED)
floats = st.floats(allow_nan=False, allow_infinity=False)
ROWS = st.tuples(
    floats, st.integers(-(2**63), 2**63 - 1), st.text("ab", max_size=3), st.none() | floats,
    st.text("ab", max_size=3),
)  # fmt: skip


@given(ROWS, ROWS)
def test_two_rows_share_a_key_exactly_where_they_are_the_same(first: Row, second: Row) -> None:
    assert (KEY(first) == KEY(second)) == (repr(first) == repr(second))
    assert KEY(first) == KEY((*first,))


@given(st.integers(-(2**70), 2**70), ROWS)
def test_an_integer_in_a_float_field_is_that_float(number: int, row: Row) -> None:
    assert KEY((number, *row[1:])) == KEY((float(number), *row[1:]))


def test_a_negative_zero_is_another_row() -> None:
    row = (1, "", None, "")
    assert KEY((0.0, *row)) != KEY((-0.0, *row))
    assert KEY((0, *row)) == KEY((0.0, *row))


def test_null_is_the_same_row_as_a_missing_field() -> None:
    codec = Codec(MIXED, 10)
    body: dict[str, Any] = {"size": 1, "count": 1, "note": "a", "text": "b"}
    missing = codec.decode_one(msgspec.json.encode({"features": body}))
    null = codec.decode_one(msgspec.json.encode({"features": body | {"more": None}}))
    assert KEY(missing) == KEY(null)


@pytest.mark.parametrize("change", [{"version": 2}, {"variant": "int8"}, {"onnx_sha256": "1" * 64}])
def test_another_version_variant_or_graph_has_other_keys(change: dict[str, Any]) -> None:
    row = (1.0, 1, "", None, "")
    assert RowKeys(msgspec.structs.replace(MIXED, **change))(row) != KEY(row)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def run(cache: Coroutine[Any, Any, Any]) -> Any:
    """To its end, without an event loop: in memory nothing is ever waited for."""
    with pytest.raises(StopIteration) as end:
        cache.send(None)
    return end.value.value


def name(number: int) -> bytes:
    return number.to_bytes(16, "big")


STEPS = st.lists(
    st.tuples(st.sampled_from(["get", "put"]), st.integers(0, 7), st.integers(0, 20)), max_size=60
)


@given(STEPS, st.integers(1, 5))
def test_the_least_recently_used_goes_first(steps: list[Any], size: int) -> None:
    counters, expected, evicted = Counters(), OrderedDict[int, Answer](), 0
    cache = MemoryCache(60, size, counters, Clock())
    for kind, key, value in steps:
        if kind == "put":
            run(cache.put([(name(key), (value, None))]))
            expected[key] = (value, None)
            expected.move_to_end(key)
            if len(expected) > size:
                expected.popitem(last=False)
                evicted += 1
        else:
            assert run(cache.get([name(key)])) == [expected.get(key)]
            if key in expected:
                expected.move_to_end(key)
        assert (len(cache), counters.evictions) == (len(expected), evicted)


@example([("put", 0, 0), ("get", 0, 20), ("get", 0, 9), ("get", 0, 1)])
@given(STEPS)
def test_an_answer_is_there_for_its_ttl_and_no_longer(steps: list[Any]) -> None:
    clock, put = Clock(), dict[int, tuple[float, Answer]]()
    cache = MemoryCache(30, 100, Counters(), clock)
    for kind, key, value in steps:
        clock.now += value
        if kind == "put":
            run(cache.put([(name(key), (value, None))]))
            put[key] = (clock.now, (value, None))
        else:
            since, answer = put.get(key, (0.0, None))
            assert run(cache.get([name(key)])) == [answer if clock.now < since + 30 else None]


def test_what_expired_does_not_pile_up() -> None:
    clock = Clock()
    cache = MemoryCache(10, 1_000_000, Counters(), clock)
    for number in range(1000):
        clock.now += 1
        run(cache.put([(name(number), (number, None))]))
        run(cache.get([name(0), name(number)]))
    assert len(cache) <= 10


class Model:
    """Answers a row with its first value, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[Row]] = []

    async def compute(self, rows: Sequence[Row], request: Any) -> Scored:
        self.asked.append(list(rows))
        if len(self.asked) > 2:
            raise unavailable("queue-full", "the queue is full")
        return Scored([row[0] for row in rows], None)


def row(number: float) -> Row:
    return (number, 1, "", None, "")


def test_a_batch_computes_what_is_missing_in_one_call_and_keeps_its_order() -> None:
    cached, model = cached_inference(CacheLimits(), MIXED, None), Model()
    request: Any = SimpleNamespace(cache=None)

    def infer(*numbers: float) -> tuple[list[Any], str]:
        rows = [row(number) for number in numbers]
        scored = asyncio.run(cached.infer(rows, request, model.compute))
        return scored.labels, request.cache

    assert infer(1.0, 2.0) == ([1.0, 2.0], "miss")
    assert infer(4.0, 2.0, 3.0, 1.0) == ([4.0, 2.0, 3.0, 1.0], "partial")
    assert infer(3.0) == ([3.0], "hit")
    assert model.asked == [[row(1.0), row(2.0)], [row(4.0), row(3.0)]]
    assert (cached.counters.hits, cached.counters.misses) == (3, 4)


def test_an_answer_that_failed_is_not_kept() -> None:
    cached, model = cached_inference(CacheLimits(), MIXED, None), Model()
    model.asked = [[], []]
    request: Any = SimpleNamespace()
    for _ in range(2):
        with pytest.raises(Exception, match="the queue is full"):
            asyncio.run(cached.infer([row(1.0)], request, model.compute))
    assert len(model.asked) == 4


def test_an_answer_from_the_cache_is_the_answer(iris: Parts, tmp_path: Path) -> None:
    with serving(iris, tmp_path, LIMITS) as app:
        first, again = app.predict(**GOOD), app.predict(**GOOD)
    assert [r.headers["x-cache"] for r in (first, again)] == ["miss", "hit"]
    answers = [r.json() | {"request_id": ""} for r in (first, again)]
    assert answers[0] == answers[1]
    assert first.headers["x-request-id"] != again.headers["x-request-id"]


def test_a_regression_is_cached_too_and_a_batch_says_which_row_has_no_answer(
    tmp_path: Path,
) -> None:
    rows = [[5.1, 3.5, 1.4], [3e38, 3e38, 3e38], [4.9, 3.0, 1.4]]
    with serving(petal_width(), tmp_path, LIMITS) as app:
        alone = app.post("/predict/batch", {"instances": [rows[0]]}).json()
        again = app.post("/predict/batch", {"instances": [rows[0]]})
        assert (again.headers["x-cache"], again.json()["predictions"]) == (
            "hit",
            alone["predictions"],
        )
        assert "probabilities" not in again.json()
        for _ in range(2):
            refused = app.post("/predict/batch", {"instances": rows})
            problem = assert_problem(refused, 422, "row 1, instances: the model's answer is not")
            assert problem["errors"][0]["row"] == 1
            assert "x-cache" not in refused.headers


def test_without_a_cache_no_answer_speaks_of_one(iris_app: App) -> None:
    for _ in range(2):
        assert "x-cache" not in iris_app.predict(**GOOD).headers


def test_a_full_cache_forgets_and_computes_again(iris: Parts, tmp_path: Path) -> None:
    seen = []
    with serving(iris, tmp_path, Limits(cache=CacheLimits(max_entries=1))) as app:
        for width in (0.2, 0.3, 0.2):
            seen.append(app.predict(**GOOD | {IRIS[3]: width}).headers["x-cache"])
        model = app.lifecycle.model
        assert model is not None
        assert model.cache is not None
        assert model.cache.counters == Counters(hits=0, misses=3, errors=0, evictions=2)
    assert seen == ["miss", "miss", "miss"]


def test_a_client_may_ask_for_an_answer_that_is_computed_anew(iris: Parts, tmp_path: Path) -> None:
    body = json.dumps({"features": GOOD})
    with serving(iris, tmp_path, Limits(cache=CacheLimits())) as app:
        anew = JSON | {"cache-control": "no-cache"}
        for headers, cache in ((JSON, "miss"), (anew, None), (JSON, "hit")):
            response = app.client.post("/predict", content=body, headers=headers)
            assert response.headers.get("x-cache") == cache
