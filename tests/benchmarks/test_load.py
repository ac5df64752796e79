"""What the figures of an open loop are made of."""

import math

import numpy as np
import pytest

from benchmarks.load import summary

SECOND = 1_000_000


def test_rates_are_of_the_time_between_the_ramp_and_the_end() -> None:
    # One request each 0.1 s for 4 s; each takes 0.05 s. The first second is the ramp.
    begun = np.arange(0, 4 * SECOND, SECOND // 10) + 5 * SECOND
    rows = np.stack([begun, np.full(40, 200), np.full(40, SECOND // 20)], axis=1)
    found = summary(rows, offered=10, seconds=4)
    assert found.sent == pytest.approx(10, abs=0.5)
    assert found.goodput == pytest.approx(10, abs=0.5)
    assert (found.p50_ms, found.p99_ms) == (50, 50)
    assert math.isnan(found.refused_p99_ms)
    assert (found.failed, found.refused) == (0, 0)


def test_an_answer_after_the_end_is_no_goodput() -> None:
    rows = np.array([[0, 200, 1], [2 * SECOND, 200, SECOND], [3 * SECOND, 200, 2 * SECOND]])
    assert summary(rows, offered=1, seconds=4).goodput == pytest.approx(1 / 3)


def test_a_refusal_is_no_failure_and_anything_else_is() -> None:
    statuses = [200, 429, 503, 500, -1]
    rows = np.array([[i, status, 1000 * (i + 1)] for i, status in enumerate(statuses)])
    found = summary(rows, offered=5, seconds=1)
    assert (found.refused, found.failed) == (2, 2)
    assert found.refused_p99_ms == pytest.approx(3, abs=0.1)
