"""A variant on its way to a Bento: a real registry, a real network, in Dagster."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration.defs.lifecycle.assets import lifecycle_assets
from orchestration.defs.lifecycle.checks import lifecycle_checks
from orchestration.defs.lifecycle.names import Names
from orchestration.examples.registration import Trained, log_and_register
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from orchestration.steps.base import InProcess
from orchestration.training import Target
from serving_config.load import FOLDER
from serving_config.schema import Model
from serving_config.variants import Quantization

pytestmark = pytest.mark.filterwarnings("ignore:Specifying a partitions_def on an AssetCheckSpec")
MODEL = Model(
    name="tumour",
    variants=("fp32", "int8"),
    quantization=Quantization(max_label_flip_share=0.05, max_auc_loss=0.05, min_speedup=1.0),
)


def network(width: int) -> Trained:
    """On 30 floats; wide enough that int8 is faster, if it is 256."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, numbers = load_breast_cancer(as_frame=True, return_X_y=True)
    features.columns = [name.replace(" ", "_") for name in features]
    labels = numbers.map({0: "malignant", 1: "benign"}).astype(str)
    layers = MLPClassifier((width, width), solver="lbfgs", max_iter=15, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = make_pipeline(StandardScaler(), layers).fit(features, labels)
    return Trained(
        fitted, features, labels, {"accuracy": 1.0}, held_out=(features[-100:], labels[-100:])
    )


class World:
    """A home and a registry with one version."""

    def __init__(self, folder: Path, width: int) -> None:
        uri = f"sqlite:///{folder}/mlflow.db"
        self.registry = Registry(tracking_uri=uri)
        self.serving = Serving(home=str(folder / "h"), config_folder=str(FOLDER))
        log_and_register(Target(MODEL, uri, None), network(width))

    def run(self, label: str, model: Model = MODEL) -> dg.ExecuteInProcessResult:
        names = Names(model.name)
        steps = [names.asset(step) for step in ("registered_model", "onnx_model", "bento")]
        job = dg.define_asset_job("job", selection=steps)
        definitions = dg.Definitions(
            assets=lifecycle_assets(model)[:3],
            asset_checks=lifecycle_checks(model)[:1],
            jobs=[job],
            resources={
                "serving": self.serving,
                "registry": self.registry,
                "steps": InProcess(),
            },
        )
        with dg.instance_for_test() as instance:
            instance.add_dynamic_partitions(f"{model.name}_versions", [label])
            return definitions.resolve_job_def("job").execute_in_process(
                instance=instance, partition_key=label, raise_on_error=False
            )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # artifacts go below it
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.delenv("SLIPWAY_LEDGER_URL", raising=False)
    return tmp_path


def shown(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (check,) = result.get_asset_check_evaluations()
    return {name: value.value for name, value in check.metadata.items()}


def test_a_variant_is_exported_quantized_proved_and_built_beside_its_version(folder: Path) -> None:
    world = World(folder, 256)
    result = world.run("1-int8")
    assert result.success
    variant = world.serving.folder("tumour", "1-int8")
    contract, certificate = variant.contract(), variant.certificate()
    assert (contract.version, contract.variant) == (1, "int8")
    certificate.require_parity(contract, variant.onnx_sha256())
    assert not world.serving.folder("tumour", 1).path.exists()
    metadata = shown(result)
    assert metadata["method"] in ("static", "dynamic")
    assert metadata["size_ratio"] < 0.5
    tags = world.registry.get("tumour", 1).tags
    assert tags["slipway.int8.conversion_parity"] == "passed"
    assert tags["slipway.int8.bento"].startswith("tumour:1-int8-")
    assert "slipway.bento" not in tags
    run_id = world.registry.get("tumour", 1).run_id
    kept = world.registry.download_run_artifact(
        run_id, "slipway/tumour-v1/int8/certificate.json", folder
    )
    assert kept is not None
    assert kept.read_bytes() == (variant.path / "certificate.json").read_bytes()
    assert variant.bento().tag == tags["slipway.int8.bento"]
    shutil.rmtree(world.serving.paths.bentoml)


def test_a_variant_that_is_not_worth_it_fails_with_the_reason(folder: Path) -> None:
    world = World(folder, 2)
    result = world.run("1-int8")
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "quantized" in str(failure.step_failure_data.user_failure_data.description)
    unnamed = world.run("1-int8", Model(name="tumour"))
    (failure, *_) = [event for event in unnamed.all_events if event.is_step_failure]
    assert "variants: [fp32, int8]" in str(failure.step_failure_data.user_failure_data.description)
