"""The smoke test: a certificate's golden rows over HTTP, as a client would send them."""

import math
import time
from collections.abc import Mapping
from typing import Any

import httpx

from bentos.model_server.answers import version_header
from bentos.model_server.certificate import Certificate, HttpParity
from bentos.model_server.contract import FLOATS, INTEGERS, Contract
from deploy.golden_requests import Asked, mismatches, one_answer
from deploy.targets.base import Endpoint

_LATENCY_REQUESTS = 200
_REFUSED = (httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY)


def smoke_test(
    endpoint: Endpoint, contract: Contract, certificate: Certificate, bento_digest: str
) -> HttpParity:
    """Golden rows alone and as one batch; bad input; latency of single rows.

    bento_digest: of the Bento that was deployed behind the endpoint.
    Raises TargetError when the gateway does not answer with exactly that version.
    """
    golden, tolerance = certificate.golden, certificate.parity.limits.tolerance
    label = version_header(contract)
    with Asked(endpoint) as asked:
        single = [asked.one(row, label) for row in golden.rows]
        batch = asked.many(golden.rows)
        wrong = bad_inputs(contract)
        refused = sum(_is_refused(asked.send("/predict", body)) for body in wrong)
        latencies = _latencies(asked, golden.rows[0], label) if golden.rows else [0.0]
    return HttpParity(
        url=endpoint.url,
        bento_digest=bento_digest,
        single=len(single),
        single_mismatches=mismatches(contract, single, golden.single, tolerance),
        batch=len(batch),
        batch_mismatches=mismatches(contract, batch, golden.batch, tolerance),
        bad_inputs=len(wrong),
        bad_inputs_refused=refused,
        p50_ms=_percentile(latencies, 0.50),
        p99_ms=_percentile(latencies, 0.99),
    )


def bad_inputs(contract: Contract) -> list[Any]:
    """Requests that this contract must refuse: a missing, an extra and a mistyped field, NaN."""
    good = dict(contract.example)
    found: list[Any] = [{"features": good | {"no_such_field": 1}}, {"features": []}, {}]
    for field in contract.inputs:
        if field.required:
            found.append({"features": {k: v for k, v in good.items() if k != field.name}})
        wrong: Any = 1 if field.dtype == "string" else "not a number"
        found.append({"features": good | {field.name: wrong}})
        if field.dtype in FLOATS + INTEGERS:
            found.append({"features": good | {field.name: math.inf}})
    return found


def _is_refused(response: httpx.Response) -> bool:
    return response.status_code in _REFUSED and response.headers.get("content-type", "").startswith(
        "application/problem+json"
    )


def _latencies(asked: Asked, row: Mapping[str, Any], label: str) -> list[float]:
    """Milliseconds of single requests, one after the other, on a warm connection.

    Fewer where the gateway limits how much may be asked; at least one.
    """
    found: list[float] = []
    while len(found) < _LATENCY_REQUESTS:
        ask = asked.once if found else asked.send
        started = time.perf_counter()
        response = ask("/predict", {"features": row})
        took = (time.perf_counter() - started) * 1000
        if found and response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            break
        one_answer(response, label)
        found.append(took)
    return found


def _percentile(values: list[float], share: float) -> float:
    """Nearest rank."""
    ranked = sorted(values)
    return round(ranked[max(0, math.ceil(share * len(ranked)) - 1)], 3)
