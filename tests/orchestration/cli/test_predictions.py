"""`slipway predictions`, `labels` and `compact` as a user calls them, without a platform."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from deploy.home import Home
from deploy.predictions.reader import read_labels
from orchestration.cli.main import cli
from tests.deploy.predictions.segments import block, header, segment
from tests.orchestration.cli.test_ledger import failed

Call = Callable[..., Result]
RECENT = datetime.now(UTC) - timedelta(minutes=10)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "240")
    return Home(tmp_path)


@pytest.fixture
def call() -> Call:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, arguments)

    return run


def test_the_last_answers_are_shown_with_counts_of_all(home: Home, call: Call) -> None:
    segment(home, "0-1", block(["a", "b", "c"], RECENT))
    segment(home, "0-2", block(["old"], RECENT - timedelta(hours=2)))
    segment(home, "0-1", block(["d"], RECENT, status=[422]), of=header(label="2"))
    mirrored = block(["m"], RECENT, source=["mirror"])
    segment(home, "0-3", mirrored)
    shown = call("predictions", "iris", "--limit", "2").output
    assert "4 rows of 4 requests; version 1: 3, 2: 1; status 200: 3, 422: 1" in shown
    assert "setosa: 4" in shown
    assert len([line for line in shown.splitlines() if line.rstrip().endswith("red")]) == 2

    def rows(*options: str) -> list[str]:
        result = call("predictions", "iris", "--json", *options)
        return [row["request_id"] for row in json.loads(result.output)]

    assert rows() == ["a", "d", "b", "c"]
    assert rows("--limit", "1") == ["c"]
    assert rows("--since", "1d") == ["old", "a", "d", "b", "c"]
    assert rows("--since", "1d", "--until", "1h") == ["old"]
    assert rows("--version", "v2") == rows("--status", "422") == ["d"]
    assert rows("--source", "mirror") == ["m"]
    assert rows("--environment", "staging") == []


def test_all_rows_go_into_a_parquet_file(home: Home, call: Call, tmp_path: Path) -> None:
    segment(home, "0-1", block([f"r{number}" for number in range(50)], RECENT))
    file = tmp_path / "out.parquet"
    assert "50 rows in" in call("predictions", "iris", "--parquet", str(file)).output
    assert pq.read_table(file).num_rows == 50


def test_nothing_logged_is_said(home: Home, call: Call) -> None:
    assert "no answer was logged" in call("predictions", "iris").output
    failed(call("predictions", "irsi"), "irsi", "iris")
    failed(call("predictions", "iris", "--environment", "prod"), "prod", "production")


def test_labels_come_from_csv_and_parquet(home: Home, call: Call, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("request_id,label,row\n001,setosa,0\n002,virginica,4\n")
    result = call("labels", "iris", str(file))
    assert "2 labels of iris in production" in result.output
    found = read_labels(home, "iris", "production").to_pylist()
    assert [(item["request_id"], item["label"], item["row"]) for item in found] == [
        ("001", "setosa", 0),
        ("002", "virginica", 4),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("request_id\n1\n", ("'label' is missing",)),
        ("request_id,label\n", ("0 rows",)),
        ("request_id,label\na,x\na,y\n", ("row 1", "request_id")),
        ("request_id,label,row\na,x,first\n", ("'row'", "integer")),
        ('request_id,label\n"a', ("CSV",)),
    ],
)
def test_a_wrong_file_is_refused_as_a_whole(
    home: Home, call: Call, tmp_path: Path, content: str, words: tuple[str, ...]
) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(content)
    result = call("labels", "iris", str(file))
    assert result.exit_code != 0
    for word in words:
        assert word in str(result.exception)
    assert read_labels(home, "iris", "production").num_rows == 0


def test_compaction_by_hand_says_what_it_did(home: Home, call: Call) -> None:
    path = segment(home, "0-1", block(["a", "b"], RECENT))
    path.with_name("bad.seg").write_bytes(b"bad")
    shown = call("compact", "--retention").output
    assert "predictions: 2 rows of 1 segments in 1 files" in shown
    assert "quarantined: production/iris/1/bad.seg" in shown
    assert "removed: 0 days" in shown
    assert json.loads(call("compact", "--json").output)["predictions"]["rows"] == 0
    assert "2 rows of 2 requests" in call("predictions", "iris").output
