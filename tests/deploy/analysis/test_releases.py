"""Whole canary releases, simulated with looks every second: the promise, and the delay."""

import statistics

import pytest

from benchmarks.canary import FAULTS, GOOD, HARMLESS, POLICY, Released, Version, many, release
from serving_config.release import ReleasePolicy

RUNS = 16
# Of RUNS releases, each rolled back with the promised 1 %, more are so once in a million.
MOST = 4
FAULT = dict(FAULTS)


@pytest.mark.parametrize(
    ("candidate", "stable", "policy"),
    [case[1:] for case in HARMLESS],
    ids=[case[0] for case in HARMLESS],
)
def test_a_version_within_the_limits_is_promoted(
    candidate: Version, stable: Version, policy: ReleasePolicy
) -> None:
    ends = many(RUNS, lambda rng: release(rng, candidate, stable, policy))
    assert sum(end.rolled_back for end in ends) <= MOST


def rolled_back(fault: str) -> list[Released]:
    ends = many(21, lambda rng: release(rng, FAULT[fault], GOOD))
    assert all(end.rolled_back for end in ends)
    return ends


@pytest.mark.parametrize(
    ("fault", "requests", "said"),
    [
        ("5 % errors", 400, "requests failed"),
        ("20 % errors", 60, "requests failed"),
        ("100 % errors", 10, "requests failed"),
        ("half refused", 60, "requests were refused"),
        ("ten times slower", 80, "predictions were slower than 0."),
        ("a class of 30 % has vanished", 150, "rows were of class"),
        ("two labels swapped (60 and 30 %)", 400, "rows were of class"),
        ("always sure", 4000, "the predicted class had a probability of"),
    ],
)
def test_a_bad_version_is_rolled_back_soon_and_for_what_it_does(
    fault: str, requests: int, said: str
) -> None:
    ends = rolled_back(fault)
    assert statistics.median(end.requests for end in ends) <= requests
    assert all(said in end.reason for end in ends)


def test_a_version_as_slow_as_is_allowed_is_promoted() -> None:
    twice = FAULT["twice as slow (3 times is allowed)"]
    ends = many(21, lambda rng: release(rng, twice, GOOD, POLICY))
    assert not any(end.rolled_back for end in ends)
