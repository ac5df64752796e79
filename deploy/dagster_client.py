"""Dagster's GraphQL API, as the command line uses it: start runs, follow them, ask how it is.

`dagster-graphql`'s own client cannot add partitions or read a run's steps.
"""

from dataclasses import dataclass
from typing import Any

import httpx

LOCATION = "slipway"
REPOSITORY = "__repository__"
FINISHED = frozenset({"SUCCESS", "FAILURE", "CANCELED"})
# On a run whose process died: that Dagster starts it again, and which run that was.
_WILL_RETRY_TAG, _AGAIN_TAG = "dagster/will_retry", "dagster/auto_retry_run_id"


class DagsterError(RuntimeError):
    """Dagster does not answer, or refused what was asked."""


@dataclass(frozen=True)
class Step:
    """One step of a run; times in seconds since 1970."""

    key: str
    status: str
    started: float | None
    ended: float | None

    @property
    def seconds(self) -> float | None:
        """How long it took, once it has ended."""
        return self.ended - self.started if self.started and self.ended else None


@dataclass(frozen=True)
class RunStatus:
    """One run. `error` is the first failed step's message."""

    run_id: str
    job: str
    status: str
    created: float
    ended: float | None
    steps: tuple[Step, ...] = ()
    error: str | None = None


_RUN = """
  runId jobName status creationTime endTime
  stepStats { stepKey status startTime endTime }
"""


