"""Following a release that the controller takes further, from within a Dagster run."""

import time
from collections.abc import Callable

from deploy.control.progress import Progress
from deploy.events import Event
from deploy.history import Result, release_result
from orchestration.release_progress import sentence
from orchestration.resources.serving import Serving

_POLL_SECONDS = 0.5
_SAY_SECONDS = 10.0


class Reporter:
    """Says how far a release is: each new step at once, in between now and then."""

    def __init__(self, say: Callable[[str], None], every: float = _SAY_SECONDS) -> None:
        self._say, self._every = say, every
        self._said: tuple[str, int, str] | None = None
        self._at = 0.0

    def look(self, progress: Progress | None, now: float) -> None:
        """One look, at `now` (monotonic seconds)."""
        if progress is None:
            return
        about = (progress.phase, progress.step, progress.analysis.decision)
        if about != self._said or now - self._at >= self._every:
            self._say(sentence(progress))
            self._said, self._at = about, now


def follow_release(
    serving: Serving, started: Event, say: Callable[[str], None]
) -> tuple[Result, Event]:
    """Until the release that `started` began is over; what became of it, and by which event."""
    reporter = Reporter(say)
    model, environment = started.model, started.environment
    with serving.open_ledger() as ledger:
        while True:
            events = ledger.events(model, environment, after=started.id - 1)
            result, event = release_result(events, started)
            if result != "in progress":
                return result, event
            reporter.look(serving.progress(environment, model), time.monotonic())
            time.sleep(_POLL_SECONDS)
