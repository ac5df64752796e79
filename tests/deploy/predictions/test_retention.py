"""What is older than it is to be kept goes, and nothing else."""

from datetime import timedelta
from pathlib import Path

from deploy.home import Home
from deploy.predictions.areas import label_area, prediction_area
from deploy.predictions.compaction import compact, compact_labels
from deploy.predictions.labels import Label, append_labels
from deploy.predictions.retention import Removed, remove_expired
from deploy.predictions.scan import Filter, read_rows
from serving_config.predictions import Predictions
from tests.deploy.predictions.segments import NOON, block, segment

DAY = timedelta(days=1)


def test_days_go_once_they_ended_so_long_ago(tmp_path: Path) -> None:
    home, settings = Home(tmp_path), Predictions(retention_days=2)
    for number in range(4):
        at = NOON - number * DAY
        segment(home, f"0-{number}", block([f"{number}"], at))
        append_labels(home, "iris", "production", [Label(f"{number}", "setosa")], "ann", at)
    compact(home, settings, NOON)
    compact_labels(home, NOON)
    predictions, labels = prediction_area(home, settings), label_area(home)

    def kept() -> list[list[str]]:
        tables = (read_rows(area, "iris", "production", Filter()) for area in (predictions, labels))
        return [table["request_id"].to_pylist() for table in tables]

    found = remove_expired(home, settings, NOON)
    assert (found.days, found.files) == (2, 2)
    assert found.bytes > 0
    assert kept() == [["2", "1", "0"]] * 2
    assert len(predictions.store().days("iris", "production")) == 3
    assert remove_expired(home, settings, NOON).files == 0
    # The day of two days ago ends at midnight.
    assert remove_expired(home, settings, NOON + timedelta(hours=12)).days == 2
    assert kept() == [["1", "0"]] * 2


def test_what_is_not_compacted_yet_is_not_removed(tmp_path: Path) -> None:
    home, settings = Home(tmp_path), Predictions(retention_days=1)
    path = segment(home, "0-1", block(["a"], NOON - 9 * DAY))
    assert remove_expired(home, settings, NOON).days == 0
    assert path.exists()


def test_files_of_labels_that_were_put_away_go_too(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for kind in ("done", "rejected"):
        folder = home.labels / kind / "iris" / "production"
        folder.mkdir(parents=True)
        (folder / "labels.parquet").write_bytes(b"1234")
    settings = Predictions(retention_days=1)
    assert remove_expired(home, settings, NOON).other_files == 0
    found = remove_expired(home, settings, NOON + 3650 * DAY)
    assert (found.other_files, found.bytes) == (2, 8)


def test_damaged_segments_and_those_that_were_never_begun_go_too(tmp_path: Path) -> None:
    home, settings = Home(tmp_path), Predictions(retention_days=1)
    damaged = segment(home, "0-1", block(["a"]))
    damaged.write_bytes(b"no segment")
    begun = damaged.with_name(".0-2")
    begun.write_bytes(b"SLWP")
    compact(home, settings, NOON)
    assert remove_expired(home, settings, NOON).other_files == 0
    assert remove_expired(home, settings, NOON + 3650 * DAY).other_files == 2
    assert [path for path in home.predictions.rglob("*0-[12]*") if path.is_file()] == []


def test_an_object_storage_too(tmp_path: Path) -> None:
    home = Home(tmp_path)
    settings = Predictions(retention_days=1, url=f"memory://retention-{tmp_path.name}")
    segment(home, "0-1", block(["a"], NOON - 9 * DAY))
    compact(home, settings, NOON)
    found = remove_expired(home, settings, NOON)
    assert isinstance(found, Removed)
    assert (found.days, found.files) == (1, 1)
    area = prediction_area(home, settings)
    assert read_rows(area, "iris", "production", Filter()).num_rows == 0
