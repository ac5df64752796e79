"""Which rows a version is fitted on, held out for, and compared with, when there are fresh ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from orchestration.examples.registration import LABEL
from orchestration.training import Target, TrainingError

if TYPE_CHECKING:
    import pandas as pd

HELD_OUT_SHARE = 0.3
# The recent rows together count this many times as much as all others.
RECENT_WEIGHT = 3.0


@dataclass(frozen=True)
class Rows:
    """Features with their labels; a frame's index is that of its labels."""

    features: "pd.DataFrame"
    labels: "pd.Series[str]"


@dataclass(frozen=True)
class Split:
    """weights: of the rows to fit on, None where all count the same; reference: None where it is
    the rows to fit on."""

    fit: Rows
    held_out: Rows
    weights: npt.NDArray[np.float64] | None = None
    reference: "pd.DataFrame | None" = None


def split(target: Target, fit: Rows, held_out: Rows) -> Split:
    """The rows of a training function, changed by the fresh ones of the target's request.

    Without fresh rows: the rows given.

    With them, the traffic has probably changed, so the version is made for the present one. Its
    population are the fresh rows of the last drift window (`drift.window_hours` before the newest,
    at least `drift.min_rows` rows), for against that window it will be checked. The newest
    `HELD_OUT_SHARE` of them are held out; the others weigh `RECENT_WEIGHT` times as much as
    everything else, together, so that a few hundred count among thousands. Older fresh rows are
    rows to fit on like those given. All rows of that window, held out or not, are the reference: a
    rest of the former population among them would be drift again, as the index of a bin that the
    traffic has left is large.
    """
    fresh = target.request.fresh
    if fresh is None or fresh.empty:
        return Split(fit, held_out)
    rows = _checked(fresh, list(fit.features.columns), target.name)
    drift = target.model.drift
    recent = _recent(rows["time"], timedelta(hours=drift.window_hours), drift.min_rows)
    kept = recent - max(1, round(HELD_OUT_SHARE * recent))
    features = rows[fit.features.columns].astype(fit.features.dtypes.to_dict())
    labels = rows[LABEL].astype(str)
    first, middle = len(rows) - recent, len(rows) - recent + kept
    return Split(
        _joined(fit, Rows(features[:middle], labels[:middle])),
        Rows(features[middle:], labels[middle:]),
        _weights(len(fit.features) + first, kept),
        features[first:],
    )


def _checked(fresh: "pd.DataFrame", columns: Sequence[str], name: str) -> "pd.DataFrame":
    """Complete rows, oldest first. TrainingError where an input was not logged."""
    if missing := sorted({*columns, LABEL, "time"} - set(fresh.columns)):
        raise TrainingError(
            f"{name}: the fresh rows have no column {missing[0]!r}: leave it out of "
            "prediction_log.never and .hashed, or train by hand"
        )
    rows = fresh.dropna(subset=[*columns, LABEL]).sort_values("time", kind="stable")
    if len(rows) < 2:
        raise TrainingError(f"{name}: of {len(fresh)} fresh rows, {len(rows)} are complete")
    return rows.reset_index(drop=True)


def _recent(times: "pd.Series[pd.Timestamp]", window: timedelta, least: int) -> int:
    """How many of the newest rows are the present population, at least 2."""
    inside = int((times > times.iloc[-1] - window).sum())
    return min(len(times), max(inside, least, 2))


def _weights(others: int, recent: int) -> npt.NDArray[np.float64]:
    weight = max(1.0, RECENT_WEIGHT * others / max(recent, 1))
    return np.concatenate([np.ones(others), np.full(recent, weight)])


def _joined(first: Rows, second: Rows) -> Rows:
    import pandas as pd

    return Rows(
        pd.concat([first.features, second.features], ignore_index=True),
        pd.concat([first.labels, second.labels], ignore_index=True),
    )
