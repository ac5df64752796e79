"""What is compared of two versions' counters: each a share, with the alpha of one interval."""

from collections.abc import Iterator, Mapping
from itertools import accumulate

from deploy.analysis.findings import Finding, finding, independent_rows, interval
from deploy.analysis.window import percentile
from deploy.events import Counters
from serving_config.release import Health, ReleasePolicy

# 99 of 100 predictions are as fast as `health.p99_ms`.
SLOW_SHARE = 0.01
# In seconds; slow is never less than that, however fast the stable version is.
SHORTEST_SLOW = 0.05
# What a share is of, and the two versions' counts.
Part = tuple[str, int, int]


def failures(
    policy: ReleasePolicy, candidate: Counters, stable: Counters, alpha: float
) -> Iterator[Finding]:
    """Failed and refused requests."""
    for metric, mine, other, limit in (
        ("errors", candidate.errors, stable.errors, policy.analysis.max_error_increase),
        ("refusals", candidate.refusals, stable.refusals, policy.analysis.max_refusal_increase),
    ):
        one = interval(mine, candidate.requests, alpha)
        yield finding(metric, "", one, interval(other, stable.requests, alpha), limit)


def health_errors(health: Health, candidate: Counters, alpha: float) -> Finding:
    """Failed requests, against the absolute limit."""
    failed = interval(candidate.errors, candidate.requests, alpha)
    return finding("errors", "", failed, None, health.max_error_rate)


def slowness(
    policy: ReleasePolicy, candidate: Counters, stable: Counters, baseline: Counters, alpha: float
) -> Finding:
    """Slow predictions, compared. What is slow is known before the first look, as it has to be."""
    slow = policy.health.p99_ms / 1000
    usual = percentile(baseline.durations, 0.99)
    if usual is not None:
        slow = min(slow, max(SHORTEST_SLOW, policy.analysis.slowdown * usual))
    bound = _bucket_bound(slow, candidate, stable, baseline)
    mine, other = (
        interval(*_slower(counters.durations, bound), alpha) for counters in (candidate, stable)
    )
    limit = policy.analysis.max_slow_increase
    return finding("latency", f"slower than {bound:g} s", mine, other, limit)


def health_p99(health: Health, candidate: Counters, alpha: float) -> Finding:
    """Predictions slower than the p99 allowed, of which there may be 1 %."""
    bound = _bucket_bound(health.p99_ms / 1000, candidate)
    slow = interval(*_slower(candidate.durations, bound), alpha)
    return finding("latency", f"slower than {bound:g} s", slow, None, SLOW_SHARE)


def _bucket_bound(seconds: float, *versions: Counters) -> float:
    """The next bucket bound at or above: a limit within a bucket would be unfair to requests that
    were faster than it."""
    found = {float(key) for counters in versions for key in counters.durations}
    return min((bound for bound in found if bound >= seconds), default=float("inf"))


def _slower(durations: Mapping[str, int], bound: float) -> tuple[int, int]:
    slow = sum(count for key, count in durations.items() if float(key) > bound)
    return slow, sum(durations.values())


def classes(
    policy: ReleasePolicy, candidate: Counters, stable: Counters, alpha: float
) -> Iterator[Finding]:
    """The share of each class."""
    mine, other = candidate.predictions, stable.predictions
    labels = sorted({*mine, *other})
    counts = [(f"class {name}", mine.get(name, 0), other.get(name, 0)) for name in labels]
    return _apart("predictions", policy, candidate, stable, counts, alpha)


def confidences(
    policy: ReleasePolicy, candidate: Counters, stable: Counters, alpha: float
) -> Iterator[Finding]:
    """The predicted class's mean probability, each taken as its bucket's upper bound.

    Not the share up to each bound: a model that is a little surer of everything is no other model.
    """
    if not (candidate.confidences or stable.confidences):
        return
    mine, other = (
        interval(
            sum(min(1.0, float(bound)) * count for bound, count in cells.items()),
            (rows := sum(cells.values())),
            alpha,
            _independent(rows, version),
        )
        for version in (candidate, stable)
        for cells in (version.confidences,)
    )
    yield finding("confidence", "", mine, other, policy.analysis.max_prediction_shift)


def values(
    policy: ReleasePolicy, candidate: Counters, stable: Counters, alpha: float
) -> Iterator[Finding]:
    """Too many small values, or too many large ones: a regression's rows up to each bound against
    the stable version's up to the next one, and those above it likewise.

    The next one, so that a value which crosses a bound by a hair counts for nothing: the distance
    of two distributions that Lévy defined, with a bucket for its step.
    """
    counts = [*_small_values(candidate.values, stable.values)]
    counts += _large_values(candidate.values, stable.values)
    return _apart("values", policy, candidate, stable, counts, alpha)


def _small_values(mine: Mapping[str, int], other: Mapping[str, int]) -> Iterator[Part]:
    bounds = sorted({*mine, *other}, key=float)
    one = accumulate(mine.get(bound, 0) for bound in bounds)
    two = [*accumulate(other.get(bound, 0) for bound in bounds)]
    for bound, few, next_few in zip(bounds, one, two[1:], strict=False):
        yield f"value of at most {float(bound):g}", few, next_few


def _large_values(mine: Mapping[str, int], other: Mapping[str, int]) -> Iterator[Part]:
    bounds = sorted({*mine, *other}, key=float, reverse=True)
    one = accumulate(mine.get(bound, 0) for bound in bounds)
    two = [*accumulate(other.get(bound, 0) for bound in bounds)]
    # What is in the buckets so far lies above the bound of the next one below.
    for below, many, next_many in zip(bounds[1:], one, two[1:], strict=False):
        yield f"value above {float(below):g}", many, next_many


def _apart(
    metric: str,
    policy: ReleasePolicy,
    candidate: Counters,
    stable: Counters,
    counts: list[Part],
    alpha: float,
) -> Iterator[Finding]:
    """alpha: of one interval if there were one part only."""
    limit, cells = policy.analysis.max_prediction_shift, _CELLS[metric]
    mine, other = (sum(getattr(version, cells).values()) for version in (candidate, stable))
    for detail, one, two in counts:
        yield finding(
            metric,
            detail,
            interval(one, mine, alpha / len(counts), _independent(mine, candidate)),
            interval(two, other, alpha / len(counts), _independent(other, stable)),
            limit,
        )


_CELLS = {"predictions": "predictions", "values": "values"}


def _independent(rows: int, counters: Counters) -> float:
    """How many independent rows say as much as these."""
    answered = max(0, counters.requests - counters.errors - counters.refusals)
    if counters.durations:
        answered = min(answered, sum(counters.durations.values()))
    return independent_rows(rows, counters.rows_squared, answered)
