"""`/v1/batch-jobs`: what is started, for whom, and how it is told from then on."""

import os
import time
from typing import Any

import httpx
import msgspec
import pytest

from deploy.batch_jobs import (
    BatchJobRecord,
    add_record,
    read_record,
    records_folder,
    write_record,
)
from deploy.dagster_client import RunStatus
from deploy.keys import KeyStore
from deploy.versions import VersionFolder, built_release
from tests.deploy.control.controls import Running, build
from tests.deploy.control.test_gate import is_problem
from tests.deploy.releases import certificate

PATH = "/v1/batch-jobs"


def body(api: Running, **changes: Any) -> dict[str, Any]:
    folder = api.control.home.batch / "iris"
    return {
        "model": "iris",
        "input": str(folder / "new"),
        "output": str(folder / "scored"),
        "version": 1,
    } | changes


def post(api: Running, **changes: Any) -> httpx.Response:
    return api.post(PATH, body(api, **changes))


def run(status: str, error: str | None = None) -> RunStatus:
    return RunStatus("run-7", "iris_batch_job", status, 1.0, None, (), error)


def say(api: Running, **changes: Any) -> None:
    """What the run writes into its record."""
    folder = records_folder(api.control.home)
    record = read_record(folder, "run-7")
    assert record is not None
    write_record(folder, msgspec.structs.replace(record, **changes))


@pytest.fixture
def built(api: Running) -> Running:
    build(api.control.home, 1)
    api.dagster.attempts["run-7"] = run("STARTED")
    return api


def test_it_starts_a_run_and_says_where_to_look(built: Running) -> None:
    answer = post(built, version="v1", keys=["id"], overwrite=True)
    assert answer.status_code == 202
    assert answer.headers["location"] == f"{PATH}/run-7"
    record = answer.json()
    assert (record["id"], record["state"], record["actor"]) == ("run-7", "queued", "ann")
    assert (record["version"], record["engine"]) == ("1", "local")
    assert built.dagster.launched == [("iris_batch_job", None, {"slipway/actor": "ann"})]
    folder = built.control.home.batch / "iris"
    assert built.dagster.configurations == [
        {
            "ops": {
                "iris_batch_job_request": {
                    "config": {
                        "input": str(folder / "new"),
                        "output": str(folder / "scored"),
                        "version": "1",
                        "environment": "production",
                        "keys": ["id"],
                        "timestamp": "event_timestamp",
                        "engine": "local",
                        "overwrite": True,
                    }
                }
            }
        }
    ]
    assert built.get(answer.headers["location"]).json() == record


def test_progress_and_result_are_told_as_the_run_writes_them(built: Running) -> None:
    post(built)
    say(built, state="running", parts=4, parts_done=1, rows_in=1000)
    found = built.get(f"{PATH}/run-7").json()
    assert (found["state"], found["parts_done"], found["rows_in"]) == ("running", 1, 1000)
    say(built, state="succeeded", rows_out=999, rejects=1, manifest="/x/_manifest.json")
    built.dagster.down = True  # what has ended nobody has to be asked about
    found = built.get(f"{PATH}/run-7").json()
    assert (found["state"], found["manifest"]) == ("succeeded", "/x/_manifest.json")


@pytest.mark.parametrize(
    ("status", "state", "error"),
    [("FAILURE", "failed", "killed by signal 9"), ("CANCELED", "canceled", None)],
)
def test_a_run_that_was_killed_is_not_told_as_running_for_ever(
    built: Running, status: str, state: str, error: str | None
) -> None:
    post(built)
    say(built, state="running", parts=4, parts_done=1)
    built.dagster.attempts["run-7"] = run(status, error)
    found = built.get(f"{PATH}/run-7").json()
    assert (found["state"], found["error"], found["parts_done"]) == (state, error, 1)
    assert [job["state"] for job in built.get(PATH).json()["jobs"]] == [state]


def test_a_run_that_was_interrupted_says_what_helps(built: Running) -> None:
    post(built)
    said = "dagster._core.errors.DagsterExecutionInterruptedError"
    built.dagster.attempts["run-7"] = run("FAILURE", said)
    assert "post the job again" in built.get(f"{PATH}/run-7").json()["error"]


def test_a_run_that_dagster_forgot_has_failed_and_says_what_helps(built: Running) -> None:
    post(built)
    del built.dagster.attempts["run-7"]
    found = built.get(f"{PATH}/run-7").json()
    assert found["state"] == "failed"
    assert "post the job again" in found["error"]


def test_while_dagster_is_down_nobody_knows(built: Running) -> None:
    post(built)
    built.dagster.down = True
    is_problem(built.get(f"{PATH}/run-7"), 503, "dagster-unavailable")
    is_problem(built.get(PATH), 503, "dagster-unavailable")
    is_problem(post(built), 503, "dagster-unavailable")


def test_nothing_is_recorded_of_a_job_that_dagster_did_not_take(built: Running) -> None:
    built.dagster.down = True
    is_problem(post(built), 503, "dagster-unavailable")
    built.dagster.down = False
    assert built.get(PATH).json() == {"jobs": []}
    assert not records_folder(built.control.home).exists()


def test_what_a_fast_run_wrote_first_stays(built: Running) -> None:
    post(built)
    folder = records_folder(built.control.home)
    say(built, state="running", parts=4)
    record = read_record(folder, "run-7")
    assert record is not None
    add_record(folder, msgspec.structs.replace(record, state="queued", parts=0))
    assert read_record(folder, "run-7") == record
    assert [path.name for path in folder.iterdir()] == ["run-7.json"]


