"""What of a batch job is held against the training data, where features were joined."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pyarrow.parquet as pq
import pytest

from bentos.model_server.contract import Contract
from deploy.drift_result import DriftResult
from deploy.home import Home
from orchestration.batch.documents import Manifest
from orchestration.monitoring import batch_input
from orchestration.monitoring.batch_input import batch_drift
from orchestration.monitoring.drift import Sample
from serving_config.schema import Model
from tests.feature_repo.histories import NOW
from tests.orchestration.batch.test_join import KNOWN, home, model, run, table

__all__ = ["home"]
COUNT = 300


@pytest.fixture
def manifest(home: Path) -> Manifest:
    """300 rows of customer 1: of the model's 5 inputs all but `note` were joined."""
    rows = table([(1, NOW - timedelta(seconds=number)) for number in range(COUNT)])
    pq.write_table(rows, home.parent / "in.parquet")
    made = run(home, home.parent / "in.parquet")
    assert (made.rows_out, made.join is not None) == (COUNT, True)
    return made


def held(
    manifest: Manifest, usual: float, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> DriftResult:
    """usual: the prediction for each row of the training data."""
    columns = {"note": ["x"] * COUNT, "age": [40] * COUNT, "income": [1.0] * COUNT}
    known = Sample(pd.DataFrame(columns), pd.Series([usual] * COUNT))
    monkeypatch.setattr(batch_input, "reference_sample", lambda *_: known)
    monkeypatch.setattr(batch_input.VersionFolder, "contract", lambda _: contract)
    registry: Any = None
    return batch_drift(Home(Path("/nowhere")), registry, Model(name="mixed"), manifest)


def test_what_was_joined_is_said_not_to_be_compared(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = held(manifest, KNOWN + 7, model().contract, monkeypatch)
    assert result.verdict == "passed"
    assert [column.name for column in result.columns] == ["note"]
    assert result.reason.endswith("; 4 inputs were joined and are not compared")
    said = {note.column for note in result.notes if "joined" in note.message}
    assert said == {"age", "income", "num_purchases", "is_premium"}


@pytest.mark.parametrize(("usual", "verdict"), [(KNOWN + 7, "passed"), (0.0, "failed")])
def test_predictions_are_compared_where_every_input_was_joined(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch, usual: float, verdict: str
) -> None:
    contract = model().contract
    joined = msgspec.structs.replace(
        contract,
        inputs=tuple(field for field in contract.inputs if field.name != "note"),
        graph_inputs=tuple(item for item in contract.graph_inputs if item.name != "note"),
        example={},
    )
    result = held(manifest, usual, joined, monkeypatch)
    assert (result.verdict, result.rows) == (verdict, COUNT)
    assert result.columns == ()
