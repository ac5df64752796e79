import asyncio
import json
import os
import re
import threading

from hypothesis import given
from hypothesis import strategies as st

from bentos.model_server import access_log
from bentos.model_server.access_log import AccessLog, Line


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
