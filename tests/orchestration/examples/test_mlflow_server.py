"""Training against a real `mlflow server`."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestration.examples.registration import REFERENCE
from orchestration.training import RegisteredVersion, mlflow_client, train
from serving_config.schema import Model
from tests.orchestration.mlflow_server import mlflow_server

Download = Callable[[str, RegisteredVersion], Path]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with mlflow_server(tmp_path) as address:
        yield address


def test_two_versions_are_registered_over_http_with_their_artifacts(
    server: str, download: Download, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    before = {name for name in os.environ if "MLFLOW" in name}
    model = Model(name="iris", training="orchestration.examples.iris:train")
    versions = [train(model, server), train(model, server)]
    assert {name for name in os.environ if "MLFLOW" in name} == before

    client = mlflow_client(server)
    registered = client.search_model_versions("name='iris'", order_by=["version_number ASC"])
    assert [int(version.version) for version in registered] == [1, 2]
    assert [version.run_id for version in registered] == [version.run_id for version in versions]
    assert (download(server, versions[1]) / "model.skops").stat().st_size > 1000
    reference = client.download_artifacts(versions[1].run_id, REFERENCE, str(tmp_path))
    assert pd.read_parquet(reference).shape == (105, 4)
