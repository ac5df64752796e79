"""Ways of scoring a folder of Parquet files, each a child process of `benchmarks.batch`:
`python -m benchmarks.batch_runs KIND MODEL ROWS WORK` prints a Run as JSON.

bare: pyarrow and ONNX Runtime, a thread for each share of the row groups, nothing else. local, ray:
the engines. resume: local, of which all parts but one are done; without that part's own time.
ray-by-hand: `map_batches` as one would write it; both with the start of a Ray of their own.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from benchmarks.models import FIELDS

THREADS = 2
_GROUP_ROWS = 125_000
_BATCH_ROWS = 8192


def write_rows(folder: Path, rows: int, files: int) -> None:
    """Seeded rows of the models' fields, and a key."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    schema = pa.schema([("id", pa.int64()), *((name, pa.float64()) for name in FIELDS)])
    for number in range(files):
        start, stop = rows * number // files, rows * (number + 1) // files
        with pq.ParquetWriter(folder / f"{number:03d}.parquet", schema) as writer:
            for first in range(start, stop, _GROUP_ROWS):
                count = min(_GROUP_ROWS, stop - first)
                values = [pa.array(random.normal(size=count)) for _ in FIELDS]
                ids = pa.array(range(first, first + count), pa.int64())
                writer.write_table(pa.Table.from_arrays([ids, *values], schema=schema))


def bare(model: Path, rows: Path, work: Path) -> float:
    """Reads, scores, writes the key, the label and the probabilities."""
    import onnxruntime
    import pyarrow.parquet as pq

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    started = time.perf_counter()
    session = onnxruntime.InferenceSession(str(model / "model.onnx"), options)
    files = sorted(rows.glob("*.parquet"))
    groups = [
        (file, number) for file in files for number in range(pq.read_metadata(file).num_row_groups)
    ]
    work.mkdir(parents=True)
    with ThreadPoolExecutor(THREADS) as pool:
        list(
            pool.map(
                lambda share: _bare_share(session, share, work),
                [(number, groups[number::THREADS]) for number in range(THREADS)],
            )
        )
    return time.perf_counter() - started


def _bare_share(session: Any, share: tuple[int, list[tuple[Path, int]]], work: Path) -> None:
    import pyarrow.parquet as pq

    writer = None
    for file, group in share[1]:
        source = pq.ParquetFile(file)
        for batch in source.iter_batches(_BATCH_ROWS, row_groups=[group], use_threads=False):
            scored = _bare_batch(session, batch)
            writer = writer or pq.ParquetWriter(work / f"{share[0]}.parquet", scored.schema)
            writer.write_batch(scored)
    if writer is not None:
        writer.close()


def _bare_batch(session: Any, batch: Any) -> Any:
    import numpy as np
    import pyarrow as pa

    matrix = np.empty((batch.num_rows, len(FIELDS)), np.float32)
    for place, name in enumerate(FIELDS):
        matrix[:, place] = batch.column(name).to_numpy()
    labels, probabilities = session.run(["label", "probabilities"], {"input": matrix})
    columns = {"id": batch.column("id"), "prediction": pa.array(labels)}
    columns |= {f"probability_{label}": pa.array(probabilities[:, label]) for label in (0, 1)}
    return pa.RecordBatch.from_pydict(columns)


def engine(
    name: Literal["local", "ray"], model: Path, rows: Path, output: Path, watch: Any = None
) -> float:
    """A whole job, from the request to the manifest."""
    from bentos.model_server.bundle import Bundle, Limits, read_model_folder
    from deploy.release import Release
    from orchestration.batch.job import JobRequest, run_release
    from serving_config.batch import BatchJobs, BatchLimits
    from serving_config.load import load
    from serving_config.schema import Configuration

    found = read_model_folder(model)
    bundle = Bundle(
        found.contract, found.certificate, Limits(), found.contract.onnx_sha256, "d" * 64
    )
    shipped = load()
    limits = BatchJobs(limits=BatchLimits(threads=THREADS))
    configuration: Configuration = shipped.model_copy(
        update={"platform": shipped.platform.model_copy(update={"batch": limits})}
    )
    asked = JobRequest(found.contract.model, str(rows), str(output), engine=name)
    release = Release(f"{found.contract.model}:{'d' * 12}", bundle, found.certificate)
    output.parent.mkdir(parents=True, exist_ok=True)
    _import_all()
    started = time.perf_counter()
    run_release(release, model, asked, configuration, rows / "features", watch)
    return time.perf_counter() - started


def _import_all() -> None:
    import numpy
    import onnxruntime
    import pyarrow.compute
    import pyarrow.parquet

    _ = numpy, onnxruntime, pyarrow


def ray_by_hand(model: Path, rows: Path, work: Path) -> float:
    """One actor, which leaves a core to the reading tasks."""
    started = time.perf_counter()
    import ray
    import ray.data

    ray.init(num_cpus=THREADS, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.read_parquet(str(rows)).map_batches(
        _Actor,
        fn_constructor_args=(str(model / "model.onnx"),),
        batch_size=_BATCH_ROWS,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=THREADS - 1),
    ).write_parquet(str(work))
    seconds = time.perf_counter() - started
    ray.shutdown()
    return seconds


class _Actor:
    def __init__(self, path: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options)

    def __call__(self, table: Any) -> Any:
        import pyarrow as pa

        batches = table.combine_chunks().to_batches()
        return pa.Table.from_batches([_bare_batch(self._session, batch) for batch in batches])


class _StoppedError(Exception):
    """All parts but one are done."""


def resume(model: Path, rows: Path, output: Path) -> float:
    """What it takes beyond the part that was left."""
    from orchestration.batch.documents import Receipt
    from orchestration.batch.engines.local import LocalEngine

    def stop(progress: Any) -> None:
        if progress.parts_done == progress.parts - 1:
            raise _StoppedError

    with suppress(_StoppedError):
        engine("local", model, rows, output, stop)
    own: list[float] = []
    of_engine = LocalEngine.run

    def timed(self: LocalEngine, *arguments: Any) -> None:
        done: Callable[[Receipt], None] = arguments[-1]

        def noted(receipt: Receipt) -> None:
            own.append(receipt.seconds)
            done(receipt)

        of_engine(self, *arguments[:-1], noted)

    LocalEngine.run = timed  # type: ignore[method-assign]
    seconds = engine("local", model, rows, output)
    return seconds - sum(own)


_KINDS: dict[str, Callable[[Path, Path, Path], float]] = {
    "bare": bare,
    "local": lambda *paths: engine("local", *paths),
    "ray-by-hand": ray_by_hand,
    "ray": lambda *paths: engine("ray", *paths),
    "resume": resume,
}


def main() -> None:
    """See the module."""
    import pyarrow.parquet as pq

    kind, *paths = sys.argv[1:]
    model, rows, work = map(Path, paths)
    count = sum(pq.read_metadata(file).num_rows for file in rows.glob("*.parquet"))
    seconds = _KINDS[kind](model, rows, work)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "bytes": peak, "rows": count}))


if __name__ == "__main__":
    main()
