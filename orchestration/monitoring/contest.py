"""Two versions scored on the same hold-out, each by the session that serves it."""

import hashlib
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from bentos.model_server.contract import Contract
from deploy.challenge import Comparison
from deploy.versions import VersionFolder
from orchestration.monitoring.scores import ScoreError, score
from serving_config.monitoring import Quality

if TYPE_CHECKING:
    import pandas as pd

    from bentos.model_server.session import ModelSession, Predictions, Row

# What a training run leaves of the rows it held out, and their column with the truth.
HOLD_OUT = "holdout/holdout.parquet"
LABEL = "label"
_ROWS_AT_ONCE = 1000


class ContestError(ValueError):
    """Why two versions cannot be compared."""


def contest(
    candidate: VersionFolder,
    production: VersionFolder,
    holdout: bytes,
    quality: Quality,
    min_gain: float,
) -> Comparison:
    """Score both. holdout: a Parquet file with the inputs and the column `label`.

    Rows that one of the contracts refuses would not be answered: they are left out for both.
    """
    import pandas as pd

    rows = pd.read_parquet(BytesIO(holdout))
    if LABEL not in rows:
        raise ContestError(f"the hold-out has no column {LABEL!r}")
    rows = rows[rows[LABEL].notna()]
    sessions = [_session(folder) for folder in (candidate, production)]
    inputs = [contract_rows(session.contract, rows) for session in sessions]
    both = [i for i in range(len(rows)) if all(given[i] is not None for given in inputs)]
    if not both:
        raise ContestError(f"of the hold-out's {len(rows)} rows both versions answer none")
    truth = rows[LABEL].iloc[both].tolist()
    try:
        first, second = (
            _score(session, [given[i] for i in both], truth, quality)
            for session, given in zip(sessions, inputs, strict=True)
        )
    except ScoreError as error:
        raise ContestError(str(error)) from error
    return Comparison(
        metric=quality.metric,
        candidate=first,
        production=second,
        min_gain=min_gain,
        rows=len(both),
        left_out=len(rows) - len(both),
        holdout_sha256=hashlib.sha256(holdout).hexdigest(),
    )


def _session(folder: VersionFolder) -> "ModelSession":
    from bentos.model_server.session import ModelSession

    return ModelSession(folder.onnx_bytes(), folder.contract())


def contract_rows(contract: Contract, table: "pd.DataFrame") -> list[Any]:
    """A row in the contract's order for each of the table's, None for one that it refuses."""
    from orchestration.export.contract import accepts, as_scalar

    if missing := [field.name for field in contract.inputs if field.name not in table]:
        raise ContestError(
            f"version {contract.version} takes {', '.join(missing)}, which the hold-out lacks"
        )
    columns = [
        [as_scalar(value, field) for value in table[field.name].tolist()]
        for field in contract.inputs
    ]
    fields = contract.inputs
    return [
        row if all(accepts(f, v) for f, v in zip(fields, row, strict=True)) else None
        for row in map(list, zip(*columns, strict=True))
    ]


def _score(
    session: "ModelSession", rows: Sequence["Row"], truth: list[Any], quality: Quality
) -> float:
    outputs = session.contract.outputs
    if (outputs.kind == "regression") != (quality.metric == "rmse"):
        raise ScoreError(f"quality.metric {quality.metric} does not suit a {outputs.kind}")
    answers = predict_all(session, rows)
    return score(quality.metric, truth, answers.labels, answers.probabilities, outputs.labels)


def predict_all(session: "ModelSession", rows: Sequence["Row"]) -> "Predictions":
    """Any number of rows, at least one."""
    import numpy as np

    from bentos.model_server.session import Predictions

    parts = [
        session.predict(rows[start : start + _ROWS_AT_ONCE])
        for start in range(0, len(rows), _ROWS_AT_ONCE)
    ]
    known = [part.probabilities for part in parts if part.probabilities is not None]
    return Predictions(
        [label for part in parts for label in part.labels], np.concatenate(known) if known else None
    )
