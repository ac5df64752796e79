"""The examples' training sets hold what was known at each row's time, and nothing of later."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestration.examples import churn
from orchestration.examples.feature_data import churn_labels, newest_row
from orchestration.examples.point_in_time import ready_sources, training_rows
from orchestration.training import TrainingError
from tests.orchestration.examples.conftest import NOW

VIEWS = ("customer_profile", "customer_activity")


@pytest.fixture
def home(features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A feature store of the test's own, with the same sources."""
    from feature_repo.apply import apply

    shutil.copytree(features / "sources", tmp_path / "sources")
    monkeypatch.setenv("SLIPWAY_FEATURES_HOME", str(tmp_path))
    apply(tmp_path)
    yield tmp_path
    apply(features)


def _training_set(labels: pd.DataFrame) -> pd.DataFrame:
    rows = training_rows(churn.SERVICE, labels)
    return rows.sort_values(["event_timestamp", "customer_id"], ignore_index=True)


def test_the_training_set_has_the_newest_row_of_each_source_at_the_time_of_the_label(
    home: Path,
) -> None:
    """Against pandas' own join of the sources' files."""
    labels = churn_labels(NOW, days=10)
    found = _training_set(labels)
    expected = labels.astype({"event_timestamp": "datetime64[us, UTC]"})
    for view in VIEWS:
        source = pq.read_table(home / "sources" / view).to_pandas()
        expected = pd.merge_asof(
            expected.sort_values("event_timestamp"),
            source.drop(columns="created_timestamp").sort_values("event_timestamp"),
            on="event_timestamp",
            by="customer_id",
        )
    expected = expected.sort_values(["event_timestamp", "customer_id"], ignore_index=True)
    assert len(found) == len(labels)
    columns = [*churn.COLUMNS, "label"]
    pd.testing.assert_frame_equal(found[columns], expected[columns], check_dtype=False)


def _plant(home: Path, labels: pd.DataFrame, after: timedelta) -> None:
    """A row of absurd values for each label, so long after it."""
    times = pa.array(labels["event_timestamp"] + after, pa.timestamp("us", tz="UTC"))
    for view in VIEWS:
        schema = pq.read_schema(next((home / "sources" / view).glob("*.parquet")))
        columns = {
            "customer_id": labels["customer_id"].to_numpy(),
            "event_timestamp": times,
            "created_timestamp": times,
        }
        absurd = {"string": "nowhere", "bool": True}
        for field in schema:
            value = absurd.get(str(field.type), 10**6)
            columns.setdefault(field.name, pa.array([value] * len(labels), field.type))
        pq.write_table(pa.table(columns, schema), home / "sources" / view / "planted.parquet")


def test_what_became_known_after_a_label_is_not_in_its_row(home: Path) -> None:
    labels = churn_labels(NOW, days=5).drop_duplicates("customer_id")
    before = _training_set(labels)
    _plant(home, labels, timedelta(seconds=1))
    pd.testing.assert_frame_equal(_training_set(labels), before)
    _plant(home, labels, timedelta(seconds=-1))
    leaked = _training_set(labels)
    assert (leaked["region"] == "nowhere").all()
    assert (leaked["num_purchases"] == 10**6).all()


def test_the_newest_rows_are_held_out(home: Path) -> None:
    frame = _training_set(churn_labels(NOW))
    rows, held_out = churn.by_time(frame.sample(frac=1, random_state=1))
    assert len(rows.features) == round(0.8 * len(frame))
    newest = frame.drop_duplicates("event_timestamp")[-900:]
    columns = [*churn.COLUMNS, "label"]
    found = held_out.features.assign(label=held_out.labels)
    assert len(newest[columns].merge(found.drop_duplicates(), on=columns)) == len(newest)
    assert len(rows.features) + len(held_out.features) == len(frame)
    assert not frame[columns].isna().to_numpy().any()


def test_a_gap_in_a_source_is_no_empty_training_set(home: Path) -> None:
    for path in sorted((home / "sources" / "customer_activity").glob("*.parquet"))[10:16]:
        path.unlink()
    with pytest.raises(TrainingError, match=r"customer_churn: \d+ of \d+ rows have no 'num_p"):
        training_rows(churn.SERVICE, churn_labels(NOW))


def test_sources_are_made_where_there_are_none_and_left_alone_where_there_are(
    home: Path,
) -> None:
    assert ready_sources() == NOW
    shutil.rmtree(home / "sources")
    made = ready_sources()
    assert made > NOW
    assert newest_row(home / "sources", "customer_activity") == made


def test_without_applied_definitions_training_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_FEATURES_HOME", str(tmp_path))
    labels = churn_labels(NOW, days=1)
    with pytest.raises(TrainingError, match=r"customer_churn; there is: none .*features apply"):
        training_rows(churn.SERVICE, labels)
