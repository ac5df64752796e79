"""A real registry in a SQLite file, and one function that trains into it."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestration.examples.feature_data import write_sources
from orchestration.training import RegisteredVersion, mlflow_client, train
from serving_config.load import FOLDER, load
from serving_config.schema import Model

NOW = datetime(2026, 3, 10, 14, tzinfo=UTC)
SHIPPED = load(FOLDER, {}).models
Train = Callable[[Model], RegisteredVersion]
Download = Callable[[str, RegisteredVersion], Path]


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tracking URI of an empty registry."""
    return f"sqlite:///{tmp_path_factory.mktemp('registry')}/mlflow.db"


@pytest.fixture(scope="session")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a feature store with the examples' sources, its definitions applied."""
    from feature_repo.apply import apply

    home = tmp_path_factory.mktemp("features")
    write_sources(home / "sources", NOW)
    apply(home)
    return home


@pytest.fixture(scope="session")
def train_here(registry: str, features: Path) -> Train:
    """Trains a model into the registry, from the registry's folder: artifacts go below it."""

    def train_in_folder(model: Model) -> RegisteredVersion:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(Path(registry.removeprefix("sqlite:///")).parent)
            patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
            patch.setenv("SLIPWAY_FEATURES_HOME", str(features))
            return train(model, registry)

    return train_in_folder


@pytest.fixture(scope="session")
def download(tmp_path_factory: pytest.TempPathFactory) -> Download:
    """The folder of a version's logged model.

    `download_artifacts("models:/…")` would ask MLflow's process-wide registry, whatever
    tracking URI it is given.
    """
    import mlflow.artifacts

    def download_version(registry: str, version: RegisteredVersion) -> Path:
        client = mlflow_client(registry)
        uri = client.get_model_version_download_uri(version.name, str(version.version))
        folder = str(tmp_path_factory.mktemp("downloaded"))
        return Path(
            mlflow.artifacts.download_artifacts(uri, dst_path=folder, tracking_uri=registry)
        )

    return download_version


@pytest.fixture(scope="session")
def iris_versions(train_here: Train) -> tuple[RegisteredVersion, RegisteredVersion]:
    """Versions 1 and 2 of iris."""
    model = Model(name="iris", description="Irises.", training="orchestration.examples.iris:train")
    return train_here(model), train_here(model)


@pytest.fixture(scope="session")
def spam_version(train_here: Train) -> RegisteredVersion:
    """Version 1 of the spam detector."""
    return train_here(SHIPPED["spam-detector"])


@pytest.fixture(scope="session")
def churn_version(train_here: Train) -> RegisteredVersion:
    """Version 1 of customer-churn."""
    return train_here(SHIPPED["customer-churn"])