def test_the_newest_hundred_are_listed(built: Running) -> None:
    post(built)
    folder = records_folder(built.control.home)
    record = read_record(folder, "run-7")
    assert record is not None
    for number in range(101):
        at = f"2026-01-01T00:{number // 60:02d}:{number % 60:02d}+00:00"
        made = msgspec.structs.replace(
            record, id=f"old-{number}", created_at=at, state="succeeded", finished_at=at
        )
        write_record(folder, made)
    (folder / "run-7.json").touch()
    jobs = built.get(PATH).json()["jobs"]
    assert len(jobs) == 100
    assert [job["id"] for job in jobs[:2]] == ["run-7", "old-100"]


def test_only_the_newest_ended_records_are_kept(
    built: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.batch_jobs.MAX_RECORDS", 5)
    post(built)
    folder = records_folder(built.control.home)
    record = read_record(folder, "run-7")
    assert record is not None
    (folder / "damaged.json").write_text("{")
    write_record(folder, msgspec.structs.replace(record, id="killed", state="running"))
    for number in range(8):
        ended = msgspec.structs.replace(record, id=f"job-{number}", state="succeeded")
        write_record(folder, ended)
    for days, name in ((40, "killed"), (29, "run-7"), (28, "damaged")):
        os.utime(folder / f"{name}.json", (time.time() - days * 86_400,) * 2)
    for number in range(8):
        os.utime(folder / f"job-{number}.json", (time.time() - 100 + number,) * 2)
    add_record(folder, msgspec.structs.replace(record, id="run-8"))
    # That of run-7 has not ended: its run is still to write into it.
    kept = ["job-5", "job-6", "job-7", "run-7", "run-8"]
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.json" for name in kept]
    is_problem(built.get(f"{PATH}/job-0"), 404, "unknown-batch-job")


def test_unknown_models_jobs_and_versions_are_404_and_what_is_not_proved_409(
    built: Running,
) -> None:
    is_problem(post(built, model="irsi"), 404, "unknown-model")
    is_problem(post(built, environment="prod"), 404, "unknown-environment")
    is_problem(post(built, version=9), 404, "unknown-version")
    is_problem(built.get(f"{PATH}/nobody"), 404, "unknown-batch-job")
    is_problem(built.get(f"{PATH}/..%2f..%2fkeys"), 404, "not-found")
    is_problem(post(built, version=None), 409, "nothing-live")
    contract = built_release(built.control.home, "iris", 1).bundle.contract
    folder = VersionFolder.of(built.control.home, "iris", 1)
    folder.write_certificate(certificate(contract, flips=10))
    is_problem(post(built), 409, "not-certified")
    assert built.dagster.launched == []


def test_the_version_that_serves_is_looked_at_where_none_is_named(built: Running) -> None:
    built.serve(build(built.control.home, 2).live(), environment="production")
    answer = post(built, version=None)
    assert answer.status_code == 202
    assert answer.json()["version"] is None  # the run asks the ledger itself


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"version": "1-int9"}, "version"),
        ({"version": 0}, "version.constrained-int"),
        ({"input": ""}, "input"),
        ({"input": "batch/iris"}, "input"),
        ({"input": "/etc"}, "input"),
        ({"output": "s3://somebody/else"}, "output"),
        ({"input": "s3://key:secret@somebody/else"}, "input"),
        ({"engine": "spark"}, "engine"),
        ({"keys": "id"}, "keys"),
        ({"overwrite": 1}, "overwrite"),
        ({"outptu": "/x"}, "outptu"),
    ],
)
def test_a_refusal_names_the_field(built: Running, changes: dict[str, Any], field: str) -> None:
    problem = is_problem(post(built, **changes), 422, "invalid-request")
    assert problem["errors"][0]["field"].startswith(field.partition(".")[0])
    assert built.dagster.launched == []


def test_both_places_are_named_at_once_with_what_helps(built: Running) -> None:
    answer = post(built, input="/etc/passwd", output="/srv/out")
    errors = is_problem(answer, 422, "invalid-request")["errors"]
    assert [error["field"] for error in errors] == ["input", "output"]
    assert "'/etc/passwd'" in errors[0]["message"]
    assert "batch.locations in serving_config/platform.yaml" in errors[0]["message"]


def test_only_admins_may(built: Running) -> None:
    key = KeyStore(built.control.home).add("client", ["predict"])
    asked = (("POST", PATH, body(built)), ("GET", PATH, None), ("GET", f"{PATH}/run-7", None))
    # The control process reads the keys anew each second: this one it may not know yet.
    for headers, statuses in (({"X-API-Key": key}, (401, 403)), ({}, (401,))):
        for method, path, content in asked:
            answer = built.ask(method, path, content, headers=headers, own_key=False)
            assert answer.status_code in statuses
    assert built.dagster.launched == []


def test_a_damaged_record_is_named(built: Running) -> None:
    post(built)
    (records_folder(built.control.home) / "run-7.json").write_text("{")
    problem = is_problem(built.get(f"{PATH}/run-7"), 503, "batch-job-damaged")
    assert "run-7.json" in problem["detail"]


def test_the_description_has_the_record(api: Running) -> None:
    described = api.get("/v1/openapi.json").json()
    assert set(described["paths"][PATH]) == {"get", "post"}
    record = described["components"]["schemas"][BatchJobRecord.__name__]
    assert "rows_per_second" in record["properties"]
