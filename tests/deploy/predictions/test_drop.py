"""Files of labels that others put into the drop folder."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy.home import Home
from deploy.predictions.areas import label_area
from deploy.predictions.compaction import compact_labels
from deploy.predictions.drop import Ingested, drop_folder, dropped, ingest_drop
from deploy.predictions.labels import Label, append_labels
from deploy.predictions.reader import read_labels
from deploy.predictions.scan import Filter, read_rows
from serving_config.schema import Configuration
from tests.deploy.control.controls import SETTINGS
from tests.deploy.predictions.crashes import Crash, crash_at
from tests.deploy.predictions.segments import NOON

CONFIGURATION = Configuration.model_validate(SETTINGS)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def table(**columns: Any) -> pa.Table:
    return pa.table({"request_id": ["a", "b"], "label": ["setosa", "virginica"]} | columns)


def drop(home: Home, content: Any, place: str = "iris/labels.parquet") -> Path:
    path = drop_folder(home) / place
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        pq.write_table(content, path)
    return path


def ingest(home: Home, hours: int = 0) -> list[Ingested]:
    return ingest_drop(home, CONFIGURATION, NOON + timedelta(hours=hours))


def rows(home: Home, environment: str = "production") -> list[tuple[Any, ...]]:
    """Every label there is, not only the latest."""
    found = read_rows(label_area(home), "iris", environment, Filter())
    return sorted(tuple(row.values()) for row in found.select(["request_id", "label"]).to_pylist())


BOTH = [("a", "setosa"), ("b", "virginica")]


def test_a_file_is_ingested_and_put_away(home: Home) -> None:
    path = drop(home, table())
    drop(home, table(label=["x", "y"]), "iris/staging/more.parquet")
    found = ingest(home)
    assert [(item.status, item.environment, item.rows) for item in found] == [
        ("ingested", "production", 2),
        ("ingested", "staging", 2),
    ]
    assert not path.exists()
    assert found[0].path.is_file()
    assert found[0].path.parent == home.labels / "done" / "iris" / "production"
    assert rows(home) == BOTH
    assert rows(home, "staging") == [("a", "x"), ("b", "y")]
    assert ingest(home) == []
    actors = read_labels(home, "iris", "production")["actor"].to_pylist()
    assert set(actors) == {"file labels.parquet"}


def test_rows_numbers_and_bools_are_taken_as_the_answers_spell_them(home: Home) -> None:
    drop(home, table(label=[1, 2], row=pa.array([3, 4], pa.int8())))
    drop(home, table(label=[True, False]), "iris/bools.parquet")
    assert [item.status for item in ingest(home)] == ["ingested", "ingested"]
    found = read_labels(home, "iris", "production").to_pylist()
    assert {(row["request_id"], row["row"], row["label"]) for row in found} == {
        ("a", 3, "1"),
        ("b", 4, "2"),
        ("a", 0, "true"),
        ("b", 0, "false"),
    }


def test_the_same_content_again_is_not_ingested_again(home: Home) -> None:
    drop(home, table())
    ingest(home)
    compact_labels(home, NOON)
    append_labels(home, "iris", "production", [Label("a", "corrected")], "ann", NOON)
    drop(home, table(), "iris/another-name.parquet")
    (found,) = ingest(home, hours=1)
    assert (found.status, found.rows) == ("known", 0)
    assert rows(home) == sorted([*BOTH, ("a", "corrected")])
    assert dropped(home) == []
    # In another environment it is another matter.
    drop(home, table(), "iris/staging/labels.parquet")
    assert ingest(home)[0].status == "ingested"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (table().drop_columns(["label"]), "column 'label' is missing; there is: request_id"),
        (table(extra=[1, 2]), "column 'extra' is none of request_id, label, row"),
        (table(request_id=[1, 2]), "column 'request_id' is int64, not string"),
        (table(request_id=["a", None]), "row 1: request_id is null"),
        (table(label=[None, "x"]), "row 0: label is null"),
        (table(label=[["x"], ["y"]]), "column 'label' is list"),
        (table(label=[1.5, float("nan")]), "row 1: label nan is no finite number"),
        (table(row=[0.5, 1.5]), "column 'row' is double, no integer"),
        (table(row=[0, -1]), "row 1: row -1"),
        (table(request_id=["a", "a"]), "row 1: request_id stands at 0 already"),
        (table().slice(0, 0), "it has 0 rows"),
        (b"PAR1 this is none PAR1", "not to be read as Parquet"),
    ],
)
def test_a_bad_file_is_rejected_as_a_whole_with_the_reason(
    home: Home, content: Any, reason: str
) -> None:
    drop(home, content)
    (found,) = ingest(home)
    assert found.status == "rejected"
    assert reason in found.reason
    place = home.labels / "rejected" / "iris" / "production"
    assert sorted(path.name for path in place.iterdir()) == [
        "labels.parquet",
        "labels.parquet.reason.txt",
    ]
    assert reason in (place / "labels.parquet.reason.txt").read_text()
    assert rows(home) == []
    drop(home, content)  # the same name again writes over nothing
    ingest(home)
    assert len(list(place.iterdir())) == 4


def test_unknown_models_and_environments_are_rejected(home: Home) -> None:
    drop(home, table(), "irsi/labels.parquet")
    drop(home, table(), "iris/prod/labels.parquet")
    reasons = sorted(item.reason for item in ingest(home))
    assert reasons[0] == "there is no environment 'prod'; environments: production, staging"
    assert reasons[1] == "there is no model 'irsi'; models: iris, spam-detector"


def test_a_file_that_is_still_being_written_waits(home: Home) -> None:
    path = drop(home, table())
    whole = path.read_bytes()
    for part in (0, 3, 20, len(whole) - 1):
        path.write_bytes(whole[:part])
        (found,) = ingest(home)
        assert (found.status, found.path) == ("waiting", path)
    path.write_bytes(whole)
    assert ingest(home)[0].status == "ingested"


def test_a_file_that_never_gets_whole_is_rejected_in_the_end(home: Home) -> None:
    path = drop(home, b"half of a file")
    os.utime(path, (0, 0))
    (found,) = ingest(home)
    assert found.status == "rejected"
    assert "PAR1" in found.reason


def test_hidden_files_and_other_names_are_left_alone(home: Home) -> None:
    for name in (
        "iris/.part.parquet",
        "iris/notes.txt",
        "iris/staging/deep/x.parquet",
        "x.parquet",
    ):
        drop(home, table(), name)
    (drop_folder(home) / "iris" / "folder.parquet").mkdir()
    assert ingest(home) == []


def test_one_file_alone(home: Home) -> None:
    drop(home, table())
    path = drop(home, table(label=["x", "y"]), "iris/other.parquet")
    (found,) = ingest_drop(home, CONFIGURATION, NOON, path)
    assert found.name == "other.parquet"
    assert len(dropped(home)) == 1


@pytest.mark.parametrize("compacted_between", [False, True])
def test_killed_before_any_file_operation_it_is_ingested_once(
    tmp_path: Path, compacted_between: bool
) -> None:
    operations = 0
    for operation in range(100):
        home = Home(tmp_path / str(operation))
        drop(home, table())
        with crash_at(operation) as crash:
            try:
                ingest(home)
            except Crash:
                pass
            else:
                operations = operation
                break
        if compacted_between:
            compact_labels(home, NOON)
        ingest(home)
        assert rows(home) == BOTH, crash.log[-1]
        assert dropped(home) == []
        hidden = [path for path in home.labels.rglob(".*") if path.is_file()]
        assert hidden == []
        drop(home, table())
        assert ingest(home)[0].status == "known"
        assert rows(home) == BOTH
    assert operations > 6
