"""An int8 variant and a PyTorch version through the whole lifecycle, and an A/B with each."""

import json
import re
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import httpx
import mlflow
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.end_to_end.harness import Checkout, configure, wait_for

# MLflow's client keeps its connections for the life of the process.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)

MODEL, CHURN = "tumour", "customer-churn"
# Generous: a busy machine measures anything, and a network that was hardly trained is no matter.
SETTINGS = """\
promotion: manual
variants: [fp32, int8]
quantization: {max_label_flip_share: 0.1, max_auc_loss: 0.1, min_speedup: 1.0}
release:
  production:
    policy: canary
    steps: [50]
    min_requests: 20
    min_seconds: 1
    max_seconds: 300
    bake_seconds: 5
    replay: {max_disagreement: 1.0, rows: 0}
    analysis: {max_prediction_shift: 1.0}
"""


def data() -> tuple[pd.DataFrame, pd.Series]:
    features, numbers = load_breast_cancer(as_frame=True, return_X_y=True)
    features.columns = [name.replace(" ", "_") for name in features]
    return features, numbers.map({0: "malignant", 1: "benign"}).astype(str)


ROWS = data()[0].to_dict("records")


def register(platform: Checkout) -> int:
    """A network of 256-256 on 30 floats: wide enough that int8 is faster."""
    features, labels = data()
    layers = MLPClassifier((256, 256), solver="lbfgs", max_iter=15, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = make_pipeline(StandardScaler(), layers).fit(features, labels)
    mlflow.set_tracking_uri(platform.url("mlflow"))
    try:
        with mlflow.start_run():
            logged = mlflow.sklearn.log_model(
                model,
                name="model",
                registered_model_name=MODEL,
                pip_requirements=["scikit-learn"],
                signature=infer_signature(features, model.predict(features)),
                input_example=features,
            )
    finally:
        mlflow.set_tracking_uri(None)  # it is the process's, and other tests share that
    return int(logged.registered_model_version)


def staged(platform: Checkout, model: str, label: str) -> str:
    """Wait until staging has proved it."""

    def arrived() -> bool:
        runs = platform.dagster.runs(f"{model.replace('-', '_')}_to_staging", label)
        failed = next((run for run in runs if run.status == "FAILURE"), None)
        assert failed is None, platform.dagster.run(failed.run_id).error
        return any(run.status == "SUCCESS" for run in runs)

    wait_for(arrived, f"{model} version {label} in staging")
    return label


def weights(platform: Checkout, model: str, environment: str) -> dict[str, int]:
    live = json.loads(platform.must("status", "--json"))["live"]
    return {
        item["version"]: item["weight"]
        for item in live
        if (item["model"], item["environment"]) == (model, environment)
    }


@contextmanager
def load(platform: Checkout) -> Iterator[Counter[tuple[str | None, int]]]:
    """Requests without a pause; answers by (version, status)."""
    answers: Counter[tuple[str | None, int]] = Counter()
    done = threading.Event()

    def send() -> None:
        url = f"{platform.url('gateway')}/models/{MODEL}/predict"
        number = 0
        with httpx.Client(headers={"X-Environment": "production"}, timeout=60) as client:
            while not done.is_set():
                number += 1
                body = {"features": ROWS[number % len(ROWS)]}
                try:
                    answer = client.post(url, json=body)
                except httpx.HTTPError:
                    answers[None, 0] += 1
                    continue
                answers[answer.headers.get("X-Model-Version"), answer.status_code] += 1

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield answers
    finally:
        done.set()
        thread.join()


def names_itself(answer: httpx.Response, label: str) -> bool:
    """Whether body and header both say that this version answered."""
    number, _, variant = label.partition("-")
    said = answer.json()["model"]
    assert answer.headers["X-Model-Version"] in ("1", "1-int8")
    agree = (said["version"], said["variant"]) == (number, variant or "fp32")
    assert agree is (answer.headers["X-Model-Version"] == label)
    return agree


@pytest.fixture(scope="module")
def proved(platform: Checkout) -> None:
    """Version 1 in production, and its variant beside it in staging."""
    configure(platform, MODEL, SETTINGS)
    assert register(platform) == 1
    staged(platform, MODEL, "1")
    platform.must("promote", MODEL, "--version", "1")
    staged(platform, MODEL, "1-int8")


def test_a_variant_is_built_by_itself_and_waits_beside_its_version(
    platform: Checkout, proved: None
) -> None:
    assert weights(platform, MODEL, "staging") == {"1": 100, "1-int8": 0}
    assert weights(platform, MODEL, "production") == {"1": 100}
    staging = {"X-Environment": "staging"}
    assert names_itself(platform.predict(MODEL, ROWS[0], **staging), "1")
    pinned = platform.predict(MODEL, ROWS[0], **staging, **{"X-Model-Version": "1-int8"})
    assert names_itself(pinned, "1-int8")
    below = f"{platform.url('gateway')}/models/{MODEL}"
    by_path = httpx.post(f"{below}/versions/1-int8/predict", json={"features": ROWS[0]})
    assert names_itself(by_path, "1-int8")
    protocol = httpx.get(f"{below}/v2/models/{MODEL}/versions/1-int8").json()
    assert protocol["versions"] == ["1-int8"]
    info = httpx.get(f"{below}/versions/1-int8/model/info").json()
    assert info["certificate"]["parity_passed"]
    client = mlflow.MlflowClient(platform.url("mlflow"))
    tags = client.get_model_version(MODEL, "1").tags
    assert tags["slipway.int8.smoke_test"] == "passed"

    def aliases() -> dict[str, str]:
        found = client.get_registered_model(MODEL).aliases
        return {name: str(version) for name, version in found.items()}

    wait_for(lambda: aliases() == {"staging": "1", "production": "1"}, "MLflow's aliases")


def test_a_variant_is_released_by_canary_rolled_back_and_split(
    platform: Checkout, proved: None
) -> None:
    with load(platform) as answers:
        platform.must("promote", MODEL, "--version", "1-int8")
        assert weights(platform, MODEL, "production")["1-int8"] == 100
        assert names_itself(platform.predict(MODEL, ROWS[0]), "1-int8")
        platform.must("rollback", MODEL, "--reason", "an exercise")
        assert weights(platform, MODEL, "production")["1"] == 100
        # What left with the rollback is loaded again.
        platform.must("split", MODEL, "1=50", "1-int8=50")
        before = answers.copy()

        def both_answer() -> bool:
            since = answers - before
            return since["1", 200] > 0 and since["1-int8", 200] > 0

        wait_for(both_answer, "answers of both sides")
        platform.must("split", MODEL, "1=100")
    assert {status for _, status in answers} == {200}
    assert {version for version, _ in answers} == {"1", "1-int8"}
    pinned = {"X-Environment": "production", "X-Model-Version": "1-int8"}
    metrics = httpx.get(f"{platform.url('gateway')}/models/{MODEL}/metrics", headers=pinned).text
    assert 'variant="int8"' in metrics

    def logged() -> Any:
        return json.loads(platform.must("predictions", MODEL, "--version", "1-int8", "--json"))

    assert {row["label"] for row in wait_for(logged, "the variant's rows in the log")} == {"1-int8"}


def test_what_is_no_version_or_not_verified_changes_nothing(
    platform: Checkout, proved: None
) -> None:
    before = weights(platform, MODEL, "production")
    for label, words in (
        ("1-fp32", "write 3, or 3-int8"),
        ("2", "version 2 is not built here (built: 1, 1-int8)"),
    ):
        refused = platform.slipway("split", MODEL, "1=50", f"{label}=50")
        assert refused.returncode != 0
        assert words in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert weights(platform, MODEL, "production") == before


@pytest.mark.skipif(find_spec("torch") is None, reason="the extra torch is not installed")
def test_two_frameworks_are_held_against_each_other_by_one_command(platform: Checkout) -> None:
    path = platform.folder / "serving_config" / "models" / f"{CHURN}.yaml"
    settings = path.read_text()
    configure(platform, CHURN, settings.replace("promotion: auto", "promotion: manual"))
    try:
        (trees,) = [
            label for label, share in weights(platform, CHURN, "production").items() if share == 100
        ]
        said = platform.must("train", CHURN, "--with", "pytorch")
        found = re.search(rf"{CHURN} version (\d+)", said)
        assert found is not None, said
        network = staged(platform, CHURN, found[1])
        platform.must("split", CHURN, f"{trees}=50", f"{network}=50")
        answers = [
            platform.ask(CHURN, {"entities": {"customer_id": number}}) for number in range(1, 61)
        ]
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.headers["X-Model-Version"] for answer in answers} == {trees, network}
        assert {answer.json()["prediction"] for answer in answers} <= {"churn", "stay"}
        platform.must("split", CHURN, f"{trees}=100")
    finally:
        configure(platform, CHURN, settings)