class DagsterClient:
    """Talks to one webserver."""

    def __init__(self, url: str) -> None:
        self.url = url

    def _query(self, query: str, **variables: Any) -> Any:
        try:
            body = {"query": query, "variables": variables}
            response = httpx.post(f"{self.url}/graphql", json=body, timeout=30)
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise DagsterError(
                f"Dagster at {self.url} does not answer ({error}): is the platform up? `slipway up`"
            ) from error
        if answer.get("errors"):
            message = answer["errors"][0]["message"].strip().splitlines()[0]
            raise DagsterError(f"Dagster at {self.url}: {message}")
        return answer["data"]

    def not_ready(self) -> str | None:
        """What keeps Dagster from starting runs, or None."""
        try:
            data = self._query(
                """{ instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } }
                  workspaceOrError { ... on Workspace { locationEntries { loadStatus
                    locationOrLoadError { __typename ... on PythonError { message } } } } } }"""
            )
        except DagsterError:
            return "the webserver does not answer"
        for entry in data["workspaceOrError"].get("locationEntries", []):
            loaded = entry["locationOrLoadError"]
            if loaded and loaded["__typename"] == "PythonError":
                return f"the definitions do not load: {_last_line(loaded['message'])}"
            if entry["loadStatus"] != "LOADED" or not loaded:
                return "the definitions are being loaded"
        statuses = data["instance"]["daemonHealth"]["allDaemonStatuses"]
        waiting = [s["daemonType"] for s in statuses if s["required"] and not s["healthy"]]
        return f"the daemon is starting ({', '.join(waiting).lower()})" if waiting else None

    def in_progress(self) -> list[str]:
        """The jobs of the runs that are being executed, or wait for it."""
        data = self._query(
            """{ runsOrError(filter: {
                statuses: [QUEUED, NOT_STARTED, STARTING, STARTED, CANCELING] }) {
              ... on Runs { results { jobName } } ... on PythonError { message } } }"""
        )["runsOrError"]
        if "results" not in data:
            raise DagsterError(f"runs in progress: {data.get('message')}")
        return sorted(str(run["jobName"]) for run in data["results"])

    def reload(self) -> set[str]:
        """Make the webserver read the definitions again; returns the jobs it found.

        Raises DagsterError while the code server is starting.
        """
        data = self._query(
            """mutation { reloadWorkspace { ... on Workspace { locationEntries {
              locationOrLoadError { ... on RepositoryLocation { repositories { jobs { name } } } }
            } } } }"""
        )["reloadWorkspace"]
        locations = [entry["locationOrLoadError"] or {} for entry in data["locationEntries"]]
        repositories = [r for location in locations for r in location.get("repositories", [])]
        return {job["name"] for repository in repositories for job in repository["jobs"]}

    def add_partition(self, partitions: str, key: str) -> None:
        """Add a dynamic partition; one that is there already is no error."""
        data = self._query(
            """mutation($repository: RepositorySelector!, $name: String!, $key: String!) {
              addDynamicPartition(repositorySelector: $repository, partitionsDefName: $name,
                partitionKey: $key) { __typename ... on PythonError { message } } }""",
            repository={"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY},
            name=partitions,
            key=key,
        )["addDynamicPartition"]
        accepted = ("AddDynamicPartitionSuccess", "DuplicateDynamicPartitionError")
        if data["__typename"] not in accepted:
            raise DagsterError(f"partition {key}: {data.get('message', data['__typename'])}")

    def launch(
        self,
        job: str,
        partition: str | None,
        tags: dict[str, str],
        steps: list[str] | None = None,
        configuration: dict[str, Any] | None = None,
    ) -> str:
        """Start a run of a job, for one partition if it has some; returns its id.

        configuration: the run's, as Dagster has it: `{"ops": {…}}`.
        """
        selector = {
            "repositoryLocationName": LOCATION,
            "repositoryName": REPOSITORY,
            "jobName": job,
        }
        run_tags = ({} if partition is None else {"dagster/partition": partition}) | tags
        parameters: dict[str, Any] = {
            "selector": selector,
            "executionMetadata": {
                "tags": [{"key": key, "value": value} for key, value in run_tags.items()]
            },
        }
        if configuration:
            parameters["runConfigData"] = configuration
        if steps:
            parameters["stepKeys"] = steps
        data = self._query(
            """mutation($parameters: ExecutionParams!) { launchRun(executionParams: $parameters) {
              __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
              ... on PipelineNotFoundError { message } ... on InvalidSubsetError { message } } }""",
            parameters=parameters,
        )["launchRun"]
        if data["__typename"] != "LaunchRunSuccess":
            raise DagsterError(f"{job}: {_last_line(data.get('message', data['__typename']))}")
        return str(data["run"]["runId"])

    def run(self, run_id: str) -> RunStatus:
        """One run, with the error of its first failed step."""
        data = self._query(
            f"query($id: ID!) {{ runOrError(runId: $id) {{ ... on Run {{ {_RUN} }} }} }}", id=run_id
        )["runOrError"]
        if "runId" not in data:
            raise DagsterError(f"Dagster at {self.url} knows no run {run_id}")
        error = self._error(run_id) if data["status"] == "FAILURE" else None
        return _run_status(data, error)

    def last_attempt(self, run_id: str) -> RunStatus | None:
        """The run, or the last of those that Dagster started again because its process had died;
        None where Dagster does not know it. One that is about to be started again has not failed.
        """
        data = self._query(
            f"""query($id: ID!) {{ runOrError(runId: $id) {{
              ... on Run {{ {_RUN} tags {{ key value }} }}
              ... on PythonError {{ message }} }} }}""",
            id=run_id,
        )["runOrError"]
        if "message" in data:
            raise DagsterError(f"run {run_id}: {_last_line(data['message'])}")
        if "runId" not in data:
            return None
        tags = {tag["key"]: tag["value"] for tag in data["tags"]}
        if again := tags.get(_AGAIN_TAG):
            return self.last_attempt(again)
        if data["status"] == "FAILURE" and tags.get(_WILL_RETRY_TAG) == "true":
            return _run_status(data | {"status": "QUEUED"}, None)
        return _run_status(data, self._error(run_id) if data["status"] == "FAILURE" else None)

    def runs(self, job: str, partition: str) -> list[RunStatus]:
        """Runs of a job for one partition, the newest first."""
        data = self._query(
            f"""query($filter: RunsFilter!) {{ runsOrError(filter: $filter, limit: 20) {{
              ... on Runs {{ results {{ {_RUN} }} }} ... on PythonError {{ message }} }} }}""",
            filter={
                "pipelineName": job,
                "tags": [{"key": "dagster/partition", "value": partition}],
            },
        )["runsOrError"]
        if "results" not in data:
            raise DagsterError(f"runs of {job}: {data.get('message')}")
        return [_run_status(item, None) for item in data["results"]]

    def _error(self, run_id: str) -> str | None:
        data = self._query(
            """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
              __typename ... on MessageEvent { message stepKey }
              ... on AssetCheckEvaluationEvent { evaluation { success description } }
              ... on ExecutionStepFailureEvent { failureMetadata { description }
                error { message causes { message } } }
              ... on RunFailureEvent { error { message } } } } } }""",
            id=run_id,
        )["logsForRun"]
        fallback = None
        of_checks: dict[str | None, str | None] = {}
        for event in data.get("events", []):
            if event["__typename"] == "AssetCheckEvaluationEvent":
                if not (evaluation := event["evaluation"])["success"]:
                    of_checks[event["stepKey"]] = evaluation["description"]
            elif event["__typename"] == "ExecutionStepFailureEvent":
                described = (event.get("failureMetadata") or {}).get("description")
                if described := described or of_checks.get(event.get("stepKey")):
                    return " ".join(described.split())
                if not event["error"]:
                    continue
                causes = event["error"].get("causes") or [event["error"]]
                return _last_line(causes[-1]["message"])
            if event["__typename"] == "RunFailureEvent":
                fallback = _last_line((event["error"] or event)["message"])
        return fallback


def _run_status(data: dict[str, Any], error: str | None) -> RunStatus:
    steps = tuple(
        Step(item["stepKey"], item["status"] or "WAITING", item["startTime"], item["endTime"])
        for item in sorted(data["stepStats"], key=lambda item: item["startTime"] or float("inf"))
    )
    return RunStatus(
        data["runId"],
        data["jobName"],
        data["status"],
        data["creationTime"],
        data["endTime"],
        steps,
        error,
    )


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
