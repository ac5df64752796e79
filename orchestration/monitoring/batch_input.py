"""Whether what a batch job scored is another population than the model was trained on."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from bentos.model_server.answers import label_key
from bentos.model_server.contract import FLOATS, INTEGERS, Contract, Input
from deploy.drift_result import DriftResult, Note
from deploy.home import Home
from deploy.versions import VersionFolder
from orchestration.batch.documents import PREDICTION, Manifest, Plan
from orchestration.monitoring.columns import column_kinds
from orchestration.monitoring.drift import Sample, drift
from orchestration.monitoring.reference import reference_sample
from orchestration.resources.registry import Registry
from serving_config.schema import Model

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# More rows make no score more certain.
MAX_ROWS = 100_000
_BATCH_ROWS, _PART_ROWS = 8192, 1_000_000


def batch_drift(home: Home, registry: Registry, model: Model, manifest: Manifest) -> DriftResult:
    """A sample of the input and of the predictions against the version's reference. Inputs that
    were joined from the feature store are in neither, and are not compared: the result says so."""
    folder = VersionFolder.of(home, model.name, manifest.model.version)
    reference = reference_sample(registry, model.registered_model, folder)
    if reference is None:
        version = manifest.model.version
        why = f"the MLflow run of version {version} left no reference/reference.parquet"
        return DriftResult(
            verdict="not_enough_data",
            reason=f"not enough data: {why}",
            rows=manifest.rows_in,
            reference_rows=0,
        )
    contract = folder.contract()
    regression = contract.outputs.kind == "regression"
    features = input_sample(manifest, contract)
    kinds = {name: kind for name, kind in column_kinds(contract).items() if name in features}
    sample = Sample(features, prediction_sample(manifest, regression=regression))
    result = drift(reference, sample, kinds, model.drift, regression=regression).result
    joined = [field.name for field in contract.inputs if field.name not in features]
    return _without(joined, result) if joined else result


def _without(joined: list[str], result: DriftResult) -> DriftResult:
    text = "was joined from the feature store: it is not compared"
    return msgspec.structs.replace(
        result,
        reason=f"{result.reason}; {len(joined)} inputs were joined and are not compared",
        notes=(*result.notes, *(Note(name, "info", text) for name in joined)),
    )


def input_sample(manifest: Manifest, contract: Contract) -> "pd.DataFrame":
    """About MAX_ROWS rows of the input at most, the model's inputs among its columns."""
    import pandas as pd
    import pyarrow as pa

    plan = _plan(manifest)
    there = {column.name for column in plan.schema}
    fields = [field for field in contract.inputs if field.name in there]
    if not fields:  # all were joined: of the rows only their number counts
        return pd.DataFrame(index=range(min(MAX_ROWS, manifest.rows_in)))
    chosen = [
        pa.table({f.name: _values(batch.column(f.name), f, plan) for f in fields})
        for batch in _some(_batches(plan), manifest.rows_in)
    ]
    if not chosen:
        chosen = [pa.table({field.name: pa.array([]) for field in fields})]
    frame: pd.DataFrame = pa.concat_tables(chosen, promote_options="permissive").to_pandas()
    return frame


def prediction_sample(manifest: Manifest, *, regression: bool) -> "pd.Series[Any]":
    """About MAX_ROWS predictions at most; classes as the log has them."""
    import pandas as pd
    import pyarrow.parquet as pq

    from orchestration.batch.storage import open_location

    def batches() -> "Iterator[pa.RecordBatch]":
        for file in manifest.files:
            fs, path = open_location(f"{manifest.output.rstrip('/')}/{file.path}")
            with fs.open(path, "rb") as opened:
                yield from pq.ParquetFile(opened).iter_batches(columns=[PREDICTION])

    values = [
        value
        for batch in _some(batches(), manifest.rows_out)
        for value in batch.column(0).to_pylist()
    ]
    if regression:
        return pd.Series(values, dtype="float64")
    return pd.Series([label_key(value) for value in values], dtype=object)


def _plan(manifest: Manifest) -> Plan:
    """Of reading the input once more."""
    from orchestration.batch.sources import make_parts, read_schema

    files, parts = make_parts(manifest.format, manifest.inputs, _PART_ROWS)
    return Plan(
        model=manifest.model,
        input=manifest.input,
        format=manifest.format,
        files=files,
        schema=read_schema(manifest.format, manifest.inputs),
        keys=(),
        parts=parts,
        part_rows=_PART_ROWS,
        batch_rows=_BATCH_ROWS,
        scored_at=manifest.scored_at,
    )


def _batches(plan: Plan) -> "Iterator[pa.RecordBatch]":
    from orchestration.batch.sources import read_part

    for part in plan.parts:
        yield from read_part(plan, part)


def _some(batches: "Iterator[pa.RecordBatch]", rows: int) -> "Iterator[pa.RecordBatch]":
    """Of each batch the same share of its rows, drawn at random."""
    import numpy as np

    share, random = min(1.0, MAX_ROWS / max(1, rows)), np.random.default_rng(0)
    for batch in batches:
        if share == 1.0:
            yield batch
        elif len(places := np.flatnonzero(random.random(len(batch)) < share)):
            yield batch.take(places)


def _values(column: "pa.Array", field: Input, plan: Plan) -> "pa.Array":
    """As the reference has them: numbers as float64; what is none is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from orchestration.batch.parsing import parse

    if plan.format == "csv":
        return column if field.dtype == "string" else parse(column, field.dtype)[0]
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if field.dtype in FLOATS or field.dtype in INTEGERS:
        return pc.cast(column, pa.float64(), safe=False)
    return column
