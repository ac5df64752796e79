"""The MLflow registry, as the lifecycle uses it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import dagster as dg

from orchestration.addresses import without_password
from orchestration.mlflow_plugins import leave_out_feast

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

ARTIFACT_FOLDER = "slipway"
# MLflow's modules import each other in circles. Of two sensors that import it at once, in threads
# of the code server, one meets half a module, and so does every later import in that process.
_IMPORTING = Lock()


class RegistryError(RuntimeError):
    """The registry does not answer, or does not have what was asked for."""


class NotInRegistryError(RegistryError):
    """The registry answers, and does not have what was asked for."""


@dataclass(frozen=True)
class FoundVersion:
    """A version as the sensor sees it.

    ready: its files are there; failed: they will never be; neither: they are still coming.
    """

    version: int
    ready: bool
    failed: bool = False


class Registry(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A client of one MLflow server. Every failure is a RegistryError that names the server."""

    tracking_uri: str

    @property
    def shown_uri(self) -> str:
        """The server's address without a password."""
        return without_password(self.tracking_uri)

    @contextmanager
    def _errors(self) -> Iterator[Any]:
        with _IMPORTING:
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient

            leave_out_feast()
        try:
            yield MlflowClient(self.tracking_uri, self.tracking_uri)
        except MlflowException as error:
            reason = str(error).splitlines()[0][:300]
            missing = error.error_code == "RESOURCE_DOES_NOT_EXIST"
            kind = NotInRegistryError if missing else RegistryError
            raise kind(f"MLflow at {self.shown_uri}: {reason}") from error

    def names(self) -> list[str]:
        """Every registered model."""
        with self._errors() as client:
            return sorted(model.name for model in _all_pages(client.search_registered_models))

    def versions(self, name: str, after: int = 0) -> list[FoundVersion]:
        """The versions of a registered model above `after`, the oldest first."""
        quoted = name.replace("'", "\\'")
        condition = f"name='{quoted}' and version_number > {after}"
        with self._errors() as client:

            def search(**page: Any) -> Any:
                return client.search_model_versions(condition, **page)

            found = [
                FoundVersion(int(v.version), v.status == "READY", v.status == "FAILED_REGISTRATION")
                for v in _all_pages(search)
            ]
        return sorted(found, key=lambda item: item.version)

    def newest_version_at(self, name: str) -> datetime | None:
        """When the latest version was registered, whatever became of it; None without any."""
        quoted = name.replace("'", "\\'")
        with self._errors() as client:
            found = client.search_model_versions(
                f"name='{quoted}'", max_results=1, order_by=["version_number DESC"]
            )
            milliseconds = [version.creation_timestamp for version in found]
        return datetime.fromtimestamp(milliseconds[0] / 1000, UTC) if milliseconds else None

    def get(self, name: str, version: int) -> "ModelVersion":
        """One version; RegistryError says which ones there are where it does not exist."""
        from mlflow.exceptions import MlflowException

        with self._errors() as client:
            try:
                return client.get_model_version(name, str(version))
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                known = [item.version for item in self.versions(name)]
                raise RegistryError(
                    f"registered model {name!r} has no version {version} in MLflow at "
                    f"{self.shown_uri}; versions: {known or 'none'}"
                ) from error

    def download(self, name: str, version: int, folder: Path) -> Path:
        """The version's model folder, copied below `folder`."""
        import mlflow.artifacts

        with self._errors() as client:
            source = client.get_model_version_download_uri(name, str(version))
            try:
                local = mlflow.artifacts.download_artifacts(
                    artifact_uri=source, dst_path=str(folder), tracking_uri=self.tracking_uri
                )
            except (OSError, ValueError) as error:
                raise RegistryError(
                    f"the files of {name} version {version} cannot be read from "
                    f"{without_password(source)}: {error}"
                ) from error
        return Path(local)

    def run(self, run_id: str) -> Any:
        """The run that logged a version: metrics, inputs."""
        with self._errors() as client:
            return client.get_run(run_id)

    def download_run_artifact(self, run_id: str, path: str, folder: Path) -> Path | None:
        """One artifact of a run, or None where the run has none of that path."""
        parent = str(Path(path).parent)
        with self._errors() as client:
            listed = client.list_artifacts(run_id, None if parent == "." else parent)
            if path not in {item.path for item in listed}:
                return None
            return Path(client.download_artifacts(run_id, path, str(folder)))

    def log_files(
        self, version: "ModelVersion", folder: Path, names: list[str], below: str = ""
    ) -> str | None:
        """Store files as artifacts of the version's run; returns where, or None without a run.

        below: a folder in the version's own, for a variant's files.
        """
        destination = f"{ARTIFACT_FOLDER}/{version.name}-v{version.version}/{below}".rstrip("/")
        with self._errors() as client:
            for name in names:
                if version.run_id:
                    client.log_artifact(version.run_id, str(folder / name), destination)
            if version.run_id:
                return f"runs:/{version.run_id}/{destination}"
        return None

    def tag(self, name: str, version: int, tags: dict[str, str]) -> None:
        """Set tags of the version."""
        with self._errors() as client:
            for key, value in tags.items():
                client.set_model_version_tag(name, str(version), key, value)

    def tag_with_run(self, name: str, version: int, run_id: str, tags: dict[str, str]) -> None:
        """Set tags of the version and of the run that made it."""
        self.tag(name, version, tags)
        with self._errors() as client:
            for key, value in tags.items():
                client.set_tag(run_id, key, value)

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Move an alias to the version."""
        with self._errors() as client:
            client.set_registered_model_alias(name, alias, str(version))

    def version_url(self, name: str, version: int) -> str:
        """The page of the version in MLflow's UI."""
        return f"{self.shown_uri}/#/models/{name}/versions/{version}"

    def run_url(self, experiment_id: str, run_id: str) -> str:
        """The page of the run in MLflow's UI."""
        return f"{self.shown_uri}/#/experiments/{experiment_id}/runs/{run_id}"


def _all_pages(search: Callable[..., Any]) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = search(max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return found
