"""Following a release that the controller takes further, from within a Dagster run."""

import time
from collections.abc import Callable

from deploy.events import Event
from deploy.history import Result, release_result
from orchestration.release_progress import Reporter
from orchestration.resources.serving import Serving

_POLL_SECONDS = 0.5


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
            progress = serving.progress(environment, model)
            if progress is not None and progress.generation >= started.generation:
                reporter.look(progress, time.monotonic())
            time.sleep(_POLL_SECONDS)
