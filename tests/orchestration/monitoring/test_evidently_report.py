"""What Evidently draws, with Evidently itself."""

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from orchestration.monitoring import evidently_report
from orchestration.monitoring.drift import Compared, Sample, drift
from orchestration.monitoring.evidently_report import (
    keep_page,
    keep_snapshot,
    make_report,
    page,
)
from serving_config.monitoring import Drift
from tests.orchestration.monitoring.samples import KINDS, sample, texts

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOSTILE = "</script><script>alert(1)</script>"


def compared(shift: float = 1.0, **columns: Any) -> Compared:
    reference, current = (
        sample(np.random.default_rng(1), 1000),
        sample(np.random.default_rng(2), 500, shift),
    )
    features = current.features.assign(**columns)
    return drift(reference, Sample(features, current.predictions), KINDS, Drift())


def test_its_tests_say_what_the_check_says() -> None:
    region = sample(np.random.default_rng(3), 500).features["region"]
    found = compared(1.0, region=region)
    snapshot = make_report(found, 0.3)
    told = {
        test["name"]: test["status"].value == "FAIL"
        for test in snapshot.dict()["tests"]
        if test["name"].startswith("Value Drift")
    }
    ours = {f"Value Drift for column {name}": s.drifted for name, s in found.scores.items()}
    assert told == ours
    assert told["Value Drift for column region"] is False
    assert told["Value Drift for column amount"] is True


def test_the_page_needs_nobody_else_and_says_the_verdict() -> None:
    found = compared()
    text = page(make_report(found, 0.3), found.result, "iris in production").decode()
    assert "iris in production: failed" in text
    assert "4 of 4 columns have drifted" in text
    assert not re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(?!data:)', text)


def test_what_clients_sent_is_no_markup_on_it() -> None:
    region = ["north", HOSTILE] * 250
    found = compared(region=region)
    text = page(make_report(found, 0.3), found.result, HOSTILE).decode()
    assert "alert(1)" in text
    assert HOSTILE not in text
    assert "<script>alert" not in text


@pytest.mark.parametrize(
    "values",
    [
        [None] * 500,
        [np.inf] * 500,
        [1e308, -1e308] * 250,
        [1.0] * 499 + [None],
        ["x"] * 500,
        [[1]] * 500,
        [*range(499), 10**400],
    ],
    ids=["missing", "infinite", "huge", "constant", "text", "list", "beyond a float"],
)
def test_whatever_a_column_holds_it_is_drawn_or_left_out(values: list[Any]) -> None:
    odd = pd.Series(values, dtype=object)
    found = compared(amount=odd, region=odd, premium=odd)
    assert b"drift" in page(make_report(found, 0.3), found.result, "iris")


def test_a_text_is_drawn_by_its_statistics() -> None:
    random = np.random.default_rng(1)
    samples = [
        Sample(pd.DataFrame({"email": texts(random, 400, s)}), pd.Series(["a", "b"] * 200))
        for s in (0, 0.5)
    ]
    found = drift(*samples, {"email": "text"}, Drift())
    snapshot = make_report(found, 0.3)
    assert "email: share of unknown words" in str(snapshot.dict())


def test_without_data_there_is_a_page_that_says_so() -> None:
    few = sample(np.random.default_rng(1), 10)
    found = drift(few, few, KINDS, Drift())
    assert make_report(found, 0.3) is None
    text = page(None, found.result, "iris in staging").decode()
    assert "not enough data: 10 rows in the window, 200 are needed" in text


def test_of_many_rows_some_are_drawn_and_all_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidently_report, "MAX_ROWS", 300)
    found = compared()
    text = page(make_report(found, 0.3), found.result, "iris").decode()
    assert "drawn are 300 of them" in text
    assert found.result.rows == 500


def test_pages_and_snapshots_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidently_report, "MAX_PAGES", 3)
    monkeypatch.setattr(evidently_report, "MAX_SNAPSHOTS", 2)
    snapshot = make_report(compared(), 0.3)
    for hour in range(5):
        latest = keep_page(tmp_path / "pages", b"%d" % hour, NOON + timedelta(hours=hour))
        keep_snapshot(tmp_path / "workspace", "iris@production", snapshot)
    assert latest.read_bytes() == b"4"
    assert sorted(path.name for path in latest.parent.iterdir()) == [
        "20261120T140000Z.html",
        "20261120T150000Z.html",
        "20261120T160000Z.html",
        "latest.html",
    ]
    assert len(list((tmp_path / "workspace").glob("*/snapshots/*.json"))) == 2


def test_evidently_is_imported_by_nobody_who_only_loads_the_module() -> None:
    code = (
        "import sys, orchestration.monitoring.evidently_report; print('evidently' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
