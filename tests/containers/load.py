"""A steady stream of requests, and what came back."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.containers.platform import ROW, Platform

_CLIENTS, _PAUSE_SECONDS = 4, 0.02


class Load:
    """seen: answers by status and version, or by what went wrong; gap: the longest time, in
    seconds, in which none was 200."""

    def __init__(self, platform: Platform, environment: str) -> None:
        self._platform, self._environment = platform, environment
        self._stop, self._lock = threading.Event(), threading.Lock()
        self.seen: Counter[str] = Counter()
        self.gap, self._last = 0.0, time.monotonic()

    def run(self) -> None:
        """One client, on one connection."""
        headers = {"X-API-Key": self._platform.key, "X-Environment": self._environment}
        with httpx.Client(base_url=self._platform.url, headers=headers, timeout=15) as client:
            while not self._stop.wait(_PAUSE_SECONDS):
                try:
                    answer = client.post("/models/iris/predict", json={"features": ROW})
                    version = answer.headers.get("x-model-version", "")
                    found = f"{answer.status_code} {version}".strip()
                except httpx.HTTPError as error:
                    found = type(error).__name__
                with self._lock:
                    self._count(found)

    def _count(self, found: str) -> None:
        self.seen[found] += 1
        if found.startswith("200"):
            now = time.monotonic()
            self.gap, self._last = max(self.gap, now - self._last), now

    def stop(self) -> None:
        """No more requests."""
        self._stop.set()

    def failed(self) -> dict[str, int]:
        """All that was not answered with 200."""
        return {kind: n for kind, n in self.seen.items() if not kind.startswith("200")}


@contextmanager
def load(platform: Platform, environment: str = "staging") -> Iterator[Load]:
    """Requests while the block runs."""
    made = Load(platform, environment)
    threads = [threading.Thread(target=made.run) for _ in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        made.stop()
        for thread in threads:
            thread.join()
