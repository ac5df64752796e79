"""One change of what serves: on the ledger, then the gateway follows, then what left is stopped.

The order makes every step safe to lose: a server is ready before the ledger names it, the gateway
follows the ledger, and an old server goes last. After a kill at any point the same change again,
or the controller, ends where an undisturbed one would have.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from deploy.events import Actor, Change, Event, LedgerConflictError, LedgerError, State
from deploy.gateway.envoy import GatewayError
from deploy.gateway.routes import cluster_name
from deploy.ledger import Ledger
from deploy.live import live_clusters
from deploy.phases import began
from deploy.release import Release
from deploy.targets.base import Target

# A state that moves that often has somebody else at work.
_ATTEMPTS = 4


def head(
    ledger: Ledger, environment: str, model: str, expected: int | None = None
) -> tuple[State, Event | None]:
    """What is served, and the event that led to it: both of one moment.

    expected: the generation that the caller has seen; LedgerConflictError where it is another one.
    """
    last = ledger.last_event(environment, model)
    state = State(environment, model) if last is None else last.state
    if expected is not None and expected != state.generation:
        raise LedgerConflictError(
            f"{model} in {environment} is at generation {state.generation}, not {expected}: "
            "somebody changed it; look at it and try again"
        )
    return state, last


def patiently(expected: int | None, change: Callable[[], Event]) -> Event:
    """Where the state moved meanwhile, as a controller does it, look again: for changes that mean
    the same on any state. Not for who has said which state it is for."""
    for _ in range(_ATTEMPTS if expected is None else 0):
        with suppress(LedgerConflictError):
            return change()
    return change()


def continued(event: Event | None) -> dict[str, Any]:
    """Evidence with which the release that was in progress at `event` goes on after another one."""
    if event is None or (phase := event.phase) is None:
        return {}
    phase = msgspec.structs.replace(phase, since=began(phase, event))
    return {"phase": msgspec.to_builtins(phase)}


def carry_out(ledger: Ledger, target: Target, change: Change) -> Event:
    """Record the change and route by it; where the gateway does not follow, it is taken back. What
    it could never follow is not recorded."""
    target.require_routable(msgspec.structs.replace(change.base, live=change.live))
    event = ledger.record(change)
    try:
        target.route()
    except Exception:  # whatever it is, the ledger must not stay ahead of the gateway
        _revert(ledger, target, change, event)
        raise
    return event


def _revert(ledger: Ledger, target: Target, change: Change, event: Event) -> None:
    """Back to what the gateway still serves, on the record.

    A change that came in between stays: it is what the gateway is to follow now.
    """
    base = change.base
    events = ledger.events(base.model, base.environment)
    before = next((item for item in events if item.generation == base.generation), None)
    back = Actor(change.actor, change.dagster_run).change(
        event.state,
        "revert",
        change.subject.with_share(0),
        base.live,
        {"reason": "the gateway did not take the new routes"} | continued(before),
    )
    with suppress(LedgerConflictError):
        ledger.record(back)
    # It may take the routes that were written late: take them back. The first error is the one
    # to tell, whatever else is down.
    with suppress(Exception):
        target.route()


def ensure_server(target: Target, release: Release, environment: str) -> None:
    """Start the release's server, or find it started, and wait until it is ready."""
    target.wait_ready(target.start(release, environment), release, environment)


@contextmanager
def ready_server(
    ledger: Ledger, target: Target, release: Release, environment: str
) -> Iterator[None]:
    """The release's server, ready, for a change that makes the release live.

    It is held meanwhile: nobody takes it for a leftover before it is on the ledger. Where anything
    fails it goes again, unless it is live or somebody else starts it as well.
    """
    name = cluster_name(environment, release.model, release.live())
    is_ready = False
    try:
        with target.hold(name):
            ensure_server(target, release, environment)
            is_ready = True
            yield
    except BaseException:
        if is_ready:
            _drain_if_left(ledger, target, name, environment)
        target.stop(name)
        raise


def _drain_if_left(ledger: Ledger, target: Target, name: str, environment: str) -> None:
    """The gateway may have followed for a moment, before the change was taken back."""
    with suppress(LedgerError, GatewayError):  # the first error is the one to tell
        if name not in live_clusters(ledger):
            target.drain(name, environment)


def converge(ledger: Ledger, target: Target, environment: str, model: str) -> None:
    """Bring the gateway to the ledger's state, then drain and stop what is no longer live."""
    target.route()
    tidy(ledger, target, environment, model)


def tidy(ledger: Ledger, target: Target, environment: str, model: str) -> None:
    """Drain and stop the model's servers that are not live and that nobody is starting."""
    stale = leftovers(ledger, target, environment, model)
    for name in stale:
        if name not in live_clusters(ledger):  # by now it may be
            target.drain(name, environment)
            target.stop(name)
    if not set(target.servers()).issuperset(stale):
        target.route()


def leftovers(ledger: Ledger, target: Target, environment: str, model: str) -> list[str]:
    """The servers of this model and environment that are not live anywhere.

    Anywhere: `iris-1-eu-staging-…` reads as iris 1-eu in staging and as iris 1 in eu-staging.
    """
    wanted = live_clusters(ledger)
    return [
        name for name in target.servers() if name not in wanted and is_of(name, environment, model)
    ]


def is_of(name: str, environment: str, model: str) -> bool:
    """Whether `name`, model-label-environment-digest, is of that model and environment."""
    pattern = rf"{re.escape(model)}-\d+(-[a-z]\w*)?-{re.escape(environment)}-[0-9a-f]{{8}}"
    return re.fullmatch(pattern, name) is not None
