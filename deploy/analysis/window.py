"""Counters over the last seconds: rates and percentiles."""

from collections import deque
from collections.abc import Mapping
from functools import reduce

from deploy.analysis.counting import added, since
from deploy.events import Counters


class Window:
    """The last `seconds` of one server.

    What was counted between one look and the next belongs to the second; a restart between the
    two loses what its process had counted since the first.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._looks: deque[tuple[float, Counters]] = deque()
        self._last: Counters | None = None

    def add(self, at: float, counters: Counters) -> None:
        """What the server had counted at that moment (monotonic seconds)."""
        grown = Counters() if self._last is None else since(counters, self._last)
        self._last = counters
        self._looks.append((at, grown))
        # The newest look before the window's beginning stays: from there on it is counted.
        while len(self._looks) > 2 and self._looks[1][0] <= at - self._seconds:
            self._looks.popleft()

    def counted(self) -> tuple[Counters, float]:
        """What was counted within the window, and over how many seconds that is."""
        if len(self._looks) < 2:
            return Counters(), 0.0
        (begin, _), *looks = self._looks
        return reduce(added, (grown for _, grown in looks)), looks[-1][0] - begin


def percentile(durations: Mapping[str, int], share: float) -> float | None:
    """Seconds within which that share of the requests was answered, linear within a bucket; None
    without any request. durations: as in `Counters`. Beyond the last bound it is that bound, as
    in Prometheus' `histogram_quantile`."""
    cells = sorted((float(bound), count) for bound, count in durations.items())
    rank, seen, begin = share * sum(count for _, count in cells), 0, 0.0
    for end, count in cells:
        if count and seen + count >= rank:
            return begin if end == float("inf") else begin + (end - begin) * (rank - seen) / count
        seen, begin = seen + count, end
    return None
