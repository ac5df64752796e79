"""The client against a small real server, and its queries against Dagster's own schema."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from deploy.dagster_client import DagsterClient, DagsterError, RunStatus, Step
from deploy.processes import free_port

Answer = Callable[[dict[str, Any]], Any]
RUN = {
    "runId": "1234",
    "jobName": "iris_to_staging",
    "status": "STARTED",
    "creationTime": 10.0,
    "endTime": None,
    "stepStats": [
        {"stepKey": "iris__bento", "status": None, "startTime": None, "endTime": None},
        {"stepKey": "iris__onnx_model", "status": "SUCCESS", "startTime": 11.0, "endTime": 12.5},
    ],
}


class Webserver:
    """Answers GraphQL as the test says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answers: list[Any] = []

    def says(self, *data: Any) -> None:
        """The next answers: data, or bytes as they are."""
        self.answers += [
            item if isinstance(item, bytes) else json.dumps({"data": item}).encode()
            for item in data
        ]


@pytest.fixture
def webserver() -> Iterator[tuple[Webserver, DagsterClient]]:
    told = Webserver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            told.asked.append(json.loads(body))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(told.answers.pop(0))

        def log_message(self, *_: object) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield told, DagsterClient(f"http://127.0.0.1:{server.server_address[1]}")
        finally:
            server.shutdown()
            thread.join()


Talk = tuple[Webserver, DagsterClient]


def test_every_query_is_one_that_this_dagster_understands(webserver: Talk) -> None:
    from dagster_graphql.schema import create_schema
    from graphql import parse, validate

    told, dagster = webserver
    told.says(
        {"instance": {"daemonHealth": {"allDaemonStatuses": []}}, "workspaceOrError": {}},
        {"runsOrError": {"results": []}},
        {"reloadWorkspace": {"locationEntries": []}},
        {"addDynamicPartition": {"__typename": "AddDynamicPartitionSuccess"}},
        {"launchRun": {"__typename": "LaunchRunSuccess", "run": {"runId": "1"}}},
        {"runOrError": RUN | {"status": "FAILURE"}},
        {"logsForRun": {"events": []}},
        {"runsOrError": {"results": [RUN]}},
        {"runOrError": RUN | {"tags": []}},
    )
    dagster.not_ready()
    dagster.in_progress()
    dagster.reload()
    dagster.add_partition("iris_versions", "3")
    dagster.launch("iris_to_staging", "3", {"a": "b"}, ["iris__bento"])
    dagster.run("1")
    dagster.runs("iris_to_staging", "3")
    dagster.last_attempt("1")
    assert told.answers == []
    schema = create_schema().graphql_schema
    mistakes = [error.message for q in told.asked for error in validate(schema, parse(q["query"]))]
    assert mistakes == []


def test_a_run_is_started_for_one_version_with_the_steps_that_are_wanted(webserver: Talk) -> None:
    told, dagster = webserver
    launched = {"launchRun": {"__typename": "LaunchRunSuccess", "run": {"runId": "77"}}}
    told.says(launched, launched)
    assert dagster.launch("iris_to_staging", "3", {"slipway/actor": "ann"}) == "77"
    parameters = told.asked[0]["variables"]["parameters"]
    assert parameters["selector"]["jobName"] == "iris_to_staging"
    assert "stepKeys" not in parameters  # all of them
    assert parameters["executionMetadata"]["tags"] == [
        {"key": "dagster/partition", "value": "3"},
        {"key": "slipway/actor", "value": "ann"},
    ]
    dagster.launch("iris_to_staging", "3", {}, ["iris__bento"])
    assert told.asked[1]["variables"]["parameters"]["stepKeys"] == ["iris__bento"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"__typename": "PythonError", "message": "Trace\n  line\nKeyError: x\n"}, "KeyError: x"),
        ({"__typename": "PipelineNotFoundError", "message": "no such job"}, "no such job"),
        ({"__typename": "ConflictingExecutionParamsError"}, "ConflictingExecutionParamsError"),
    ],
)
def test_a_run_that_dagster_refuses_is_one_sentence(
    answer: dict[str, str], words: str, webserver: Talk
) -> None:
    told, dagster = webserver
    told.says({"launchRun": answer})
    with pytest.raises(DagsterError) as caught:
        dagster.launch("iris_to_staging", "3", {})
    assert str(caught.value) == f"iris_to_staging: {words}"


