"""Latency and rows a second of two sessions, in alternating rounds on one thread."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from orchestration.compare.documents import Speed

BATCH_SIZES = (1, 32, 256)
ROUNDS = 9
TURN_SECONDS = 0.15
_WARM_UP, _FEWEST = 5, 3
_MILLISECOND = 1e6

Predict = Callable[[Sequence[Any]], Any]


def speeds(
    a: tuple[Predict, Sequence[Any]],
    b: tuple[Predict, Sequence[Any]],
    *,
    rounds: int = ROUNDS,
    turn_seconds: float = TURN_SECONDS,
) -> tuple[Speed, ...]:
    """a, b: what answers rows, and the rows. Of each batch size in turn."""
    return tuple(_speed(a, b, size, rounds, turn_seconds) for size in BATCH_SIZES)


def _speed(
    a: tuple[Predict, Sequence[Any]],
    b: tuple[Predict, Sequence[Any]],
    size: int,
    rounds: int,
    turn_seconds: float,
) -> Speed:
    calls = [_call(predict, rows, size) for predict, rows in (a, b)]
    for call in calls * _WARM_UP:
        call()
    times: list[list[list[int]]] = [[], []]
    for number in range(rounds):
        # whoever is first has the warmer or the colder machine: they take turns
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            times[side].append(_turn(calls[side], turn_seconds))
    rates = np.array([[size * len(t) * 1e9 / sum(t) for t in turns] for turns in times])
    ratios = rates[1] / rates[0]
    pooled = [np.concatenate(turns) / _MILLISECOND for turns in times]
    return Speed(
        size,
        rounds,
        _pair(float(np.percentile(p, 50)) for p in pooled),
        _pair(float(np.percentile(p, 99)) for p in pooled),
        _pair(float(np.median(r)) for r in rates),
        (float(ratios.min()), float(np.median(ratios)), float(ratios.max())),
    )


def _pair(values: Any) -> tuple[float, float]:
    first, second = values
    return first, second


def _call(predict: Predict, rows: Sequence[Any], size: int) -> Callable[[], object]:
    batch = [rows[i % len(rows)] for i in range(size)]
    return lambda: predict(batch)


def _turn(call: Callable[[], object], seconds: float) -> list[int]:
    """Nanoseconds of each call."""
    times: list[int] = []
    end = time.perf_counter_ns() + int(seconds * 1e9)
    while len(times) < _FEWEST or time.perf_counter_ns() < end:
        started = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - started)
    return times
