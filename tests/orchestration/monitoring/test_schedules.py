"""The jobs, schedules and sensors of drift and quality."""

from pathlib import Path

import dagster as dg
import pytest

from deploy.findings import read_finding
from orchestration.defs.drift.assets import monitoring_assets
from orchestration.defs.drift.schedules import monitoring_jobs, monitoring_schedules
from orchestration.defs.drift.sensors import schedule_sensors
from orchestration.resources.serving import Serving
from serving_config.load import FOLDER, load
from serving_config.schema import Model

CONFIGURATION = load(variables={})
SPAM = Model(name="spam-detector")


def test_every_environment_is_looked_at_each_hour_and_not_all_in_one_minute() -> None:
    jobs = monitoring_jobs(SPAM)
    schedules = monitoring_schedules(SPAM, CONFIGURATION, jobs)
    assert [schedule.name for schedule in schedules] == [
        "spam_detector_drift_production",
        "spam_detector_drift_staging",
        "spam_detector_quality_production",
        "spam_detector_quality_staging",
    ]
    assert {s.default_status for s in schedules} == {dg.DefaultScheduleStatus.RUNNING}
    minutes = {str(s.cron_schedule).partition(" ")[0] for s in schedules}
    assert len(minutes) > 1
    assert {str(s.cron_schedule).partition(" ")[2] for s in schedules} == {"* * * *"}
    repository = dg.Definitions(
        assets=monitoring_assets(SPAM, CONFIGURATION),
        jobs=list(jobs.values()),
        schedules=schedules,
        resources={"registry": object(), "serving": object()},
    ).get_repository_def()
    for schedule in schedules:
        assert schedule.description
        with dg.build_schedule_context(repository_def=repository) as context:
            (request,) = schedule.evaluate_tick(context).run_requests or []
        assert schedule.name.endswith(f"_{request.partition_key}")


def test_a_model_whose_drift_is_disabled_is_not_looked_at() -> None:
    model = SPAM.model_copy(update={"drift": SPAM.drift.model_copy(update={"enabled": False})})
    schedules = monitoring_schedules(model, CONFIGURATION, monitoring_jobs(model))
    assert all("_quality_" in schedule.name for schedule in schedules)


def test_the_definitions_hold_together() -> None:
    jobs = monitoring_jobs(SPAM)
    dg.Definitions.validate_loadable(
        dg.Definitions(
            assets=monitoring_assets(SPAM, CONFIGURATION),
            jobs=list(jobs.values()),
            schedules=monitoring_schedules(SPAM, CONFIGURATION, jobs),
            sensors=schedule_sensors(list(jobs.values()), dict.fromkeys(jobs, 3600.0)),
            resources={"registry": object(), "serving": object()},
        )
    )


def test_a_scheduled_run_that_fails_is_a_finding_until_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = Serving(home=str(tmp_path), config_folder=str(FOLDER))
    broken = [True]

    @dg.op
    def look() -> None:
        if broken[0]:
            raise dg.Failure("MLflow at http://127.0.0.1:5000 does not answer")

    @dg.job(partitions_def=dg.StaticPartitionsDefinition(["production"]))
    def spam_detector_drift() -> None:
        look()

    failed, succeeded = schedule_sensors([spam_detector_drift], {"spam_detector_drift": 3600.0})  # type: ignore[list-item]
    with dg.instance_for_test() as instance:
        for sensor, status, event in ((failed, "failed", "run_failure"), (succeeded, "passed", "")):
            result = spam_detector_drift.execute_in_process(
                instance=instance, partition_key="production", raise_on_error=False
            )
            ended = ("PIPELINE_FAILURE", "PIPELINE_SUCCESS")
            (last,) = [e for e in result.all_events if e.event_type_value in ended]
            context = dg.build_run_status_sensor_context(
                sensor_name=sensor.name,
                dagster_instance=instance,
                dagster_run=result.dagster_run,
                dagster_event=last,
                resources={"serving": serving},
            )
            sensor(context.for_run_failure() if event else context)
            finding = read_finding(serving.paths, "schedule", "production", "spam_detector_drift")
            assert finding is not None
            assert finding.status == status
            assert finding.valid_seconds == 3600.0
            if broken[0]:
                assert "MLflow at http://127.0.0.1:5000 does not answer" in finding.summary
            broken[0] = False
