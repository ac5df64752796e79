"""The loop closes: traffic shifts, drift is seen, an alert goes out, and a retrained version that
passes every gate takes over."""

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris

from tests.end_to_end.harness import SETOSA, Checkout, wait_for

# MLflow's client keeps its connections for the life of the process.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)

SETTINGS = """\
promotion: auto
training: orchestration.examples.iris:train
release: {production: {policy: direct, bake_seconds: 0}}
drift: {window_hours: 24, min_rows: 200}
quality: {metric: accuracy, limit: 0.9, min_labels: 100}
retraining: {failures: 2, cool_down_hours: 0.01, min_labelled_rows: 100}
"""
ROWS = 300


class Receiver(ThreadingHTTPServer):
    """A webhook that keeps what it gets."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append(json.loads(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def iris(receiver: Receiver) -> Iterator[Checkout]:
    """A platform with iris alone, version 1 in production."""
    made = Checkout.make(SLIPWAY_ALERT_WEBHOOK_URL=f"http://127.0.0.1:{receiver.server_port}/")
    try:
        models = made.folder / "serving_config" / "models"
        shutil.rmtree(models)
        models.mkdir()
        (models / "iris.yaml").write_text(SETTINGS)
        made.must("up", "--detach")
        made.must("train", "iris")
        wait_for(lambda: version(made) == "1", "version 1 in production")
        yield made
    finally:
        made.close()


def version(platform: Checkout) -> str | None:
    """The version that answers in production."""
    return platform.predict("iris", SETOSA).headers.get("X-Model-Version")


@dataclass
class Sent:
    """Requests that were answered, with the truth about each."""

    truth: dict[str, str] = field(default_factory=dict)

    def send(self, platform: Checkout, scale: float, seed: int) -> None:
        """Flowers of the data, drawn with replacement, all measures times `scale`."""
        data = load_iris(as_frame=True)
        chosen = np.random.default_rng(seed).integers(0, len(data.data), ROWS)
        url = f"{platform.url('gateway')}/models/iris/predict"
        with httpx.Client(headers={"X-Environment": "production"}, timeout=30) as client:
            for i in chosen:
                values = (data.data.iloc[i] * scale).round(4).tolist()
                features = dict(zip(SETOSA, values, strict=True))
                answer = client.post(url, json={"features": features})
                assert answer.status_code == 200, answer.text
                species = str(data.target_names[data.target[i]])
                self.truth[answer.json()["request_id"]] = species

    def labels(self, folder: Path) -> Path:
        path = folder / "labels.parquet"
        pd.DataFrame(
            {"request_id": list(self.truth), "label": list(self.truth.values())}
        ).to_parquet(path)
        return path


def logged(platform: Checkout) -> list[str]:
    """The request ids in the log, each as often as it is there."""
    found = json.loads(platform.must("predictions", "iris", "--limit", "100000", "--json"))
    return [row["request_id"] for row in found]


def firing(receiver: Receiver) -> set[str]:
    """The names of all alerts that were sent as firing."""
    return {
        alert["labels"]["alertname"]
        for message in receiver.received
        for alert in message["alerts"]
        if alert["status"] == "firing"
    }


def test_shifted_traffic_is_seen_alerted_and_learnt(
    iris: Checkout, receiver: Receiver, tmp_path: Path
) -> None:
    normal, shifted, after = Sent(), Sent(), Sent()
    normal.send(iris, scale=1.0, seed=1)
    wait_for(lambda: set(normal.truth) <= set(logged(iris)), "the answers in the log")
    assert iris.slipway("drift", "iris").returncode == 0

    shifted.send(iris, scale=1.6, seed=2)
    both = normal.truth | shifted.truth
    wait_for(lambda: set(both) <= set(logged(iris)), "the answers in the log")
    iris.must("compact")
    ids = logged(iris)
    assert all(ids.count(identity) == 1 for identity in both)

    iris.must("labels", "iris", str(shifted.labels(tmp_path)))
    for _ in range(2):
        drifted = iris.slipway("drift", "iris")
        assert drifted.returncode == 1, drifted.stdout
    wait_for(lambda: "DataDrift" in firing(receiver), "the alert")

    wait_for(lambda: version(iris) == "2", "a retrained version in production", 300)
    client = mlflow.MlflowClient(iris.url("mlflow"))
    tags = client.get_model_version("iris", "2").tags
    assert "drift" in tags["slipway.training_reason"]
    assert tags["slipway.actor"] == "retraining_sensor"

    after.send(iris, scale=1.6, seed=3)
    wait_for(lambda: set(after.truth) <= set(logged(iris)), "the answers in the log")
    again = iris.slipway("drift", "iris")
    assert again.returncode == 0, again.stdout + again.stderr
