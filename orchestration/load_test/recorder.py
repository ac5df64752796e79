"""What came back, counted while the load runs: all in all, and over time."""

from collections import Counter
from dataclasses import dataclass, field

from orchestration.load_test.histogram import Histogram
from orchestration.load_test.plan import SECOND

_FIRST_WIDTH = SECOND // 4
MAX_INTERVALS = 240


@dataclass
class Interval:
    """A stretch of the timeline. latency: of its successful answers, in nanoseconds."""

    latency: Histogram = field(default_factory=Histogram)
    failed: int = 0

    def merge(self, other: "Interval") -> None:
        """Take another one in."""
        self.latency.merge(other.latency)
        self.failed += other.failed


class Timeline:
    """At most MAX_INTERVALS of one width; when they are full, the width doubles."""

    def __init__(self) -> None:
        self.width = _FIRST_WIDTH
        self.intervals: list[Interval] = []

    def at(self, elapsed: int) -> Interval:
        """The interval of a time, in nanoseconds after the start."""
        while elapsed >= MAX_INTERVALS * self.width:
            self._halve()
        while len(self.intervals) <= elapsed // self.width:
            self.intervals.append(Interval())
        return self.intervals[elapsed // self.width]

    def _halve(self) -> None:
        for left, right in zip(self.intervals[::2], self.intervals[1::2], strict=False):
            left.merge(right)
        self.intervals = self.intervals[::2]
        self.width *= 2


def succeeded(status: int) -> bool:
    """Whether an answer is a prediction."""
    return 200 <= status < 300


class Recorder:
    """Counts answers and failures of the requests that were due at `start` or later.

    start: `time.monotonic_ns()` at the end of the warm-up; known once the load begins.
    latency: of successful answers, in nanoseconds from when the request was due.
    waited: from when a request was due until it was sent.
    """

    def __init__(self) -> None:
        self.start = 0
        self.finished = 0
        self.latency = Histogram()
        self.waited = Histogram()
        self.timeline = Timeline()
        self.statuses: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()
        self.bytes_sent = 0
        self.bytes_received = 0

    def sent(self, due: int, now: int, size: int) -> None:
        """A request went out; size: its bytes."""
        if due >= self.start:
            self.waited.record(now - due)
            self.bytes_sent += size

    def answered(self, due: int, now: int, status: int, version: str, size: int) -> None:
        """An answer is complete; size: its bytes."""
        if due < self.start:
            return
        self.finished += 1
        self.bytes_received += size
        self.statuses[status] += 1
        interval = self.timeline.at(now - self.start)
        if succeeded(status):
            self.latency.record(now - due)
            interval.latency.record(now - due)
            self.versions[version or "unknown"] += 1
        else:
            interval.failed += 1

    def failed(self, due: int, now: int, kind: str) -> None:
        """There will be no answer. kind: "timeout", "connection refused", …"""
        if due >= self.start:
            self.finished += 1
            self.errors[kind] += 1
            self.timeline.at(now - self.start).failed += 1
