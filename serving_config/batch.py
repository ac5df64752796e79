"""Batch scoring: of one model, and of the platform."""

from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from serving_config.base import Settings

Location = Annotated[str, Field(min_length=1, max_length=2000, pattern=r"^[^\x00-\x1f]+$")]


def _from_anywhere(location: str) -> str:
    if not location.startswith("/") and "://" not in location:
        raise ValueError(f"{location!r} is relative: write an absolute path, or a URL")
    return location


Place = Annotated[Location, AfterValidator(_from_anywhere)]


def _of_a_day(location: str) -> str:
    if "{day}" not in location:
        raise ValueError(f"{location!r} is the same for every day: {{day}} has to stand in it")
    return location


Columns = Annotated[tuple[str, ...], Field(strict=False)]
Engine = Literal["local", "ray"]


class BatchLimits(Settings):
    """What one job may take; it decides nothing about the rows that come out."""

    threads: Annotated[int, Field(ge=1, le=256)] | None = None
    """Parts that are scored at once on one machine; one for each core where it is left out."""
    part_rows: Annotated[int, Field(ge=1000, le=10_000_000)] = 250_000
    """Rows of one part at least, if the input allows it: what is scored again after a kill."""
    part_timeout_seconds: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 600
    """On Ray: a job whose parts make no progress for so long is ended with an error."""


class Batch(Settings):
    """`batch` of a model: its `batch_predictions` asset, partitioned by day."""

    input: Place | None = None
    """What a day's run scores: a path or fsspec URL in which `{day}` stands for YYYY-MM-DD. The
    folder `batch/<model>/input/{day}` of the home where it is left out."""
    output: Annotated[Place, AfterValidator(_of_a_day)] | None = None
    """Where its result goes: with `{day}`; `batch/<model>/predictions/day={day}` of the home."""
    keys: Columns | None = None
    """The columns that the output keeps; all that are no inputs of the model if left out."""
    timestamp: Annotated[str, Field(min_length=1, max_length=256)] = "event_timestamp"
    """The column with the moment for which features are looked up, where the contract names a
    feature service."""
    engine: Engine = "local"
    """`local`: this machine's cores. `ray`: the cluster at RAY_ADDRESS, or a local Ray."""
    schedule: Annotated[str, Field(pattern=r"^\S+( \S+){4}$")] | None = None
    """Cron (UTC) of the run that scores the day before; no schedule where it is left out. Files in
    the drop folder are scored in any case."""
    first_day: Annotated[date, Field(strict=False)] = date(2025, 1, 1)
    """The first of the asset's partitions."""
    drift_check: bool = True
    """Whether the input is held against the reference by the check `batch_drift`."""


class BatchJobs(Settings):
    """`batch` of platform.yaml."""

    locations: Annotated[tuple[Place, ...], Field(strict=False)] = ()
    """Folders and fsspec URLs below which `POST /v1/batch-jobs` may read and write, beside the
    folder `batch/` of the home. The command and the assets are not bound to it."""
    limits: BatchLimits = BatchLimits()
    """What one job may take."""
