"""Ask a model for a prediction: `python client.py iris '{"sepal_length": 5.1, …}'`.

SLIPWAY_URL is the gateway, SLIPWAY_ENVIRONMENT staging or production, SLIPWAY_API_KEY your key.
"""

import json
import os
import sys
import time
import uuid
from typing import Any

import httpx

ATTEMPTS = 4
LONGEST_WAIT = 30.0


def connect() -> httpx.Client:
    """One client for all requests: it keeps its connections open."""
    headers = {"X-Environment": os.environ.get("SLIPWAY_ENVIRONMENT", "staging")}
    if key := os.environ.get("SLIPWAY_API_KEY"):
        headers["X-API-Key"] = key
    url = os.environ.get("SLIPWAY_URL", "http://127.0.0.1:8080")
    return httpx.Client(base_url=url, headers=headers, timeout=httpx.Timeout(10, connect=2))


def predict(client: httpx.Client, model: str, features: dict[str, Any]) -> dict[str, Any]:
    """The answer; RuntimeError with the problem's detail. Retries what a later try can heal."""
    request_id = uuid.uuid4().hex  # the same for every try: one request in all logs
    for attempt in range(1, ATTEMPTS + 1):
        wait = 0.1 * 2**attempt
        try:
            response = client.post(
                f"/models/{model}/predict",
                json={"features": features},
                headers={"X-Request-ID": request_id},
            )
        except httpx.TransportError as error:
            problem = str(error) or type(error).__name__
        else:
            if response.is_success:
                answer: dict[str, Any] = response.json()
                return answer
            problem = f"{response.status_code}: {detail(response)}"
            if response.status_code not in (429, 503):  # shed or not ready; the rest stays so
                break
            if (told := response.headers.get("Retry-After", "")).isdigit():
                wait = float(told)
        if attempt < ATTEMPTS:
            time.sleep(min(wait, LONGEST_WAIT))
    raise RuntimeError(f"{model} at {client.base_url}: {problem} (request {request_id})")


def detail(response: httpx.Response) -> str:
    """What a problem document (RFC 9457) says, field by field."""
    if response.headers.get("Content-Type") != "application/problem+json":
        return response.text
    problem = response.json()
    errors = [f"{error['field']}: {error['message']}" for error in problem.get("errors", ())]
    return "; ".join(errors) or str(problem["detail"])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with connect() as client:
        try:
            print(json.dumps(predict(client, sys.argv[1], json.loads(sys.argv[2]))))
        except RuntimeError as error:
            sys.exit(str(error))
