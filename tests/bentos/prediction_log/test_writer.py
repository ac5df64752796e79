"""The log on the disk: complete, bounded, and what is lost is counted."""

import asyncio
import io
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from bentos.prediction_log import writer as writer_module
from bentos.prediction_log.masking import PredictionLogError, read_key
from bentos.prediction_log.records import BLOCK_ROWS
from bentos.prediction_log.segments import Block, read_blocks, read_header
from tests.bentos.prediction_log.writing import (
    CLASSES,
    Counts,
    blocks,
    file_size_limit,
    is_locked,
    keys,
    paths,
    request,
    segments,
    until,
    writer,
)


def test_records_are_on_the_disk_soon_and_closing_completes_the_segment(tmp_path: Path) -> None:
    async def run() -> None:
        counts = Counts()
        log = writer(tmp_path, counts, flush_seconds=0.01)
        log.add(request("a", rows=2), 10)
        log.add(request("b", status=422), 10)
        await until(lambda: counts.rows == 3)
        (path,) = paths(tmp_path)
        assert path.suffix == ".open"
        assert is_locked(path)
        assert path.stat().st_mode & 0o777 == 0o600
        log.add(request("c"), 10)
        await log.close()
        (path,) = paths(tmp_path)
        assert path.suffix == ".seg"
        assert not is_locked(path)

    asyncio.run(run())
    (path,) = paths(tmp_path)
    with path.open("rb") as file:
        head = read_header(file)
    assert head is not None
    assert (head.columns, head.classes, head.label) == (("age", "note"), CLASSES, "3")
    assert keys(blocks(tmp_path)) == [("a", 0), ("a", 1), ("b", 0), ("c", 0)]
    refused = blocks(tmp_path)[0]
    assert [column[2] for column in (*refused.features, *refused.probabilities)] == [None] * 4
    assert (refused.status[2], refused.prediction[2]) == (422, None)
    now = time.time() - time.monotonic() + 1.5
    assert all(abs(stamp / 1e6 - now) < 5 for stamp in refused.time)


def test_a_writer_that_gets_nothing_leaves_no_file(tmp_path: Path) -> None:
    async def run() -> None:
        await writer(tmp_path / "log", Counts()).close()

    asyncio.run(run())
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize(("most_bytes", "most_seconds"), [(2000, 60), (1 << 20, 0.02)])
def test_a_segment_that_is_large_or_old_enough_is_closed_without_more_traffic(
    most_bytes: int, most_seconds: float, tmp_path: Path
) -> None:
    async def run() -> None:
        counts = Counts()
        log = writer(tmp_path, counts, flush_seconds=0.001)
        log._segments = segments(tmp_path, most_bytes, most_seconds)
        for number in range(3):
            log.add(request(str(number), rows=100), 10)
            await until(lambda number=number: counts.segments == number + 1)
            assert {path.suffix for path in paths(tmp_path)} == {".seg"}
        await log.close()

    asyncio.run(run())
    assert len(paths(tmp_path)) == 3
    assert len(keys(blocks(tmp_path))) == 300


def test_what_does_not_fit_into_memory_is_dropped_and_counted(tmp_path: Path) -> None:
    async def run() -> Counts:
        counts = Counts()
        log = writer(tmp_path, counts, max_pending_rows=2 * BLOCK_ROWS)
        for number in range(10 * BLOCK_ROWS):  # the loop never lets go: nothing can be done
            log.add(request(str(number)), 10)
        await log.close()
        await asyncio.sleep(0)
        return counts

    counts = asyncio.run(run())
    assert counts.dropped == {"queue_full": 8 * BLOCK_ROWS}
    assert counts.rows == len(keys(blocks(tmp_path))) == 2 * BLOCK_ROWS
    assert counts.waiting == 0


def test_long_texts_are_bounded_by_their_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "BLOCK_BYTES", 1 << 18)
    monkeypatch.setattr(writer_module, "MAX_PENDING_BYTES", 1 << 20)
    text = "x" * (1 << 18)

    async def run() -> Counts:
        counts = Counts()
        log = writer(tmp_path, counts)
        for _ in range(20):  # the loop never lets go
            log.add(request(text), len(text))
        await log.close()
        await asyncio.sleep(0)
        return counts

    counts = asyncio.run(run())
    # The text is in each row twice: two of them are half of what may wait.
    assert counts.dropped == {"queue_full": 18}
    assert counts.rows == len(keys(blocks(tmp_path))) == 2


@pytest.mark.parametrize("durable", [False, True])
def test_a_request_of_many_rows_is_logged_in_small_blocks(durable: bool, tmp_path: Path) -> None:
    rows = 3 * BLOCK_ROWS + 5

    async def run() -> None:
        log = writer(tmp_path, Counts(), durable=durable)
        if durable:
            assert await log.kept(request("many", rows), 10)
            assert len(keys(blocks(tmp_path))) == rows
        else:
            log.add(request("many", rows), 10)
        await log.close()

    asyncio.run(run())
    found = blocks(tmp_path)
    assert keys(found) == [("many", row) for row in range(rows)]
    assert all(len(block.row) <= BLOCK_ROWS for block in found)


