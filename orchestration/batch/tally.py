"""What is counted while a part is scored, and of all parts together."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bentos.model_server.answers import label_key
from orchestration.batch.documents import (
    PREDICTION,
    Distribution,
    Part,
    PartFile,
    Receipt,
)
from orchestration.batch.scorer import ScoredBatch

if TYPE_CHECKING:
    import pyarrow as pa

# Of one part: its reasons, and its predicted values.
_REASONS, _VALUES = 1000, 1000
_MANIFEST_REASONS, _BINS = 100, 64


class Tally:
    """Of one part. is_regression: predictions are values, else labels."""

    def __init__(self, *, is_regression: bool) -> None:
        self._is_regression = is_regression
        self._in = self._out = self._rejects = 0
        self._reasons: Counter[str] = Counter()
        self._labels: Counter[str] = Counter()
        self._values: list[float] = []
        self._every = 1

    def add(self, rows: int, scored: ScoredBatch) -> None:
        """One batch. rows: that were read."""
        self._in += rows
        if self._is_regression:
            self._sample(scored.output.column(PREDICTION))
        else:
            self._labels.update(_counts(scored.output.column(PREDICTION)))
        self._out += scored.output.num_rows
        self._rejects += 0 if scored.rejects is None else scored.rejects.num_rows
        self._reasons.update(scored.reasons)

    def _sample(self, values: "pa.Array") -> None:
        """Every n-th, n doubled as often as it takes: the same ones whatever the time."""
        first = -self._out % self._every
        self._values += values.to_numpy(zero_copy_only=False)[first :: self._every].tolist()
        while len(self._values) > _VALUES:
            self._values = self._values[::2]
            self._every *= 2

    def receipt(
        self, part: Part, file: PartFile | None, rejects_file: PartFile | None, seconds: float
    ) -> Receipt:
        """Of the whole part."""
        return Receipt(
            part=part.index,
            rows_in=self._in,
            rows_out=self._out,
            rejects=self._rejects,
            file=file,
            rejects_file=rejects_file,
            reasons=_commonest([self._reasons], _REASONS),
            labels=dict(sorted(self._labels.items())),
            values=tuple(self._values),
            seconds=seconds,
        )


def _counts(column: "pa.Array") -> dict[str, int]:
    counted = column.value_counts()
    names = map(label_key, counted.field("values").to_pylist())
    return dict(zip(names, counted.field("counts").to_pylist(), strict=True))


def _commonest(counted: Iterable[Mapping[str, int]], most: int) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counted:
        total.update(one)
    ranked = sorted(total.items(), key=lambda item: (-item[1], item[0]))
    return dict(ranked[:most])


def reasons(receipts: Sequence[Receipt]) -> dict[str, int]:
    """The commonest of all parts, as the manifest has them."""
    return _commonest((receipt.reasons for receipt in receipts), _MANIFEST_REASONS)


def distribution(receipts: Sequence[Receipt]) -> Distribution:
    """What was predicted; of a regression, in a sample of the values."""
    labels: Counter[str] = Counter()
    for receipt in receipts:
        labels.update(receipt.labels)
    values = [value for receipt in receipts for value in receipt.values]
    if not values:
        return Distribution(labels=dict(sorted(labels.items())))
    return Distribution(**_histogram(values))


def _histogram(values: Sequence[float]) -> dict[str, Any]:
    import numpy as np

    found = np.asarray(values, dtype=np.float64)
    share = np.linspace(0, 1, _BINS + 1)
    edges = found.min() * (1 - share) + found.max() * share  # no difference that could overflow
    places = np.clip(np.searchsorted(edges, found) - 1, 0, _BINS - 1)
    counts = np.bincount(places, minlength=_BINS)
    return {"edges": tuple(edges.tolist()), "counts": tuple(counts.tolist())}
