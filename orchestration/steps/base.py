"""What a heavy step is, and who runs it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import dagster as dg

Result = TypeVar("Result")
Context = dg.AssetExecutionContext | dg.AssetCheckExecutionContext | dg.OpExecutionContext
Name = Literal["export", "verify", "batch"]
# The keys of a step's last message: what it came to, or why it did not.
RESULT, FAILED = "result", "failed"


@dataclass(frozen=True)
class Step(Generic[Result]):
    """name, arguments: of `python -m orchestration.steps`. here: the work itself.

    read: the result, from what a process elsewhere reported and its last message. extras: what is
    too long to be an argument.
    """

    name: Name
    arguments: tuple[str, ...]
    here: Callable[[], Result]
    read: Callable[[dg.PipesClientCompletedInvocation, Mapping[str, Any]], Result]
    extras: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join((self.name, *self.arguments))


class Steps(ABC):
    """Runs them."""

    @abstractmethod
    def run(self, context: Context, step: Step[Result]) -> Result:
        """What the step came to; dg.Failure, in one sentence, where it did not."""


class InProcess(Steps):
    """Here: nothing is started."""

    def run(self, context: Context, step: Step[Result]) -> Result:
        """See Steps."""
        return step.here()


class Elsewhere(Steps):
    """In a process that is started for it and reports by Dagster Pipes."""

    @abstractmethod
    def launch(
        self, context: dg.OpExecutionContext, step: Step[Any], command: list[str]
    ) -> dg.PipesClientCompletedInvocation:
        """Run it to its end; dg.Failure where it ended badly. command: what Python is to run."""

    def run(self, context: Context, step: Step[Result]) -> Result:
        """See Steps. A process that did not say how it ended has failed."""
        command = ["-m", "orchestration.steps", step.name, *step.arguments]
        # A check's own context has not all that Pipes asks for.
        op = context if isinstance(context, dg.OpExecutionContext) else context.op_execution_context
        invocation = self.launch(op, step, command)
        said = [item for item in invocation.get_custom_messages() if {RESULT, FAILED} & set(item)]
        if not said:
            raise dg.Failure(f"{step}: it ended without saying what came out", allow_retries=False)
        if FAILED in said[-1]:
            raise dg.Failure(str(said[-1][FAILED]), allow_retries=False)
        return step.read(invocation, said[-1][RESULT])
