"""The jobs of one model: each in one process, or on a cluster in a pod for each step."""

import os

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition,
)

from deploy.again import roll_back
from deploy.dagster_names import ACTOR_TAG
from deploy.traffic import Actor
from orchestration.defs.lifecycle.decisions import longest_release_seconds
from orchestration.defs.lifecycle.failures import one_sentence
from orchestration.defs.lifecycle.names import Names
from orchestration.kubernetes.executor import lifecycle_executor
from orchestration.kubernetes.tags import LOCAL, PodTags, pod_tags
from orchestration.resources.serving import Serving
from serving_config.schema import Configuration, Model

TO_STAGING = ("registered_model", "onnx_model", "bento", "staging_deployment")
_MAX_RUNTIME_TAG = "dagster/max_runtime"


def lifecycle_jobs(
    model: Model, configuration: Configuration
) -> list[UnresolvedAssetJobDefinition]:
    """To staging, and from there to production."""
    names = Names(model.name)
    production = dg.AssetSelection.assets(names.asset("production_deployment"))
    to_staging = dg.AssetSelection.assets(*(names.asset(step) for step in TO_STAGING))
    policy = configuration.release_policy("production", model.name)
    executor, tags = lifecycle_executor(configuration), pod_tags(configuration).run("lifecycle")
    return [
        dg.define_asset_job(
            names.lifecycle_job,
            selection=to_staging,
            executor_def=executor,
            description=f"{model.name}: from the registry to staging, proved on the way.",
            tags=tags,
        ),
        dg.define_asset_job(
            names.promotion_job,
            selection=production,
            executor_def=executor,
            description=f"{model.name}: from staging to production.",
            # The platform's own limit is an hour; a canary with little traffic may take longer.
            tags=tags | {_MAX_RUNTIME_TAG: f"{longest_release_seconds(policy):.0f}"},
        ),
    ]


class Rollback(dg.Config):
    """Where, and what the ledger keeps as the reason."""

    environment: str = "production"
    reason: str = "by hand, in Dagster"
    again: bool = False
    """One version further, where somebody rolled back a moment ago."""


def rollback_job(model: Model, tags: PodTags = LOCAL) -> dg.JobDefinition:
    """All traffic back to the last healthy version, from Dagster's UI."""
    names = Names(model.name)

    @dg.op(name=f"{names.rollback_job}_now", description="One change of the ledger and the routes.")
    def rollback(context: dg.OpExecutionContext, config: Rollback, serving: Serving) -> None:
        actor = context.run.tags.get(ACTOR_TAG) or os.environ.get("USER") or "dagster"
        with one_sentence(), serving.traffic() as traffic:
            event = roll_back(
                traffic,
                config.environment,
                model.name,
                Actor(actor, context.run_id),
                config.reason,
                again=config.again,
            )
        context.log.info(
            f"{model.name} in {config.environment}: version {event.label} serves again"
        )

    @dg.job(
        name=names.rollback_job,
        executor_def=dg.in_process_executor,
        description=f"{model.name}: all traffic back to the version that was healthy before.",
        # Not behind what waits its turn.
        tags=tags.run("rollback") | {"dagster/priority": "10"},
    )
    def job() -> None:
        rollback()

    return job
