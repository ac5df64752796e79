"""Golden rows over HTTP, as a client would send them, and whether the answers are the golden ones.

The smoke test and the replay both ask this way.
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

import httpx

from bentos.model_server.answers import label_key
from bentos.model_server.certificate import Answer
from bentos.model_server.contract import Contract, version_label
from bentos.model_server.golden import difference
from deploy.gateway.routes import PROBE
from deploy.targets.base import Endpoint, TargetError

_PATIENCE_SECONDS = 120.0
# A prediction, and the probabilities by label; None for a regression.
Answered = tuple[Any, Mapping[str, float] | None]


class Asked:
    """One version, asked over a connection that is kept.

    Its methods raise TargetError where nobody answers.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._client = httpx.Client(
            base_url=endpoint.url, headers=dict(endpoint.headers), timeout=30
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def once(self, path: str, body: Any) -> httpx.Response:
        """The answer, whatever it is."""
        # httpx refuses to write Infinity; Python's own json spells it as clients do by mistake.
        content = json.dumps(body)
        # What is asked is what this server computes, not what it remembers.
        headers = {"content-type": "application/json", "cache-control": "no-cache", PROBE: "golden"}
        try:
            return self._client.post(path, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise TargetError(f"POST {path} to {self._client.base_url}: {error}") from error

    def send(self, path: str, body: Any) -> httpx.Response:
        """The answer; of a gateway that limits how much may be asked, once it has room."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            response = self.once(path, body)
            if response.status_code != httpx.codes.TOO_MANY_REQUESTS or time.monotonic() > deadline:
                return response
            told = response.headers.get("retry-after", "")
            time.sleep(min(float(told) if told.isdigit() else 1.0, 10.0))

    def one(self, row: Mapping[str, Any], label: str) -> Answered:
        """The answer to a single row; TargetError unless the version of that label gives one."""
        return one_answer(self.send("/predict", {"features": row}), label)

    def many(self, rows: Sequence[Mapping[str, Any]]) -> list[Answered]:
        """The answers to a batch; `mismatches` counts those that are missing."""
        return batch_answers(self.send("/predict/batch", {"instances": list(rows)}))


def one_answer(response: httpx.Response, label: str) -> Answered:
    """What `/predict` says; TargetError unless it does, as the version of that label."""
    answer = _object(response, "prediction")
    found = _label(answer.get("model"))
    if found != label:
        raise TargetError(f"version {found} answered at {response.url}, not {label}")
    return answer["prediction"], answer.get("probabilities")


def batch_answers(response: httpx.Response) -> list[Answered]:
    """What `/predict/batch` says, as far as it does; TargetError for no answer."""
    many = _object(response, "predictions")
    probabilities = many.get("probabilities") or [None] * len(many["predictions"])
    return list(zip(many["predictions"], probabilities, strict=False))


def _label(model: Any) -> str | None:
    if not isinstance(model, dict) or "version" not in model:
        return None
    return version_label(model["version"], model.get("variant", "fp32"))


def _object(response: httpx.Response, key: str) -> dict[str, Any]:
    """The answer to a golden request: an object that has `key`."""
    try:
        answer = response.json() if response.status_code == httpx.codes.OK else None
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or key not in answer:
        raise TargetError(
            f"POST {response.url.path} of a golden request answers {response.status_code} "
            f"without {key!r}: {response.text[:300]}"
        )
    return answer


def mismatches(
    contract: Contract, got: Sequence[Answered], wanted: Sequence[Answer], tolerance: float
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
