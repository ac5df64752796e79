"""The drift report as Evidently draws it: one HTML page, and a snapshot for Evidently's own UI.

The scores on it are ours, so that the page never contradicts the check. Evidently's own PSI cuts
the range of both samples into equal widths, leaves out missing values, and knows no chance.
"""

import html
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploy.drift_result import DriftResult
from deploy.home import write_atomically
from orchestration.monitoring.columns import Pair, label
from orchestration.monitoring.drift import Compared
from orchestration.monitoring.psi import Score

if TYPE_CHECKING:
    import pandas as pd

# More rows change no plot, and each is drawn twice.
MAX_ROWS = 20_000
MAX_PAGES, MAX_SNAPSHOTS = 24, 50
_METHOD = "slipway_psi"
# Beyond it the width of a histogram's bins overflows.
_LARGEST = 1e150
_SCORES: ContextVar[Mapping[str, Score]] = ContextVar("scores")


def make_report(compared: Compared, max_drifted_share: float) -> Any:
    """An Evidently snapshot; None where no column can be drawn."""
    drawn = [pair for pair in map(_drawable, compared.pairs) if pair is not None]
    if not drawn:
        return None
    token = _SCORES.set(compared.scores)
    try:
        with _quiet():
            return _run(drawn, compared.scores, max_drifted_share)
    finally:
        _SCORES.reset(token)


@contextmanager
def _quiet() -> Iterator[None]:
    """Evidently warns about columns of one value, and about its own dependencies."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def _run(drawn: list[Pair], scores: Mapping[str, Score], max_drifted_share: float) -> Any:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    _register()
    names = [pair.name for pair in drawn]
    definition = DataDefinition(
        numerical_columns=[pair.name for pair in drawn if pair.kind == "number"],
        categorical_columns=[pair.name for pair in drawn if pair.kind == "category"],
    )
    current, reference = (
        Dataset.from_pandas(_frame(drawn, which), data_definition=definition)
        for which in ("current", "reference")
    )
    preset = DataDriftPreset(
        columns=names,
        drift_share=max_drifted_share,
        method=_METHOD,
        per_column_threshold={name: scores[name].limit for name in names},
    )
    return Report([preset], include_tests=True).run(current, reference)


def _register() -> None:
    """Our score as one of Evidently's methods."""
    from evidently.legacy.calculations.stattests import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    def score(
        reference: "pd.Series[Any]", current: Any, kind: Any, limit: float
    ) -> tuple[float, bool]:
        found = _SCORES.get()[str(reference.name)]
        return found.score, found.drifted

    kinds = [ColumnType.Categorical, ColumnType.Numerical]
    register_stattest(StatTest(_METHOD, "PSI less chance", kinds, 0.2), score)


def _drawable(pair: Pair) -> Pair | None:
    """At most MAX_ROWS rows, and only what Evidently can draw."""
    reference, current = (_values(pair, values) for values in (pair.reference, pair.current))
    if reference.notna().any() and current.notna().any():
        return Pair(pair.name, pair.kind, reference, current)
    return None


def _values(pair: Pair, values: Any) -> "pd.Series[Any]":
    import pandas as pd

    series = pd.Series(values)
    if len(series) > MAX_ROWS:
        series = series.sample(MAX_ROWS, random_state=0).sort_index()
    series = series.reset_index(drop=True)
    if pair.kind == "number":
        return series.where(series.abs() < _LARGEST)
    return series.map(label, na_action="ignore")


def _frame(pairs: list[Pair], which: str) -> "pd.DataFrame":
    """Texts have fewer rows than other columns, where there are many: the rest is missing."""
    import pandas as pd

    columns: dict[str, pd.Series[Any]] = {pair.name: getattr(pair, which) for pair in pairs}
    return pd.concat(columns, axis=1)


def page(snapshot: Any, result: DriftResult, title: str) -> bytes:
    """The snapshot's HTML below the verdict in words; the words alone without one."""
    drawn = "" if snapshot is None else str(snapshot.get_html_str(as_iframe=False))
    words = _words(result, title)
    if not drawn:
        return f"<!DOCTYPE html><html><head>{_HEAD}</head><body>{words}</body></html>".encode()
    before, body, after = drawn.partition("<body>")
    return f"{before}{body}{words}{after}".encode()


_HEAD = '<meta charset="utf-8"><title>drift</title>'


def _words(result: DriftResult, title: str) -> str:
    verdict = result.verdict.replace("_", " ")
    lines = [f"{result.rows} rows, compared with {result.reference_rows} of the reference."]
    if max(result.rows, result.reference_rows) > MAX_ROWS:
        lines.append(f"The scores are of all rows; drawn are {MAX_ROWS} of them.")
    lines += [f"{note.column} {note.message} ({note.severity})." for note in result.notes[:100]]
    items = "".join(f"<li>{html.escape(label_line(line))}</li>" for line in lines)
    return (
        '<div style="font-family:sans-serif;margin:1em 2em">'
        f"<h1>{html.escape(title)}: {verdict}</h1><p>{html.escape(result.reason)}</p>"
        f"<ul>{items}</ul></div>"
    )


def label_line(text: str) -> str:
    """One line, not too long."""
    return " ".join(text.split())[:300]


def keep_page(folder: Path, data: bytes, at: datetime) -> Path:
    """`latest.html`, and a copy by its time; the oldest of more than MAX_PAGES goes."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(folder / f"{at:%Y%m%dT%H%M%SZ}.html", data)
    latest = folder / "latest.html"
    write_atomically(latest, data)
    for old in sorted(folder.glob("2*.html"))[:-MAX_PAGES]:
        old.unlink(missing_ok=True)
    return latest


def keep_snapshot(workspace: Path, project: str, snapshot: Any) -> None:
    """In Evidently's workspace, under the project of that name; the oldest of more than
    MAX_SNAPSHOTS goes. `evidently ui --workspace <workspace>` shows them."""
    with _quiet():
        from evidently.ui.workspace import Workspace

        opened = Workspace.create(str(workspace))
        found = opened.search_project(project) or [opened.create_project(project)]
        opened.add_run(found[0].id, snapshot, include_data=False)
        # The ids are UUIDv7: they sort by time.
        for old in sorted(opened.list_runs(found[0].id), key=str)[:-MAX_SNAPSHOTS]:
            opened.delete_run(found[0].id, old)
