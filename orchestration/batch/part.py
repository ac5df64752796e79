"""One part: read, scored, written, signed for."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

from orchestration.batch.documents import Part, Plan, Receipt
from orchestration.batch.errors import BatchError
from orchestration.batch.join_scoring import score_joined
from orchestration.batch.part_file import PartWriter
from orchestration.batch.scorer import ScoredBatch, Scorer
from orchestration.batch.sources import read_part
from orchestration.batch.storage_folder import explained
from orchestration.batch.tally import Tally
from orchestration.batch.work import REJECTS, Work

if TYPE_CHECKING:
    import pyarrow as pa


class CanceledError(BatchError):
    """The job ends before this part is done."""


class Ahead(NamedTuple):
    """Threads that score the batches of a part, and how many of them wait or are scored at once."""

    threads: Executor
    batches: int


def score_part(
    plan: Plan,
    part: Part,
    scorer: Scorer,
    work: Work,
    canceled: Event | None = None,
    ahead: Ahead | None = None,
) -> Receipt:
    """Both engines call this, in a thread or an actor of theirs.

    Its files are written beside their names and renamed, then the receipt: killed at any moment,
    it may be done again. InputError for a part that cannot be read (file and reason), OutputError
    where there is no space or permission. canceled: looked at between batches; CanceledError.
    ahead: where a part has more than its own thread; the files are the same.
    """
    try:
        receipt = _written(plan, part, scorer, work, canceled, ahead)
        work.write_receipt(receipt)
    except OSError as error:
        raise explained(error, work.url) from error
    return receipt


def _written(
    plan: Plan,
    part: Part,
    scorer: Scorer,
    work: Work,
    canceled: Event | None,
    ahead: Ahead | None,
) -> Receipt:
    started = time.perf_counter()
    name, result = f"{part.name}.parquet", work.result
    tally = Tally(is_regression=scorer.is_regression)
    with (
        PartWriter(result, name, scorer.output_schema) as output,
        PartWriter(result, f"{REJECTS}/{name}", scorer.rejects_schema) as rejects,
    ):
        for rows, scored in _scored(plan, part, scorer, work, ahead):
            if canceled is not None and canceled.is_set():
                raise CanceledError(f"part {part.index} was canceled")
            output.write(scored.output)
            if scored.rejects is not None:
                rejects.write(scored.rejects)
            tally.add(rows, scored)
        files = output.close(), rejects.close()
    receipt = tally.receipt(part, *files, time.perf_counter() - started)
    _require_all(plan, part, receipt)
    return receipt


def _scored(
    plan: Plan, part: Part, scorer: Scorer, work: Work, ahead: Ahead | None
) -> Iterator[tuple[int, ScoredBatch]]:
    """The rows of each batch, and what became of them."""
    file, row = plan.files[part.file].path, part.first_row or 0
    batches = read_part(plan, part)
    if plan.join is not None:
        yield from score_joined(plan, plan.join, batches, scorer, file, row, work.features_home)
        return
    if ahead is not None:
        yield from _scored_ahead(batches, scorer, file, row, ahead)
        return
    for batch in batches:
        yield batch.num_rows, scorer.score(batch, file, row)
        row += batch.num_rows


def _scored_ahead(
    batches: "Iterator[pa.RecordBatch]", scorer: Scorer, file: str, row: int, ahead: Ahead
) -> Iterator[tuple[int, ScoredBatch]]:
    """The same, in the same order, while the next batches are read and scored."""
    waiting: deque[tuple[int, Future[ScoredBatch]]] = deque()
    for batch in batches:
        waiting.append((batch.num_rows, ahead.threads.submit(scorer.score, batch, file, row)))
        row += batch.num_rows
        if len(waiting) == ahead.batches:
            rows, scored = waiting.popleft()
            yield rows, scored.result()
    yield from ((rows, scored.result()) for rows, scored in waiting)


def _require_all(plan: Plan, part: Part, receipt: Receipt) -> None:
    """Every row that was read is in one of the files, and every row was read."""
    expected = receipt.rows_in if part.rows is None else part.rows
    if not receipt.rows_in == receipt.rows_out + receipt.rejects == expected:
        raise BatchError(
            f"part {part.index} of {plan.files[part.file].path}: {expected} rows became "
            f"{receipt.rows_out} scored and {receipt.rejects} rejected ones; this is a defect"
        )
