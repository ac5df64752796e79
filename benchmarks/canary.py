"""Canary releases, simulated: how often a good version is rolled back, how soon a bad one.

`python -m benchmarks.canary [RUNS]` prints the tables of docs/canary-analysis.md. Each release
goes through the steps and the bake time of a policy and is judged once a second by the functions
that judge real ones; only the traffic is drawn from distributions.
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bentos.model_server.metrics import SECONDS
from deploy.analysis.counting import added
from deploy.analysis.verdict import compare, phase_alpha, watch
from deploy.events import Counters
from serving_config.release import ReleasePolicy

CONFIDENCES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
POLICY = ReleasePolicy(policy="canary", bake_seconds=60)


@dataclass(frozen=True)
class Version:
    """One second of traffic. errors, refusals: shares; swing: how much the errors rise and fall
    (a period of 40 s), as a share of them; median: of the durations, in seconds; classes: shares;
    sure: the more, the higher the probabilities; rows: of `batches` of the requests, whose rows are
    all alike; the others have one."""

    errors: float = 0.002
    refusals: float = 0.02
    swing: float = 0.0
    median: float = 0.008
    classes: tuple[float, ...] = (0.6, 0.3, 0.1)
    sure: float = 2.0
    rows: int = 1
    batches: float = 1.0

    def second(self, rng: np.random.Generator, at: float, requests: int) -> Counters:
        """What is counted of so many requests."""
        errors = self.errors * (1 + self.swing * math.sin(2 * math.pi * at / 40))
        shares = np.array([errors, self.refusals, 1 - errors - self.refusals])
        failed, refused, good = map(int, rng.multinomial(requests, shares))
        large = int(rng.binomial(good, self.batches))
        sizes = ((self.rows, large), (1, good - large))
        return Counters(
            requests=requests,
            errors=failed,
            refusals=refused,
            durations=_cells((*SECONDS, "+Inf"), rng.multinomial(good, _lognormal(self.median))),
            predictions=_cells("abcdef", _rows(rng, self.classes, sizes)),
            confidences=_cells(CONFIDENCES, _rows(rng, _powers(self.sure), sizes)),
            rows_squared=sum(rows**2 * number for rows, number in sizes),
        )


@dataclass(frozen=True)
class Released:
    """How a release ended: rolled back or not, after how many of the candidate's requests."""

    rolled_back: bool
    requests: int
    reason: str


def release(
    rng: np.random.Generator,
    candidate: Version,
    stable: Version,
    policy: ReleasePolicy = POLICY,
    rate: int = 200,
) -> Released:
    """One release at `rate` requests a second, until it is rolled back or its bake time is over."""
    baseline = stable.second(rng, 0, 1000)
    requests = at = 0
    for weight in policy.steps:
        mine, other, second, decision = Counters(), Counters(), 0, "hold"
        while decision == "hold":
            second, at = second + 1, at + 1
            share = rate * weight * second // 100 - mine.requests
            mine = added(mine, candidate.second(rng, at, share))
            other = added(other, stable.second(rng, at, rate - share))
            found = compare(policy, mine, other, baseline, second)
            decision = found.decision
        requests += mine.requests
        if decision == "rollback":
            return Released(True, requests, found.reason)
    mine = Counters()
    for second in range(int(policy.bake_seconds)):
        mine = added(mine, candidate.second(rng, at + second, rate))
        found = watch(policy.health, phase_alpha(policy), mine, second)
        if found.decision == "rollback":
            return Released(True, requests + mine.requests, found.reason)
    return Released(False, requests + mine.requests, found.reason)


def _cells(names: Sequence[object], counts: "NDArray[np.int64]") -> dict[str, int]:
    return dict(zip(map(str, names), counts.tolist(), strict=False))


def _rows(
    rng: np.random.Generator, shares: Sequence[float], sizes: Sequence[tuple[int, int]]
) -> "NDArray[np.int64]":
    """sizes: the rows of a request, and how many requests have so many."""
    return sum(rows * rng.multinomial(number, shares) for rows, number in sizes)


