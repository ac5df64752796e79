"""The deployments of one model: what staging and production serve, released by policy."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.storage.tags import PARENT_RUN_ID_TAG, ROOT_RUN_ID_TAG

from deploy.challenge import ChallengeError
from deploy.dagster_names import ACTOR_TAG, POLICY_TAG
from deploy.events import Event
from deploy.history import Result, release_result, taken_away
from deploy.release import PROVING_ENVIRONMENT
from deploy.rollout import Request
from deploy.versions import MissingFileError
from orchestration.defs.lifecycle.canary import (
    canary_events,
    canary_metadata,
    ended,
    is_canary,
)
from orchestration.defs.lifecycle.decisions import chosen_policy, may_predict_otherwise
from orchestration.defs.lifecycle.deployment_metadata import deployment_metadata
from orchestration.defs.lifecycle.failures import one_sentence
from orchestration.defs.lifecycle.follow import follow_release, wait_for_bake
from orchestration.defs.lifecycle.names import AUTOMATIC_TAG, Names
from orchestration.defs.retraining.gate import compare
from orchestration.kubernetes.tags import LOCAL, PodTags
from orchestration.labels import Label
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from serving_config.schema import Model

CANARY_CHECK = "canary_analysis"
Results = Iterator[dg.MaterializeResult | dg.AssetCheckResult]  # type: ignore[type-arg]


def staging_deployment(model: Model, tags: PodTags = LOCAL) -> dg.AssetsDefinition:
    """The version that staging serves; a variant is loaded beside it."""
    names = Names(model.name)

    @dg.asset(
        key=names.asset("staging_deployment"),
        group_name=names.identifier,
        partitions_def=names.partitions,
        kinds={"bentoml", "envoy"},
        deps=[names.asset("bento")],
        description="The version that staging serves: ready, routed to, on the ledger.",
        pool=names.pool("staging"),
        op_tags=tags.step("staging_deployment"),
        output_required=False,
    )
    def staging(context: dg.AssetExecutionContext, serving: Serving) -> Results:
        yield from _deployed(context, serving, _request(context, serving, model, "staging"))

    return staging


def production_deployment(model: Model, tags: PodTags = LOCAL) -> dg.AssetsDefinition:
    """The version that production serves, and `canary_analysis` where it came by canary.

    A multi-asset, because only there a check may stay unreported: a direct release compares
    nothing.
    """
    names = Names(model.name)
    key = names.asset("production_deployment")
    spec = dg.AssetSpec(
        key,
        deps=[names.asset("staging_deployment")],
        group_name=names.identifier,
        partitions_def=names.partitions,
        kinds={"bentoml", "envoy"},
        description="The version that production serves, released by policy, on the ledger.",
        skippable=True,
    )
    check = dg.AssetCheckSpec(
        CANARY_CHECK,
        asset=key,
        description="The canary did no worse than the version it was to replace, step by step.",
        partitions_def=names.partitions,
    )

    @dg.multi_asset(
        name=key.to_python_identifier(),
        specs=[spec],
        check_specs=[check],
        can_subset=True,
        pool=names.pool("production"),
        op_tags=tags.step("production_deployment"),
    )
    def production(
        context: dg.AssetExecutionContext, registry: Registry, serving: Serving
    ) -> Results:
        if not context.selected_asset_keys:  # the check alone, from the UI
            yield _last_canary(serving, model, context.partition_key)
            return
        yield from _deployed(
            context,
            serving,
            _request(context, serving, model, "production"),
            lambda request: _held_against_production(context, registry, serving, model, request),
        )

    return production


def _request(
    context: dg.AssetExecutionContext, serving: Serving, model: Model, environment: str
) -> Request:
    tags = context.run.tags
    with one_sentence():
        configured = serving.configuration.release_policy(environment, model.name)
        policy = chosen_policy(configured, tags.get(POLICY_TAG) if _asked_for(tags) else None)
        label = Label.parse(context.partition_key)
        _require_features(serving, model, str(label))
        return Request(
            release=serving.release(model.name, str(label)),
            environment=environment,
            action="deploy" if environment == "staging" else "promote",
            actor=tags.get(ACTOR_TAG) or os.environ.get("USER") or "dagster",
            dagster_run=context.run.run_id,
            older_allowed=_asked_for(tags),
            policy=policy,
            beside=label.is_variant and environment == PROVING_ENVIRONMENT,
        )


def _require_features(serving: Serving, model: Model, version: str) -> None:
    """Refuse a version whose look-ups the feature store, as it is now, would answer otherwise."""
    if model.feature_service is None:
        return
    from orchestration.export.feature_source import require_feature_source

    contract = serving.folder(model.name, version).contract()
    require_feature_source(serving.paths.features, model, contract)


def _held_against_production(
    context: dg.AssetExecutionContext,
    registry: Registry,
    serving: Serving,
    model: Model,
    request: Request,
) -> Request:
    """A retrained version has to beat what production serves now, which may be another one than in
    its staging run. If nobody asked for it, it is not released otherwise."""
    label = Label.parse(context.partition_key)
    folder, champion = serving.folder(model.name, str(label)), serving.champion(model.name)
    try:
        challenge = folder.challenge()
        is_out = challenge.champion != champion and champion and champion.version != label.number
        if challenge.retrained_because and is_out and not request.older_allowed:
            challenge = compare(registry, serving, model, label.number)
            context.log.info(f"production has changed since: {challenge.verdict}")
        challenge.require(folder.onnx_sha256())
    except MissingFileError:  # the sensor starts nothing without one
        return request
    except ChallengeError:
        if request.older_allowed:
            return request
        raise
    if not challenge.won_against(champion):
        return request
    context.log.info("retrained and better on recent labels: it may predict otherwise")
    return replace(request, policy=may_predict_otherwise(request.policy))


def _asked_for(tags: Mapping[str, str]) -> bool:
    """Whether somebody started this run for this very version: no sensor, no backfill."""
    return AUTOMATIC_TAG not in tags and "dagster/backfill" not in tags


def _deployed(
    context: dg.AssetExecutionContext,
    serving: Serving,
    request: Request,
    last_look: Callable[[Request], Request] = lambda request: request,
) -> Results:
    """Roll out; a canary is followed to its end. last_look: once nothing is in the way."""
    release = request.release
    with one_sentence():
        _require_not_taken_away(context, serving, request)
        if not request.older_allowed:
            wait_for_bake(serving, request, context.log.info)
        request = last_look(request)
        outcome = serving.roll_out(request)
    if (stays := request.superseded_by(outcome.state)) and outcome.status == "superseded":
        context.log.warning(
            f"{release.model} version {release.live().label} is superseded: version {stays.label} "
            f"is live in {request.environment}; nothing was changed"
        )
        return
    check = None
    if outcome.status == "started" and outcome.event is not None:
        result, last, check = _followed(context, serving, request, outcome.event)
        if result != "released":
            yield check
            raise dg.Failure(ended(result, last), allow_retries=False)
    with one_sentence():
        events = serving.events(release.model, request.environment)
    yield dg.MaterializeResult(
        metadata=deployment_metadata(serving, request, outcome.status, events),
        check_results=[check] if check else [],
    )


def _require_not_taken_away(
    context: dg.AssetExecutionContext, serving: Serving, request: Request
) -> None:
    """A run that is tried again, after its process died, does not undo a rollback of meanwhile."""
    run, release = context.run, request.release
    before = (run.tags.get(tag) for tag in (PARENT_RUN_ID_TAG, ROOT_RUN_ID_TAG))
    runs = {run.run_id, *(known for known in before if known)}
    lost = taken_away(serving.events(release.model, request.environment), runs)
    if lost is not None:
        raise dg.Failure(
            f"{ended(*lost)}; the release that this run has begun is not begun again: "
            f"`slipway promote {release.model} --version {release.live().label}` is a new one",
            allow_retries=False,
        )


def _followed(
    context: dg.AssetExecutionContext, serving: Serving, request: Request, started: Event
) -> tuple[Result, Event, dg.AssetCheckResult]:
    """Until the canary is over: how it ended, by which event, and its check.

    The controller takes the release further whatever happens to this run: one that is tried
    again finds it in progress.
    """
    model, environment = request.release.model, request.environment
    try:
        with one_sentence():
            result, last = follow_release(serving, started, context.log.info)
            events = serving.events(model, environment)
    except DagsterExecutionInterruptedError:
        context.log.warning(
            f"this run no longer follows the release of {model}, which goes on: "
            f"`slipway rollback {model}` ends it"
        )
        raise
    label = request.release.live().label
    return result, last, _canary_check(model, result, canary_events(events, label, last))


def _canary_check(model: str, result: Result, events: Sequence[Event]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=CANARY_CHECK,
        asset_key=Names(model).asset("production_deployment"),
        passed=result == "released",
        metadata=canary_metadata(events),
    )


def _last_canary(serving: Serving, model: Model, version: str) -> dg.AssetCheckResult:
    """What the ledger says of the version's latest canary."""
    with one_sentence():
        events = serving.events(model.name, "production")
        label = serving.release(model.name, version).live().label
    begun = [event for event in events if is_canary(event, label)]
    if not begun:
        raise dg.Failure(
            f"{model.name} version {version} was never released by canary: nothing to compare",
            allow_retries=False,
        )
    result, last = release_result(events, begun[-1])
    if result == "in progress":
        raise dg.Failure(
            f"the canary of {model.name} version {version} is not over", allow_retries=False
        )
    return _canary_check(model.name, result, canary_events(events, label, last))
