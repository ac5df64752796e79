"""Replay: what a candidate answers before any client's request reaches it.

Its own golden rows have to come back as its certificate says. On the last rows that clients sent,
or the golden rows of the version that serves, how far the two agree is measured, and limited by the
policy.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import httpx

from bentos.model_server.answers import label_key, version_header
from bentos.model_server.certificate import Golden
from bentos.model_server.contract import Contract
from deploy.analysis.agreement import disagree
from deploy.analysis.replayed import Own, Pair, findings, reason
from deploy.analysis.verdict import Analysis
from deploy.events import Live, State
from deploy.golden_requests import Answered, Asked, batch_answers, mismatches, one_answer
from deploy.phases import stable_beside
from deploy.release import Release
from deploy.rollout import Gate, Request
from deploy.targets.base import Endpoint, Target
from serving_config.release import Replay

Row = Mapping[str, Any]
# The last rows that clients sent: environment, model, the inputs, how many.
Logged = Callable[[str, str, Contract, int], Sequence[Row]]
_REFUSED = (httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY)


def replay(
    candidate: Endpoint,
    release: Release,
    stable: Endpoint | None,
    stable_golden: Golden | None,
    limits: Replay,
    rows: Iterable[Row] | None = None,
) -> Analysis:
    """`promote`, or `rollback` with the reason.

    rows: the requests to compare the two versions on; without them the golden rows of the stable
    version. Without a stable version only the candidate's own are asked.
    Raises TargetError where a version cannot be asked, answers with an error, or another answers.
    """
    started = time.monotonic()
    if rows is None:
        rows = stable_golden.rows if stable_golden is not None else ()
    with Asked(candidate) as asked:
        own = _own(asked, release)
        pairs: list[Pair] = []
        if stable is not None:
            with Asked(stable) as other:
                label = version_header(release.bundle.contract)
                asked_both = (_pair(asked, label, other, stable.headers, row) for row in rows)
                pairs = [pair for pair in asked_both if pair is not None]
    found = findings(own, pairs, limits.max_disagreement)
    return Analysis(
        decision="rollback" if any(finding.breached for finding in found) else "promote",
        reason=reason(found, own, pairs),
        requests=own.rows + 1 + len(pairs),
        seconds=round(time.monotonic() - started, 3),
        findings=found,
    )


def replay_gate(
    target: Target, releases: Callable[[Live], Release], logged: Logged | None = None
) -> Gate:
    """Through the gateway: the candidate's golden requests, and what `logged` has, or the golden
    requests of the stable version."""

    def gate(request: Request, state: State) -> Analysis:
        candidate = request.release.live()
        stable = stable_beside(state.live, candidate.label)
        return replay(
            target.endpoint(state.environment, state.model, candidate),
            request.release,
            target.endpoint(state.environment, state.model, stable) if stable else None,
            releases(stable).certificate.golden if stable else None,
            request.policy.replay,
            _logged_rows(request, state, releases(stable), logged) if stable and logged else None,
        )

    return gate


def _logged_rows(
    request: Request, state: State, stable: Release, logged: Logged
) -> Sequence[Row] | None:
    """None where the golden rows tell more."""
    wanted = request.policy.replay.rows
    if not wanted:
        return None
    found = logged(state.environment, state.model, stable.bundle.contract, wanted)
    return found if len(found) >= min(wanted, len(stable.certificate.golden.rows)) else None


def _own(asked: Asked, release: Release) -> Own:
    """Golden rows alone and as one batch; what is refused has not come back."""
    contract, golden = release.bundle.contract, release.certificate.golden
    tolerance = release.certificate.parity.limits.tolerance
    label = version_header(contract)
    singles = [asked.send("/predict", {"features": row}) for row in golden.rows]
    batch = asked.send("/predict/batch", {"instances": list(golden.rows)})
    alone = sum(
        mismatches(
            contract,
            [] if _refused(response) else [one_answer(response, label)],
            [expected],
            tolerance,
        )
        for response, expected in zip(singles, golden.single, strict=True)
    )
    together = [] if _refused(batch) else batch_answers(batch)
    refusals = (_refusal(response) for response in (*singles, batch) if _refused(response))
    return Own(
        rows=len(golden.rows),
        alone=alone,
        together=mismatches(contract, together, golden.batch, tolerance),
        refusal=next(refusals, None),
    )


def _pair(
    asked: Asked, label: str, other: Asked, pinned: Mapping[str, str], row: Row
) -> Pair | None:
    """One row sent to both; None where the stable version refuses it."""
    response, stable_ms = _timed(other, row)
    if _refused(response):
        return None
    stable = one_answer(response, pinned["X-Model-Version"])
    response, candidate_ms = _timed(asked, row)
    if _refused(response):
        return Pair(disagree=True, refusal=_refusal(response))
    candidate = one_answer(response, label)
    return Pair(
        disagree(candidate[0], stable[0], classes=stable[1] is not None),
        _difference(candidate, stable),
        candidate_ms=candidate_ms,
        stable_ms=stable_ms,
    )


def _timed(asked: Asked, row: Row) -> tuple[httpx.Response, float]:
    """The answer, and after how many milliseconds; a wait that the gateway asks for is none."""
    response = asked.send("/predict", {"features": row})
    return response, response.elapsed.total_seconds() * 1000


def _refused(response: httpx.Response) -> bool:
    return response.status_code in _REFUSED


def _refusal(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.text[:300]


def _difference(candidate: Answered, stable: Answered) -> float | None:
    """Of the probability of the class that the stable version predicts; None for a regression."""
    (_, left), (prediction, right) = candidate, stable
    if left is None or right is None:
        return None
    key = label_key(prediction)
    return abs(left.get(key, 0.0) - right.get(key, 0.0))