def test_a_segment_cut_at_any_byte_gives_its_whole_blocks(tmp_path: Path) -> None:
    async def run() -> None:
        counts = Counts()
        log = writer(tmp_path, counts, flush_seconds=0.001)
        for number in range(4):
            log.add(request(str(number), rows=2), 10)
            await until(lambda number=number: counts.rows == 2 * (number + 1))
        await log.close()

    asyncio.run(run())
    data = paths(tmp_path)[0].read_bytes()
    seen = []
    for length in range(len(data) + 1):
        file = io.BytesIO(data[:length])
        found: list[Block] = []
        if read_header(file) is not None:
            found = list(read_blocks(file))
        assert keys(found) == [(str(i), j) for i in range(len(found)) for j in range(2)]
        seen.append(len(found))
    assert seen == sorted(seen)
    assert set(seen) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("durable", [False, True])
def test_a_full_disk_costs_what_does_not_fit_and_then_a_new_segment_is_begun(
    durable: bool, tmp_path: Path
) -> None:
    async def run() -> None:
        counts = Counts()
        log = writer(tmp_path, counts, flush_seconds=0.001, durable=durable)

        async def ask(name: str) -> bool:
            """Whether it was written."""
            if durable:
                return await log.kept(request(name), 10)
            rows, lost = counts.rows, dict(counts.dropped)
            log.add(request(name), 10)
            await until(lambda: counts.rows > rows or counts.dropped != lost)
            return counts.rows > rows

        assert await ask("before")
        (path,) = paths(tmp_path)
        whole = path.stat().st_size
        with file_size_limit(whole + 20):  # half a frame can be written
            assert not await ask("lost")
        with file_size_limit(20):  # nor can another segment be begun
            assert not await ask("lost too")
        assert [path.suffix for path in paths(tmp_path)] == [".seg"]
        assert path.with_suffix(".seg").stat().st_size == whole
        assert await ask("after")
        assert counts.dropped == {"write_failed": 2}
        await log.close()

    asyncio.run(run())
    assert keys(blocks(tmp_path)) == [("before", 0), ("after", 0)]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_cannot_be_made_is_counted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    async def run() -> None:
        counts = Counts()
        log = writer(tmp_path / "file" / "log", counts, flush_seconds=0.001)
        log.add(request("a"), 10)
        await until(lambda: counts.dropped)
        assert counts.dropped == {"write_failed": 1}
        await log.close()

    asyncio.run(run())


def test_a_row_that_cannot_be_encoded_harms_only_its_block(tmp_path: Path) -> None:
    async def run() -> None:
        counts = Counts()
        log = writer(tmp_path, counts, flush_seconds=0.001)
        wrong: Any = (*request("x")[0][:7], object(), *request("x")[0][8:])
        log.add([wrong], 10)
        await until(lambda: counts.dropped)
        assert counts.dropped == {"error": 1}
        log.add(request("good"), 10)
        await log.close()

    asyncio.run(run())
    assert keys(blocks(tmp_path)) == [("good", 0)]


CHILD = """
import asyncio, sys
from pathlib import Path
from tests.bentos.prediction_log.writing import Counts, request, writer

async def client(log, name):
    number = 0
    while True:
        made = f"{name}-{number}"
        if await log.kept(request(made, rows=2), 10):
            print(made, flush=True)
        number += 1

async def main():
    log = writer(Path(sys.argv[1]), Counts(), durable=True)
    log._segments._most_bytes = 20_000
    await asyncio.gather(*(client(log, n) for n in range(8)))

asyncio.run(main())
"""


def test_what_a_durable_log_acknowledged_is_there_once_after_a_kill(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        lines = [child.stdout.readline() for _ in range(400)]
    finally:
        child.kill()
        rest = child.stdout.read()
        child.stdout.close()
        child.wait()
    # The last line may be torn: it was printed while the process died.
    acknowledged = ["".join(lines), *rest.rpartition("\n")[:1]]
    names = "".join(acknowledged).split()
    assert len(names) >= 400
    found = keys(blocks(tmp_path))
    assert len(found) == len(set(found))
    assert {(name, row) for name in names for row in range(2)} <= set(found)
    assert len(paths(tmp_path)) > 1
    left = [path for path in paths(tmp_path) if path.suffix == ".open"]
    assert len(left) <= 1
    assert not any(is_locked(path) for path in left)


def test_two_writers_never_share_a_file(tmp_path: Path) -> None:
    async def run() -> None:
        logs = [writer(tmp_path, Counts()) for _ in range(2)]
        for number, log in enumerate(logs):
            log.add(request(str(number)), 10)
        for log in logs:
            await log.close()

    asyncio.run(run())
    assert len(paths(tmp_path)) == 2
    assert sorted(keys(blocks(tmp_path))) == [("0", 0), ("1", 0)]


@pytest.mark.parametrize("content", [None, "", "zz" * 32, "ab" * 31])
def test_a_key_that_is_none_is_refused(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "pii.key"
    if content is not None:
        path.write_text(content)
    with pytest.raises(PredictionLogError, match="SLIPWAY_PII_KEY"):
        read_key(path)
    with pytest.raises(PredictionLogError, match="SLIPWAY_PII_KEY names no key"):
        read_key(None)
