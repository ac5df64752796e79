"""The parts on this machine: threads that share one session, and what is left of them a part."""

import os
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from threading import Event

from bentos.model_server.contract import Contract
from orchestration.batch.documents import Part, Plan
from orchestration.batch.engines.base import Done
from orchestration.batch.part import Ahead, score_part
from orchestration.batch.scorer import Scorer
from orchestration.batch.work import Work


class LocalEngine:
    """threads: parts at once; one for each core that this process may use where it is None.

    Arrow and ONNX Runtime let go of the interpreter while they work, so threads keep all cores
    busy and share what is large: the model.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or len(os.sched_getaffinity(0))

    def run(
        self,
        plan: Plan,
        parts: Sequence[Part],
        contract: Contract,
        model: bytes,
        work: Work,
        done: Done,
    ) -> None:
        """See BatchEngine. The first error ends the others between two of their batches."""
        scorer, canceled = Scorer(plan, contract, model), Event()
        at_once = min(self.threads, len(parts) or 1)
        with (
            ThreadPoolExecutor(self.threads, "slipway-score") as scoring,
            ThreadPoolExecutor(at_once, "slipway-batch") as pool,
        ):
            ahead = self._ahead(scoring, at_once)
            waiting = [
                pool.submit(score_part, plan, part, scorer, work, canceled, ahead) for part in parts
            ]
            try:
                for future in as_completed(waiting):
                    done(future.result())
            except BaseException:
                canceled.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _ahead(self, scoring: Executor, at_once: int) -> Ahead | None:
        """None where there is a part for each thread; else, as an ordinary file has one row group
        for each million rows, the batches of a part share the threads that would be idle."""
        if at_once == self.threads:
            return None
        return Ahead(scoring, 2 * -(-self.threads // at_once))
