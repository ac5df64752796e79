"""A built Bento, served by its tag with nothing else: no variable, no checkout."""

import concurrent.futures
import json
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from bentos.model_server.bundle import BundleError, bento_digest, read_bundle
from bentos.model_server.settings import from_environment
from bentos.prediction_log.segments import read_blocks, read_header
from bentos.prediction_log.settings import PredictionLogSettings
from deploy.home import Home
from deploy.keys import KeyStore
from deploy.targets.local import server_process
from orchestration.build_bento import BuiltBento, build_bento
from serving_config.predictions import PredictionLog
from serving_config.schema import Environment, Serving
from tests.bentos.model_server.clients import (
    Server,
    bentoml_serve,
    port_is_free,
    wait_for,
)
from tests.bentos.model_server.models import SPECIES, Parts
from tests.bentos.prediction_log.writing import paths


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bentoml")


@pytest.fixture(scope="module")
def bento(iris: Parts, home: Path) -> BuiltBento:
    return build_bento(iris.write(home / "model"), Serving(max_rows=100), home)


@pytest.fixture(scope="module")
def server(bento: BuiltBento, home: Path) -> Iterator[Server]:
    with bentoml_serve(bento.tag, home) as server:
        wait_for(server, "/ready", 200)
        yield server


def test_a_bento_served_by_its_tag_reproduces_the_golden_rows(iris: Parts, server: Server) -> None:
    golden = iris.certificate.golden
    batch = server.client.post("/predict/batch", json={"instances": list(golden.rows)}).json()
    assert batch["predictions"] == [answer.prediction for answer in golden.batch]
    got = [tuple(p[label] for label in SPECIES) for p in batch["probabilities"]]
    assert got == [answer.probabilities for answer in golden.batch]
    for row, answer in zip(golden.rows, golden.single, strict=True):
        one = server.client.post("/predict", json={"features": row}).json()
        assert tuple(one["probabilities"].values()) == answer.probabilities
        assert one["prediction"] == answer.prediction


def test_it_says_which_bento_it_is(bento: BuiltBento, server: Server) -> None:
    info = server.client.get("/model/info").json()
    assert info["lineage"]["bento"] == bento.tag
    assert f'bento="{bento.tag}"' in server.client.get("/metrics").text


def test_bad_input_is_a_problem_over_the_wire(server: Server) -> None:
    response = server.client.post("/predict", json={"features": {"sepal_length": "x"}})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert len(response.json()["errors"]) == 4
    too_many = server.client.post("/predict/batch", json={"instances": [[1, 2, 3, 4]] * 101})
    assert too_many.status_code == 413


def test_a_body_over_the_limit_is_answered_over_the_wire(server: Server) -> None:
    json = {"content-type": "application/json"}
    body = b" " * ((4 << 20) + 1)
    assert server.client.post("/predict", content=body, headers=json).status_code == 413
    chunks = (b" " * 65536 for _ in range(66))
    try:
        status = server.client.post("/predict", content=chunks, headers=json).status_code
    except httpx.TransportError:
        # The server closed while we were still sending; then an answer may be lost on the way.
        status = 413
    assert status == 413
    assert server.client.get("/ready").status_code == 200


def test_docs_and_schema_are_served(server: Server) -> None:
    assert "swagger-ui" in server.client.get("/docs").text
    assert len(server.client.get("/docs/swagger-ui-bundle.js").content) > 100_000
    assert "Features" in server.client.get("/openapi.json").json()["components"]["schemas"]


def test_bentomls_own_probes_answer_with_our_headers(server: Server) -> None:
    for path in ("/livez", "/healthz", "/readyz"):
        response = server.client.get(path)
        assert (response.status_code, response.headers["x-model-version"]) == (200, "3")


