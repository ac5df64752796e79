"""What a variant loses against the trained model, and gains over the graph it was made from."""

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from bentos.model_server.contract import Contract
from bentos.model_server.quantization import Quantization, QuantizationLimits
from bentos.model_server.session import ModelSession
from orchestration.export.contract import as_scalar
from orchestration.export.export import Exported
from orchestration.export.native import NativeModel
from orchestration.monitoring.contest import LABEL
from orchestration.quantization.measure import Clock, rows_per_second
from orchestration.quantization.quantize import SEED, Quantized
from orchestration.verification.compare import Answered, answers, difference, is_sound
from orchestration.verification.rows import Space, Values, build_space

if TYPE_CHECKING:
    import pandas as pd

BATCH = 32
_MOST_HELD_OUT = 20_000
_ALONE = 200  # rows that are also asked one by one


@dataclass(frozen=True)
class _Answers:
    """Rows that the trained model answers, with both answers; `actual` is None where the variant
    refuses one, or has no number for it. places: of the rows among those asked."""

    places: list[int]
    rows: list[Values]
    expected: list[Answered]
    actual: list[Answered | None]


def prove(
    native: NativeModel,
    quantized: Quantized,
    base: Exported,
    reference: "pd.DataFrame | None",
    held_out: "pd.DataFrame | None",
    limits: QuantizationLimits,
    *,
    clock: Clock = time.thread_time,
    seed: int = SEED,
) -> Quantization:
    """Compare on the reference rows, and measure.

    reference: as `verify` takes it. held_out: rows with the ground truth in the column `label`, for
    the area under the curve; without them it is measured on the reference rows, against the
    trained model's own labels.
    """
    contract = quantized.contract
    session = ModelSession(quantized.model, contract)
    base_session = ModelSession(base.model, base.contract)
    space = build_space(contract, native.example if reference is None else reference, seed)
    found = _both(native, session, space.reference)
    areas = _areas(native, session, found, space, held_out)
    speed, base_speed = _speeds([session, base_session], found, clock)
    return Quantization(
        method=quantized.method,
        base_sha256=quantized.base_sha256,
        quantized=quantized.operators,
        rows=len(found.rows),
        calibration_rows=quantized.calibration_rows,
        truth=areas.truth,
        label_flips=_flips(found, contract),
        auc=areas.actual,
        base_auc=areas.expected,
        relative_error=_relative_error(found) if contract.outputs.kind == "regression" else 0.0,
        batch_difference=_batch_difference(session, found.rows),
        errors=quantized.errors,
        size_bytes=len(quantized.model),
        base_size_bytes=len(base.model),
        rows_per_second=speed,
        base_rows_per_second=base_speed,
        limits=limits,
    )


def _both(native: NativeModel, session: ModelSession, rows: Sequence[Values]) -> _Answers:
    pairs = [(i, a) for i, a in enumerate(answers(native.predict, rows)) if a is not None]
    places = [i for i, _ in pairs]
    answered = [rows[i] for i in places]
    actual = [a if is_sound(a) else None for a in answers(session.predict, answered)]
    return _Answers(places, answered, [a for _, a in pairs], actual)


def _speeds(sessions: Sequence[ModelSession], found: _Answers, clock: Clock) -> list[float]:
    rows = [row for row, actual in zip(found.rows, found.actual, strict=True) if actual is not None]
    return rows_per_second(sessions, rows, BATCH, clock) if rows else [0.0, 0.0]


def _flips(found: _Answers, contract: Contract) -> int:
    if contract.outputs.kind == "regression":
        return 0
    pairs = zip(found.expected, found.actual, strict=True)
    return sum(actual is None or expected.label != actual.label for expected, actual in pairs)


def _relative_error(found: _Answers) -> float:
    """Root mean square difference over the standard deviation of the trained model's values."""
    if not found.rows:
        return 0.0
    expected = np.array([float(answer.label) for answer in found.expected])
    actual = np.array([np.nan if a is None else float(a.label) for a in found.actual])
    with np.errstate(all="ignore"):
        apart = float(np.sqrt(np.mean((actual - expected) ** 2)))
        spread = float(np.std(expected)) or max(1.0, abs(float(expected[0])))
        error = apart / spread
    return error if np.isfinite(error) else sys.float_info.max


def _batch_difference(session: ModelSession, rows: Sequence[Values]) -> float:
    """Each row alone, and the same rows together."""
    chosen = rows[:_ALONE]
    alone = [answers(session.predict, [row])[0] for row in chosen]
    together = answers(session.predict, chosen)
    regression = session.contract.outputs.kind == "regression"
    pairs = zip(alone, together, strict=True)
    return max((_apart(a, b, regression) for a, b in pairs), default=0.0)


def _apart(alone: Answered | None, together: Answered | None, regression: bool) -> float:
    if alone is None:
        return 0.0 if together is None else sys.float_info.max
    return difference(alone, together, regression)


@dataclass(frozen=True)
class _Areas:
    """Of the trained model and of the variant; None where they could not be measured."""

    truth: Literal["labels", "model", "none"]
    expected: float | None = None
    actual: float | None = None


def _areas(
    native: NativeModel,
    session: ModelSession,
    reference: _Answers,
    space: Space,
    held_out: "pd.DataFrame | None",
) -> _Areas:
    """By the known labels; where these are no two, by the trained model's own."""
    from orchestration.monitoring.scores import ScoreError

    outputs = session.contract.outputs
    if outputs.kind == "regression" or outputs.probabilities is None:
        return _Areas("none")
    rows, labels = ([], []) if held_out is None else _labelled(held_out, space)
    found = _both(native, session, rows)
    with suppress(ScoreError):
        known = [labels[i] for i in found.places]
        return _Areas("labels", *_areas_by(known, found, outputs.labels))
    with suppress(ScoreError):
        own = [answer.label for answer in reference.expected]
        return _Areas("model", *_areas_by(own, reference, outputs.labels))
    return _Areas("model")


def _areas_by(truth: Sequence[Any], found: _Answers, classes: Sequence[Any]) -> tuple[float, float]:
    """The variant's is 0 where it has no answer to a row."""
    from orchestration.monitoring.scores import score

    expected = score("roc_auc", truth, (), _table(found.expected), classes)
    actual = [answer for answer in found.actual if answer is not None]
    if len(actual) < len(truth):
        return expected, 0.0
    return expected, score("roc_auc", truth, (), _table(actual), classes)


def _labelled(held_out: "pd.DataFrame", space: Space) -> tuple[list[Values], list[Any]]:
    """The allowed rows and their labels."""
    fields = space.contract.inputs
    if LABEL not in held_out or any(field.name not in held_out for field in fields):
        return [], []
    held_out = held_out.dropna(subset=[LABEL])
    if len(held_out) > _MOST_HELD_OUT:
        held_out = held_out.sample(_MOST_HELD_OUT, random_state=0)
    columns = [[as_scalar(v, f) for v in held_out[f.name].tolist()] for f in fields]
    pairs = zip(zip(*columns, strict=True), held_out[LABEL].tolist(), strict=True)
    kept = [(list(row), label) for row, label in pairs if space.allows(row)]
    return [row for row, _ in kept], [label for _, label in kept]


def _table(side: Sequence[Answered]) -> npt.NDArray[np.float64] | None:
    """The probabilities; None where there are none."""
    if not side or side[0].probabilities is None:
        return None
    return np.nan_to_num(np.array([answer.probabilities for answer in side], np.float64))
