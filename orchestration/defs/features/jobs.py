"""The jobs and schedules that materialize feature views."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition,
)

from deploy.dagster_names import ACTOR_TAG, materialize_job
from deploy.home import Home
from orchestration.defs.features.names import EXAMPLE_SOURCES, has_examples, view_key
from orchestration.features.store import described_view, read_description
from orchestration.features.watermarks import Watermark, read_watermark
from orchestration.features.windows import Every, last_key, last_window, rfc3339
from orchestration.kubernetes.tags import pod_tags
from orchestration.resources.serving import Serving
from serving_config.schema import Configuration

# A few minutes after the window has ended: what a source gets late is there by then.
_CRON = {"hour": "5 * * * *", "day": "20 0 * * *"}

Jobs = dict[str, UnresolvedAssetJobDefinition]


def feature_jobs(configuration: Configuration) -> Jobs:
    """By view: `materialize_<view>`, with the examples' sources before it where there are any."""
    before = (
        dg.AssetSelection.assets(EXAMPLE_SOURCES)
        if has_examples(configuration)
        else dg.AssetSelection.assets()
    )
    return {
        view: dg.define_asset_job(
            materialize_job(view),
            selection=before | dg.AssetSelection.assets(view_key(view)),
            executor_def=dg.in_process_executor,
            description=f"The feature view {view} into the online store.",
            tags=pod_tags(configuration).run("features"),
        )
        for view in configuration.features.views
    }


def feature_schedules(configuration: Configuration, jobs: Jobs) -> list[dg.ScheduleDefinition]:
    """One for each view, hourly or daily as configured."""
    views = configuration.features.views
    return [_schedule(view, settings.every, jobs[view]) for view, settings in views.items()]


def _schedule(view: str, every: Every, job: UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"{materialize_job(view)}_schedule",
        job=job,
        cron_schedule=_CRON[every],
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Materializes {view} every {every}, and what was missed before.",
    )
    def schedule(
        context: dg.ScheduleEvaluationContext, serving: Serving
    ) -> dg.RunRequest | dg.SkipReason:
        at = context.scheduled_execution_time
        mark = _watermark(serving.paths, serving.configuration, view)
        if mark and mark.until >= last_window(every, at)[1]:
            return dg.SkipReason(f"{view} is materialized up to {rfc3339(mark.until)}")
        key = last_key(every, at)
        return dg.RunRequest(run_key=key, partition_key=key, tags={ACTOR_TAG: "schedule"})

    return schedule


def _watermark(home: Home, configuration: Configuration, name: str) -> Watermark | None:
    view = described_view(read_description(home), name)
    return read_watermark(home, view, configuration.features.store)
