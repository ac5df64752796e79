"""A home with a prediction log, a real registry in SQLite, and settings that retrain iris."""

import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from deploy.home import Home
from deploy.predictions.labels import Label, append_labels
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from serving_config.load import load
from serving_config.schema import Configuration
from tests.bentos.model_server.models import IRIS, SPECIES
from tests.deploy.predictions.segments import block, header, segment

IRIS_YAML = """
training: orchestration.examples.iris:train
promotion: auto
retraining: {failures: 2, cool_down_hours: 1, min_labelled_rows: 20}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "platform.yaml": "{}",
        "environments/staging.yaml": "{}",
        "environments/production.yaml": "{}",
        "models/iris.yaml": IRIS_YAML,
    }.items():
        path = tmp_path / "serving_config" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "serving_config"


@pytest.fixture
def configuration(folder: Path) -> Configuration:
    return load(folder, {})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "h").create()


@pytest.fixture
def serving(home: Home, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Serving:
    monkeypatch.delenv("SLIPWAY_LEDGER_URL", raising=False)
    return Serving(home=str(home.root), config_folder=str(folder))


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its tables take seconds to make."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    Registry(tracking_uri=f"sqlite:///{path}").names()
    return path


@pytest.fixture
def registry(tmp_path: Path, empty_registry: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    shutil.copy(empty_registry, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)  # artifacts go below it
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    return Registry(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


def answered(home: Home, at: datetime, count: int = 60, name: str = "a") -> list[str]:
    """The iris data, logged from `at` on, a row a second; returns the request ids."""
    from sklearn.datasets import load_iris

    x, _ = load_iris(return_X_y=True)
    rows = x[:: len(x) // count][:count]
    ids = [f"{name}{number}" for number in range(len(rows))]
    columns: list[list[Any]] = [list(map(float, column)) for column in rows.T]
    of = header(columns=IRIS, dtypes=("float64",) * 4, classes=SPECIES)
    thirds: list[list[float | None]] = [[0.5] * count, [0.25] * count, [0.25] * count]
    segment(home, name, block(ids, at, features=columns, probabilities=thirds), of=of)
    return ids


def labelled(home: Home, ids: Sequence[str], at: datetime) -> None:
    """Their labels, as they came in at `at`."""
    from sklearn.datasets import load_iris

    _, y = load_iris(return_X_y=True)
    kinds = [SPECIES[y[number * (len(y) // len(ids))]] for number in range(len(ids))]
    labels = [Label(one, kind) for one, kind in zip(ids, kinds, strict=True)]
    append_labels(home, "iris", "production", labels, "ann", at)


HOUR = timedelta(hours=1)