def test_it_listens_on_loopback_alone(server: Server) -> None:
    addresses = {
        connection.laddr.ip
        for process in server.family()
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


def test_serving_does_not_change_the_bentos_digest(bento: BuiltBento, server: Server) -> None:
    assert server.client.get("/ready").status_code == 200
    assert bento_digest(bento.path) == bento.digest
    assert (read_bundle(bento.path).digest) == bento.digest


def test_what_serves_imports_none_of_what_trains(bento: BuiltBento, server: Server) -> None:
    worker = server.master.children()[0]
    opened = {Path(entry.path).name for entry in worker.memory_maps()}
    assert not any("sklearn" in name or "_openmp_helpers" in name for name in opened)
    assert any(name.startswith("onnxruntime_pybind11_state") for name in opened)


def test_sigterm_turns_ready_off_finishes_requests_and_exits_with_zero(
    bento: BuiltBento, home: Path
) -> None:
    with bentoml_serve(bento.tag, home, SLIPWAY_DRAIN_SECONDS="1") as server:
        wait_for(server, "/ready", 200)
        port = server.client.base_url.port
        assert port is not None
        head = (
            b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 91\r\n\r\n"
        )
        body = (
            b'{"features": {"sepal_length":5,"sepal_width":3,'
            b'"petal_length":1.5,"petal_width":0.25}}'
        )
        with socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
            slow.sendall(head + body[:40])
            server.master.terminate()
            draining = wait_for(server, "/ready", 503, seconds=5)
            assert draining.json()["type"] == "urn:slipway:problem:draining"
            time.sleep(1.5)
            slow.sendall(body[40:].ljust(91 - 40))
            assert slow.recv(65536).startswith(b"HTTP/1.1 200")
        assert server.master.wait(10) == 0
        assert port_is_free(port)


def test_each_answer_is_one_json_line_with_request_version_and_trace(
    iris: Parts, server: Server
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"x-request-id": "order-17", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    body = {"instances": [iris.contract.example] * 3}
    assert server.client.post("/predict/batch", json=body, headers=headers).status_code == 200
    deadline = time.monotonic() + 10
    while "order-17" not in server.log.read_text():
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.05)
    line = next(line for line in server.log.read_text().splitlines() if "order-17" in line)
    said = json.loads(line)
    assert said["logger"] == "slipway.access"
    assert (said["path"], said["status"], said["rows"]) == ("/predict/batch", 200, 3)
    assert (said["model"], said["version"], said["trace_id"]) == ("iris", "3", trace)
    assert 0 < said["duration_ms"] < 10_000


def test_two_workers_add_up_their_metrics_and_die_with_their_master(
    iris: Parts, bento: BuiltBento, home: Path
) -> None:
    with bentoml_serve(bento.tag, home, SLIPWAY_WORKERS="2") as server:
        wait_for(server, "/ready", 200)
        address, example = server.client.base_url, {"features": iris.contract.example}

        def ask(_: int) -> int:
            # A connection each, so that the kernel deals them out to both workers, of which one
            # may still be loading.
            return httpx.post(f"{address}/predict", json=example).status_code

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answered = list(pool.map(ask, range(60))).count(200)
        line = f'slipway_requests_total{{route="/predict",status="200"}} {answered}.0'
        assert answered > 0
        assert all(line in httpx.get(f"{address}/metrics").text for _ in range(6))

        family = server.family()
        assert len(family) == 3
        server.master.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(family, timeout=5)
        assert alive == []
        assert port_is_free(address.port or 0)


def test_what_two_workers_answered_is_in_the_prediction_log_once_when_they_have_drained(
    iris: Parts, bento: BuiltBento, home: Path, tmp_path: Path
) -> None:
    example = {"features": iris.contract.example}
    with bentoml_serve(
        bento.tag,
        home,
        SLIPWAY_WORKERS="2",
        SLIPWAY_PREDICTION_LOG=str(tmp_path),
        SLIPWAY_PREDICTION_FLUSH_SECONDS="60",  # what is there at the end, draining has written
        SLIPWAY_ENVIRONMENT="staging",
    ) as server:
        wait_for(server, "/ready", 200)
        url = f"{server.client.base_url}/predict"
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: httpx.post(url, json=example), range(60)))
        server.master.terminate()
        assert server.master.wait(10) == 0
    found = paths(tmp_path / "segments" / "staging" / "iris" / "3")
    assert {path.suffix for path in found} == {".seg"}
    logged = []
    for path in found:
        with path.open("rb") as file:
            assert read_header(file) is not None
            for block in read_blocks(file):
                logged += list(zip(block.request_id, block.status, strict=True))
    # A worker that was still loading has no log yet, and refused.
    answered = [r.headers["x-request-id"] for r in answers if r.status_code == 200]
    assert answered
    assert sorted(key for key, status in logged if status == 200) == sorted(answered)


