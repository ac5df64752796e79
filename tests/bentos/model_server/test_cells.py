import multiprocessing
import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from bentos.model_server import cells
from bentos.model_server.cells import Cells
from bentos.model_server.contract import Contract, GraphInput, Input, Outputs
from bentos.model_server.metrics import SECONDS, VALUES, Metrics
from bentos.model_server.session import Scored

# A process that only counts: not this one's copy, which has threads.
SPAWN = multiprocessing.get_context("spawn")


def count(folder: Path, times: int, gauge: float) -> None:
    """A worker's life: it counts and is gone without a word."""
    mine = Cells(folder)
    place = mine.index("requests", "/predict")
    for _ in range(times):
        mine.values[place] += 1
    mine.values[mine.index("gauge:queue")] = gauge
    os._exit(9)


def run_worker(folder: Path, times: int) -> None:
    worker = SPAWN.Process(target=count, args=(folder, times, 5.0))
    worker.start()
    worker.join()
    assert worker.exitcode == 9


def test_workers_are_added_up_and_what_a_dead_one_counted_stays(tmp_path: Path) -> None:
    mine, other = Cells(tmp_path), Cells(tmp_path)
    for part, amount in ((mine, 2), (other, 3)):
        part.values[part.index("requests", "/predict")] += amount
        part.values[part.index("gauge:queue")] = amount
    run_worker(tmp_path, 7)
    assert mine.totals() == {("requests", "/predict"): 12.0, ("gauge:queue",): 5.0}
    assert other.totals() == mine.totals()


def test_a_worker_that_is_restarted_again_and_again_fills_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "MAX_ENDED", 1)
    for _ in range(cells.MAX_ENDED + 2):
        run_worker(tmp_path, 1)
    last = Cells(tmp_path)
    assert last.totals()["requests", "/predict"] == cells.MAX_ENDED + 2
    assert len(list(tmp_path.glob("*.cells"))) < 4


def test_a_fold_that_was_killed_before_it_removed_the_files_counts_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "MAX_ENDED", 1)
    for _ in range(cells.MAX_ENDED + 1):
        run_worker(tmp_path, 1)
    files = {path: path.read_bytes() for path in tmp_path.glob("*.*s")}
    assert Cells(tmp_path).totals()["requests", "/predict"] == cells.MAX_ENDED + 1
    for path, data in files.items():
        path.write_bytes(data)
    assert Cells(tmp_path).totals()["requests", "/predict"] == cells.MAX_ENDED + 1


def test_a_worker_that_was_killed_while_it_wrote_a_key_breaks_nothing(tmp_path: Path) -> None:
    mine = Cells(tmp_path)
    mine.values[mine.index("requests", "/predict")] += 2
    (keys,) = tmp_path.glob("*.keys")
    keys.write_text(keys.read_text() + '["requests", "/pre')
    other = Cells(tmp_path)
    other.values[other.index("requests", "/predict")] += 1
    assert other.totals() == {("requests", "/predict"): 3.0}


def test_what_does_not_fit_any_more_is_counted_in_one_place(tmp_path: Path) -> None:
    full = Cells(None)
    places = {full.index("x", str(i)) for i in range(cells.CAPACITY + 10)}
    assert max(places) == cells.CAPACITY - 1
    assert full.index("another") == cells.CAPACITY - 1


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = metrics.exposition()[0].decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@settings(deadline=None)
@given(st.lists(st.floats(min_value=0, max_value=20), max_size=50))
def test_a_histogram_counts_each_value_in_every_bucket_that_holds_it(values: list[float]) -> None:
    metrics = Metrics(None)
    for value in values:
        metrics.answered("/predict", 200, value)
    found = samples(metrics)
    name, route = "slipway_request_duration_seconds", ("route", "/predict")
    for bound in SECONDS if values else ():
        key = (f"{name}_bucket", (("le", str(bound)), route))
        assert found[key] == sum(value <= bound for value in values)
    if values:
        assert found[f"{name}_count", (route,)] == len(values)
        assert abs(found[f"{name}_sum", (route,)] - sum(values)) < 1e-9


def test_callers_beyond_the_bound_share_one_label() -> None:
    metrics = Metrics(None)
    for i in range(300):
        metrics.called_by(f"key-{i}", 200)
    found = {k[1][0][1]: v for k, v in samples(metrics).items() if "caller" in k[0]}
    assert len(found) == 201
    assert found["other"] == 100
    assert found["key-199"] == 1


REGRESSION = Contract(
    model="price",
    version=1,
    onnx_sha256="0" * 64,
    inputs=(Input("size", "float32"),),
    graph_inputs=(GraphInput("input", "float32", ("size",)),),
    outputs=Outputs("regression", "variable"),
    example={"size": 1.0},
)


def regression() -> Metrics:
    metrics = Metrics(None)
    metrics.describe(REGRESSION, "petal:1")
    return metrics


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), max_size=20))
def test_a_regressions_values_are_counted_on_any_scale_with_their_sign(values: list[float]) -> None:
    metrics = regression()
    metrics.predicted(Scored(values, None))
    found = samples(metrics)
    name = "slipway_prediction_value"
    for bound in VALUES:
        assert found[f"{name}_bucket", (("le", str(bound)),)] == sum(v <= bound for v in values)
    assert found[f"{name}_count", ()] == len(values)
    assert found[f"{name}_sum", ()] == pytest.approx(sum(values))


def test_the_bounds_of_values_are_a_quarter_apart_on_any_scale() -> None:
    positive = [bound for bound in VALUES if bound > 0]
    assert (positive[0], positive[-1], len(VALUES)) == (1e-6, 1e9, 303)
    steps = [b / a for a, b in pairwise(positive)]
    assert 1.2 < min(steps) <= max(steps) < 1.3
    assert [-bound for bound in reversed(VALUES)] == list(VALUES)


def test_a_classifier_has_no_cells_for_values() -> None:
    assert not any("prediction_value_" in name for name, _ in samples(Metrics(None)))


def test_squares_of_rows_tell_large_requests_from_many() -> None:
    metrics = Metrics(None)
    for labels in (["a"], ["a", "b", "b"]):
        metrics.predicted(Scored(labels, None))
    found = samples(metrics)
    assert found["slipway_rows_total", ()] == 4
    assert found["slipway_rows_squared_total", ()] == 10


def test_predictions_have_their_class_and_top_probability() -> None:
    metrics = Metrics(None)
    metrics.predicted(Scored(["a"], [[0.25, 0.75]]))
    found = samples(metrics)
    assert found["slipway_top_probability_bucket", (("le", "0.7"),)] == 0
    assert found["slipway_top_probability_bucket", (("le", "0.8"),)] == 1
