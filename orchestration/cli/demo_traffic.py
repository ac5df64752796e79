"""Requests of an imaginary client, sent while a release is in progress, and who answered them."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Self

import httpx

_PER_SECOND = 100
_TIMEOUT_SECONDS = 10


class Client:
    """Sends predictions to a URL, as long as it is entered.

    answered: answers by the `X-Model-Version` that gave them; failed: requests without one.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str], bodies: Sequence[Mapping[str, Any]]
    ) -> None:
        self._url, self._headers, self._bodies = url, dict(headers), bodies
        self.answered: Counter[str] = Counter()
        self.failed = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        started = time.monotonic()
        with httpx.Client(headers=self._headers, timeout=_TIMEOUT_SECONDS) as client:
            for number, body in enumerate(itertools.cycle(self._bodies)):
                due = started + number / _PER_SECOND
                if self._stop.wait(max(0.0, due - time.monotonic())):
                    return
                self._ask(client, body)

    def _ask(self, client: httpx.Client, body: Mapping[str, Any]) -> None:
        try:
            response = client.post(self._url, json=body)
        except httpx.HTTPError:
            self.failed += 1
            return
        if response.status_code == httpx.codes.OK:
            self.answered[response.headers.get("X-Model-Version", "unknown")] += 1
        else:
            self.failed += 1
