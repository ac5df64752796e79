"""What an engine does: score the parts of a plan, in any order, each with `score_part`."""

from collections.abc import Callable, Sequence
from typing import Protocol

from bentos.model_server.contract import Contract
from orchestration.batch.documents import Part, Plan, Receipt
from orchestration.batch.work import Work

# Called in the thread that called `run`, once for each part that is done, for progress.
Done = Callable[[Receipt], None]


class BatchEngine(Protocol):
    """`local` or `ray`."""

    def run(
        self,
        plan: Plan,
        parts: Sequence[Part],
        contract: Contract,
        model: bytes,
        work: Work,
        done: Done,
    ) -> None:
        """Score `parts`, those of the plan that have no receipt yet.

        model: the bytes of `model.onnx`. Every part ends with its files and its receipt in the
        work folder, written by `orchestration.batch.part.score_part`; a part that fails ends the
        job with a BatchError, the others' receipts stay. Ends every process it started, also on
        KeyboardInterrupt.
        """
