"""From a registered version to production, on a real platform."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import mlflow
import pytest
from mlflow.models import infer_signature
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bentos.model_server.certificate import decode_certificate
from tests.end_to_end.harness import PACE, SETOSA, Checkout, configure, in_production, wait_for

# MLflow's client keeps its connections for the life of the process.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)

IRIS_COLUMNS = list(SETOSA)
# What a HistGradientBoosting model in skops' format holds beyond skops' own trusted types.
HISTOGRAM_TYPES = [
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss.loss.HalfMultinomialLoss",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
]


def register(platform: Checkout, name: str, model: Any, features: Any, **options: Any) -> int:
    """As any user of MLflow does it."""
    mlflow.set_tracking_uri(platform.url("mlflow"))
    try:
        with mlflow.start_run():
            logged = mlflow.sklearn.log_model(
                model,
                name="model",
                registered_model_name=name,
                pip_requirements=["scikit-learn"],
                **({"signature": infer_signature(features, model.predict(features))} | options),
            )
    finally:
        mlflow.set_tracking_uri(None)  # it is the process's, and other tests share that
    return int(logged.registered_model_version)


def iris_version(platform: Checkout, seed: int) -> int:
    data = load_iris(as_frame=True)
    features = data.data.set_axis(IRIS_COLUMNS, axis=1)
    labels = data.target_names[data.target]
    model = make_pipeline(
        StandardScaler(), GradientBoostingClassifier(n_estimators=20, random_state=seed)
    ).fit(features, labels)
    return register(
        platform,
        "iris",
        model,
        features,
        input_example=features.head(20),
        skops_trusted_types=["sklearn.tree._tree.Tree"],
    )


@contextmanager
def constant_traffic(platform: Checkout) -> Iterator[list[str]]:
    """Requests at a steady pace; yields the list of those that were not answered with 200."""
    failures: list[str] = []
    done = threading.Event()

    def send() -> None:
        url = f"{platform.url('gateway')}/models/iris/predict"
        with httpx.Client(headers={"X-Environment": "production"}, timeout=30) as client:
            while not done.wait(PACE):
                try:
                    answer = client.post(url, json={"features": SETOSA})
                except httpx.HTTPError as error:
                    failures.append(repr(error))
                    continue
                if answer.status_code != httpx.codes.OK:
                    failures.append(f"{answer.status_code} {answer.text}")

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield failures
    finally:
        done.set()
        thread.join()


def test_the_demo_leaves_all_models_answering_in_production(platform: Checkout) -> None:
    iris = platform.predict("iris", SETOSA)
    assert iris.json()["prediction"] == "setosa"
    assert iris.json()["model"]["version"] == iris.headers["X-Model-Version"]
    assert iris.headers["X-Environment"] == "production"
    mail = {"email_content": "CONGRATULATIONS you WON 1,000,000 EUR, claim your prize now!!!"}
    asked = {"entities": {"sender": "sender-017@example.com"}, "features": mail}
    assert platform.ask("spam-detector", asked).json()["prediction"] == "spam"
    answer = platform.ask("customer-churn", {"entities": {"customer_id": 17}}).json()
    assert answer["prediction"] in ("churn", "stay")


def test_a_bare_predict_goes_to_the_default_model_in_staging(platform: Checkout) -> None:
    url = f"{platform.url('gateway')}/predict"
    answer = httpx.post(url, json={"features": SETOSA})
    assert answer.json()["model"]["name"] == "iris"
    assert answer.headers["X-Environment"] == "staging"


def test_the_demo_run_again_is_harmless(platform: Checkout) -> None:
    before = httpx.get(f"{platform.url('gateway')}/models/iris/model/info").json()
    assert "setosa" in platform.must("demo")
    after = httpx.get(f"{platform.url('gateway')}/models/iris/model/info").json()
    assert before["contract"] == after["contract"]


def test_a_version_from_any_mlflow_client_reaches_production_without_a_failed_request(
    platform: Checkout,
) -> None:
    with constant_traffic(platform) as failures:
        version = iris_version(platform, seed=7)
        wait_for(lambda: in_production(platform, "iris", SETOSA, version), "the new iris version")
    assert failures == []
    client = mlflow.MlflowClient(platform.url("mlflow"))
    wait_for(
        lambda: str(client.get_registered_model("iris").aliases.get("production")) == str(version),
        "MLflow's alias",
    )
    registered = client.get_model_version("iris", str(version))
    path = registered.tags["slipway.certificate"].removeprefix("runs:/").split("/", 1)
    local = client.download_artifacts(path[0], path[1], str(platform.folder))
    with open(local, "rb") as file:
        certificate = decode_certificate(file.read())
    assert certificate.passed
    assert {c.kind for c in certificate.parity.comparisons} == {"reference", "thresholds", "edges"}


def test_a_model_of_ones_own_gets_there_by_one_yaml_and_one_registration(
    platform: Checkout,
) -> None:
    configure(platform, "wine", "promotion: auto\n")
    features, labels = load_wine(return_X_y=True, as_frame=True)
    model = make_pipeline(
        StandardScaler(), HistGradientBoostingClassifier(max_iter=20, random_state=0)
    ).fit(features, labels)
    version = register(
        platform,
        "wine",
        model,
        features,
        input_example=features.head(50),
        skops_trusted_types=HISTOGRAM_TYPES,
    )
    row = features.iloc[0].to_dict()
    answer = wait_for(
        lambda: (a := platform.predict("wine", row)).is_success and a, "wine in production"
    )
    assert answer.json()["model"]["version"] == str(version)
    assert answer.json()["prediction"] == int(labels[0])


@pytest.fixture(scope="module")
def staged_by_hand(platform: Checkout) -> int:
    """Version 1 of a model that waits in staging for `slipway promote`."""
    configure(platform, "cancer", "promotion: manual\n")
    features, labels = load_breast_cancer(return_X_y=True, as_frame=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(features, labels)
    version = register(platform, "cancer", model, features, input_example=features.head(50))
    wait_for(
        lambda: any(r.status == "SUCCESS" for r in platform.dagster.runs("cancer_to_staging", "1")),
        "cancer in staging",
    )
    return version


def test_a_bento_whose_onnx_was_exchanged_is_refused_and_deployed_once_it_is_whole_again(
    platform: Checkout, staged_by_hand: int
) -> None:
    (onnx,) = platform.home.bentoml.glob("bentos/cancer/*/src/model/model.onnx")
    original = onnx.read_bytes()
    onnx.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    refused = platform.slipway("promote", "cancer", "--version", str(staged_by_hand))
    assert refused.returncode == 1
    assert "exchanged" in refused.stderr
    assert refused.stderr.count("\n") == 1
    row = {field["name"]: 1.0 for field in contract_inputs(platform, "cancer")}
    assert platform.predict("cancer", row).status_code == httpx.codes.SERVICE_UNAVAILABLE
    onnx.write_bytes(original)
    platform.must("promote", "cancer", "--version", str(staged_by_hand))
    assert platform.predict("cancer", row).status_code == httpx.codes.OK


def contract_inputs(platform: Checkout, model: str) -> list[dict[str, Any]]:
    """From the server in staging."""
    url = f"{platform.url('gateway')}/models/{model}/model/info"
    inputs: list[dict[str, Any]] = httpx.get(url).json()["contract"]["inputs"]
    return inputs


def test_an_export_exchanged_before_the_build_is_refused(
    platform: Checkout, staged_by_hand: int
) -> None:
    onnx = platform.home.versions / "iris" / "1" / "model.onnx"
    original = onnx.read_bytes()
    onnx.write_bytes(original + b"\0")
    try:
        run_id = platform.dagster.launch("iris_to_staging", "1", {}, ["iris__bento"])
        run = wait_for(
            lambda: (r := platform.dagster.run(run_id)).status in ("SUCCESS", "FAILURE") and r,
            "the bento step",
        )
    finally:
        onnx.write_bytes(original)
    assert run.status == "FAILURE"
    assert "the ONNX file was exchanged" in run.error


def test_a_version_without_a_signature_fails_in_its_own_partition_with_the_fix(
    platform: Checkout,
) -> None:
    configure(platform, "unsigned", "promotion: auto\n")
    features, labels = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=200).fit(features, labels)
    version = register(platform, "unsigned", model, features, signature=False)
    failed = wait_for(
        lambda: [
            r
            for r in platform.dagster.runs("unsigned_to_staging", str(version))
            if r.status == "FAILURE"
        ],
        "the failed run",
    )
    error = platform.dagster.run(failed[0].run_id).error
    assert error is not None
    assert "no signature" in error
    assert "infer_signature" in error


def test_an_older_version_comes_back_only_when_a_person_says_so(platform: Checkout) -> None:
    newest = iris_version(platform, seed=11)
    wait_for(lambda: in_production(platform, "iris", SETOSA, newest), "the newest iris version")
    automatic = {"slipway/automatic": "true"}
    run_id = platform.dagster.launch("iris_to_production", "1", automatic)
    wait_for(lambda: platform.dagster.run(run_id).status == "SUCCESS", "the automatic run")
    assert in_production(platform, "iris", SETOSA, newest)
    # It may be in its bake time: at once, then.
    platform.must("promote", "iris", "--version", "1", "--policy", "direct")
    assert in_production(platform, "iris", SETOSA, 1)
    platform.must("promote", "iris", "--version", str(newest), "--policy", "direct")
    assert in_production(platform, "iris", SETOSA, newest)
