"""Two small real models on one hold-out."""

from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from deploy.home import Home
from deploy.versions import VersionFolder
from orchestration.monitoring.contest import ContestError, contest
from serving_config.monitoring import Quality
from tests.bentos.model_server.models import IRIS, SPECIES, Parts, iris, petal_width


def holdout() -> pd.DataFrame:
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    return pd.DataFrame(x, columns=list(IRIS)).assign(label=[SPECIES[i] for i in y])


def parquet(frame: pd.DataFrame) -> bytes:
    data = BytesIO()
    frame.to_parquet(data)
    return data.getvalue()


def folder(root: Path, parts: Parts, version: int) -> VersionFolder:
    made = VersionFolder.of(Home(root), parts.contract.model, version)
    made.write_export(parts.onnx, parts.contract)
    return made


@pytest.fixture(scope="module")
def good() -> Parts:
    return iris(version=2)


@pytest.fixture(scope="module")
def bad() -> Parts:
    return iris(version=3, turned=True)


def compare(root: Path, candidate: Parts, production: Parts, rows: Any = None, **more: Any) -> Any:
    data = parquet(holdout() if rows is None else rows)
    return contest(
        folder(root, candidate, 3), folder(root, production, 2), data, Quality(**more), 0.0
    )


def test_both_are_scored_on_the_same_rows(tmp_path: Path, good: Parts, bad: Parts) -> None:
    found = compare(tmp_path, good, bad)
    assert (found.candidate > 0.95, found.production < 0.05) == (True, True)
    assert (found.rows, found.left_out) == (150, 0)
    assert found.gain > 0.9
    assert compare(tmp_path, bad, good, metric="f1").gain < -0.9


def test_rows_that_a_contract_refuses_are_left_out_for_both(
    tmp_path: Path, good: Parts, bad: Parts
) -> None:
    rows = holdout()
    rows.loc[:9, "petal_width"] = None
    assert (compare(tmp_path, good, bad, rows).rows) == 140
    with pytest.raises(ContestError, match="both versions answer none"):
        compare(tmp_path, good, bad, rows.assign(petal_width=None))


def test_a_production_version_with_other_inputs_is_not_compared(
    tmp_path: Path, good: Parts
) -> None:
    rows = holdout().drop(columns="petal_width")
    with pytest.raises(ContestError, match="takes petal_width, which the hold-out lacks"):
        compare(tmp_path, good, good, rows)


def test_a_hold_out_without_labels_is_said_to_be(tmp_path: Path, good: Parts) -> None:
    with pytest.raises(ContestError, match="no column 'label'"):
        compare(tmp_path, good, good, holdout().drop(columns="label"))


def test_a_metric_has_to_suit_the_model(tmp_path: Path, good: Parts) -> None:
    with pytest.raises(ContestError, match="rmse does not suit a classification"):
        compare(tmp_path, good, good, metric="rmse")
    widths = holdout().assign(label=lambda rows: rows["petal_width"] * 1e4)
    found = compare(tmp_path, petal_width(), petal_width(), widths, metric="rmse")
    assert found.candidate == found.production > 0