def test_a_dead_worker_is_replaced_and_what_it_counted_stays(
    iris: Parts, bento: BuiltBento, home: Path
) -> None:
    example = {"features": iris.contract.example}
    with bentoml_serve(bento.tag, home, SLIPWAY_WORKERS="2") as server:
        wait_for(server, "/ready", 200)
        before = set(server.master.children())
        answered = ask_until_answered(server, example)
        wait_for_count(server, answered)  # which comes after the answer
        for worker in before:  # either of them may have counted the request
            worker.kill()
        deadline = time.monotonic() + 30
        while len(set(server.master.children()) - before) < len(before):
            assert time.monotonic() < deadline, server.log.read_text()
            time.sleep(0.05)
        answered += ask_until_answered(server, example)
        wait_for_count(server, answered)


def wait_for_count(server: Server, answered: int) -> None:
    """Until the metrics know of so many good answers, and of no other number."""
    line = f'slipway_requests_total{{route="/predict",status="200"}} {answered}.0'
    deadline = time.monotonic() + 30
    while line not in (text := wait_for(server, "/metrics", 200).text):
        assert time.monotonic() < deadline, text
        time.sleep(0.05)


def ask_until_answered(server: Server, body: dict[str, Any]) -> int:
    """One good answer; before it, a worker may be gone or still loading."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if server.client.post("/predict", json=body).status_code == 200:
                return 1
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(server.log.read_text())


def test_keys_that_are_added_while_it_serves_are_asked_for(
    iris: Parts, bento: BuiltBento, home: Path
) -> None:
    store = KeyStore(Home(home / "slipway"))
    with bentoml_serve(bento.tag, home, SLIPWAY_KEYS=str(store.home.keys)) as server:
        wait_for(server, "/ready", 200)
        example = {"features": iris.contract.example}
        assert server.client.post("/predict", json=example).status_code == 200
        key = store.add("ann", ["predict"])
        deadline = time.monotonic() + 5
        while server.client.post("/predict", json=example).status_code != 401:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        answered = server.client.post("/predict", json=example, headers={"x-api-key": key})
        assert answered.status_code == 200
        assert key not in server.log.read_text()


def test_an_exchanged_model_in_a_bento_is_never_ready(
    iris: Parts, bento: BuiltBento, home: Path, tmp_path: Path
) -> None:
    shutil.copytree(home / "bentos", tmp_path / "bentos")
    copy = tmp_path / bento.path.relative_to(home)
    (copy / "src" / "model" / "model.onnx").write_bytes(iris.onnx + b"\0")
    with pytest.raises(BundleError, match=rf"contract\.json is for {iris.contract.onnx_sha256}"):
        read_bundle(copy)
    with bentoml_serve(bento.tag, tmp_path) as server:
        problem = wait_for_kind(server, "urn:slipway:problem:model-refused")
        assert iris.contract.onnx_sha256[:12] in problem["detail"]
        for path in ("/ready", "/readyz", "/model/info"):
            assert server.client.get(path).status_code == 503
        assert server.client.get("/health").status_code == 200
        assert server.log.read_text().count("refused and will not be served") == 1


def wait_for_kind(server: Server, kind: str) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        problem: dict[str, Any] = wait_for(server, "/ready", 503).json()
        if problem["type"] == kind:
            return problem
        time.sleep(0.05)
    raise AssertionError(server.log.read_text())


def test_the_prediction_log_of_the_environment_is_in_variables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment = Environment(
        name="staging", prediction_log=PredictionLog(durability="durable", flush_seconds=0.0004)
    )
    assert from_environment("iris:3").prediction_log is None
    process = server_process("iris@1", 1, "iris:3", environment, Home(tmp_path))
    for name, value in process.environment.items():
        monkeypatch.setenv(name, value)
    assert from_environment("iris:3").prediction_log == PredictionLogSettings(
        tmp_path / "predictions",
        "staging",
        durable=True,
        flush_seconds=0.0004,
        pii_key=tmp_path / "pii.key",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLIPWAY_PREDICTION_LOG", "relative"),
        ("SLIPWAY_ENVIRONMENT", "../up"),
        ("SLIPWAY_PREDICTION_DURABILITY", "mostly"),
        ("SLIPWAY_PREDICTION_MAX_PENDING", "0"),
        ("SLIPWAY_CLOUD_EVENTS_URL", "ftp://events.example"),
    ],
)
def test_a_wrong_variable_of_the_prediction_log_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    monkeypatch.setenv("SLIPWAY_PREDICTION_LOG", str(tmp_path))
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name} must be"):
        from_environment("iris:3")


@pytest.mark.parametrize(
    ("value", "url"), [("redis://cache.example", "redis://cache.example"), ("", None)]
)
def test_the_cache_of_the_environment_is_a_variable(
    monkeypatch: pytest.MonkeyPatch, value: str, url: str | None
) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE_URL", value)
    assert from_environment("iris:3").cache_url == url


def test_the_feature_transformer_is_in_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    assert from_environment("iris:3").features_url is None
    monkeypatch.setenv("SLIPWAY_FEATURES_URL", "http://127.0.0.1:8090")
    monkeypatch.setenv("SLIPWAY_FEATURES_TIMEOUT", "0.25")
    monkeypatch.setenv("SLIPWAY_FEATURES_KEY_FILE", "/run/platform.key")
    settings = from_environment("iris:3")
    assert settings.features_url == "http://127.0.0.1:8090"
    assert settings.features_timeout == 0.25
    assert settings.features_key == Path("/run/platform.key")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SLIPWAY_FEATURES_URL", "127.0.0.1:8090"),
        ("SLIPWAY_FEATURES_URL", "ftp://features.example"),
        ("SLIPWAY_FEATURES_URL", "http://:8090"),
        ("SLIPWAY_FEATURES_URL", "http://features.example:port"),
        ("SLIPWAY_FEATURES_URL", "ftp://user:secret@features.example"),
        ("SLIPWAY_FEATURES_TIMEOUT", "0"),
        ("SLIPWAY_FEATURES_KEY_FILE", "platform.key"),
    ],
)
def test_a_feature_transformer_that_cannot_be_asked_is_refused_at_start(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=variable) as refused:
        from_environment("iris:3")
    assert "secret" not in str(refused.value)


# Importing BentoML warns about what it imports itself.
@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .__get_pydantic_core_schema__:DeprecationWarning")
@pytest.mark.parametrize("value", ["many", "0", "nan", "-1"])
def test_a_setting_that_no_worker_could_read_stops_the_master(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    from bentos.model_server.service import Inner

    monkeypatch.setenv("SLIPWAY_THREADS", value)
    with pytest.raises(ValueError, match=f"SLIPWAY_THREADS must be a number .* is '{value}'"):
        Inner.prepare()


# Importing BentoML warns about what it imports itself.
@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .__get_pydantic_core_schema__:DeprecationWarning")
def test_a_relative_path_to_the_keys_stops_the_master(monkeypatch: pytest.MonkeyPatch) -> None:
    from bentos.model_server.service import Inner

    monkeypatch.setenv("SLIPWAY_KEYS", "keys.json")
    with pytest.raises(ValueError, match=r"SLIPWAY_KEYS must be an absolute path, is 'keys\.json'"):
        Inner.prepare()