def test_a_partition_that_is_there_already_is_no_error_and_a_refusal_is(webserver: Talk) -> None:
    told, dagster = webserver
    told.says(
        {"addDynamicPartition": {"__typename": "DuplicateDynamicPartitionError"}},
        {"addDynamicPartition": {"__typename": "UnauthorizedError"}},
    )
    dagster.add_partition("iris_versions", "3")
    with pytest.raises(DagsterError, match="partition 3: UnauthorizedError"):
        dagster.add_partition("iris_versions", "3")


def test_a_run_has_its_steps_in_the_order_they_began(webserver: Talk) -> None:
    told, dagster = webserver
    told.says({"runOrError": RUN}, {"runsOrError": {"results": [RUN]}})
    expected = RunStatus(
        "1234",
        "iris_to_staging",
        "STARTED",
        10.0,
        None,
        (
            Step("iris__onnx_model", "SUCCESS", 11.0, 12.5),
            Step("iris__bento", "WAITING", None, None),
        ),
    )
    assert dagster.run("1234") == expected
    assert [step.seconds for step in expected.steps] == [1.5, None]
    assert dagster.runs("iris_to_staging", "3") == [expected]


def test_a_run_that_nobody_knows_is_one_sentence(webserver: Talk) -> None:
    told, dagster = webserver
    told.says({"runOrError": {}})
    with pytest.raises(DagsterError, match="knows no run 99"):
        dagster.run("99")


def tagged(status: str, **tags: str) -> dict[str, Any]:
    made = [{"key": f"dagster/{name}", "value": value} for name, value in tags.items()]
    return {"runOrError": RUN | {"status": status, "tags": made}}


def test_of_a_run_whose_process_died_the_one_counts_that_took_over(webserver: Talk) -> None:
    told, dagster = webserver
    told.says(tagged("FAILURE", will_retry="true", auto_retry_run_id="5678"), tagged("STARTED"))
    found = dagster.last_attempt("1234")
    assert found is not None
    assert found.status == "STARTED"
    assert told.asked[-1]["variables"] == {"id": "5678"}
    told.says(tagged("FAILURE", will_retry="true"))
    found = dagster.last_attempt("1234")
    assert found is not None
    assert (found.status, found.error) == ("QUEUED", None)
    told.says(tagged("FAILURE", will_retry="false"), {"logsForRun": {"events": []}})
    found = dagster.last_attempt("1234")
    assert found is not None
    assert found.status == "FAILURE"
    told.says({"runOrError": {}})
    assert dagster.last_attempt("99") is None
    told.says({"runOrError": {"message": "Trace\ndatabase is locked\n"}})
    with pytest.raises(DagsterError, match="database is locked"):
        dagster.last_attempt("99")


def test_a_job_without_partitions_gets_none(webserver: Talk) -> None:
    told, dagster = webserver
    told.says({"launchRun": {"__typename": "LaunchRunSuccess", "run": {"runId": "77"}}})
    dagster.launch("iris_batch_job", None, {"a": "b"}, configuration={"ops": {}})
    parameters = told.asked[0]["variables"]["parameters"]
    assert parameters["executionMetadata"]["tags"] == [{"key": "a", "value": "b"}]
    assert parameters["runConfigData"] == {"ops": {}}


STEP_FAILED = {
    "__typename": "ExecutionStepFailureEvent",
    "message": "Execution of step failed",
    "stepKey": "b",
    "error": {
        "message": "dagster.Failure\n",
        "causes": [{"message": "between\n"}, {"message": "orchestration.Error: no signature\n"}],
    },
}


