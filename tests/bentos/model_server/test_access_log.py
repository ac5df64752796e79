import asyncio
import json
import os
import re
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.model_server import access_log
from bentos.model_server.access_log import AccessLog, Line
from bentos.model_server.bundle import CacheLimits, Limits
from bentos.model_server.session import Scored
from tests.bentos.model_server import models
from tests.bentos.model_server.clients import GOOD, serving
from tests.bentos.model_server.v2_requests import tensor, written

COMPARE = {"x-slipway-compare": "1", "content-type": "application/json"}


def line(number: int, **more: str) -> Line:
    return Line("2026-01-01T00:00:00.000Z", str(number), "POST", "/predict", 200, 0.5, **more)


def test_lines_come_out_as_json_in_their_order_soon_after() -> None:
    reader, writer = os.pipe()

    async def run() -> None:
        log = AccessLog(lambda lost: None, writer)
        for number in range(3):
            log.add(line(number, model="iris"))
        with os.fdopen(reader) as lines:  # while the loop runs: by the timer, not by close()
            read = [json.loads(await asyncio.to_thread(lines.readline)) for _ in range(3)]
        log.close()
        assert [item["request_id"] for item in read] == ["0", "1", "2"]
        assert read[0]["logger"] == "slipway.access"
        assert read[0]["model"] == "iris"
        assert "caller" not in read[0]

    asyncio.run(run())
    os.close(writer)


def test_a_reader_that_reads_nothing_stops_neither_the_server_nor_fills_its_memory() -> None:
    reader, writer = os.pipe()
    lost: list[int] = []
    total = access_log.GROUP * (access_log.MAX_GROUPS + 20)

    async def run() -> AccessLog:
        log = AccessLog(lost.append, writer)
        for number in range(total):
            log.add(line(number))
        return log

    log = asyncio.run(run())
    assert 0 < sum(lost) <= access_log.GROUP * 20
    closing = threading.Thread(target=log.close)
    closing.start()
    kept = total - sum(lost)
    with os.fdopen(reader) as lines:
        for _ in range(kept):
            assert lines.readline().endswith("}\n")
    closing.join()
    os.close(writer)


def test_close_writes_what_is_left() -> None:
    reader, writer = os.pipe()

    async def run() -> None:
        log = AccessLog(lambda lost: None, writer)
        log.add(line(7))
        log.close()

    asyncio.run(run())
    os.close(writer)
    with os.fdopen(reader) as lines:
        assert [json.loads(item)["request_id"] for item in lines] == ["7"]


def test_the_clock_tells_milliseconds() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", access_log.Clock().now())


@given(
    st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line), max_size=30),
    st.integers(1, 60),
)
def test_pieces_are_whole_lines_and_all_of_them(lines: list[bytes], most: int) -> None:
    group = b"".join(line + b"\n" for line in lines)
    found = list(access_log.pieces(group, most))
    assert b"".join(found) == group
    assert all(piece.endswith(b"\n") for piece in found)
    assert all(len(piece) <= most or piece.count(b"\n") == 1 for piece in found)
    assert list(access_log.pieces(group, None)) == ([group] if group else [])


def test_what_cannot_be_written_is_counted() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    lost: list[int] = []

    async def run() -> None:
        log = AccessLog(lost.append, writer)
        log.add(line(1))
        log.flush()
        while not lost:
            await asyncio.sleep(0)
        log.close()

    asyncio.run(run())
    os.close(writer)
    assert lost == [1]


def logged(
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    parts: models.Parts,
    *requests: tuple[str, Any, dict[str, str]],
    limits: Limits | None = None,
) -> list[tuple[httpx.Response, dict[str, Any]]]:
    """Each request's answer, and its line of the access log."""
    capfd.readouterr()
    with serving(parts, folder, limits, access_log=True) as app:
        answers = [
            app.client.post(
                path,
                content=body if isinstance(body, bytes) else json.dumps(body),
                headers={"content-type": "application/json"} | headers,
            )
            for path, body, headers in requests
        ]
    lines = [json.loads(text) for text in capfd.readouterr().out.splitlines()]
    return list(zip(answers, [item for item in lines if "request_id" in item], strict=True))


def test_a_request_that_is_to_be_compared_leaves_what_was_answered_and_never_what_was_asked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one = ("/predict", {"features": GOOD | {"petal_width": 0.123456}}, COMPARE)
    many = ("/predict/batch", {"instances": [GOOD] * 3}, COMPARE)
    (first, line), (second, batch) = logged(tmp_path, capfd, models.iris(), one, many)
    assert line["predictions"] == [first.json()["prediction"]]
    assert line["probabilities"] == [list(first.json()["probabilities"].values())]
    assert batch["predictions"] == second.json()["predictions"]
    assert batch["probabilities"] == [list(row.values()) for row in second.json()["probabilities"]]
    assert "0.123456" not in json.dumps(line)


def test_tensors_are_compared_as_well(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    inputs = [tensor(name, [[value]], "FP64", binary=False) for name, value in GOOD.items()]
    body, _ = written(inputs)
    request = ("/v2/models/iris/infer", body, COMPARE)
    ((_, line),) = logged(tmp_path, capfd, models.iris(), request)
    assert line["predictions"] == ["setosa"]
    assert len(line["probabilities"][0]) == 3


def test_an_answer_from_the_cache_is_compared_as_well(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    request = ("/predict", {"features": GOOD}, COMPARE)
    limits = Limits(cache=CacheLimits())
    found = logged(tmp_path, capfd, models.iris(), request, request, limits=limits)
    assert found[0][1]["probabilities"] == found[1][1]["probabilities"]


def test_a_value_is_compared_without_probabilities(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    features = {name: GOOD[name] for name in models.IRIS[:3]}
    request = ("/predict", {"features": features}, COMPARE)
    ((answer, line),) = logged(tmp_path, capfd, models.petal_width(), request)
    assert line["predictions"] == [answer.json()["prediction"]]
    assert "probabilities" not in line


def test_nobody_else_s_answers_are_in_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    requests = (
        ("/predict", {"features": GOOD}, {}),
        ("/predict", {"features": {}}, COMPARE),  # refused: there is nothing to compare
    )
    for _, line in logged(tmp_path, capfd, models.iris(), *requests):
        assert "predictions" not in line
        assert "probabilities" not in line


def test_of_a_large_batch_the_first_rows_are_compared(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    request = ("/predict/batch", {"instances": [GOOD] * 40}, COMPARE)
    ((_, line),) = logged(tmp_path, capfd, models.iris(), request)
    assert line["rows"] == 40
    assert len(line["predictions"]) == len(line["probabilities"]) == 16


@pytest.mark.parametrize(("classes", "kept"), [(20, True), (21, False)])
def test_of_many_classes_only_the_predicted_one_is_compared(classes: int, *, kept: bool) -> None:
    item = line(1)
    item.compare(Scored(["a"], [[1 / classes] * classes]))
    assert item.predictions == ["a"]
    assert (item.probabilities is not None) is kept
