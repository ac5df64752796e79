"""The churn example as a PyTorch network: logged without pickle, exported and proved."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bentos.model_server.certificate import Limits
from bentos.model_server.session import ModelSession
from orchestration.examples import churn_pytorch
from orchestration.examples.registration import HOLD_OUT, LABEL, REFERENCE
from orchestration.export import Exported, export, load_native
from orchestration.resources.registry import Registry
from orchestration.training import RegisteredVersion, Target, TrainingError, named
from orchestration.verify import verify
from tests.orchestration.examples.conftest import SHIPPED, Download, Train

MODEL = SHIPPED["customer-churn"]
EXPORT = """
import sys
from pathlib import Path
from orchestration.export import export, load_native
from serving_config.load import FOLDER, load
model = load(FOLDER, {}).models["customer-churn"]
print(export(load_native(Path(sys.argv[1])), model, 1).contract.onnx_sha256)
"""


@pytest.fixture(scope="module")
def version(train_here: Train, churn_version: RegisteredVersion) -> RegisteredVersion:
    """A network as the next version after the trees."""
    pytest.importorskip("torch")
    return train_here(named(MODEL, "pytorch"))


@pytest.fixture(scope="module")
def folder(version: RegisteredVersion, registry: str, download: Download) -> Path:
    return download(registry, version)


@pytest.fixture(scope="module")
def exported(folder: Path) -> Exported:
    return export(load_native(folder), MODEL, 2)


def test_it_is_about_as_good_as_the_trees_and_the_next_version(
    version: RegisteredVersion, churn_version: RegisteredVersion
) -> None:
    assert version.version == churn_version.version + 1
    assert version.metrics["roc_auc"] > churn_version.metrics["roc_auc"] - 0.03


def test_nothing_of_it_is_a_pickle(folder: Path) -> None:
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert {"data/model.pt2", "extra_files/preprocessing.skops"} <= files
    assert not [name for name in files if name.endswith((".pth", ".pkl"))]


def test_its_run_has_the_rows_that_later_comparisons_need(
    version: RegisteredVersion, registry: str, tmp_path: Path
) -> None:
    for name, columns in ((REFERENCE, 10), (HOLD_OUT, 11)):
        path = Registry(tracking_uri=registry).download_run_artifact(version.run_id, name, tmp_path)
        assert path is not None
        assert len(pd.read_parquet(path).columns) == columns
    assert LABEL in pd.read_parquet(path)


def test_a_request_to_the_trees_fits_the_network(
    exported: Exported, churn_version: RegisteredVersion, registry: str, download: Download
) -> None:
    trees = export(load_native(download(registry, churn_version)), MODEL, 1)
    fields = [
        [(f.name, f.dtype, f.required, f.minimum) for f in side.contract.inputs]
        for side in (trees, exported)
    ]
    assert fields[0] == fields[1]
    assert exported.contract.outputs.labels == trees.contract.outputs.labels == ("churn", "stay")


def test_it_is_proved_like_any_other(
    exported: Exported, folder: Path, version: RegisteredVersion, registry: str, tmp_path: Path
) -> None:
    native = load_native(folder)
    path = Registry(tracking_uri=registry).download_run_artifact(
        version.run_id, REFERENCE, tmp_path
    )
    assert path is not None
    session = ModelSession(exported.model, exported.contract)
    certificate = verify(native, session, pd.read_parquet(path), Limits())
    assert certificate.parity.passed, certificate.parity
    assert {c.kind: c.rows > 50 for c in certificate.parity.comparisons} == {
        "reference": True,
        "thresholds": True,
        "edges": True,
    }
    assert certificate.libraries["torch"].startswith("2.")


def test_a_region_that_training_has_not_seen_is_answered(exported: Exported) -> None:
    session = ModelSession(exported.model, exported.contract)
    row = exported.contract.example | {"region": "atlantis"}
    answer = session.predict([[row[f.name] for f in exported.contract.inputs]])
    assert answer.probabilities is not None
    assert np.isfinite(answer.probabilities).all()


def test_another_process_exports_the_same_bytes(exported: Exported, folder: Path) -> None:
    printed = subprocess.run(
        [sys.executable, "-c", EXPORT, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[3]), "PYTHONHASHSEED": "7", "PATH": ""},
        timeout=120,
    ).stdout
    assert printed.split()[-1] == exported.contract.onnx_sha256
    assert str(Path(__file__).parents[3]).encode() not in exported.model


def test_without_torch_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(TrainingError, match=r"needs torch.*uv pip install -e '\.\[torch\]'"):
        churn_pytorch.train(Target(MODEL, "sqlite://", None))


def test_the_same_seed_gives_the_same_weights() -> None:
    pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 10)).astype(np.float32)
    y, w = (x[:, 0] > 0).astype(np.float32), np.ones(200, dtype=np.float32)
    parameters: list[list[bytes]] = []
    for seed in (1, 1, 2):
        module = churn_pytorch.fit_network(x, y, w, seed)
        parameters.append([p.detach().numpy().tobytes() for p in module.parameters()])
    assert parameters[0] == parameters[1] != parameters[2]
