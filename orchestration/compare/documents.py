"""What a comparison found."""

from typing import Literal

import msgspec


class CompareError(ValueError):
    """Why two versions cannot be compared, in one sentence."""


class Side(msgspec.Struct, frozen=True):
    """One of the two. quality: by metric; None where these rows have no value of it."""

    label: str
    onnx_sha256: str
    size_bytes: int
    quality: dict[str, float | None]


class Agreement(msgspec.Struct, frozen=True):
    """equal_labels: share of the rows, 0 to 1; None for a regression. mean, max: difference of a
    probability, of a regression's value; None where the two have other classes or none."""

    equal_labels: float | None
    mean_difference: float | None
    max_difference: float | None


class Speed(msgspec.Struct, frozen=True):
    """Of one batch size, one thread, without HTTP: first A's, then B's.

    p50_ms, p99_ms: of a call; rows_per_second: the median of the rounds. ratio: of B's rows a
    second to A's in the same round: lowest, median and highest.
    """

    batch_size: int
    rounds: int
    p50_ms: tuple[float, float]
    p99_ms: tuple[float, float]
    rows_per_second: tuple[float, float]
    ratio: tuple[float, float, float]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """source: where the rows are from. truth: `labels`, the rows' own; `model`, what the trained
    model of `truth_of` answers; `none` where no real row is known, and then no quality is.
    left_out: rows that one of the contracts refuses."""

    model: str
    a: Side
    b: Side
    source: str
    truth: Literal["labels", "model", "none"]
    truth_of: str
    rows: int
    left_out: int
    agreement: Agreement
    speed: tuple[Speed, ...]
