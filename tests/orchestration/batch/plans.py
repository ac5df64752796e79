"""Plans over tables in memory, without an input or a folder."""

from typing import Any

import pyarrow as pa

from bentos.model_server.contract import Contract, version_label
from orchestration.batch.columns import check_schema
from orchestration.batch.documents import ColumnType, FeatureJoin, Format, ModelIdentity, Plan
from orchestration.batch.scorer import ScoredBatch, Scorer
from tests.bentos.model_server.models import Parts

SCORED_AT = "2026-03-01T10:20:30.123456+00:00"


def columns(schema: pa.Schema) -> tuple[ColumnType, ...]:
    return tuple(ColumnType(field.name, str(field.type)) for field in schema)


def identity(contract: Contract) -> ModelIdentity:
    return ModelIdentity(
        model=contract.model,
        version=version_label(contract.version, contract.variant),
        onnx_sha256=contract.onnx_sha256,
        contract_sha256=contract.digest(),
        certificate_sha256="c" * 64,
        bento="b",
        bento_digest="d" * 64,
    )


def plan_for(
    contract: Contract,
    schema: pa.Schema,
    *,
    keys: tuple[str, ...] | None = None,
    format: Format = "parquet",  # noqa: A002
    join: FeatureJoin | None = None,
    batch_rows: int = 1000,
) -> Plan:
    found = columns(schema)
    return Plan(
        model=identity(contract),
        input="in",
        format=format,
        files=(),
        schema=found,
        keys=check_schema(contract, found, format, keys, join),
        join=join,
        parts=(),
        part_rows=1000,
        batch_rows=batch_rows,
        scored_at=SCORED_AT,
    )


def score(parts: Parts, table: dict[str, Any] | pa.RecordBatch, **plan: Any) -> ScoredBatch:
    """A table through a scorer of its own; its first row is row 100 of `in.parquet`."""
    batch = table if isinstance(table, pa.RecordBatch) else pa.RecordBatch.from_pydict(table)
    scorer = Scorer(plan_for(parts.contract, batch.schema, **plan), parts.contract, parts.onnx)
    scored = scorer.score(batch, "in.parquet", 100)
    scored.output.validate(full=True)
    assert scored.output.schema == scorer.output_schema
    if scored.rejects is not None:
        assert scored.rejects.schema == scorer.rejects_schema
    assert len(scored.output) + (len(scored.rejects) if scored.rejects else 0) == len(batch)
    return scored