@cache
def _lognormal(median: float, sigma: float = 0.5) -> "NDArray[np.float64]":
    """The share of durations in each bucket."""
    normal = [math.log(bound / median) / sigma / math.sqrt(2) for bound in SECONDS]
    below = [0.0, *((1 + math.erf(z)) / 2 for z in normal), 1.0]
    return np.diff(below)


@cache
def _powers(sure: float) -> "NDArray[np.float64]":
    """The share of probabilities in each bucket, as (x - 0.4)^sure is spread."""
    return np.diff([0.0, *(((bound - 0.4) / 0.6) ** sure for bound in CONFIDENCES)])


GOOD = Version()
AT_LIMIT = ReleasePolicy.model_validate(
    {"policy": "canary", "bake_seconds": 60, "health": {"max_error_rate": 0.03}}
)
SMALL = POLICY.model_copy(update={"steps": (1, 50), "min_requests": 200})
# What nobody may roll back: name, candidate, stable, policy.
HARMLESS: tuple[tuple[str, Version, Version, ReleasePolicy], ...] = (
    ("the same version twice", GOOD, GOOD, POLICY),
    ("at the limits: 1 % more errors, 5 % more refusals, a class 10 % apart",
     replace(GOOD, errors=0.012, refusals=0.07, classes=(0.5, 0.4, 0.1)), GOOD, AT_LIMIT),
    ("1,000 rows a request, all alike", replace(GOOD, rows=1000), replace(GOOD, rows=1000), POLICY),
    ("1,000 rows in every tenth request, all alike",
     replace(GOOD, rows=1000, batches=0.1), replace(GOOD, rows=1000, batches=0.1), POLICY),
    ("1,000 rows in every hundredth request, all alike",
     replace(GOOD, rows=1000, batches=0.01), replace(GOOD, rows=1000, batches=0.01), POLICY),
    ("errors from 0 to 1 % and back, every 40 s",
     replace(GOOD, errors=0.005, swing=1), replace(GOOD, errors=0.005, swing=1), POLICY),
    ("a candidate with 1 %, then 50 %", GOOD, GOOD, SMALL),
)  # fmt: skip
FAULTS: tuple[tuple[str, Version], ...] = (
    ("5 % errors", replace(GOOD, errors=0.05)),
    ("20 % errors", replace(GOOD, errors=0.2)),
    ("100 % errors", replace(GOOD, errors=0.98)),
    ("half refused", replace(GOOD, refusals=0.5)),
    ("twice as slow (3 times is allowed)", replace(GOOD, median=0.016)),
    ("ten times slower", replace(GOOD, median=0.08)),
    ("a class of 30 % has vanished", replace(GOOD, classes=(0.9, 0.0, 0.1))),
    ("two labels swapped (60 and 30 %)", replace(GOOD, classes=(0.3, 0.6, 0.1))),
    ("always sure", replace(GOOD, sure=20.0)),
)


def main() -> None:
    """Print both tables."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    print("| harmless | releases | rolled back |\n|---|---|---|")
    for name, candidate, stable, policy in HARMLESS:
        ends = many(runs, lambda rng: release(rng, candidate, stable, policy))  # noqa: B023
        print(f"| {name} | {runs:,} | {sum(end.rolled_back for end in ends)} |")
    print("\n| fault | rolled back | requests it answered: median | 9 of 10 |\n|---|---|---|---|")
    for name, fault in FAULTS:
        ends = many(runs // 5, lambda rng: release(rng, fault, GOOD))  # noqa: B023
        share = sum(end.rolled_back for end in ends) / len(ends)
        half, most = np.percentile([end.requests for end in ends], (50, 90))
        print(f"| {name} | {100 * share:.0f} % | {half:,.0f} | {most:,.0f} |")


def many(runs: int, one: Callable[[np.random.Generator], Released]) -> list[Released]:
    """Releases that differ by their seeds."""
    return [one(np.random.default_rng(seed)) for seed in range(runs)]


if __name__ == "__main__":
    main()
