"""The results of a load test as data."""

import math
from dataclasses import dataclass
from typing import Any

from orchestration.load_test.generator import Generator
from orchestration.load_test.histogram import Histogram
from orchestration.load_test.plan import SECOND
from orchestration.load_test.recorder import succeeded

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
_SHED = (429, 503)
_MILLISECOND = 1_000_000


@dataclass(frozen=True)
class Summary:
    """Of the requests after the warm-up.

    seconds: from the warm-up's end to the last answer, in an open loop the whole schedule.
    latency_ms: min, mean, p50 … max of successful answers; waited_ms: the same, from when a
    request was due until it was sent. shed: answers 429 and 503. unsent: due, but all
    connections were busy to the end.
    """

    requests: int
    seconds: float
    bytes_sent: int
    bytes_received: int
    latency_ms: dict[str, float]
    waited_ms: dict[str, float]
    statuses: dict[int, int]
    errors: dict[str, int]
    versions: dict[str, int]
    shed: int
    unsent: int
    interrupted: bool

    @property
    def rate(self) -> float:
        """Finished requests a second."""
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def failed(self) -> int:
        """Requests without a successful answer."""
        answered = sum(n for status, n in self.statuses.items() if succeeded(status))
        return self.requests - answered + self.unsent

    def as_json(self) -> dict[str, Any]:
        """For scripts; a number that is not known is null."""
        return {
            "requests": self.requests,
            "seconds": round(self.seconds, 3),
            "requests_per_second": round(self.rate, 2),
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "latency_ms": _known(self.latency_ms),
            "waited_ms": _known(self.waited_ms),
            "statuses": {str(status): n for status, n in self.statuses.items()},
            "errors": self.errors,
            "versions": self.versions,
            "shed": self.shed,
            "unsent": self.unsent,
            "failed": self.failed,
            "interrupted": self.interrupted,
        }

    def failure(self) -> str:
        """How many requests failed and how, in one line."""
        parts = [
            f"{n:,} x {status}" for status, n in self.statuses.items() if not succeeded(status)
        ]
        parts += [f"{n:,} x {kind}" for kind, n in self.errors.items()]
        if self.unsent:
            parts.append(f"{self.unsent:,} never sent, because all connections were busy")
        if not self.requests:
            parts.append("nothing was finished")
        return f"{self.failed:,} of {self.requests + self.unsent:,} requests failed: " + ", ".join(
            parts
        )


def summarise(finished: Generator) -> Summary:
    """The results of a load that has ended."""
    recorder = finished.recorder
    seconds = max(0, finished.ended - recorder.start) / SECOND
    return Summary(
        requests=recorder.finished,
        seconds=seconds,
        bytes_sent=recorder.bytes_sent,
        bytes_received=recorder.bytes_received,
        latency_ms=milliseconds(recorder.latency),
        waited_ms=milliseconds(recorder.waited),
        statuses=dict(sorted(recorder.statuses.items())),
        errors=dict(recorder.errors.most_common()),
        versions=dict(sorted(recorder.versions.items())),
        shed=sum(recorder.statuses[status] for status in _SHED),
        unsent=0 if finished.interrupted else finished.unsent,
        interrupted=finished.interrupted,
    )


def milliseconds(histogram: Histogram) -> dict[str, float]:
    """A histogram of nanoseconds; nan where it is empty."""
    names = [f"p{percent:g}" for percent in PERCENTILES]
    found = dict(zip(names, histogram.percentiles(list(PERCENTILES)), strict=True))
    least, most = (histogram.least, histogram.most) if histogram.count else (math.nan, math.nan)
    values = {"min": least, "mean": histogram.mean, **found, "max": most}
    return {name: value / _MILLISECOND for name, value in values.items()}


def _known(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(v) else round(v, 4) for name, v in values.items()}
