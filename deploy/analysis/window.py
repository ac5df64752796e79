"""Counters over the last seconds: rates and percentiles."""

from collections.abc import Mapping

from deploy.events import Counters


class Window:
    """The last `seconds` of one server."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def add(self, at: float, counters: Counters) -> None:
        """What the server had counted at that moment (monotonic seconds)."""
        raise NotImplementedError

    def counted(self) -> tuple[Counters, float]:
        """What was counted within the window, and over how many seconds that is."""
        raise NotImplementedError


def percentile(durations: Mapping[str, int], share: float) -> float | None:
    """Seconds within which that share of the requests was answered, linear within a bucket; None
    without any request. durations: as in `Counters`."""
    raise NotImplementedError
