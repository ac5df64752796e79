"""The example feature sources: the same history whenever it is written."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from orchestration.examples import feature_data
from orchestration.examples.feature_data import churn_labels, newest_row, write_sources
from orchestration.examples.population import SOURCES, Population, Source, day_of

NOW = datetime(2026, 3, 10, 14, 25, tzinfo=UTC)


def _read(folder: Path, source: Source) -> pd.DataFrame:
    frame: pd.DataFrame = pq.read_table(folder / source).to_pandas()
    return frame.sort_values([frame.columns[0], "event_timestamp"]).reset_index(drop=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    write_sources(folder, NOW, days=4)
    return folder


def test_the_same_hour_gives_the_same_bytes(written: Path, tmp_path: Path) -> None:
    write_sources(tmp_path, NOW + timedelta(minutes=30), days=4)
    for path in written.rglob("*.parquet"):
        assert (tmp_path / path.relative_to(written)).read_bytes() == path.read_bytes()


def test_a_later_time_extends_the_same_history(written: Path, tmp_path: Path) -> None:
    write_sources(tmp_path, NOW + timedelta(hours=30), days=3)
    for source in SOURCES:
        earlier, later = _read(written, source), _read(tmp_path, source)
        begin = later["event_timestamp"].min()
        kept = later[later["event_timestamp"] <= earlier["event_timestamp"].max()]
        shared = earlier[earlier["event_timestamp"] >= begin]
        assert len(later) > len(kept) > 0
        pd.testing.assert_frame_equal(kept.reset_index(drop=True), shared.reset_index(drop=True))


def test_nothing_is_of_the_future_and_everybody_has_a_row_of_the_last_day(written: Path) -> None:
    for source in SOURCES:
        frame = _read(written, source)
        newest = frame.groupby(frame.columns[0])["event_timestamp"].max()
        assert newest.max() <= NOW
        assert newest.min() > NOW - timedelta(days=1)
        assert not frame.duplicated([frame.columns[0], "event_timestamp"]).any()
        assert newest_row(written, source) == newest.max()
    assert newest_row(written / "nowhere", "customer_profile") is None


def test_the_columns_have_the_types_of_the_feature_views(written: Path) -> None:
    fields: dict[str, Any] = {}
    for source in SOURCES:
        schema = pq.read_schema(next((written / source).glob("*.parquet")))
        fields |= {field.name: str(field.type) for field in schema}
    assert fields.pop("event_timestamp") == fields.pop("created_timestamp")
    whole = {name for name, dtype in fields.items() if dtype == "int64"}
    assert whole == {
        "customer_id", "age", "credit_score", "account_age_days", "num_purchases", "num_returns",
        "sender_messages_7d", "sender_reports_7d", "sender_account_age_days",
    }  # fmt: skip
    assert {n for n, d in fields.items() if d == "double"} == {"income", "avg_transaction"}
    assert {n for n, d in fields.items() if d == "bool"} == {"is_premium"}
    assert {n for n, d in fields.items() if d == "string"} == {
        "sender", "region", "category_preference",
    }  # fmt: skip


def test_a_shift_since_a_time_leaves_what_was_before_as_it_was(
    written: Path, tmp_path: Path
) -> None:
    since = NOW - timedelta(hours=20)
    write_sources(tmp_path, NOW, days=4, shift=1.0, since=since)
    for source in SOURCES:
        before, after = _read(written, source), _read(tmp_path, source)
        old = before["event_timestamp"] < since
        pd.testing.assert_frame_equal(before[old], after[old])
        name = {"sender_activity": "sender_messages_7d", "customer_profile": "credit_score"}.get(
            source, "num_purchases"
        )
        moved = abs(after[~old][name].mean() - before[~old][name].mean())
        assert moved > 0.5 * before[~old][name].std()


def test_labels_depend_on_the_features_of_their_moment_alone() -> None:
    """Read from each customer's rows one by one, not by the code that made the labels."""
    labels = churn_labels(NOW, days=2)
    population = Population()
    rows = {
        (source, day): population.rows(source, day)
        for source in ("customer_profile", "customer_activity")
        for day in range(day_of(NOW) - 3, day_of(NOW) + 1)
    }
    probabilities = []
    for customer, moment, _ in labels.itertuples(index=False):
        seen: dict[str, Any] = {}
        for source in ("customer_profile", "customer_activity"):
            candidates = [
                {name: values[customer - 1] for name, values in found.items()}
                for (of, _), found in rows.items()
                if of == source and found["event_timestamp"][customer - 1] <= moment.timestamp()
            ]
            seen |= max(candidates, key=lambda row: int(row["event_timestamp"]))
        probabilities.append(float(feature_data.churn_probability(seen)))
    expected = np.array(probabilities)
    left = (labels["label"] == feature_data.CHURN).to_numpy()
    assert expected[left].mean() > expected[~left].mean() + 0.2
    assert abs(expected.mean() - left.mean()) < 0.08


def test_labels_of_a_day_are_the_same_whenever_they_are_made() -> None:
    earlier, later = churn_labels(NOW, days=5), churn_labels(NOW + timedelta(days=2), days=7)
    pd.testing.assert_frame_equal(earlier, later[: len(earlier)])
    assert later["event_timestamp"].is_monotonic_increasing


def test_a_time_without_a_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        write_sources(tmp_path, datetime(2026, 3, 10))
