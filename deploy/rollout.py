"""Rollout: from what an environment serves to what it shall serve, with no moment in between.

The order makes every step safe to lose: the new server is ready before the ledger names it, the
gateway follows the ledger, and the old server goes last. After a kill at any point `converge`
ends where an undisturbed rollout would have.
"""

import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from deploy.events import Action, Change, Event, LedgerConflictError, State
from deploy.gateway.routes import cluster_name
from deploy.ledger import Ledger
from deploy.release import Release
from deploy.targets.base import Target
from serving_config.release import ReleasePolicy


@dataclass(frozen=True)
class Outcome:
    """What a rollout did. started: a canary's first phase began, which the controller takes
    further; `deploy.history.release_result` tells how it ended. superseded: a newer version is
    live and nothing was changed."""

    status: Literal["deployed", "started", "unchanged", "superseded"]
    state: State
    event: Event | None = None


@dataclass(frozen=True)
class Request:
    """Who asks for what. Only a person may put an older version in front of a newer one."""

    release: Release
    environment: str
    action: Action
    actor: str
    dagster_run: str | None = None
    older_allowed: bool = False
    policy: ReleasePolicy = field(default_factory=lambda: ReleasePolicy(bake_seconds=0))


def superseded(state: State, version: int) -> bool:
    """Whether a newer version is live already."""
    return any(live.version > version for live in state.live)


def roll_out(ledger: Ledger, target: Target, request: Request) -> Outcome:
    """Give the release all traffic of its model in the environment.

    Raises CertificateError without the proof, TargetError when the server does not get ready,
    GatewayError when the gateway does not follow, LedgerConflictError for a lost race. Whatever
    it raises, the version that was live before goes on serving; or the new one, where only the
    tidying up after it failed: the same rollout again does that.
    """
    release, environment = request.release, request.environment
    release.require_certificate(environment)
    before = ledger.state(environment, release.model)
    subject = release.live()
    if not request.older_allowed and superseded(before, subject.version):
        return Outcome("superseded", before)
    if [_served(live) for live in before.live] == [_served(subject)]:
        ensure_servers(target, release, environment)
        converge(ledger, target, environment, release.model)
        return Outcome("unchanged", before)
    ensure_servers(target, release, environment)
    event = _record(ledger, target, request, before)
    try:
        target.route()
    except Exception:  # whatever it is, the ledger must not stay ahead of the gateway
        _revert(ledger, target, request, before, event)
        raise
    _retire(ledger, target, environment, release.model)
    return Outcome("deployed", ledger.state(environment, release.model), event)


def _served(live: Any) -> tuple[str, int]:
    return live.bento_digest, live.weight


def ensure_servers(target: Target, release: Release, environment: str) -> None:
    """Start the release's server and wait until it is ready; a server that fails is removed."""
    known = set(target.servers())
    name = target.start(release, environment)
    try:
        target.wait_ready(name, release, environment)
    except BaseException:
        if name not in known:
            target.stop(name)
        raise


def _record(ledger: Ledger, target: Target, request: Request, before: State) -> Event:
    subject = request.release.live()
    change = Change(
        base=before,
        action=request.action,
        subject=subject,
        live=(subject,),
        actor=request.actor,
        dagster_run=request.dagster_run,
        evidence={"bento": subject.bento, "certificate_sha256": subject.certificate_sha256},
    )
    try:
        return ledger.record(change)
    except BaseException:
        _discard(ledger, target, request)
        raise


def _revert(ledger: Ledger, target: Target, request: Request, before: State, event: Event) -> None:
    """The gateway did not follow: back to what it still serves, on the record.

    A release that came in between stays: it is what the gateway is to follow now.
    """
    change = Change(
        base=State(event.environment, event.model, event.generation, event.live),
        action="revert",
        subject=request.release.live(weight=0),
        live=before.live,
        actor=request.actor,
        dagster_run=request.dagster_run,
        evidence={"reason": "the gateway did not take the new routes"},
    )
    with suppress(LedgerConflictError):
        ledger.record(change)
    # It may take the routes that were written late: take them back. The first error is the one
    # to tell, whatever else is down.
    with suppress(Exception):
        target.route()
    _discard(ledger, target, request)


def converge(ledger: Ledger, target: Target, environment: str, model: str) -> None:
    """Bring the gateway to the ledger's state, then drain and stop what is no longer live."""
    target.route()
    _retire(ledger, target, environment, model)


def _retire(ledger: Ledger, target: Target, environment: str, model: str) -> None:
    """Drain and stop the servers of this model and environment that are not live anywhere.

    Anywhere: `iris-1-eu-staging-…` reads as iris 1-eu in staging and as iris 1 in eu-staging.
    """
    wanted = {
        cluster_name(state.environment, state.model, live)
        for state in ledger.states().values()
        for live in state.live
    }
    stale = [
        name for name in target.servers() if name not in wanted and _is_of(name, environment, model)
    ]
    for name in stale:
        target.drain(name, environment)
        target.stop(name)
    if stale:
        target.route()


def _is_of(name: str, environment: str, model: str) -> bool:
    """Whether `name`, model-label-environment-digest, is of that model and environment."""
    pattern = rf"{re.escape(model)}-\d+(-[a-z]\w*)?-{re.escape(environment)}-[0-9a-f]{{8}}"
    return re.fullmatch(pattern, name) is not None


def _discard(ledger: Ledger, target: Target, request: Request) -> None:
    """Stop the release's server, unless somebody else has made it live meanwhile."""
    release, environment = request.release, request.environment
    live = ledger.state(environment, release.model).live
    if release.bundle.digest not in {item.bento_digest for item in live}:
        target.stop(cluster_name(environment, release.model, release.live()))
