"""Features in batch: looked up as they were at each row's moment, as training does it."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from orchestration.batch import join_scoring
from orchestration.batch.documents import FeatureJoin, Manifest
from orchestration.batch.errors import InputError
from orchestration.batch.job import JobProgress, JobRequest, Watch, run_release
from orchestration.batch.join_keys import frame_of
from serving_config.features import Features, FeatureView
from tests.feature_repo.histories import NOW
from tests.orchestration.batch.churn import ACTIVITY, ROWS, feature_home, model, table
from tests.orchestration.batch.jobs import configuration, release, rows_of

SECONDS = int(NOW.timestamp())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    with feature_home(tmp_path / "features") as home:
        yield home


def run(
    home: Path,
    source: Path,
    views: dict[str, FeatureView] | None = None,
    watch: Watch | None = None,
) -> Manifest:
    parts = model()
    folder = parts.write(home.parent / "model")
    settings = configuration().model_copy(update={"features": Features(views=views or {})})
    asked = JobRequest("mixed", str(source), str(home.parent / "out"))
    return run_release(release(parts), folder, asked, settings, home, watch)


def rejects(home: Path) -> dict[int, str]:
    columns = ["row", "source_row", "reason"]
    found = pq.read_table(home.parent / "out" / "_rejects", columns=columns).to_pylist()
    assert [row["source_row"] for row in found] == [row["row"] for row in found]
    return {row["row"]: row["reason"] for row in found}


def predictions(home: Path) -> dict[int, float]:
    files = pq.read_table(
        sorted((home.parent / "out").glob("*.parquet")), columns=["row", "prediction"]
    )
    return {row["row"]: row["prediction"] for row in files.to_pylist()}


KNOWN = 40 + 30_000 + 1


def test_each_row_gets_what_was_true_at_its_moment_or_a_reason(home: Path) -> None:
    pq.write_table(table(ROWS), home.parent / "in.parquet")
    manifest = run(home, home.parent / "in.parquet")
    assert predictions(home) == {0: KNOWN + 7, 2: KNOWN + 2, 6: KNOWN + 7, 7: KNOWN + 2}
    found = rejects(home)
    assert sorted(found) == [1, 3, 4, 5]
    assert "unknown: customer_profile has no values for 9" in found[1]
    assert "unknown: customer_activity has no values for 9" in found[1]
    assert "stale: customer_activity has values older than its TTL for 2" in found[3]
    assert found[4] == "customer_id: expected an integer within int64, got null"
    assert found[5] == "event_timestamp: expected a moment with a time zone, got null"
    assert (manifest.rows_in, manifest.rejects) == (8, 4)
    assert manifest.reasons["customer_id: unknown: customer_activity has no values"] == 1
    assert manifest.reasons["customer_id: expected an integer within int64"] == 1
    assert manifest.join is not None
    assert manifest.join.service == "customer_churn"
    assert rows_of(home.parent / "out")[0].keys() >= {"row", "customer_id", "event_timestamp"}


@pytest.mark.parametrize(("on_stale", "value"), [("default", 100), ("serve", 3)])
def test_defaults_and_old_values_are_used_where_requests_get_them(
    home: Path, on_stale: Any, value: int
) -> None:
    pq.write_table(table(ROWS[:4]), home.parent / "in.parquet")
    view = FeatureView(on_unknown="refuse", on_stale=on_stale, defaults={"num_purchases": 100})
    run(home, home.parent / "in.parquet", {ACTIVITY: view})
    assert predictions(home) == {0: KNOWN + 7, 2: KNOWN + 2, 3: KNOWN + value}
    assert sorted(rejects(home)) == [1]


def test_a_csv_brings_keys_and_moments_as_texts(home: Path) -> None:
    rows = {
        "row": ["0", "1", "2", "3"],
        "customer_id": ["1", "one", "1", "1"],
        "event_timestamp": [NOW.isoformat(), NOW.isoformat(), "2026-11-20 12:00", "soon"],
        "note": ["x"] * 4,
    }
    csv.write_csv(pa.table(rows), home.parent / "in.csv")
    run(home, home.parent / "in.csv")
    assert predictions(home) == {"0": KNOWN + 7}  # type: ignore[comparison-overlap]
    found = pq.read_table(home.parent / "out" / "_rejects")["reason"].to_pylist()
    assert found[0] == 'customer_id: expected an integer within int64, got the text "one"'
    assert found[1].endswith('expected a moment with a time zone, got the text "2026-11-20 12:00"')
    assert len(found) == 3


@pytest.mark.parametrize(
    ("column", "cells", "said"),
    [
        ("customer_id", pa.array([1, 2**63 + 5], pa.uint64()), "integer within int64, got 922337"),
        (
            "customer_id",
            pa.array([Decimal(1), Decimal("2.5")], pa.decimal128(20, 1)),
            "integer within int64, got 2.5",
        ),
        (
            "event_timestamp",
            pa.array([SECONDS, 10**13], pa.int64()).cast(pa.timestamp("s", "UTC")),
            "got one beyond the years 1 to 9999",
        ),
        (
            "event_timestamp",
            pa.array([SECONDS * 10**6, -(2**62)], pa.int64()).cast(pa.timestamp("us", "UTC")),
            "got one beyond the years 1 to 9999",
        ),
    ],
)
def test_keys_and_moments_that_nothing_can_hold_are_rejects(
    home: Path, column: str, cells: pa.Array, said: str
) -> None:
    given = table([(1, NOW), (1, NOW)])
    place = given.schema.get_field_index(column)
    given = given.set_column(place, column, cells)
    with pa.ipc.new_file(home.parent / "in.arrow", given.schema) as file:
        file.write_table(given)
    run(home, home.parent / "in.arrow")
    assert predictions(home) == {0: KNOWN + 7}
    assert said in rejects(home)[1]


def test_a_key_beyond_the_type_of_the_entity_is_not_cut_to_that_of_another_one() -> None:
    join = FeatureJoin("s", ("customer_id",), (), "event_timestamp", {"customer_id": "int32"})
    frame, refused = frame_of(join, table([(1, NOW), (2**32 + 1, NOW)]))
    assert frame["customer_id"].tolist() == [1]
    assert [item.kind for item in refused[1]] == ["customer_id: expected an integer within int32"]


def test_a_value_in_a_reason_does_not_make_a_kind_of_its_own(home: Path) -> None:
    keys = [f"one; two {number} for three, got four" for number in range(5)]
    rows = {"customer_id": keys, "event_timestamp": [NOW.isoformat()] * 5, "note": ["x"] * 5}
    csv.write_csv(pa.table(rows), home.parent / "in.csv")
    assert run(home, home.parent / "in.csv").reasons == {
        "customer_id: expected an integer within int64": 5
    }


def test_a_joined_run_that_was_stopped_goes_on(home: Path) -> None:
    known = [(1, NOW - timedelta(minutes=minute % 600)) for minute in range(1000)]
    given = table([*known, *known, *known[:400], (2, NOW)])  # rows that occur twice, too
    source, out = home.parent / "in.parquet", home.parent / "out"
    pq.write_table(given, source, row_group_size=1000)

    def stop(progress: JobProgress) -> None:
        if progress.parts_done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(home, source, watch=stop)
    manifest = run(home, source)
    assert (manifest.resumed_parts, manifest.rows_in, manifest.rejects) == (1, 2401, 1)
    found = predictions(home)
    # 5 hours ago the customer bought 7 things, before that it were 2.
    bought = [7 if row % 1000 % 600 <= 300 else 2 for row in range(2400)]
    assert found == {row: KNOWN + bought[row] for row in range(2400)}
    assert rejects(home).keys() == {2400}
    out.rename(home.parent / "other")
    run(home, source)
    assert predictions(home) == found


@pytest.mark.parametrize("limit", ["_JOINED_ROWS", "_JOINED_BYTES"])
def test_few_rows_are_held_at_once_and_none_is_lost_between(
    home: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(join_scoring, limit, 100)
    pieces = table([(number % 3 + 1, NOW) for number in range(1000)]).to_batches(300)
    held = list(join_scoring._tables(pieces))
    assert [piece.num_rows for piece in held] == [300, 300, 300, 100]
    assert pa.concat_tables(held) == pa.Table.from_batches(pieces)


def test_nothing_is_looked_up_where_all_inputs_are_there(home: Path) -> None:
    given = table(ROWS[:2])
    for name, value in {"age": 1, "income": 2.0, "num_purchases": 3, "is_premium": False}.items():
        given = given.append_column(name, pa.array([value] * 2))
    pq.write_table(given, home.parent / "in.parquet")
    manifest = run(home, home.parent / "in.parquet")
    assert manifest.join is None
    assert predictions(home) == {0: 6, 1: 6}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.drop_columns(["customer_id"]), "nor customer_id"),
        (lambda rows: rows.append_column("age", rows["row"]), "has 'age'.*but not 'income'"),
        (
            lambda rows: rows.set_column(
                2, "event_timestamp", rows["event_timestamp"].cast(pa.timestamp("us"))
            ),
            "timestamps with a time zone",
        ),
    ],
)
def test_what_cannot_be_looked_up_is_refused_before_work(
    home: Path, change: Any, said: str
) -> None:
    pq.write_table(change(table(ROWS)), home.parent / "in.parquet")
    with pytest.raises(InputError, match=said):
        run(home, home.parent / "in.parquet")


def test_features_that_were_not_applied_are_named(home: Path) -> None:
    (home / "description.json").unlink()
    pq.write_table(table(ROWS), home.parent / "in.parquet")
    with pytest.raises(InputError, match="slipway features apply"):
        run(home, home.parent / "in.parquet")
