"""Look-ups that share calls, against a transformer on a real socket."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bentos.model_server.asgi import ArrivingBodies, ClientDisconnectedError, Request
from bentos.model_server.event_loop import Loop
from bentos.model_server.feature_answer import FeatureAnswers, LookedUp
from bentos.model_server.feature_client import (
    CALLS_IN_FLIGHT,
    MAX_BYTES_PER_CALL,
    Asked,
    FeatureClient,
)
from bentos.model_server.fields import Field
from bentos.model_server.platform_key import PlatformKey
from bentos.model_server.problems import Problem
from tests.bentos.model_server.models import CUSTOMERS
from tests.bentos.model_server.transformer import Call, Transformer, columns, http, refusing

INCOME = Field("income", "float64", True, None, None, None, None)


class Client:
    """What uvicorn knows of a connection."""

    def __init__(self) -> None:
        self.disconnected = False


def request(client: Client | None = None) -> Request:
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": []}

    async def receive() -> dict[str, Any]:
        raise AssertionError("nobody reads a body")

    made = Request(scope, receive, ArrivingBodies())
    made.uvicorn = client
    return made


def asked(*customers: int, padding: str = "") -> Asked:
    rows = [json.dumps({"customer_id": customer}).encode() for customer in customers]
    return Asked(rows, [json.dumps({"note": padding}).encode()] * len(rows), 0)


def incomes(found: LookedUp) -> list[float]:
    return list(found.columns[0])


class Held:
    """A behaviour that answers nobody until it is let go."""

    def __init__(self, then: Callable[[Call], Awaitable[bytes | None]]) -> None:
        self._then = then
        self.go = asyncio.Event()

    async def __call__(self, call: Call) -> bytes | None:
        await self.go.wait()
        return await self._then(call)


Body = Callable[[FeatureClient, Transformer], Awaitable[None]]


def asking(body: Body, *, seconds: float = 20, max_rows: int = 10_000) -> None:
    """Run a coroutine with a client and a transformer on one loop."""

    async def run() -> None:
        transformer = Transformer()
        await transformer.start()
        answers = FeatureAnswers(CUSTOMERS, [INCOME])
        key = PlatformKey(None)
        client = FeatureClient(transformer.url, key, "customers", answers, seconds, max_rows)
        try:
            await body(client, transformer)
        finally:
            await client.close()
            await transformer.stop()

    with asyncio.Runner(loop_factory=Loop) as runner:  # as model servers run
        runner.run(run())


async def busy(client: FeatureClient, transformer: Transformer) -> list["asyncio.Task[LookedUp]"]:
    """As many look-ups in flight as there can be."""
    tasks = []
    for i in range(CALLS_IN_FLIGHT):
        tasks.append(asyncio.create_task(client.look_up(asked(1000 + i), request())))
        while len(transformer.calls) <= i:
            await asyncio.sleep(0)
    return tasks


def test_what_waits_while_calls_are_in_flight_goes_as_one() -> None:
    async def body(client: FeatureClient, transformer: Transformer) -> None:
        transformer.behave = held = Held(transformer.behave)
        first = await busy(client, transformer)
        others = [asyncio.create_task(client.look_up(asked(i), request())) for i in range(100)]
        await asyncio.sleep(0)
        held.go.set()
        found = await asyncio.gather(*others, *first)
        assert [incomes(item)[0] for item in found[:100]] == [i + 0.5 for i in range(100)]
        assert transformer.customers() == [[1000], [1001], [*range(100)]]
        assert transformer.connections == CALLS_IN_FLIGHT

    asking(body)


def test_what_comes_in_one_turn_of_an_idle_client_is_one_call() -> None:
    async def body(client: FeatureClient, transformer: Transformer) -> None:
        await asyncio.gather(*(client.look_up(asked(i), request()) for i in range(10)))
        assert transformer.customers() == [[*range(10)]]

    asking(body)


ASKED = st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=5), min_size=1, max_size=30)


@settings(deadline=None, max_examples=60)
@given(requests=ASKED, unknown=st.sets(st.integers(0, 60), max_size=50), pauses=st.data())
def test_each_gets_its_own_features_or_its_own_refusal(
    requests: list[list[int]], unknown: set[int], pauses: st.DataObject
) -> None:
    waits = [pauses.draw(st.integers(0, 3)) for _ in requests]

    async def one(client: FeatureClient, customers: list[int], turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        refused = {i: customer for i, customer in enumerate(customers) if customer in unknown}
        if not refused:
            found = await client.look_up(asked(*customers), request())
            assert incomes(found) == [customer + 0.5 for customer in customers]
            return
        with pytest.raises(Problem) as problem:
            await client.look_up(asked(*customers), request())
        assert problem.value.status == 422
        told = {error.row: error.message for error in problem.value.errors}
        assert told.items() <= {i: f"unknown: {c}" for i, c in refused.items()}.items()
        assert told

    async def body(client: FeatureClient, transformer: Transformer) -> None:
        transformer.behave = refusing(*unknown)
        pairs = zip(requests, waits, strict=True)
        await asyncio.gather(*(one(client, *pair) for pair in pairs))
        assert len(transformer.calls) <= 2 * len(requests)

    asking(body)


def test_an_answer_that_one_request_spoils_is_asked_for_again_one_by_one() -> None:
    async def behave(call: Call) -> bytes:
        if any(row["customer_id"] == 13 for row in call.body["entities"]):
            return http(500, {"detail": "an on-demand view cannot compute this"})
        return http(200, columns(call))

    async def body(client: FeatureClient, transformer: Transformer) -> None:
        transformer.behave = behave
        tasks = [client.look_up(asked(i), request()) for i in (11, 12, 13, 14)]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [incomes(f)[0] for f in found if isinstance(f, LookedUp)] == [11.5, 12.5, 14.5]
        assert isinstance(found[2], Problem)
        assert found[2].status == 502

    asking(body)


def test_a_refusal_that_names_no_entity_is_found_out_one_by_one() -> None:
    async def behave(call: Call) -> bytes:
        if any(row["customer_id"] == 13 for row in call.body["entities"]):
            return http(422, {"detail": "not this one"})
        return http(200, columns(call))

    async def body(client: FeatureClient, transformer: Transformer) -> None:
        transformer.behave = behave
        tasks = [client.look_up(asked(i), request()) for i in (12, 13)]
        fine, refused = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(fine, LookedUp)
        assert isinstance(refused, Problem)
        assert "not this one" in refused.detail

    asking(body)


def test_who_has_left_is_not_asked_for() -> None:
    async def body(client: FeatureClient, transformer: Transformer) -> None:
        transformer.behave = held = Held(transformer.behave)
        first = await busy(client, transformer)
        leaver = Client()
        left = asyncio.create_task(client.look_up(asked(1), request(leaver)))
        stays = asyncio.create_task(client.look_up(asked(2), request(Client())))
        await asyncio.sleep(0)
        leaver.disconnected = True
        held.go.set()
        with pytest.raises(ClientDisconnectedError):
            await left
        await asyncio.gather(stays, *first)
        assert transformer.customers() == [[1000], [1001], [2]]

    asking(body)


def test_whose_time_is_over_is_told_and_the_others_go_on() -> None:
    async def body(client: FeatureClient, transformer: Transformer) -> None:
        transformer.behave = held = Held(transformer.behave)
        first = await busy(client, transformer)
        early = asyncio.create_task(client.look_up(asked(1), request()))
        await asyncio.sleep(0)
        early.cancel()
        late = asyncio.create_task(client.look_up(asked(2), request()))
        await asyncio.sleep(0)
        held.go.set()
        assert incomes(await late) == [2.5]
        await asyncio.gather(*first)
        assert transformer.customers()[-1] == [2]

    asking(body)


def test_the_queue_is_bounded_in_rows() -> None:
    async def body(client: FeatureClient, transformer: Transformer) -> None:
        transformer.behave = held = Held(transformer.behave)
        first = await busy(client, transformer)
        waits = asyncio.create_task(client.look_up(asked(1, 2, 3), request()))
        await asyncio.sleep(0)
        with pytest.raises(Problem, match="3 rows wait for features, of at most 4"):
            await client.look_up(asked(4, 5), request())
        held.go.set()
        await asyncio.gather(waits, *first)
        assert incomes(await client.look_up(asked(4, 5), request())) == [4.5, 5.5]

    asking(body, max_rows=4)


def test_long_texts_make_smaller_calls() -> None:
    async def body(client: FeatureClient, transformer: Transformer) -> None:
        long = "x" * (MAX_BYTES_PER_CALL * 2 // 5)
        tasks = [client.look_up(asked(i, padding=long), request()) for i in range(5)]
        found = await asyncio.gather(*tasks)
        assert [incomes(item) for item in found] == [[i + 0.5] for i in range(5)]
        assert sorted(map(len, transformer.customers())) == [1, 2, 2]

    asking(body)


def test_nothing_is_left_behind_when_it_is_closed_in_the_middle() -> None:
    async def body(client: FeatureClient, transformer: Transformer) -> None:
        transformer.behave = Held(transformer.behave)
        tasks = await busy(client, transformer)
        await client.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asking(body)
