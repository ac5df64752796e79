"""Requests through the cluster's gateway all the while, and what came of them."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from deploy.targets.base import Endpoint


@contextmanager
def under_load(endpoint: Endpoint, row: dict[str, Any]) -> Iterator[Counter[str]]:
    """Statuses so far, and the versions that answered; both as text."""
    seen: Counter[str] = Counter()
    ended = threading.Event()

    def ask() -> None:
        with httpx.Client(headers=dict(endpoint.headers), timeout=10) as client:
            while not ended.is_set():
                try:
                    answer = client.post(f"{endpoint.url}/predict", json={"features": row})
                    seen[str(answer.status_code)] += 1
                except httpx.HTTPError as error:
                    seen[repr(error)] += 1

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        ended.set()
        for thread in threads:
            thread.join()
