"""What load is sent, and when: closed or open loop. Times are nanoseconds after the start."""

import math
from dataclasses import dataclass

SECOND = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What both loops have in common.

    duration: seconds after the warm-up, in which requests are begun; None: until all are sent.
    requests: how many are sent after the warm-up; None: as many as the duration takes.
    timeout: seconds that one request may take.
    """

    connections: int = 16
    warm_up: float = 1.0
    duration: float | None = 10.0
    requests: int | None = None
    timeout: float = 10.0

    def __post_init__(self) -> None:
        if self.duration is None and self.requests is None:
            raise ValueError("a load without an end: give a duration or a number of requests")

    @property
    def counted_from(self) -> int:
        """Requests that were due before are warm-up and not counted."""
        return round(self.warm_up * SECOND)

    @property
    def end(self) -> int | None:
        """From here on no request falls due; None: when all are sent."""
        return None if self.duration is None else self.counted_from + round(self.duration * SECOND)


@dataclass(frozen=True, kw_only=True)
class ClosedLoop(Plan):
    """Each connection sends its next request when it has its answer. delay: seconds between."""

    delay: float = 0.0


@dataclass(frozen=True, kw_only=True)
class OpenLoop(Plan):
    """Requests fall due at a constant rate, whatever the server does. rate: requests a second."""

    rate: float

    def due(self, number: int) -> int:
        """When request `number`, from 0, is to be sent."""
        return round(number * SECOND / self.rate)

    def due_by(self, elapsed: int) -> int:
        """How many requests should have been sent, at most `total`; at the start it is one."""
        return min(self.total, math.floor(elapsed / SECOND * self.rate) + 1)

    @property
    def first_counted(self) -> int:
        """The first request that is no warm-up."""
        number = math.ceil(self.warm_up * self.rate)
        # A product of two floats may be a little above the whole number that is meant.
        return number - 1 if number and self.due(number - 1) >= self.counted_from else number

    @property
    def total(self) -> int:
        """Requests with the warm-up's."""
        lasting = math.inf if self.duration is None else max(1, round(self.duration * self.rate))
        return self.first_counted + int(min(lasting, self.requests or math.inf))

    @property
    def end(self) -> int:
        """When the request after the last one would be due."""
        return self.due(self.total)
