"""What a batch job writes: the columns of scored rows and of refused ones."""

from collections import Counter, defaultdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bentos.model_server.contract import Contract
from orchestration.batch.arrow_types import arrow_type
from orchestration.batch.columns import answer_columns
from orchestration.batch.documents import REASON, SOURCE_FILE, SOURCE_ROW, Plan

if TYPE_CHECKING:
    import pyarrow as pa


class Results:
    """Bound to a plan. label_type: `ModelSession.label_type`, where the contract has no labels."""

    def __init__(self, plan: Plan, contract: Contract, label_type: str) -> None:
        import pyarrow as pa

        schema = [pa.field(column.name, arrow_type(column.type)) for column in plan.schema]
        by_name = {field.name: field for field in schema}
        names = answer_columns(contract)
        scored_at = datetime.fromisoformat(plan.scored_at).astimezone(UTC)
        moment = pa.scalar(scored_at, pa.timestamp("us", "UTC"))
        self._prediction = _prediction_type(contract, label_type)
        answers = [
            pa.field(names[0], self._prediction),
            *(pa.field(name, pa.float64()) for name in names[1:-3]),
            *map(pa.field, names[-3:], (pa.string(), pa.string(), moment.type)),
        ]
        self._keys = list(plan.keys)
        self.output_schema = pa.schema([*(by_name[key] for key in plan.keys), *answers])
        own = [(REASON, pa.string()), (SOURCE_FILE, pa.string()), (SOURCE_ROW, pa.int64())]
        # Rejects that were mended and came back have these columns already.
        self._kept = [f.name for f in schema if f.name not in (REASON, SOURCE_FILE, SOURCE_ROW)]
        kept = [by_name[name] for name in self._kept]
        self.rejects_schema = pa.schema([*kept, *(pa.field(*column) for column in own)])
        identity = (plan.model.version, plan.model.onnx_sha256)
        # Made once: a batch takes as many of them as it has rows.
        self._constants = [
            pa.repeat(pa.scalar(value, pa.string()), plan.batch_rows) for value in identity
        ] + [pa.repeat(moment, plan.batch_rows)]

    def output(
        self,
        batch: "pa.RecordBatch",
        rows: npt.NDArray[np.int64],
        labels: npt.NDArray[Any],
        probabilities: npt.NDArray[Any] | None,
    ) -> "pa.RecordBatch":
        """rows: the places in the batch of those that were scored."""
        import pyarrow as pa

        keys = batch.select(self._keys)
        if len(rows) < len(batch):
            keys = keys.take(pa.array(rows))
        answers = [_as_arrow(labels, self._prediction)]
        if probabilities is not None:
            columns = probabilities.astype(np.float64).T
            answers += [pa.array(np.ascontiguousarray(column)) for column in columns]
        constants = [column.slice(0, len(rows)) for column in self._constants]
        return pa.RecordBatch.from_arrays(
            [*keys.columns, *answers, *constants], schema=self.output_schema
        )

    def none(self) -> "pa.RecordBatch":
        """No scored row."""
        import pyarrow as pa

        columns = [pa.nulls(0, field.type) for field in self.output_schema]
        return pa.RecordBatch.from_arrays(columns, schema=self.output_schema)

    def rejects(
        self, rows: "pa.RecordBatch", refusals: "Refusals", file: str, first_row: int
    ) -> "pa.RecordBatch | None":
        """rows: the whole batch, of which the refused ones are taken."""
        import pyarrow as pa

        if not refusals.by_row:
            return None
        places = pa.array(sorted(refusals.by_row), pa.int64())
        refused = rows.select(self._kept).take(places)
        reasons = ["; ".join(refusals.by_row[place]) for place in places.to_pylist()]
        own = [
            pa.array(reasons, pa.string()),
            pa.repeat(pa.scalar(file, pa.string()), len(places)),
            pa.array(places.to_numpy() + first_row, pa.int64()),
        ]
        return pa.RecordBatch.from_arrays([*refused.columns, *own], schema=self.rejects_schema)


class Refusals:
    """Rows of a batch that have no answer, and why. reasons: how often, without the values."""

    def __init__(self) -> None:
        self.by_row: defaultdict[int, list[str]] = defaultdict(list)
        self.reasons: Counter[str] = Counter()

    def add(self, row: int, reason: str, kind: str) -> None:
        """kind: the reason without the value."""
        self.by_row[row].append(reason)
        self.reasons[kind] += 1


def _prediction_type(contract: Contract, label_type: str) -> "pa.DataType":
    """What holds every class, or every value of a regression."""
    import pyarrow as pa

    outputs = contract.outputs
    kinds = {type(label) for label in outputs.labels}
    if outputs.kind == "regression":
        return pa.float64()
    if not kinds:
        named = {"string": pa.string(), "bool": pa.bool_()}
        return named.get(label_type, pa.int64() if "int" in label_type else pa.float64())
    exact = {str: pa.string(), bool: pa.bool_(), int: pa.int64()}
    return exact[kinds.pop()] if len(kinds) == 1 and kinds <= exact.keys() else pa.float64()


def _as_arrow(labels: npt.NDArray[Any], kind: "pa.DataType") -> "pa.Array":
    import pyarrow as pa

    if pa.types.is_string(kind):
        return pa.array(labels.astype(object), kind)
    make = partial(pa.array, type=kind)
    return make(np.ascontiguousarray(labels, kind.to_pandas_dtype()))