def check(step: str, description: str | None = None) -> dict[str, Any]:
    """A check's evaluation; passed without a description."""
    evaluation = {"success": description is None, "description": description}
    return {"__typename": "AssetCheckEvaluationEvent", "stepKey": step, "evaluation": evaluation}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([{"__typename": "LogMessageEvent"}, STEP_FAILED], "orchestration.Error: no signature"),
        (
            [{"__typename": "RunFailureEvent", "message": "it stopped", "error": None}],
            "it stopped",
        ),
        (
            [
                {"__typename": "RunFailureEvent", "message": "it stopped", "error": None},
                STEP_FAILED,
            ],
            "orchestration.Error: no signature",
        ),
        ([check("a"), check("b", "it flips labels"), STEP_FAILED], "it flips labels"),
        ([check("a", "of another step"), STEP_FAILED], "orchestration.Error: no signature"),
        ([], None),
    ],
    ids=["a step", "a run", "both", "a blocking check", "a check of another step", "nothing"],
)
def test_a_failed_run_says_what_its_first_failed_step_said(
    events: list[Any], expected: str | None, webserver: Talk
) -> None:
    told, dagster = webserver
    told.says({"runOrError": RUN | {"status": "FAILURE"}}, {"logsForRun": {"events": events}})
    assert dagster.run("1234").error == expected


HEALTHY = {"daemonType": "SENSOR", "required": True, "healthy": True}
LOADED = {
    "loadStatus": "LOADED",
    "locationOrLoadError": {"__typename": "RepositoryLocation"},
}


@pytest.mark.parametrize(
    ("daemons", "entries", "expected"),
    [
        ([HEALTHY], [LOADED], None),
        ([HEALTHY | {"healthy": False, "required": False}], [LOADED], None),
        ([HEALTHY | {"healthy": False}], [LOADED], "the daemon is starting (sensor)"),
        (
            [HEALTHY],
            [LOADED | {"loadStatus": "LOADING"}],
            "the definitions are being loaded",
        ),
        (
            [HEALTHY],
            [
                LOADED
                | {"locationOrLoadError": {"__typename": "PythonError", "message": "a\nb: c\n"}}
            ],
            "the definitions do not load: b: c",
        ),
    ],
)
def test_what_dagster_waits_for_is_said(
    daemons: list[Any], entries: list[Any], expected: str | None, webserver: Talk
) -> None:
    told, dagster = webserver
    told.says(
        {
            "instance": {"daemonHealth": {"allDaemonStatuses": daemons}},
            "workspaceOrError": {"locationEntries": entries},
        }
    )
    assert dagster.not_ready() == expected


def test_the_jobs_that_a_reload_found_are_named_and_a_location_that_does_not_load_has_none(
    webserver: Talk,
) -> None:
    told, dagster = webserver
    loaded = {"repositories": [{"jobs": [{"name": "a"}, {"name": "b"}]}]}
    entries = [{"locationOrLoadError": loaded}, {"locationOrLoadError": None}]
    told.says({"reloadWorkspace": {"locationEntries": entries}})
    assert dagster.reload() == {"a", "b"}


@pytest.mark.parametrize(
    "answer", [b"<html>", b"", b'{"errors": [{"message": "Cannot query\\nmore"}]}']
)
def test_an_answer_that_is_none_is_one_sentence(answer: bytes, webserver: Talk) -> None:
    told, dagster = webserver
    told.says(answer)
    with pytest.raises(DagsterError) as caught:
        dagster.in_progress()
    assert str(caught.value).startswith(f"Dagster at {dagster.url}")
    assert "\n" not in str(caught.value)


def test_runs_in_progress_are_named_by_their_jobs(webserver: Talk) -> None:
    told, dagster = webserver
    jobs = ["spam_to_staging", "iris_to_production"]
    told.says({"runsOrError": {"results": [{"jobName": job} for job in jobs]}})
    assert dagster.in_progress() == ["iris_to_production", "spam_to_staging"]


def test_a_webserver_that_is_down_says_what_helps() -> None:
    dagster = DagsterClient(f"http://127.0.0.1:{free_port()}")
    assert dagster.not_ready() == "the webserver does not answer"
    with pytest.raises(DagsterError, match=r"is the platform up\? `slipway up`"):
        dagster.runs("iris_to_staging", "3")
