"""What becomes of scheduled runs: one that could not run at all is a finding, too."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition,
)

from deploy.findings import Finding, Status, write_finding
from orchestration.resources.serving import Serving

Jobs = Sequence[UnresolvedAssetJobDefinition | dg.JobDefinition]
_PARTITION_TAG = "dagster/partition"


def run_finding(
    job: str, status: Status, partition: str | None, environments: Sequence[str], **fields: object
) -> Finding:
    """Of one run; a partition that is an environment is the finding's."""
    return Finding(
        kind="schedule",
        environment=partition if partition is not None and partition in environments else "",
        subject=job,
        status=status,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        **fields,  # type: ignore[arg-type]
    )


def schedule_sensors(jobs: Jobs, every_seconds: Mapping[str, float]) -> list[dg.SensorDefinition]:
    """They write the finding of each scheduled job when a run of it ends, whoever started it.

    every_seconds: by job, how often its schedule runs it; not of one whose schedule skips what is
    done already. `ScheduleFailed` and `ScheduleOverdue` are the alerts.
    """

    @dg.run_failure_sensor(
        name="schedule_failure_sensor",
        description="Notes that a scheduled job has failed, for the alert ScheduleFailed.",
        monitored_jobs=list(jobs),
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def failed(context: dg.RunFailureSensorContext, serving: Serving) -> None:
        errors = [e.step_failure_data.error for e in context.get_step_failure_events()]
        error = next((e.message for e in errors if e), context.failure_event.message or "")
        _write(context, serving, "failed", " ".join(error.split())[:500])

    @dg.run_status_sensor(
        name="schedule_success_sensor",
        description="Notes that a scheduled job has run, which ends the alert ScheduleFailed.",
        run_status=dg.DagsterRunStatus.SUCCESS,
        monitored_jobs=list(jobs),
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def succeeded(context: dg.RunStatusSensorContext, serving: Serving) -> None:
        _write(context, serving, "passed", "it ran")

    def _write(
        context: dg.RunStatusSensorContext, serving: Serving, status: Status, summary: str
    ) -> None:
        run = context.dagster_run
        finding = run_finding(
            run.job_name,
            status,
            run.tags.get(_PARTITION_TAG),
            list(serving.configuration.environments),
            summary=summary,
            valid_seconds=every_seconds.get(run.job_name),
            url=f"{serving.dagster_url}/runs/{run.run_id}",
        )
        write_finding(serving.paths, finding)

    return [failed, succeeded]
