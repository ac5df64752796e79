"""Variants of a version beside the one as it was trained."""

from typing import Annotated, Literal

from pydantic import Field

from serving_config.base import Settings
from serving_config.release import Share

Variant = Literal["fp32", "int8"]
Variants = Annotated[tuple[Variant, ...], Field(strict=False, min_length=1)]


class Quantization(Settings):
    """What an int8 variant may lose, and what it has to gain, to be one."""

    max_label_flip_share: Share = 0.01
    """Share of the reference rows that may get another label than the trained model's."""
    max_auc_loss: Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False)] = 0.005
    """Area under the ROC curve that may be lost."""
    max_relative_error: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.02
    """Of a regression: root mean square difference over the values' standard deviation."""
    min_speedup: Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)] = 1.1
    """Rows a second at batch 32, one thread, over those of the graph it was made from."""
    max_size_ratio: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.9
    """Its size over that of the graph it was made from."""
    calibration_rows: Annotated[int, Field(ge=10, le=100_000)] = 500
    """Rows of the reference that scales are fixed from, and methods are compared on."""
