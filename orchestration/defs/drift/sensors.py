"""What becomes of scheduled runs: one that could not run at all is a finding, too."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition,
)

from deploy.findings import Finding, Status, write_finding
from orchestration.resources.serving import Serving

Jobs = Sequence[UnresolvedAssetJobDefinition | dg.JobDefinition]
# Of jobs that run hourly; each look costs the daemon and the code server some 10 ms.
_EVERY_SECONDS = 30
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


def _words(step: Any) -> str:
    """Our own sentence where there is one, else the exception's."""
    if step.user_failure_data and step.user_failure_data.description:
        return str(step.user_failure_data.description)
    return str(step.error.message if step.error else "it failed")


def schedule_sensors(jobs: Jobs, every_seconds: Mapping[str, float]) -> list[dg.SensorDefinition]:
    """They write the finding of each scheduled job when a run of it ends, whoever started it.

    every_seconds: by job, how often its schedule runs it; not of one whose schedule skips what is
    done already. `ScheduleFailed` and `ScheduleOverdue` are the alerts.
    """

    @dg.run_failure_sensor(
        name="schedule_failure_sensor",
        description="Notes that a scheduled job has failed, for the alert ScheduleFailed.",
        monitored_jobs=list(jobs),
        minimum_interval_seconds=_EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def failed(context: dg.RunFailureSensorContext, serving: Serving) -> None:
        steps = [event.step_failure_data for event in context.get_step_failure_events()]
        words = [_words(step) for step in steps] or [context.failure_event.message or "it failed"]
        _write(context, serving, "failed", " ".join(words[0].split())[:500])

    @dg.run_status_sensor(
        name="schedule_success_sensor",
        description="Notes that a scheduled job has run, which ends the alert ScheduleFailed.",
        run_status=dg.DagsterRunStatus.SUCCESS,
        monitored_jobs=list(jobs),
        minimum_interval_seconds=_EVERY_SECONDS,
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
