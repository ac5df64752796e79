"""`slipway batch-predict` as a user calls it, on a version that was really built."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from deploy.home import Home
from orchestration.batch import job as jobs
from orchestration.batch.progress import JobProgress
from orchestration.cli.batch_display import state, watching
from orchestration.cli.main import cli
from orchestration.cli.output import console
from serving_config.load import FOLDER
from tests.orchestration.cli.test_ledger import failed

Call = Callable[..., Result]


@pytest.fixture
def call(home: Home, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("SLIPWAY_HOME", str(home.root))

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli, ["batch-predict", *map(str, arguments)])

    return run


def test_a_table_is_scored_while_the_platform_is_down(
    call: Call, irises: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = call("iris", "--input", irises, "--output", out)
    assert result.exit_code == 0, result.output
    assert "iris version 1" in result.output
    assert "1,000 in, 990 scored" in result.output
    assert "10  petal_length" in result.output
    assert f"{out}/_manifest.json" in result.output
    rows = pq.read_table(sorted(out.glob("part-*.parquet"))[0]).to_pylist()
    assert set(rows[0]) >= {"flower", "prediction", "probability_setosa", "model_version"}
    assert rows[0]["model_version"] == "1"


def test_for_scripts_the_manifest_is_all_there_is(call: Call, irises: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = call("iris", "--input", irises, "--output", out, "--keys", "", "--json")
    manifest = json.loads(result.output)
    assert (manifest["rows_in"], manifest["rows_out"], manifest["rejects"]) == (1000, 990, 10)
    assert manifest["keys"] == []
    assert manifest["actor"].endswith("(slipway)")
    assert manifest == json.loads((out / "_manifest.json").read_text())


def test_the_manifest_of_relative_paths_holds_from_anywhere(
    call: Call, irises: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_CONFIG", str(FOLDER))
    monkeypatch.chdir(tmp_path)
    result = call("iris", "--input", "irises/*.parquet", "--output", "out", "--json")
    manifest = json.loads(result.output)
    assert manifest["input"] == f"{irises}/*.parquet"
    assert manifest["output"] == str(tmp_path / "out")


def test_a_result_is_replaced_only_when_told_to(call: Call, irises: Path, tmp_path: Path) -> None:
    place = ("iris", "--input", irises, "--output", tmp_path / "out", "--version", "v1")
    assert call(*place).exit_code == 0
    failed(call(*place), str(tmp_path / "out"), "--overwrite")
    assert call(*place, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("irsi",), ("no model 'irsi'", "iris")),
        (("iris", "--environment", "prod"), ("prod", "production")),
        (("iris", "--environment", "staging"), ("staging", "--version")),
        (("iris", "--version", "9"), ("iris version 9 is not built here", "slipway release iris")),
        (("iris", "--version", "one"), ("'one'", "3-int8")),
        (("iris", "--keys", "a,,b"), ("a,,b",)),
        (("iris", "--keys", "nobody"), ("nobody",)),
        (("iris", "--engine", "spark"), ("spark",)),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    call: Call, irises: Path, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    result = call(*arguments, "--input", irises, "--output", tmp_path / "out")
    assert result.exit_code != 0
    text = result.output + str(result.exception)
    for word in words:
        assert word in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["irises"]


def test_an_input_that_is_not_there_and_one_that_does_not_fit(
    call: Call, irises: Path, tmp_path: Path
) -> None:
    out = ("--output", tmp_path / "out")
    failed(call("iris", "--input", tmp_path / "nothing", *out), "nothing")
    table = pq.read_table(irises / "0.parquet").drop_columns(["petal_width"])
    pq.write_table(table, tmp_path / "narrow.parquet")
    failed(call("iris", "--input", tmp_path / "narrow.parquet", *out), "petal_width")
    (tmp_path / "torn.parquet").write_bytes((irises / "0.parquet").read_bytes()[:-20])
    failed(call("iris", "--input", tmp_path / "torn.parquet", *out), "torn.parquet")
    assert not (tmp_path / "out").exists()


def test_before_anything_was_released_it_says_so(
    call: Call, irises: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "new"))
    result = call("iris", "--input", irises, "--output", tmp_path / "out")
    failed(result, "nothing was released yet")
    assert not (tmp_path / "new").exists()


def test_interrupted_it_says_how_far_it_was_and_goes_on_there(
    call: Call, irises: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, place = jobs.run_job, ("iris", "--input", irises, "--output", tmp_path / "out")

    def interrupted(*arguments: object) -> object:
        *before, watch = arguments

        def stop(progress: JobProgress) -> None:
            watch(progress)  # type: ignore[operator]
            if progress.parts_done == 1:
                raise KeyboardInterrupt

        return real(*before, stop)  # type: ignore[arg-type]

    monkeypatch.setattr(jobs, "run_job", interrupted)
    result = call(*place)
    assert result.exit_code == 130
    line = "slipway: interrupted after 1 of 2 parts: run it again to continue"
    assert result.stderr.splitlines() == [line]
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(jobs, "run_job", real)
    result = call(*place)
    assert result.exit_code == 0
    # Another one may have been under way when it was stopped.
    assert "parts that were done before: " in result.output
    assert "1,000 in, 990 scored" in result.output


def progress(**changes: int | None) -> JobProgress:
    known: dict[str, int | None] = {
        "parts": 10,
        "parts_done": 0,
        "rows_total": None,
        "rows_in": 0,
        "rows_out": 0,
        "rejects": 0,
        "resumed_parts": 0,
        "seconds": 0,
    }
    return JobProgress(**known | changes)  # type: ignore[arg-type]


def test_the_rate_is_that_of_this_run_alone() -> None:
    first = progress(parts_done=4, rows_in=4000, resumed_parts=4, seconds=1)
    now = progress(parts_done=6, rows_in=6000, resumed_parts=4, seconds=3, rows_total=10_000)
    assert state(first, first) == "4,000 rows  0 rows/s  4 of 10 parts"
    assert state(now, first) == "6,000 of 10,000 rows  1,000 rows/s  6 of 10 parts"
    assert "3 rejects" in state(progress(rejects=3), first)


def test_a_bar_fits_a_terminal_of_80_columns() -> None:
    screen = StringIO()
    terminal = Console(file=screen, force_terminal=True, width=80, legacy_windows=False)
    with watching(terminal, quiet=False) as display:
        display.watch(progress(parts=160, rows_total=40_000_000))
        many = {"rows_in": 15_750_000, "rejects": 123_456, "seconds": 10}
        display.watch(progress(parts=160, parts_done=63, rows_total=40_000_000, **many))
        display.stop()  # draws it once more
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "15,750,000 rows  1,575,000 rows/s  123,456 rejects" in shown
    assert "39%" in shown
    assert "…" not in shown


def test_where_there_is_no_terminal_a_line_now_and_then() -> None:
    with console.capture() as captured, watching(console, quiet=False) as display:
        assert "run it again" in display.interrupted()
        for number in range(10):
            display.watch(progress(parts_done=number, rows_in=number))
    assert captured.get().splitlines() == ["0 rows  0 rows/s  0 of 10 parts"]
    with console.capture() as captured, watching(console, quiet=True) as display:
        display.watch(progress())
    assert captured.get() == ""


def test_the_command_costs_the_others_no_time() -> None:
    code = (
        "import sys, orchestration.cli.main\n"
        "slow = ('pyarrow', 'pandas', 'onnxruntime', 'ray', 'dagster', 'orchestration.batch.job')\n"
        "print([name for name in slow if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
