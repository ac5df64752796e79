"""How far a job is."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orchestration.batch.documents import Plan, Receipt


@dataclass(frozen=True)
class JobProgress:
    """parts_done counts resumed ones too; rows_total: None where it is not known (CSV)."""

    parts: int
    parts_done: int
    rows_total: int | None
    rows_in: int
    rows_out: int
    rejects: int
    resumed_parts: int
    seconds: float


Watch = Callable[[JobProgress], None]


class Progress:
    """receipts: by part, those of an earlier run to begin with. `watch` is told at once and after
    each part, in the thread that runs the engine."""

    def __init__(self, plan: Plan, resumed: Mapping[int, Receipt], watch: Watch | None) -> None:
        self._plan, self._watch = plan, watch
        self._started = time.monotonic()
        self.receipts = dict(resumed)
        self.resumed_parts = len(resumed)
        self._tell()

    def done(self, receipt: Receipt) -> None:
        """One more part."""
        self.receipts[receipt.part] = receipt
        self._tell()

    def now(self) -> JobProgress:
        """As it stands."""
        rows = [file.rows for file in self._plan.files]
        receipts = self.receipts.values()
        return JobProgress(
            parts=len(self._plan.parts),
            parts_done=len(receipts),
            rows_total=sum(row for row in rows if row is not None) if None not in rows else None,
            rows_in=sum(receipt.rows_in for receipt in receipts),
            rows_out=sum(receipt.rows_out for receipt in receipts),
            rejects=sum(receipt.rejects for receipt in receipts),
            resumed_parts=self.resumed_parts,
            seconds=time.monotonic() - self._started,
        )

    def _tell(self) -> None:
        if self._watch is not None:
            self._watch(self.now())
