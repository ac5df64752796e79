"""Following a release that the controller takes further, from within a Dagster run."""

import time
from collections.abc import Callable

from deploy.events import Event, LedgerError
from deploy.history import Result, release_result
from deploy.phases import policy_of
from deploy.rollout import Request, watched_bake
from orchestration.release_progress import Reporter
from orchestration.resources.serving import Serving

_POLL_SECONDS = 0.5
_BAKE_POLL_SECONDS = 2.0
_SAY_SECONDS = 10.0
_PATIENCE_SECONDS = 60.0


def wait_for_bake(serving: Serving, request: Request, say: Callable[[str], None]) -> None:
    """Until no bake time is in the way of the release that nobody asked for: it would not come
    again by itself. Bounded: what is in the way then, `roll_out` says."""
    started = time.monotonic()
    said = started - _SAY_SECONDS
    with serving.open_ledger() as ledger:
        while (phase := watched_bake(ledger, request)) is not None:
            now, seconds = time.monotonic(), policy_of(phase).bake_seconds
            if now - started > seconds + _PATIENCE_SECONDS:
                return
            if now - said >= _SAY_SECONDS:
                say(f"version {phase.candidate} is in its bake time of {seconds:g} s: waiting")
                said = now
            time.sleep(_BAKE_POLL_SECONDS)


def follow_release(
    serving: Serving, started: Event, say: Callable[[str], None]
) -> tuple[Result, Event]:
    """Until the release that `started` began is over; what became of it, and by which event.

    LedgerError where the ledger cannot be read for a minute: the release goes on without us.
    """
    reporter = Reporter(say)
    model, environment = started.model, started.environment
    with serving.open_ledger() as ledger:
        read = time.monotonic()
        while True:
            try:
                events = ledger.events(model, environment, after=started.id - 1)
                read = time.monotonic()
            except LedgerError:
                if time.monotonic() - read > _PATIENCE_SECONDS:
                    raise
                time.sleep(_POLL_SECONDS)
                continue
            result, event = release_result(events, started)
            if result != "in progress":
                return result, event
            progress = serving.progress(environment, model)
            if progress is not None and progress.generation >= started.generation:
                reporter.look(progress, time.monotonic())
            time.sleep(_POLL_SECONDS)
