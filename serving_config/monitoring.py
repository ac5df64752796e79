"""What is watched of a model in production, and what follows when it fails."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from serving_config.base import Settings
from serving_config.features import Hours
from serving_config.release import Share

Rows = Annotated[int, Field(ge=1, le=10_000_000)]
Check = Literal["drift", "quality"]
Score = Annotated[float, Field(allow_inf_nan=False)]


class Drift(Settings):
    """The log's last window against the training data kept with the version."""

    enabled: bool = True
    """Whether the hourly schedule looks at this model."""
    window_hours: Hours = 1
    """The window ends at the time of the check."""
    min_rows: Rows = 200
    """With fewer rows in the window there is neither drift nor no drift: not enough data."""
    threshold: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 0.2
    """Population stability index above which a column has drifted (0.2: the usual rule)."""
    max_drifted_share: Share = 0.3
    """Share of the columns that may drift; above it the check fails."""
    prediction_threshold: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 0.2
    """The same index of the predictions; above it the check fails."""


class Quality(Settings):
    """Live quality, from labels that come later."""

    metric: Literal["accuracy", "f1", "roc_auc", "rmse"] = "accuracy"
    """The one that is held against `limit`; the others are reported beside it."""
    limit: Score | None = None
    """The check fails below it (`rmse`: above it); without one nothing fails."""
    window_hours: Hours = 168
    """Answers of that time count."""
    min_labels: Rows = 100
    """With fewer labelled answers in the window there is no verdict."""
    slices: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Inputs by whose values (numbers: by quartile) quality is told apart."""


class Retraining(Settings):
    """Training again when a check fails; off where a model has no `retraining`."""

    checks: Annotated[
        tuple[Literal["drift", "quality"], ...], Field(strict=False, min_length=1)
    ] = (
        "drift",
        "quality",
    )
    """The checks that ask for it."""
    failures: Annotated[int, Field(ge=1, le=100)] = 2
    """So many in a row."""
    cool_down_hours: Hours = 24
    """No second one within that time, whatever came of the first."""
    environment: str = "production"
    """Whose checks count, and whose labelled answers are the fresh data."""
    min_labelled_rows: Rows = 100
    """With fewer labelled answers since the last training there is nothing to learn from: the
    sensor says so and waits."""
    min_gain: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    """By how much the new version's score on the recent hold-out must exceed that of the version
    in production (strictly, also at 0)."""

    @model_validator(mode="after")
    def _each_once(self) -> "Retraining":
        if len(set(self.checks)) != len(self.checks):
            raise ValueError("checks names one twice")
        return self
