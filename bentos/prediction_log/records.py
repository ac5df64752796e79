"""Answered rows, one record each, become blocks of rows by column.

Nothing is done for a single value in Python, so a row costs about a microsecond.
"""

from collections.abc import Sequence
from typing import Any

from bentos.prediction_log.masking import Mask
from bentos.prediction_log.segments import Block, Source

# Rows of one block: the event loop waits while one is put together, some 0.3 ms for this many of
# 30 floats, and what waits in memory stays in the processor's cache.
BLOCK_ROWS = 256
# One answered row, as a plain tuple (a named one takes twice as long to make): the request's id
# and the row's number in it; `time.monotonic()` when it came in; seconds from then to the answer;
# status; who asked; the inputs in the contract's order; the prediction; its probabilities;
# entities and lookups, JSON texts. A request without an answer has one row of Nones.
Record = tuple[
    str,
    int,
    float,
    float,
    int,
    Source,
    Sequence[Any],
    Any,
    Sequence[float | None] | None,
    str | None,
    str | None,
]


def block(records: Sequence[Record], mask: Mask, classes: int, offset: float) -> Block:
    """At least one record. classes: of the probabilities, 0 where there are none; offset: from
    `time.monotonic()` to the time of day, in seconds."""
    columns: list[Any] = list(map(list, zip(*records, strict=True)))
    ids, numbers, started, seconds, statuses, sources, rows, predictions = columns[:8]
    probabilities, entities, lookups = columns[8:]
    answers = zip(*probabilities, strict=True) if classes else ()
    return Block(
        request_id=ids,
        row=numbers,
        time=[int((value + offset) * 1e6) for value in started],
        status=statuses,
        latency_us=[int(value * 1e6) for value in seconds],
        source=sources,
        features=mask.features(list(zip(*rows, strict=True))),
        prediction=predictions,
        probabilities=[list(column) for column in answers],
        entities=mask.entities(entities),
        lookups=lookups,
    )
