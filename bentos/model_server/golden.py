"""The golden rows: before a server is ready, it answers as the certificate says."""

import logging
from collections.abc import Sequence

from bentos.model_server.certificate import Answer, Certificate, CertificateError
from bentos.model_server.contract import Contract, Scalar
from bentos.model_server.session import ModelSession, Predictions

logger = logging.getLogger("slipway.model_server")


def answers(predictions: Predictions) -> list[Answer]:
    """Predictions as the certificate writes them: one answer a row, floats widened to float64."""
    if predictions.probabilities is None:
        return [Answer(label) for label in predictions.labels]
    rows = predictions.probabilities.astype(float).tolist()
    return [Answer(label, tuple(row)) for label, row in zip(predictions.labels, rows, strict=True)]


def _gap(a: Scalar, b: Scalar) -> float:
    # Relative beyond 1, as for the tolerance of a regression; a probability is never beyond it.
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) / max(1.0, abs(a))
    return 0.0 if a == b else float("inf")


def _is_tie(answer: Answer, tolerance: float) -> bool:
    best = sorted(answer.probabilities or (), reverse=True)[:2]
    return len(best) == 2 and best[0] - best[1] <= tolerance


def difference(expected: Answer, actual: Answer, tolerance: float) -> float:
    """The largest difference of two answers; infinite for another label.

    Two labels whose probabilities lie within the tolerance of each other are not told apart.
    """
    left, right = expected.probabilities or (), actual.probabilities or ()
    if len(left) != len(right):
        return float("inf")
    gap = 0.0 if _is_tie(expected, tolerance) else _gap(expected.prediction, actual.prediction)
    return max([gap, *(_gap(a, b) for a, b in zip(left, right, strict=True))])


def _compare(kind: str, expected: Sequence[Answer], actual: Sequence[Answer], limit: float) -> None:
    if list(expected) == list(actual):
        return
    worst = max(difference(e, a, limit) for e, a in zip(expected, actual, strict=True))
    if not worst <= limit:
        raise CertificateError(
            f"the golden rows ({kind}) come out different from the certificate by {worst:g}, "
            f"over its tolerance {limit:g}: this machine or its libraries compute otherwise than "
            "where the version was verified; verify it again here"
        )
    logger.warning(
        "The golden rows (%s) differ from the certificate by %g, within its tolerance %g: "
        "another CPU or another ONNX Runtime than where the version was verified",
        kind,
        worst,
        limit,
    )


def reproduce(session: ModelSession, contract: Contract, certificate: Certificate) -> None:
    """Answer the golden rows one by one and as one batch; this warms the session up as well.

    Bit for bit, or within the certificate's tolerance with a warning: another CPU orders float
    additions differently. CertificateError where it differs by more, or has no golden rows.
    """
    golden = certificate.golden
    limit = certificate.parity.limits.tolerance
    if not golden.rows or not len(golden.rows) == len(golden.single) == len(golden.batch):
        raise CertificateError("the certificate has no golden rows, or not an answer for each")
    rows = [tuple(row.get(field.name) for field in contract.inputs) for row in golden.rows]
    _compare("single", golden.single, [answers(session.predict([row]))[0] for row in rows], limit)
    _compare("batch", golden.batch, answers(session.predict(rows)), limit)
