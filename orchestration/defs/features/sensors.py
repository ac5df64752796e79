"""The sensor that notices stale feature views, and materializes those that are new."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from deploy.dagster_names import ACTOR_TAG
from deploy.findings import Finding, read_finding, write_finding
from deploy.home import Home
from feature_repo.description import Description
from orchestration.defs.features.jobs import Jobs
from orchestration.features.errors import FeatureError
from orchestration.features.freshness import freshness, unknown
from orchestration.features.store import applied_at, described_view, read_description
from orchestration.features.watermarks import definition_of, read_watermark
from orchestration.features.windows import last_key
from orchestration.resources.serving import Serving
from serving_config.schema import Configuration

SENSOR = "feature_freshness_sensor"
# How often a finding that says nothing new is written again, so that it stays valid.
_REPEAT = timedelta(minutes=30)
# A view that was just defined is materialized for the first time, not stale.
_FIRST_TIME = timedelta(minutes=10)


def feature_sensors(configuration: Configuration, jobs: Jobs) -> list[dg.SensorDefinition]:
    """One where views are configured. jobs: by view."""
    if not jobs:
        return []

    @dg.sensor(
        name=SENSOR,
        description="Notices stale feature views, and materializes those that are new.",
        jobs=list(jobs.values()),
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(
        context: dg.SensorEvaluationContext, serving: Serving
    ) -> dg.SensorResult | dg.SkipReason:
        now = datetime.now(UTC)
        try:
            description = read_description(serving.paths)
        except FeatureError as error:
            return dg.SkipReason(str(error))
        # Settings that changed since the definitions were loaded may lack a view.
        names = [name for name in jobs if name in serving.configuration.features.views]
        found = [look(serving, description, name, jobs[name].name, now) for name in names]
        requests = [request for request in found if request]
        if not requests:
            return dg.SkipReason(f"no new view among {', '.join(names)}")
        return dg.SensorResult(run_requests=requests)

    return [sensor]


def look(
    serving: Serving, description: Description, name: str, job: str, now: datetime
) -> dg.RunRequest | None:
    """Keep the view's finding; a run where it was never materialized as it is defined now."""
    features = serving.configuration.features
    try:
        view = described_view(description, name)
        mark = read_watermark(serving.paths, view, features.store)
    except FeatureError as error:
        keep_finding(serving.paths, unknown(name, str(error), now), now)
        return None
    if mark is not None or now - applied_at(serving.paths) > _FIRST_TIME:
        keep_finding(serving.paths, freshness(name, features.views[name], mark, now), now)
    if mark is not None:
        return None
    return dg.RunRequest(
        run_key=f"{name}:{definition_of(view, features.store)}",
        job_name=job,
        partition_key=last_key(features.views[name].every, now),
        tags={ACTOR_TAG: SENSOR},
    )


def keep_finding(home: Home, finding: Finding, now: datetime) -> None:
    """Write a finding that says something new, or the same once in a while."""
    before = read_finding(home, finding.kind, finding.environment, finding.subject)
    known = before is not None and before.status == finding.status
    if before and known and now - datetime.fromisoformat(before.at) < _REPEAT:
        return
    write_finding(home, finding)
