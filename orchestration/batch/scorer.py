"""The one scoring function: rows of a table through the session that serves them."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bentos.model_server.contract import Contract, version_label
from bentos.model_server.fields import Field, compile_fields
from bentos.model_server.problems import clean
from bentos.model_server.session import Feeds, ModelSession
from orchestration.batch.documents import Plan, SourceFile
from orchestration.batch.errors import BatchError
from orchestration.batch.feeds import feeds_of
from orchestration.batch.results import Refusals, Results
from orchestration.batch.validation import Column, complaints, read_column

if TYPE_CHECKING:
    import pyarrow as pa

# Measured from 1024 to 65536: boosted trees and networks are within a few percent of their best at
# 8192, and the activations of wide layers stay small; a text is a row of its whole vocabulary, so
# that more of them at once gain nothing and cost memory.
BATCH_ROWS, TEXT_BATCH_ROWS = 8192, 512
# Of long rows fewer are held at once: several batches are read, scored and written at a time.
BATCH_BYTES = 32 * 1024 * 1024
NOT_FINITE = "the model's answer is not a finite number; the values are too extreme for it"
NOT_COMPUTED = "the model cannot compute these values"

Places = npt.NDArray[np.int64]


class Answered(NamedTuple):
    """rows: their places in the batch; labels: one for each; probabilities: (rows, classes)."""

    rows: Places
    labels: npt.NDArray[Any]
    probabilities: npt.NDArray[Any] | None


def batch_rows_for(contract: Contract, files: Sequence[SourceFile]) -> int:
    """Rows of one inference, for a plan over these files."""
    has_texts = any(graph_input.dtype == "string" for graph_input in contract.graph_inputs)
    rows, size = sum(file.rows or 0 for file in files), sum(file.size for file in files)
    return max(
        1, min(TEXT_BATCH_ROWS if has_texts else BATCH_ROWS, BATCH_BYTES * rows // max(size, 1))
    )


@dataclasses.dataclass(frozen=True)
class ScoredBatch:
    """output: the rows that were scored, with the output's columns; rejects: the refused rows,
    all their columns and `reason`, `source_file` and `source_row`, None if there is none;
    reasons: by `field: what was expected`, how many rows were refused for it."""

    output: "pa.RecordBatch"
    rejects: "pa.RecordBatch | None"
    reasons: Mapping[str, int] = dataclasses.field(default_factory=dict)


class Scorer:
    """Bound to a plan, a contract and the model's bytes; thread-safe, one for all threads."""

    def __init__(self, plan: Plan, contract: Contract, model: bytes, threads: int = 1) -> None:
        """ModelLoadError where the model is not the contract's; BatchError where the contract is
        not the plan's."""
        _require_planned(plan, contract)
        self._contract = contract
        self._fields = compile_fields(contract)
        self._steps = {field.name: field.text for field in contract.inputs}
        self._join = () if plan.join is None else plan.join.provided
        self._is_parsed = plan.format != "csv"
        self._session = ModelSession(model, contract, threads)
        self._results = Results(plan, contract, self._session.label_type)

    @property
    def output_schema(self) -> "pa.Schema":
        """Of the scored rows."""
        return self._results.output_schema

    @property
    def is_regression(self) -> bool:
        """Predictions are values, else labels."""
        return self._contract.outputs.kind == "regression"

    @property
    def rejects_schema(self) -> "pa.Schema":
        """Of the refused rows."""
        return self._results.rejects_schema

    def score(self, batch: "pa.RecordBatch", file: str, first_row: int) -> ScoredBatch:
        """Score one batch of at most `plan.batch_rows` rows with the plan's schema (of CSV: all
        columns as texts). file, first_row: where it comes from, for the rejects.

        The same batch has the same bits on every engine. Beyond the rounding of floats, the
        answer of a row does not depend on its neighbours.
        """
        refusals = Refusals()
        columns = {field.name: self._column(field, batch) for field in self._fields}
        rows = self._accepted(batch, columns, refusals)
        answered = [*self._answers(columns, rows, len(batch), refusals)] if len(rows) else []
        output = self._output(batch, answered)
        rejects = self._results.rejects(batch, refusals, file, first_row)
        return ScoredBatch(output, rejects, dict(refusals.reasons))

    def _column(self, field: Field, batch: "pa.RecordBatch") -> Column:
        import pyarrow as pa

        place = batch.schema.get_field_index(field.name)
        cells = pa.nulls(len(batch)) if place < 0 else batch.column(place)
        # What was joined to the rows of a CSV has the types of the feature store.
        is_parsed = self._is_parsed or place < 0 or field.name in self._join
        return read_column(field, self._steps[field.name], cells, parsed=is_parsed)

    def _accepted(
        self, batch: "pa.RecordBatch", columns: Mapping[str, Column], refusals: Refusals
    ) -> Places:
        """The places of the rows that the contract takes; why the others are refused."""
        import pyarrow as pa

        for field in self._fields:
            refused = columns[field.name].refused
            if refused is None:
                continue
            places = np.flatnonzero(refused)
            there = field.name in batch.schema.names
            cells = (
                batch.column(field.name).take(pa.array(places)) if there else pa.nulls(len(places))
            )
            kind = f"{field.name}: expected {field.expected()}"
            for place, words in zip(places.tolist(), complaints(field, cells), strict=True):
                refusals.add(place, f"{field.name}: {words}", kind)
        if not refusals.by_row:
            return np.arange(len(batch))
        accepted = np.ones(len(batch), bool)
        accepted[list(refusals.by_row)] = False
        return np.flatnonzero(accepted)

    def _answers(
        self, columns: Mapping[str, Column], rows: Places, of: int, refusals: Refusals
    ) -> Iterator[Answered]:
        """rows: the accepted ones `of` so many."""
        values = {name: column.values for name, column in columns.items()}
        if len(rows) < of:
            values = {name: column[rows] for name, column in values.items()}
        arrays = feeds_of(self._contract, values, len(rows))
        for answered in self._computed(arrays, rows, refusals):
            yield self._finite(answered, refusals)

    def _computed(self, arrays: Feeds, rows: Places, refusals: Refusals) -> Iterator[Answered]:
        """In one go; where that fails in halves, so that a row that fails harms no other."""
        try:
            labels, probabilities = self._session.compute(arrays)
            if len(labels) != len(rows):
                raise ValueError(f"{len(labels)} answers to {len(rows)} rows")
        except Exception as error:  # ONNX Runtime raises a dozen classes without a common base
            if len(rows) == 1:
                refusals.add(
                    int(rows[0]), f"{NOT_COMPUTED}: {clean(str(error), 300)}", NOT_COMPUTED
                )
                return
            middle = len(rows) // 2
            for part in (slice(middle), slice(middle, None)):
                halves = {name: array[part] for name, array in arrays.items()}
                yield from self._computed(halves, rows[part], refusals)
        else:
            yield Answered(rows, labels, probabilities)

    def _finite(self, answered: Answered, refusals: Refusals) -> Answered:
        """Without the rows whose answer JSON could not state, which the server refuses as well."""
        rows, labels, probabilities = answered
        if probabilities is None and labels.dtype.kind != "f":
            return answered
        finite = np.isfinite(labels if probabilities is None else probabilities)
        if finite.all():
            return answered
        finite = finite.reshape(len(rows), -1).all(axis=1)
        for row in rows[~finite].tolist():
            refusals.add(row, NOT_FINITE, NOT_FINITE)
        of_finite = None if probabilities is None else probabilities[finite]
        return Answered(rows[finite], labels[finite], of_finite)

    def _output(self, batch: "pa.RecordBatch", answered: list[Answered]) -> "pa.RecordBatch":
        if not answered:
            return self._results.none()
        rows, labels, probabilities = answered[0]
        if len(answered) > 1:
            rows = np.concatenate([piece.rows for piece in answered])
            labels = np.concatenate([piece.labels for piece in answered])
            if probabilities is not None:
                probabilities = np.concatenate([piece.probabilities for piece in answered])
        return self._results.output(batch, rows, labels, probabilities)


def _require_planned(plan: Plan, contract: Contract) -> None:
    stated = (contract.model, version_label(contract.version, contract.variant))
    if (plan.model.model, plan.model.version) != stated:
        raise BatchError(
            f"the plan is for {plan.model.model} version {plan.model.version}, the contract is of "
            f"{stated[0]} version {stated[1]}"
        )
    digests = (contract.onnx_sha256, contract.digest())
    if (plan.model.onnx_sha256, plan.model.contract_sha256) != digests:
        raise BatchError(
            f"{plan.model.model} version {plan.model.version} is no longer what the plan was made "
            "for: its graph or contract was exchanged"
        )
