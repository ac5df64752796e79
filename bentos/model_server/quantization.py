"""What a quantized variant loses and gains, and whether it is one to serve."""

from typing import Literal

import msgspec

# Between a row's answer alone and among others: float32 sums in another order, nothing more.
MAX_BATCH_DIFFERENCE = 1e-5


class QuantizationLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a quantized variant may lose, and what it has to gain; see
    `serving_config.variants.Quantization`."""

    max_label_flip_share: float = 0.01
    max_auc_loss: float = 0.005
    max_relative_error: float = 0.02
    min_speedup: float = 1.1
    max_size_ratio: float = 0.9


class Quantization(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A quantized variant against the trained model, on the reference rows; and what it gains
    over the graph that it was made from, as measured when it was built.

    method: `static`, scales of the activations fixed from the calibration rows; `dynamic`, a scale
        for each row, from that row. base_sha256: the ONNX digest of the graph it was made from.
    quantized: operators by type that compute in int8; rows: compared; calibration_rows: those that
        the scales were fixed from.
    label_flips: rows with another label than the trained model's. auc, base_auc: area under the
        ROC curve (of several classes: one against the rest, macro average) against `truth`;
        None where it was not measured. truth: `labels`, those of the held-out rows; `model`, the
        trained model's own where those are not known or all the same; `none` where there is no
        area: of a regression, and without probabilities.
    relative_error: of a regression, the root mean square difference over the values' standard
        deviation; 0 for a classification.
    batch_difference: the largest difference between a row's answer alone and among others.
    errors: by method, the mean absolute difference on the calibration rows: why this one.
    size_bytes, base_size_bytes: of the files. rows_per_second, base_rows_per_second: at batch 32,
        one thread and its CPU time, the median of alternating rounds.
    """

    method: Literal["static", "dynamic"]
    base_sha256: str
    quantized: dict[str, int]
    rows: int
    calibration_rows: int
    truth: Literal["labels", "model", "none"]
    label_flips: int
    auc: float | None
    base_auc: float | None
    relative_error: float
    batch_difference: float
    errors: dict[str, float]
    size_bytes: int
    base_size_bytes: int
    rows_per_second: float
    base_rows_per_second: float
    limits: QuantizationLimits

    @property
    def auc_loss(self) -> float:
        """What is lost of the area under the curve; 0 where there is none."""
        return 0.0 if self.auc is None or self.base_auc is None else self.base_auc - self.auc

    @property
    def size_ratio(self) -> float:
        """Its size over that of the graph it was made from."""
        return self.size_bytes / max(1, self.base_size_bytes)

    @property
    def speedup(self) -> float:
        """Its rows a second over those of the graph it was made from."""
        base = self.base_rows_per_second
        return self.rows_per_second / base if base > 0 else 0.0

    @property
    def label_flip_share(self) -> float:
        """0 to 1."""
        return self.label_flips / max(1, self.rows)

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why this is no variant to serve, one sentence each; empty where it is."""
        limits = self.limits
        # each says what has to hold: a figure that is no number holds nothing
        held = (
            (bool(self.quantized), "Nothing was quantized: no operator computes in int8."),
            (self.rows > 0, "No row was compared."),
            (
                self.size_ratio <= limits.max_size_ratio,
                f"It is not smaller: {self.size_bytes:,} bytes are {self.size_ratio:.2f} of the "
                f"original's, at most {limits.max_size_ratio:.2f} are allowed.",
            ),
            (
                self.speedup >= limits.min_speedup,
                f"It is not faster: {self.speedup:.2f} times the original's rows per second at "
                f"batch 32, at least {limits.min_speedup:.2f} is asked for.",
            ),
            (
                self.label_flip_share <= limits.max_label_flip_share,
                f"It gives {self.label_flips:,} of {self.rows:,} rows another label "
                f"({self.label_flip_share:.1%}), at most {limits.max_label_flip_share:.1%} may "
                "get one.",
            ),
            (
                self.truth == "none" or None not in (self.auc, self.base_auc),
                "The area under its ROC curve could not be measured: all rows have one label. Let "
                "the training run log held-out rows of every label (holdout/holdout.parquet).",
            ),
            (
                self.auc_loss <= limits.max_auc_loss,
                f"It loses {self.auc_loss:.4f} of the area under the ROC curve, at most "
                f"{limits.max_auc_loss:.4f} may be lost.",
            ),
            (
                self.relative_error <= limits.max_relative_error,
                f"Its values are {self.relative_error:.2%} of their standard deviation apart, at "
                f"most {limits.max_relative_error:.2%} is allowed.",
            ),
            (
                self.batch_difference <= MAX_BATCH_DIFFERENCE,
                f"A row's answer changes by {self.batch_difference:.1e} with the rows beside it, "
                f"at most {MAX_BATCH_DIFFERENCE:.0e} is allowed.",
            ),
        )
        return tuple(reason for holds, reason in held if not holds)

    @property
    def passed(self) -> bool:
        """It loses no more than it may, and gains what it must."""
        return not self.refusals
