"""Rows of a part whose features are looked up before they are scored."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from orchestration.batch.documents import REASON, SOURCE_FILE, SOURCE_ROW, FeatureJoin, Plan
from orchestration.batch.join import Joiner
from orchestration.batch.join_keys import Complaint
from orchestration.batch.scorer import ScoredBatch, Scorer

if TYPE_CHECKING:
    import pyarrow as pa

# Of one lookup, which holds all of them, and reads all of the sources whatever it looks up.
_JOINED_ROWS, _JOINED_BYTES = 262_144, 64 * 1024 * 1024


def score_joined(
    plan: Plan,
    join: FeatureJoin,
    batches: Iterable["pa.RecordBatch"],
    scorer: Scorer,
    file: str,
    first_row: int,
    features_home: str,
) -> Iterator[tuple[int, ScoredBatch]]:
    """Each batch's rows, and what became of them; those without features are rejects."""
    with Joiner(join, features_home) as joiner:
        for table in _tables(batches):
            joined, start = joiner.joined(table), 0
            rows = sorted(joined.refused)
            for batch in joined.rows.combine_chunks().to_batches(plan.batch_rows):
                stop = start + batch.num_rows
                refused = {
                    row - start: joined.refused[row]
                    for row in rows[bisect_left(rows, start) : bisect_left(rows, stop)]
                }
                yield batch.num_rows, _score(scorer, batch, refused, file, first_row + start)
                start = stop
            first_row += table.num_rows


def _tables(batches: Iterable["pa.RecordBatch"]) -> Iterator["pa.Table"]:
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        held.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= _JOINED_ROWS or size >= _JOINED_BYTES:
            yield pa.Table.from_batches(held)
            held, rows, size = [], 0, 0
    if held:
        yield pa.Table.from_batches(held)


def _score(
    scorer: Scorer,
    batch: "pa.RecordBatch",
    refused: Mapping[int, list[Complaint]],
    file: str,
    first_row: int,
) -> ScoredBatch:
    """The refused rows are left out, and put among the scorer's rejects where they belong."""
    import numpy as np
    import pyarrow as pa

    if not refused:
        return scorer.score(batch, file, first_row)
    kept = np.setdiff1d(np.arange(batch.num_rows), list(refused))
    scored = scorer.score(batch.take(pa.array(kept)), file, 0)
    own = _rejected(scorer.rejects_schema, batch, refused, file, first_row)
    reasons = Counter(scored.reasons)
    reasons.update(item.kind for found in refused.values() for item in found)
    if scored.rejects is None:
        return ScoredBatch(scored.output, own, reasons)
    rows = scored.rejects.column(SOURCE_ROW).to_numpy()
    place = scored.rejects.schema.get_field_index(SOURCE_ROW)
    theirs = scored.rejects.set_column(
        place, scored.rejects.schema.field(place), pa.array(kept[rows] + first_row, pa.int64())
    )
    both = pa.Table.from_batches([own, theirs]).sort_by(SOURCE_ROW)
    return ScoredBatch(scored.output, both.combine_chunks().to_batches()[0], reasons)


def _rejected(
    schema: "pa.Schema",
    batch: "pa.RecordBatch",
    refused: Mapping[int, list[Complaint]],
    file: str,
    first_row: int,
) -> "pa.RecordBatch":
    import pyarrow as pa

    rows = sorted(refused)
    own = {
        REASON: ["; ".join(item.words for item in refused[row]) for row in rows],
        SOURCE_FILE: [file] * len(rows),
        SOURCE_ROW: [first_row + row for row in rows],
    }
    taken = batch.take(pa.array(rows))
    columns = [
        pa.array(own[field.name], field.type)
        if field.name in own
        else taken.column(field.name).cast(field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
