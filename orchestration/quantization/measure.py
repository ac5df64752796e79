"""Rows a second of two or more graphs, measured side by side."""

import time
from collections.abc import Callable, Sequence
from statistics import median, quantiles

from bentos.model_server.session import ModelSession
from orchestration.verification.rows import Values

ROUNDS = 15
# Of one graph in one round: long enough that the clock and the interpreter do not matter.
SECONDS = 0.005
# A quarter of the rounds took so much longer than another quarter: the machine was busy.
_NOISY = 0.1
_ATTEMPTS = 3

Clock = Callable[[], float]


def rows_per_second(
    sessions: Sequence[ModelSession],
    rows: Sequence[Values],
    batch: int,
    clock: Clock = time.thread_time,
) -> list[float]:
    """Of each session: the median of alternating rounds, in the calmest of up to 3 attempts.

    rows: repeated until they fill a batch. The arrays are made before: only the graph counts.
    clock: seconds. The default is the thread's CPU time, in which others' work does not show; a
    session of one thread spends all of it in this one.
    """
    filled = [rows[i % len(rows)] for i in range(batch)]
    runs = [_prepared(session, filled) for session in sessions]
    repeats = [max(1, round(SECONDS / max(_time(run, 1, clock), 1e-9))) for run in runs]
    calmest: list[list[float]] = []
    for _ in range(_ATTEMPTS):
        rounds = [
            [_time(run, n, clock) / n for run, n in zip(runs, repeats, strict=True)]
            for _ in range(ROUNDS)
        ]
        times = [list(column) for column in zip(*rounds, strict=True)]
        if not calmest or _noise(times) < _noise(calmest):
            calmest = times
        if _noise(calmest) <= _NOISY:
            break
    return [batch / median(column) for column in calmest]


def _prepared(session: ModelSession, rows: Sequence[Values]) -> Callable[[], object]:
    arrays = session.feeds(rows)

    def run() -> object:
        return session.run(arrays)

    for _ in range(3):  # the first runs allocate
        run()
    return run


def _time(run: Callable[[], object], repeats: int, clock: Clock) -> float:
    started = clock()
    for _ in range(repeats):
        run()
    return clock() - started


def _noise(times: Sequence[Sequence[float]]) -> float:
    """The distance of the quartiles over the median, of the noisiest graph."""
    quarters = [quantiles(column, n=4) for column in times]
    return max((q[2] - q[0]) / q[1] for q in quarters)
