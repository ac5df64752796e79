"""Golden rows: the graph's own answers, to be reproduced bit for bit over HTTP."""

import math
from collections.abc import Sequence

from bentos.model_server.certificate import Answer, Golden
from bentos.model_server.contract import Scalar
from bentos.model_server.golden import answers
from bentos.model_server.session import ModelSession
from orchestration.verification.rows import Values, spread

MOST = 16
_LONGEST_TEXT = 2000  # certificates stay small


def golden(session: ModelSession, kinds: Sequence[Sequence[Values]]) -> Golden:
    """At most 16 rows: half from the first kind, the rest from the others in equal parts.

    kinds: rows that the graph answers; where there are none, nothing is golden.
    """
    share = [MOST // 2] + [MOST // 2 // max(1, len(kinds) - 1)] * (len(kinds) - 1)
    rows = [
        row
        for kind, most in zip(kinds, share, strict=True)
        for row in spread([r for r in kind if _short(r)], most)
    ]
    answered = [(row, answers(session.predict([row]))[0]) for row in rows]
    kept = [(row, answer) for row, answer in answered if _sound(answer)]
    batch = answers(session.predict([row for row, _ in kept])) if kept else []
    names = [field.name for field in session.contract.inputs]
    return Golden(
        tuple(dict(zip(names, row, strict=True)) for row, _ in kept),
        tuple(answer for _, answer in kept),
        tuple(batch),
    )


def _short(row: Sequence[Scalar]) -> bool:
    return all(not isinstance(v, str) or len(v) <= _LONGEST_TEXT for v in row)


def _sound(answer: Answer) -> bool:
    """JSON has neither NaN nor infinity."""
    numbers = [*(answer.probabilities or ()), answer.prediction]
    return all(math.isfinite(v) for v in numbers if isinstance(v, float))
