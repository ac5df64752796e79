"""The smoke test: a certificate's golden rows over HTTP, as a client would send them."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from bentos.model_server.answers import label_key
from bentos.model_server.certificate import Answer, Certificate, HttpParity
from bentos.model_server.contract import FLOATS, INTEGERS, Contract
from bentos.model_server.golden import difference

_LATENCY_REQUESTS = 200
_PATIENCE_SECONDS = 120.0
Answered = tuple[Any, Mapping[str, float] | None]
_REFUSED = (httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY)


class SmokeTestError(RuntimeError):
    """The server could not be asked at all, or another version answered."""


@dataclass(frozen=True)
class Endpoint:
    """Where and as whom: the model's URL at the gateway, with the headers that pin a version and
    those that carry an API key."""

    url: str
    headers: Mapping[str, str]


def smoke_test(
    endpoint: Endpoint, contract: Contract, certificate: Certificate, bento_digest: str
) -> HttpParity:
    """Golden rows alone and as one batch; bad input; latency of single rows.

    bento_digest: of the Bento that was deployed behind the endpoint.
    Raises SmokeTestError when the gateway does not answer with exactly that version.
    """
    golden, tolerance = certificate.golden, certificate.parity.limits.tolerance
    with httpx.Client(base_url=endpoint.url, headers=dict(endpoint.headers), timeout=30) as client:
        single = [_one(client, contract, row) for row in golden.rows]
        batch = _batch(client, golden.rows)
        wrong = bad_inputs(contract)
        refused = sum(_is_refused(client, body) for body in wrong)
        latencies = _latencies(client, golden.rows[0]) if golden.rows else [0.0]
    return HttpParity(
        url=endpoint.url,
        bento_digest=bento_digest,
        single=len(single),
        single_mismatches=_mismatches(contract, single, golden.single, tolerance),
        batch=len(batch),
        batch_mismatches=_mismatches(contract, batch, golden.batch, tolerance),
        bad_inputs=len(wrong),
        bad_inputs_refused=refused,
        p50_ms=_percentile(latencies, 0.50),
        p99_ms=_percentile(latencies, 0.99),
    )


def _once(client: httpx.Client, path: str, body: Any) -> httpx.Response:
    # httpx refuses to write Infinity; Python's own json spells it as clients do by mistake.
    content = json.dumps(body)
    # What is asked is what this server computes, not what it remembers.
    headers = {"content-type": "application/json", "cache-control": "no-cache"}
    try:
        return client.post(path, content=content, headers=headers)
    except httpx.HTTPError as error:
        raise SmokeTestError(f"POST {path} to {client.base_url}: {error}") from error


def _send(client: httpx.Client, path: str, body: Any) -> httpx.Response:
    """The answer; of a gateway that limits how much may be asked, once it has room."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        response = _once(client, path, body)
        if response.status_code != httpx.codes.TOO_MANY_REQUESTS or time.monotonic() > deadline:
            return response
        told = response.headers.get("retry-after", "")
        time.sleep(min(float(told) if told.isdigit() else 1.0, 10.0))


def _post(client: httpx.Client, path: str, body: Any, key: str) -> dict[str, Any]:
    """The answer to a golden request: an object that has `key`."""
    response = _send(client, path, body)
    try:
        answer = response.json() if response.status_code == httpx.codes.OK else None
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or key not in answer:
        raise SmokeTestError(
            f"POST {path} of a golden request answers {response.status_code} "
            f"without {key!r}: {response.text[:300]}"
        )
    return answer


def _one(client: httpx.Client, contract: Contract, row: Mapping[str, Any]) -> Answered:
    answer = _post(client, "/predict", {"features": row}, "prediction")
    version = answer.get("model", {}).get("version")
    if version != str(contract.version):
        raise SmokeTestError(
            f"version {version} of {contract.model} answered, not {contract.version}"
        )
    return answer["prediction"], answer.get("probabilities")


def _batch(client: httpx.Client, rows: tuple[Mapping[str, Any], ...]) -> list[Answered]:
    """The answers there are: `_mismatches` counts those that are missing."""
    many = _post(client, "/predict/batch", {"instances": list(rows)}, "predictions")
    probabilities = many.get("probabilities") or [None] * len(many["predictions"])
    return list(zip(many["predictions"], probabilities, strict=False))


def _mismatches(
    contract: Contract, got: list[Answered], wanted: tuple[Answer, ...], tolerance: float
) -> int:
    """Answers that are not the golden ones; a missing one counts.

    A row that was computed together with somebody else's comes out with other last bits from some
    graphs, so the certificate's tolerance decides.
    """
    keys = [label_key(label) for label in contract.outputs.labels]
    differing = 0
    for (prediction, by_label), expected in zip(got, wanted, strict=False):
        if list(by_label or ()) != (keys if expected.probabilities else []):
            differing += 1
            continue
        answer = Answer(prediction, tuple((by_label or {}).values()) or None)
        differing += difference(expected, answer, tolerance) > tolerance
    return differing + abs(len(got) - len(wanted))


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


def _is_refused(client: httpx.Client, body: Any) -> bool:
    response = _send(client, "/predict", body)
    return response.status_code in _REFUSED and response.headers.get("content-type", "").startswith(
        "application/problem+json"
    )


def _latencies(client: httpx.Client, row: Mapping[str, Any]) -> list[float]:
    """Milliseconds of single requests, one after the other, on a warm connection.

    Fewer where the gateway limits how much may be asked; at least one.
    """
    found: list[float] = []
    while len(found) < _LATENCY_REQUESTS:
        started = time.perf_counter()
        limited = bool(found) and _is_limited(_once(client, "/predict", {"features": row}))
        if limited:
            break
        if not found:
            _post(client, "/predict", {"features": row}, "prediction")
        found.append((time.perf_counter() - started) * 1000)
    return found


def _is_limited(response: httpx.Response) -> bool:
    if response.status_code not in (httpx.codes.OK, httpx.codes.TOO_MANY_REQUESTS):
        raise SmokeTestError(f"a golden request answers {response.status_code}: {response.text}")
    return response.status_code == httpx.codes.TOO_MANY_REQUESTS


def _percentile(values: list[float], share: float) -> float:
    """Nearest rank."""
    ranked = sorted(values)
    return round(ranked[max(0, math.ceil(share * len(ranked)) - 1)], 3)
