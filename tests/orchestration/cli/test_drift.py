"""`slipway drift`, as far as it goes without a platform."""

import click
import pytest
from msgspec.structs import replace

from deploy.drift_result import ColumnDrift, DriftReport, DriftResult, Note
from orchestration.cli.drift import Window, drift, show
from orchestration.cli.output import console
from tests.deploy.found import finding

COLUMN = ColumnDrift(name="[red]width", kind="number", score=0.7, limit=0.2, drifted=True)
REPORT = DriftReport(
    finding=finding("failed", window="10:00 to 11:00"),
    result=DriftResult(
        verdict="failed",
        reason="1 of 1 columns have drifted ([red]width)",
        rows=300,
        reference_rows=120,
        share=1.0,
        columns=(COLUMN,),
        prediction=replace(COLUMN, name="(prediction)", score=0.01, drifted=False),
        notes=(Note("height", "error", "is missing in the window"),),
    ),
    others={"2": 17},
)


def shown(report: DriftReport) -> str:
    with console.capture() as captured:
        show(report, "http://127.0.0.1:8080/v1/drift/iris/report")
    return captured.get()


def test_it_shows_verdict_columns_notes_and_the_page() -> None:
    text = shown(REPORT)
    assert "iris 3 in production: failed" in text
    assert "[red]width" in text
    assert "0.700" in text
    assert "drifted" in text
    assert "(prediction)" in text
    assert "error: height is missing in the window" in text
    assert "version 2 answered 17 more: not compared" in text
    assert "http://127.0.0.1:8080/v1/drift/iris/report" in text


def test_without_a_verdict_it_says_so_and_shows_no_scores() -> None:
    nothing = DriftResult(
        verdict="not_enough_data",
        reason="not enough data: 12 rows in the window, 200 are needed",
        rows=12,
        reference_rows=120,
    )
    text = shown(DriftReport(finding=finding("not_enough_data", version=""), result=nothing))
    assert "iris in production: not enough data" in text
    assert "12 rows in the window, 200 are needed" in text
    assert "score" not in text


@pytest.mark.parametrize(("text", "hours"), [("30m", 0.5), ("24h", 24.0), ("7d", 168.0)])
def test_a_window_is_read_in_hours(text: str, hours: float) -> None:
    assert Window().convert(text, None, None) == hours


@pytest.mark.parametrize("text", ["", "0h", "5", "1w", "-1h", "99999d", "1.5h"])
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="30m, 24h, 7d"):
        Window().convert(text, None, None)


def test_its_help_documents_the_exit_codes() -> None:
    assert "3 where there was not enough data" in (drift.help or "")
