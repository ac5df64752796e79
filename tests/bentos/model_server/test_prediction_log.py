"""What a model server logs of the answers that it gives."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bentos.model_server.bundle import CacheLimits, Limits, LoggedColumns
from bentos.prediction_log.segments import Block, Header, read_blocks, read_header
from bentos.prediction_log.settings import PredictionLogSettings
from deploy.home import Home
from deploy.keys import PLATFORM, KeyStore
from tests.bentos.model_server import models
from tests.bentos.model_server.clients import (
    GOOD,
    JSON,
    App,
    assert_problem,
    serving,
    wait_for_metric,
)
from tests.bentos.model_server.v2_requests import send, tensor, written
from tests.bentos.prediction_log.writing import file_size_limit, paths

BAD = {"features": GOOD | {"sepal_length": "x"}}


def settings(folder: Path, **more: Any) -> PredictionLogSettings:
    return PredictionLogSettings(folder / "log", "staging", **more)


@dataclass
class Logged:
    """Rows as dictionaries."""

    header: Header
    rows: list[dict[str, Any]]


def logged(folder: Path) -> Logged:
    """All of one server, which has ended: every segment is complete."""
    header, rows = None, []
    for path in sorted(paths(folder)):
        assert path.suffix == ".seg"
        with path.open("rb") as file:
            header = read_header(file)
            assert header is not None
            for block in read_blocks(file):
                rows += _rows(header, block)
    assert header is not None
    return Logged(header, rows)


def _rows(header: Header, block: Block) -> Iterator[dict[str, Any]]:
    names = ("request_id", "row", "status", "source", "prediction", "entities", "lookups")
    for i, when in enumerate(block.time):
        row = {name: getattr(block, name)[i] for name in names}
        row |= {n: c[i] for n, c in zip(header.columns, block.features, strict=True)}
        shares = zip(header.classes, block.probabilities, strict=True)
        yield row | {"probabilities": {n: c[i] for n, c in shares}, "time": when}


@pytest.mark.parametrize("durable", [False, True])
def test_every_answer_of_an_inference_route_is_logged_and_no_other(
    durable: bool, iris: models.Parts, tmp_path: Path
) -> None:
    with serving(iris, tmp_path / "m", log=settings(tmp_path, durable=durable)) as app:
        one = app.predict(**GOOD).json()
        many = app.post(
            "/predict/batch", {"instances": [GOOD, GOOD | {"petal_length": 6.0}]}
        ).json()
        v2 = send(app, *written([tensor("input", [[1, 2, 3, 4]], "FP64")]))
        refused = app.post("/predict", BAD)
        app.client.get("/predict")
        app.client.options("/predict")
        app.client.get("/model/info")
        app.client.get("/no/such/path")
    assert (v2.status_code, refused.status_code) == (200, 422)
    found = logged(tmp_path / "log" / "segments" / "staging" / "iris" / "3")
    assert found.header.environment == "staging"
    assert found.header.onnx_sha256 == iris.contract.onnx_sha256
    assert (found.header.columns, found.header.classes) == (models.IRIS, models.SPECIES)
    keys = [(row["request_id"], row["row"], row["status"]) for row in found.rows]
    assert keys[:4] == [
        (one["request_id"], 0, 200),
        (many["request_id"], 0, 200),
        (many["request_id"], 1, 200),
        (v2.headers["x-request-id"], 0, 200),
    ]
    assert [status for _, _, status in keys[4:]] == [422]
    first = found.rows[0]
    assert {name: first[name] for name in models.IRIS} == GOOD
    assert first["prediction"] == one["prediction"]
    assert first["probabilities"] == one["probabilities"]
    assert [row["prediction"] for row in found.rows[1:3]] == many["predictions"]
    nothing = found.rows[4]
    assert not any(nothing[name] for name in (*models.IRIS, "prediction", "entities"))
    assert {row["source"] for row in found.rows} == {"client"}


def test_a_cached_answer_is_logged_as_any_other(iris: models.Parts, tmp_path: Path) -> None:
    limits = Limits(cache=CacheLimits())
    with serving(iris, tmp_path / "m", limits, log=settings(tmp_path)) as app:
        answers = [app.predict(**GOOD) for _ in range(3)]
    assert answers[-1].headers["x-cache"] == "hit"
    rows = logged(tmp_path).rows
    assert [row["request_id"] for row in rows] == [a.json()["request_id"] for a in answers]
    assert {row["prediction"] for row in rows} == {answers[0].json()["prediction"]}


def test_a_regression_and_texts_and_integers_are_logged_as_they_are(tmp_path: Path) -> None:
    row = {"age": 41, "income": 10.5, "visits": 3, "member": True, "note": 'ä "quote" \u2028'}
    parts = models.mixed()
    with serving(parts, tmp_path / "m", log=settings(tmp_path)) as app:
        answer = app.post("/predict", {"features": row}).json()
    found = logged(tmp_path)
    assert found.header.regression
    assert found.header.classes == ()
    (kept,) = found.rows
    assert {name: kept[name] for name in row} == row
    assert kept["member"] is True
    assert kept["prediction"] == answer["prediction"]


@pytest.mark.parametrize(
    ("headers", "source"),
    [
        ({}, "client"),
        ({"x-slipway-copy": "1"}, "mirror"),
        ({"x-envoy-internal": "true"}, "client"),
        ({"x-slipway-probe": "1"}, "probe"),
    ],
)
def test_it_says_who_asked(
    headers: dict[str, str], source: str, iris: models.Parts, tmp_path: Path
) -> None:
    with serving(iris, tmp_path / "m", log=settings(tmp_path)) as app:
        app.client.post("/predict", content=json.dumps({"features": GOOD}), headers=JSON | headers)
    assert [row["source"] for row in logged(tmp_path).rows] == [source]


def test_with_keys_only_the_platform_can_say_that_it_probes(
    iris: models.Parts, tmp_path: Path
) -> None:
    home = Home(tmp_path / "home").create()
    key = KeyStore(home).add("ann", ["predict"])
    platform = home.platform_key.read_text()
    content = json.dumps({"features": GOOD})
    with serving(iris, tmp_path / "m", keys=home.keys, log=settings(tmp_path)) as app:
        for secret in (key, platform):
            said = {"x-slipway-probe": "1", "x-api-key": secret}
            assert app.client.post("/predict", content=content, headers=JSON | said).is_success
    assert [row["source"] for row in logged(tmp_path / "log").rows] == ["client", "probe"]
    assert PLATFORM == "slipway-platform"


def test_masked_columns_are_never_on_the_disk(spam: models.Parts, tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    assert home.pii_key.stat().st_mode & 0o777 == 0o600
    limits = Limits(prediction_log=LoggedColumns(hashed=("email_content",)))
    log = settings(tmp_path, pii_key=home.pii_key)
    with serving(spam, tmp_path / "m", limits, log=log) as app:
        for text in ("a secret text", "a secret text", "another"):
            assert app.predict(email_content=text).is_success
    (path,) = paths(tmp_path / "log")
    assert b"secret" not in path.read_bytes()
    first, again, other = (row["email_content"] for row in logged(tmp_path).rows)
    assert first == again != other
    assert len(first) == 64
    assert logged(tmp_path).header.dtypes == ("string",)


def test_a_model_whose_hashed_columns_have_no_key_is_refused(
    spam: models.Parts, tmp_path: Path
) -> None:
    limits = Limits(prediction_log=LoggedColumns(hashed=("email_content",)))
    with serving(spam, tmp_path / "m", limits, log=settings(tmp_path)) as app:
        assert_problem(app.client.get("/ready"), 503, "SLIPWAY_PII_KEY names no key")


def test_a_durable_answer_that_cannot_be_logged_is_not_given(
    iris: models.Parts, tmp_path: Path
) -> None:
    with serving(iris, tmp_path / "m", log=settings(tmp_path, durable=True)) as app:
        before = app.predict(**GOOD).json()
        with file_size_limit(0):
            refused = app.predict(**GOOD)
        after = app.predict(**GOOD).json()
        text = app.client.get("/metrics").text
    problem = assert_problem(refused, 503, "could not be written")
    assert problem["type"] == "urn:slipway:problem:prediction-not-logged"
    assert refused.headers["retry-after"] == "1"
    assert 'slipway_prediction_log_dropped_rows_total{reason="write_failed"} 1.0' in text
    ids = [row["request_id"] for row in logged(tmp_path).rows]
    assert ids == [before["request_id"], after["request_id"]]


def test_without_durability_a_full_disk_is_counted_and_serving_goes_on(
    iris: models.Parts, tmp_path: Path
) -> None:
    with serving(iris, tmp_path / "m", log=settings(tmp_path, flush_seconds=0.001)) as app:
        with file_size_limit(0):
            assert app.predict(**GOOD).is_success
            wait_for_metric(
                app, 'slipway_prediction_log_dropped_rows_total{reason="write_failed"} 1.0'
            )
        after = app.predict(**GOOD).json()
        text = wait_for_metric(app, "slipway_prediction_log_rows_total 1.0")
        assert "slipway_prediction_log_pending_rows 0.0" in text
        assert "slipway_prediction_log_flush_seconds_count 1.0" in text
    assert [row["request_id"] for row in logged(tmp_path).rows] == [after["request_id"]]


def test_without_a_folder_nothing_is_logged(iris_app: App) -> None:
    assert iris_app.predict(**GOOD).is_success
    assert iris_app.lifecycle.log is None


def test_a_client_that_left_is_logged_with_its_status(iris: models.Parts, tmp_path: Path) -> None:
    """As uvicorn tells it: the body never ends."""
    with serving(iris, tmp_path / "m", log=settings(tmp_path)) as app:

        async def leave() -> None:
            async def receive() -> dict[str, Any]:
                return {"type": "http.disconnect"}

            async def send(_: Any) -> None:
                raise AssertionError("there is nobody to answer")

            scope = {
                "type": "http", "method": "POST", "path": "/predict", "client": ("127.0.0.1", 1),
                "headers": [(b"content-type", b"application/json"), (b"x-request-id", b"left")],
            }  # fmt: skip
            await app.client.app(scope, receive, send)  # type: ignore[arg-type]

        app.client.portal.call(leave)  # type: ignore[union-attr]
    assert [(row["request_id"], row["status"]) for row in logged(tmp_path).rows] == [("left", 499)]


@dataclass
class Receiver:
    """Takes CloudEvents; answers with `status`."""

    url: str = ""
    status: int = 200
    events: list[tuple[dict[str, str], Any]] = field(default_factory=list)


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.events.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(receiver.status)
            if receiver.status == 302:
                self.send_header("location", f"{receiver.url}/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_port}/events?x=1"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_inferences_are_sent_as_kserves_cloud_events(spam: models.Parts, tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    limits = Limits(prediction_log=LoggedColumns(hashed=("email_content",)))
    with receiving() as receiver:
        log = PredictionLogSettings(
            None, "staging", flush_seconds=0.001, cloud_events_url=receiver.url,
            pii_key=home.pii_key,
        )  # fmt: skip
        with serving(spam, tmp_path / "m", limits, log=log) as app:
            answer = app.post(
                "/predict/batch", {"instances": [{"email_content": t} for t in ("win", "see you")]}
            ).json()
            app.post("/predict", {"features": {}})
            wait_for_metric(app, 'slipway_cloud_events_total{outcome="sent"} 2.0')
    (asked, request), (told, response) = receiver.events
    assert asked["ce-type"] == "org.kubeflow.serving.inference.request"
    assert told["ce-type"] == "org.kubeflow.serving.inference.response"
    for headers in (asked, told):
        assert headers["ce-id"] == answer["request_id"]
        assert headers["ce-specversion"] == "1.0"
        assert headers["ce-source"] == "/staging/spam-detector/2-int8"
        assert headers["ce-inferenceservicename"] == "spam-detector"
        assert headers["content-type"] == "application/json"
    assert b"see you" not in request
    instances = json.loads(request)["instances"]
    assert [len(row["email_content"]) for row in instances] == [64, 64]
    body = json.loads(response)
    assert body["predictions"] == answer["predictions"]
    assert body["probabilities"] == answer["probabilities"]


@pytest.mark.parametrize("status", [302, 500, None])
def test_cloud_events_that_are_not_taken_are_counted_and_go_nowhere_else(
    status: int | None, iris: models.Parts, tmp_path: Path
) -> None:
    with receiving() as receiver:
        receiver.status = status or 200
        url = receiver.url if status else "http://127.0.0.1:1/"
        log = settings(tmp_path, flush_seconds=0.001, cloud_events_url=url)
        with serving(iris, tmp_path / "m", log=log) as app:
            assert app.predict(**GOOD).is_success
            wait_for_metric(app, 'slipway_cloud_events_total{outcome="failed"} 2.0')
    assert len(receiver.events) == (2 if status else 0)
    assert len(logged(tmp_path).rows) == 1
