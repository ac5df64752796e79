"""Speed is measured side by side, and again where the machine was busy."""

from collections.abc import Iterator

import pytest

from orchestration.quantization.measure import ROUNDS, rows_per_second
from tests.bentos.model_server.models import iris


class Clock:
    """Each measurement takes so many seconds as the next number says."""

    def __init__(self, durations: Iterator[float]) -> None:
        self._durations, self._now, self._ends = durations, 0.0, False
        self.measured = 0

    def __call__(self) -> float:
        if self._ends:
            self._now += next(self._durations)
            self.measured += 1
        self._ends = not self._ends
        return self._now


def durations(*rounds: tuple[float, float]) -> Iterator[float]:
    """How long one run of either takes decides how often it is run: here, once."""
    yield from (1.0, 1.0)
    for _ in range(100):
        for first, second in rounds:
            yield from (first, second)


@pytest.fixture
def sessions():
    return [iris().session(), iris().session()]


@pytest.fixture
def rows():
    return [[5.1, 3.5, 1.4, 0.2]]


def test_the_median_round_counts(sessions, rows):
    clock = Clock(durations(*[(0.5, 1.0)] * (ROUNDS - 1), (60.0, 1.0)))
    assert rows_per_second(sessions, rows, 32, clock) == [64.0, 32.0]
    assert clock.measured == 2 + 2 * ROUNDS


def test_a_busy_machine_is_asked_again_but_not_for_ever(sessions, rows):
    clock = Clock(durations((1.0, 1.0), (5.0, 5.0)))
    rows_per_second(sessions, rows, 32, clock)
    assert clock.measured == 2 + 3 * 2 * ROUNDS
