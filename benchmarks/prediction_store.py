"""Compaction of the prediction log, beside a bare loop of pyarrow that writes the same columns.

`python -m benchmarks.prediction_store [RECORDS]` prints one line for each number of inputs.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from bentos.prediction_log.segments import MAGIC, Block, Header, frame
from deploy.home import Home
from deploy.predictions.compaction import compact
from serving_config.predictions import Predictions

_NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
_BLOCK_ROWS = 1000
_SEGMENT_ROWS = 100_000
_ID = "5f0c2a4e9b7d4c1e8a3f6b2d{:08x}"


def _header(inputs: int) -> Header:
    return Header(
        kind="predictions",
        environment="production",
        model="bench",
        label="1",
        onnx_sha256="a" * 64,
        columns=tuple(f"x{number}" for number in range(inputs)),
        dtypes=("float64",) * inputs,
        classes=("a", "b"),
    )


def _columns(first: int, rows: int, inputs: int) -> dict[str, Any]:
    rng = np.random.default_rng(first)
    start = int(_NOW.timestamp() * 1_000_000)
    share = rng.random(rows)
    return {
        "request_id": [_ID.format(first + number) for number in range(rows)],
        "row": [0] * rows,
        "time": [start + first + number for number in range(rows)],
        "status": [200] * rows,
        "latency_us": rng.integers(200, 5000, rows).tolist(),
        "source": ["client"] * rows,
        "features": rng.normal(size=(inputs, rows)).tolist(),
        "prediction": np.where(share > 0.5, "a", "b").tolist(),
        "probabilities": [share.tolist(), (1 - share).tolist()],
        "entities": [None] * rows,
        "lookups": [None] * rows,
    }


def _blocks(records: int, inputs: int) -> Iterator[dict[str, Any]]:
    for first in range(0, records, _BLOCK_ROWS):
        yield _columns(first, min(_BLOCK_ROWS, records - first), inputs)


def _write_segments(home: Home, records: int, inputs: int) -> int:
    folder = home.predictions / "segments" / "production" / "bench" / "1"
    folder.mkdir(parents=True)
    frames = [frame(Block(**columns)) for columns in _blocks(records, inputs)]
    step = _SEGMENT_ROWS // _BLOCK_ROWS
    for number in range(0, len(frames), step):
        data = MAGIC + frame(_header(inputs)) + b"".join(frames[number : number + step])
        (folder / f"0-{number}.seg").write_bytes(data)
    return sum(len(item) for item in frames)


def _bare(folder: Path, records: int, inputs: int) -> float:
    """Seconds to write what is in memory as Python lists already, in the same row groups."""
    made = [
        columns | {f"x{number}": part for number, part in enumerate(columns.pop("features"))}
        for columns in _blocks(records, inputs)
    ]
    for columns in made:
        columns["a"], columns["b"] = columns.pop("probabilities")
    started = time.perf_counter()
    parts = [pa.table(columns) for columns in made]
    whole = pa.concat_tables(parts, promote_options="permissive")
    pq.write_table(whole, folder / "bare.parquet", compression="zstd", compression_level=1)
    return time.perf_counter() - started


def measure(records: int, inputs: int) -> str:
    """One line."""
    with tempfile.TemporaryDirectory() as name:
        home = Home(Path(name))
        size = _write_segments(home, records, inputs)
        before = psutil.Process().cpu_times().user
        found = compact(home, Predictions(), _NOW)
        cpu = psutil.Process().cpu_times().user - before
        if found.rows != records:
            raise RuntimeError(f"{found.rows} of {records} records were compacted")
        bare = _bare(Path(name), records, inputs)
    return (
        f"{inputs:2d} inputs: {records:,} records ({size / 1e6:.0f} MB) in {found.seconds:.2f} s "
        f"({cpu:.2f} s of CPU) = {found.rows_per_second:,.0f} records/s, "
        f"{found.bytes / 1e6:.0f} MB of Parquet; bare pyarrow {records / bare:,.0f} records/s"
    )


def main() -> None:
    """See the module."""
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    for inputs in (4, 10, 30):
        print(measure(records, inputs))


if __name__ == "__main__":
    main()
