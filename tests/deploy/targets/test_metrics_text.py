"""What a model server says of itself, read for the controller."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, generate_latest, values

from bentos.model_server.metrics import SECONDS, SHARES, Metrics
from deploy.events import Counters
from deploy.processes import free_port
from deploy.targets.base import TargetError
from deploy.targets.metrics_text import counters, scrape
from tests.bentos.model_server.clients import GOOD, serving
from tests.bentos.model_server.models import iris

INFERENCE = (
    "/predict",
    "/predict/batch",
    "/v2/models/{model}/infer",
    "/v2/models/{model}/versions/{version}/infer",
)


def text(metrics: Metrics) -> str:
    return metrics.exposition()[0].decode()


@given(
    answers=st.lists(
        st.tuples(st.sampled_from([*INFERENCE, "/metrics", "/docs", "other"]), st.floats(0, 20))
    )
)
def test_durations_are_those_of_predictions_each_in_one_bucket(
    answers: list[tuple[str, float]],
) -> None:
    metrics = Metrics(None)
    for route, seconds in answers:
        metrics.answered(route, 200, seconds)
    found = counters(text(metrics)).durations
    expected = dict.fromkeys([*map(str, SECONDS), "+Inf"], 0)
    for route, seconds in answers:
        if route in INFERENCE:
            bound = next((str(item) for item in SECONDS if seconds <= item), "+Inf")
            expected[bound] += 1
    assert {bound: count for bound, count in found.items() if count} == {
        bound: count for bound, count in expected.items() if count
    }
    assert not found or list(found) == list(expected)


# Whatever a model calls its classes: quotes, line ends and braces among them.
LABELS = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)


@given(labels=st.dictionaries(LABELS, st.integers(0, 2**40)))
def test_predictions_are_counted_by_class_whatever_the_class_is_called(
    labels: dict[str, int],
) -> None:
    registry = CollectorRegistry()
    with pytest.MonkeyPatch.context() as patch:
        # Feast, once it is imported, has all registries of the process share their values.
        patch.setattr(values, "ValueClass", values.MutexValue)
        counter = Counter("slipway_predictions", "By class.", ["label"], registry=registry)
        for label, count in labels.items():
            counter.labels(label).inc(count)
    made = text(Metrics(None)).replace("# TYPE slipway_predictions", "# TYPE x")
    assert counters(generate_latest(registry).decode() + made).predictions == labels


def test_the_values_of_a_regression_are_its_buckets() -> None:
    buckets = "".join(
        f'slipway_prediction_value_bucket{{le="{bound}"}} {count}\n'
        for bound, count in [("-10.0", 1.0), ("0.5", 4.0), ("1e+06", 4.0), ("+Inf", 9.0)]
    )
    found = counters(text(Metrics(None)) + buckets)
    assert found.values == {"-10.0": 1, "0.5": 3, "1e+06": 0, "+Inf": 5}
    assert counters(text(Metrics(None))).values == {}


@pytest.mark.parametrize(
    "line",
    [
        'slipway_predictions_total{label="a"} NaN',
        'slipway_predictions_total{label="a"} -1.0',
        'slipway_predictions_total{label="a"} +Inf',
        'slipway_predictions_total{label="a"} 1.5',
        'slipway_predictions_total{label="a"} 1e300',
        'slipway_predictions_total{label="a"} many',
        'slipway_predictions_total{label="a} 1',
        "slipway_predictions_total",
        'slipway_top_probability_bucket{le="0.5"} 1',
        'slipway_top_probability_bucket{le="x"} 1',
        "slipway_top_probability_bucket{} 1",
        'slipway_top_probability_bucket{le="0.5"} 2\nslipway_top_probability_bucket{le="+Inf"} 1',
    ],
)
def test_numbers_that_cannot_be_are_no_counts(line: str) -> None:
    made = "\n".join(
        kept for kept in text(Metrics(None)).splitlines() if "top_probability_" not in kept
    )
    counters(made)
    with pytest.raises(ValueError, match=r"\S"):
        counters(f"{made}\n{line}\n")


@pytest.mark.parametrize("made", ["", "<html>", "slipway_requests_total 1\n"])
def test_a_text_without_the_families_is_not_a_server_without_requests(made: str) -> None:
    with pytest.raises(ValueError, match=r"slipway_predictions.* missing"):
        counters(made)


def test_what_a_real_model_server_says_is_what_it_has_answered(tmp_path: Path) -> None:
    with serving(iris(), tmp_path) as app:
        good = GOOD
        before = counters(app.client.get("/metrics").text)
        assert sum(before.durations.values()) == 0
        for _ in range(3):
            assert app.predict(**good).status_code == 200
        app.client.get("/docs")
        found = counters(app.client.get("/metrics").text)
    assert sum(found.durations.values()) == 3
    assert sum(found.predictions.values()) == 3
    assert set(found.predictions) == set(before.predictions)
    assert sum(found.confidences.values()) == 3
    assert list(found.confidences) == [*map(str, SHARES), "+Inf"]
    assert found.requests == 0


@contextmanager
def saying(*parts: bytes) -> Iterator[int]:
    """One answer in parts, half a second apart."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def run() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                try:
                    for part in parts:
                        connection.sendall(part)
                        over.wait(0.5)
                except OSError:  # it was not waited for
                    return

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            over.set()
            thread.join()


def answer(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\ncontent-length: {size}\r\n\r\n".encode() + body


def test_a_server_s_own_words_over_http() -> None:
    metrics = Metrics(None)
    metrics.answered("/predict", 200, 0.001)
    with saying(answer(text(metrics).encode())) as port:
        assert scrape(port) == counters(text(metrics)) != Counters()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ((answer(b"", "503 Service Unavailable"),), "answers 503"),
        ((answer(b"\xff\xfe"),), "gives no metrics"),
        ((answer(b"NaN"),), "cannot be"),
        ((answer(b"x", length=2),), "gives no metrics"),
        ((answer(b"", length=100), *[b"x"] * 100), "whole within 2 s"),
        ((b"what?\r\n\r\n",), "gives no metrics"),
        ((answer(b"x" * (9 << 20)),), "larger than"),
    ],
)
def test_a_server_that_gives_no_metrics_is_named(parts: tuple[bytes, ...], words: str) -> None:
    started = time.monotonic()
    with saying(*parts) as port, pytest.raises(TargetError, match=f"127.0.0.1:{port}.*{words}"):
        scrape(port)
    assert time.monotonic() - started < 10


def test_a_server_that_is_not_there_is_named() -> None:
    port = free_port()
    with pytest.raises(TargetError, match=f"127.0.0.1:{port}/metrics gives no metrics"):
        scrape(port)
