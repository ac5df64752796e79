"""A registry behind a real MLflow server, with one version of iris."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.resources.registry import Registry
from orchestration.training import train
from serving_config.load import load
from tests.orchestration.mlflow_server import mlflow_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as address:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
            train(load(variables={}).models["iris"], address)
        yield address


@pytest.fixture
def registry(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Everything of this process, and of those it starts, is about that registry and a new home."""
    for name in [name for name in os.environ if name.startswith("SLIPWAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLIPWAY_MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "h"))
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    return Registry(tracking_uri=server)
