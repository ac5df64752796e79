import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from bentos.model_server.app import ModelServer
from bentos.model_server.bundle import Limits
from bentos.model_server.certificate import Answer, Certificate
from bentos.model_server.lifecycle import Lifecycle
from bentos.model_server.metrics import Metrics
from bentos.model_server.settings import Settings
from tests.bentos.model_server.clients import JSON, LOOPBACK, TestClient, wait_until_decided
from tests.bentos.model_server.models import Parts

replace = msgspec.structs.replace


@contextmanager
def started(folder: Path) -> Iterator[tuple[TestClient, Lifecycle]]:
    lifecycle = Lifecycle(Settings(folder), Metrics(None))
    with TestClient(ModelServer(lifecycle), client=LOOPBACK) as client:
        wait_until_decided(lifecycle)
        yield client, lifecycle


def refusal(folder: Path) -> str:
    with started(folder) as (client, _):
        assert client.get("/health").status_code == 200
        assert client.get("/readyz").status_code == 503
        prediction = client.post("/predict", content=b"{}", headers=JSON)
        response = client.get("/ready")
    assert (prediction.status_code, response.status_code) == (503, 503)
    assert "retry-after" not in response.headers
    assert response.json()["type"] == "urn:slipway:problem:model-refused"
    detail: str = response.json()["detail"]
    return detail


def shifted(certificate: Certificate, amount: float) -> Certificate:
    golden = certificate.golden
    first = golden.single[0]
    assert first.probabilities is not None
    other = replace(first, probabilities=tuple(p + amount for p in first.probabilities))
    changed = replace(golden, single=(other, *golden.single[1:]))
    return replace(certificate, golden=changed)


def test_a_verified_model_becomes_ready(iris: Parts, tmp_path: Path) -> None:
    with started(iris.write(tmp_path)) as (client, lifecycle):
        assert client.get("/ready").status_code == 200
        assert client.get("/readyz").status_code == 200
        assert lifecycle.refusal is None


def test_an_exchanged_model_is_never_ready(iris: Parts, tmp_path: Path) -> None:
    folder = iris.write(tmp_path)
    (folder / "model.onnx").write_bytes(iris.onnx + b"\0")
    assert iris.contract.onnx_sha256[:12] in refusal(folder)


def test_a_certificate_for_another_digest_is_refused(iris: Parts, tmp_path: Path) -> None:
    certificate = replace(iris.certificate, onnx_sha256="f" * 64)
    folder = Parts(iris.onnx, iris.contract, certificate).write(tmp_path)
    assert "is for ONNX digest ffffffffffff" in refusal(folder)


def test_a_certificate_that_did_not_pass_is_refused(iris: Parts, tmp_path: Path) -> None:
    parity = replace(iris.certificate.parity, comparisons=())
    certificate = replace(iris.certificate, parity=parity)
    folder = Parts(iris.onnx, iris.contract, certificate).write(tmp_path)
    assert "did not pass conversion_parity" in refusal(folder)


@pytest.mark.parametrize("name", ["model.onnx", "contract.json", "certificate.json"])
def test_a_missing_file_is_named(iris: Parts, tmp_path: Path, name: str) -> None:
    folder = iris.write(tmp_path)
    (folder / name).unlink()
    assert f"{name}: No such file" in refusal(folder)


@pytest.mark.parametrize("name", ["contract.json", "certificate.json", "serving.json"])
def test_a_torn_file_is_named(iris: Parts, tmp_path: Path, name: str) -> None:
    folder = iris.write(tmp_path)
    (folder / name).write_bytes((folder / name).read_bytes()[:20])
    assert name in refusal(folder)


def test_golden_rows_beyond_the_tolerance_are_refused(iris: Parts, tmp_path: Path) -> None:
    wrong = Parts(iris.onnx, iris.contract, shifted(iris.certificate, 2e-5))
    assert "come out different from the certificate by 2e-05" in refusal(wrong.write(tmp_path))


def test_another_label_for_a_golden_row_is_refused(iris: Parts, tmp_path: Path) -> None:
    golden = iris.certificate.golden
    other = Answer("virginica", golden.batch[0].probabilities)
    changed = replace(golden, batch=(other, *golden.batch[1:]))
    wrong = Parts(iris.onnx, iris.contract, replace(iris.certificate, golden=changed))
    assert "(batch) come out different" in refusal(wrong.write(tmp_path))


def test_golden_rows_within_the_tolerance_are_a_warning(
    iris: Parts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    close = Parts(iris.onnx, iris.contract, shifted(iris.certificate, 1e-7))
    with (
        caplog.at_level(logging.WARNING, "slipway.model_server"),
        started(close.write(tmp_path)) as (client, _),
    ):
        assert client.get("/ready").status_code == 200
    assert "The golden rows (single) differ" in caplog.text


def test_a_certificate_without_golden_rows_is_refused(iris: Parts, tmp_path: Path) -> None:
    golden = replace(iris.certificate.golden, rows=(), single=(), batch=())
    empty = Parts(iris.onnx, iris.contract, replace(iris.certificate, golden=golden))
    assert "has no golden rows" in refusal(empty.write(tmp_path))


def test_a_draining_server_answers_but_is_not_ready(iris: Parts, tmp_path: Path) -> None:
    with started(iris.write(tmp_path, Limits())) as (client, lifecycle):
        lifecycle.drain()
        ready = client.get("/ready")
        assert (ready.status_code, ready.headers["connection"]) == (503, "close")
        assert ready.json()["type"] == "urn:slipway:problem:draining"
        prediction = client.post("/predict", json={"features": iris.contract.example})
        assert prediction.status_code == 200
