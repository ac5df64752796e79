"""What runs in the actors: a model that scores part after part."""

from collections import Counter
from typing import Any

from orchestration.batch.documents import Plan, Receipt
from orchestration.batch.engines.ray_messages import Done, Failed, Job, Message, encode
from orchestration.batch.errors import BatchError, EngineError
from orchestration.batch.part import score_part
from orchestration.batch.scorer import Scorer
from orchestration.batch.work import Work

# A part whose worker died is scored again; after so many deaths the part or the model is the cause.
_DEATHS = 3


class Attempts:
    """How often each part was begun; an actor that outlives those that score."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, part: int) -> int:
        """How often it was begun before."""
        self._begun[part] += 1
        return self._begun[part] - 1


class PartScorer:
    """One in each actor; its answers are messages, so an error arrives as what it is."""

    def __init__(self, job: list[Any], attempts: Any) -> None:
        """job: the reference of a Job, in a list, which keeps Ray from fetching it. The model is
        loaded with the first part: a worker that dies of it counts as one that dies of the part."""
        self._job, self._attempts = job, attempts
        self._loaded: tuple[Plan, Work, Scorer] | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """A batch is the number of one part."""
        (index,) = batch["item"].tolist()
        return {"message": [encode(self._answer(index))]}

    def _answer(self, index: int) -> Message:
        try:
            return Done(self._receipt(index))
        except BatchError as error:
            return Failed(type(error).__name__, str(error))
        except Exception as error:  # told as it is; Ray would wrap it in its own words
            return Failed(EngineError.__name__, f"part {index}: {type(error).__name__}: {error}")

    def _receipt(self, index: int) -> Receipt:
        import ray

        deaths = ray.get(self._attempts.begin.remote(index))
        if deaths > _DEATHS:
            raise EngineError(
                f"Ray's worker died {deaths} times with part {index}: is its memory too small?"
            )
        plan, work, scorer = self._load()
        return score_part(plan, plan.parts[index], scorer, work)

    def _load(self) -> tuple[Plan, Work, Scorer]:
        import ray

        if self._loaded is None:
            job: Job = ray.get(self._job[0])
            if job.work.plan() is None:
                raise EngineError(
                    f"a worker of the cluster cannot see {job.work.url}: let input and output lie "
                    "where all its machines reach them"
                )
            self._loaded = job.plan, job.work, Scorer(job.plan, job.contract, job.model)
        return self._loaded
