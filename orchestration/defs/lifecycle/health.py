"""The check of a fresh release: golden requests to production, and back at once where they fail."""

import dagster as dg
import httpx

from bentos.model_server.certificate import HttpParity
from deploy.events import Event, LedgerError, Live
from deploy.release import Release
from deploy.targets.base import TargetError
from deploy.traffic import Actor, TrafficError
from orchestration.defs.lifecycle.failures import one_sentence
from orchestration.defs.lifecycle.metadata import http_metadata
from orchestration.defs.lifecycle.names import Names
from orchestration.kubernetes.tags import PodTags
from orchestration.resources.serving import Serving
from orchestration.smoke import smoke_test
from serving_config.schema import Model


def ask_golden(serving: Serving, release: Release, environment: str) -> HttpParity:
    """Golden requests to the release through the gateway.

    Raises TargetError where it is not live, is not asked, or answers with an error.
    """
    contract, live = release.bundle.contract, release.live()
    with serving.traffic() as traffic:
        known = [item.label for item in traffic.ledger.state(environment, release.model).live]
        endpoint = traffic.target.endpoint(environment, release.model, live)
    if live.label not in known:
        raise TargetError(
            f"{release.model} version {live.label} is no longer live in {environment}: "
            f"{', '.join(known) or 'nothing'} took its place meanwhile"
        )
    return smoke_test(endpoint, contract, release.certificate, release.bundle.digest)


def release_health(model: Model, tags: PodTags) -> dg.AssetChecksDefinition:
    """Golden requests after a release; what fails them goes back by itself."""
    names = Names(model.name)

    @dg.asset_check(
        asset=names.asset("production_deployment"),
        name="release_health",
        description="Golden requests to production after a release; it is rolled back if they fail",
        blocking=True,
        partitions_def=names.partitions,
        op_tags=tags.step("release_health"),
    )
    def check(context: dg.AssetCheckExecutionContext, serving: Serving) -> dg.AssetCheckResult:
        with one_sentence():
            release = serving.release(model.name, context.partition_key)
            http, problem = _asked(serving, release)
            metadata = http_metadata(http) if http else {}
            if problem:
                metadata["problem"] = problem
                metadata["rollback"] = _rolled_back(serving, release, problem, context.run.run_id)
        return dg.AssetCheckResult(
            passed=not problem,
            metadata=metadata,
            description=f"{problem}; {metadata['rollback']}" if problem else None,
        )

    return check


def _asked(serving: Serving, release: Release) -> tuple[HttpParity | None, str]:
    """The figures where there are any, and what is wrong; nothing for a healthy release.

    A gateway that cannot be reached says nothing about the release and is an error.
    """
    try:
        http = ask_golden(serving, release, "production")
    except TargetError as error:
        if isinstance(error.__cause__, httpx.HTTPError):
            raise
        return None, str(error)
    return http, "" if http.passed else wrong(http)


def wrong(http: HttpParity) -> str:
    """What a failed test has found, in words."""
    return (
        f"{http.single_mismatches} of {http.single} golden requests alone and "
        f"{http.batch_mismatches} of {http.batch} in a batch came back otherwise, "
        f"{http.bad_inputs - http.bad_inputs_refused} of {http.bad_inputs} bad inputs were let in"
    )


def _rolled_back(serving: Serving, release: Release, problem: str, run_id: str) -> str:
    """Back, unless somebody else has taken the traffic from it; what was done, in words."""
    live, model, actor = release.live(), release.model, Actor("release_health", run_id)
    reason = f"release_health of version {live.label} failed: {problem}"
    with serving.traffic() as traffic:
        last = traffic.ledger.last_event("production", model)
        if last is None or not _has_traffic(last, live):
            return "not needed: it has no traffic any more"
        try:
            if last.phase and last.phase.stable and last.phase.stable.label == live.label:
                # A canary beside it, which would only go back to it.
                last = traffic.rollback("production", model, actor, reason, last.generation)
                traffic.tidy("production", model)
            event = traffic.rollback("production", model, actor, reason, last.generation)
        except (TrafficError, LedgerError) as error:
            return f"not possible: {error}"
    return f"version {event.label} serves again (ledger event {event.id})"


def _has_traffic(last: Event, live: Live) -> bool:
    return any(item.bento_digest == live.bento_digest and item.weight for item in last.live)
