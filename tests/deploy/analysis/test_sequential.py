import math
import timeit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.analysis.sequential import PRIOR, bounds

totals = st.one_of(st.integers(1, 1000), st.integers(1, 10**9))
alphas = st.floats(min_value=1e-12, max_value=0.5)


@st.composite
def seen(draw: st.DrawFn) -> tuple[float, float]:
    """A count, whole or not, and its total."""
    total = draw(totals)
    count = draw(st.one_of(st.integers(0, total), st.floats(0, total)))
    return count, total


@given(seen(), alphas)
def test_bounds_hold_what_was_seen(counted: tuple[float, float], alpha: float) -> None:
    count, total = counted
    low, high = bounds(count, total, alpha)
    assert 0 <= low <= count / total + 1e-12
    assert count / total - 1e-12 <= high <= 1


@given(seen(), alphas, alphas)
def test_who_may_be_wrong_less_often_has_wider_bounds(
    counted: tuple[float, float], one: float, other: float
) -> None:
    narrow, wide = bounds(*counted, max(one, other)), bounds(*counted, min(one, other))
    assert wide[0] <= narrow[0] + 1e-12
    assert narrow[1] <= wide[1] + 1e-12


@given(seen(), alphas)
def test_what_did_not_happen_has_the_mirrored_bounds(
    counted: tuple[float, float], alpha: float
) -> None:
    count, total = counted
    low, high = bounds(count, total, alpha)
    assert bounds(total - count, total, alpha) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@given(st.integers(1, 10**6), alphas)
def test_each_further_hit_raises_both_bounds(total: int, alpha: float) -> None:
    found = [bounds(count, total, alpha) for count in (0, 1, total // 2 + 1, total)]
    assert found == sorted(found)
    assert [high for _, high in found] == sorted(high for _, high in found)


@given(seen(), st.floats(1e-12, 0.5))
def test_a_bound_is_where_the_mixture_reaches_one_over_alpha(
    counted: tuple[float, float], alpha: float
) -> None:
    count, total = counted
    low, _ = bounds(count, total, alpha)
    if not 1e-200 < low < 1 - 1e-6:
        return
    a, b = PRIOR
    lgamma = math.lgamma
    mixture = lgamma(a + count) + lgamma(b + total - count) - lgamma(a + b + total)
    prior = lgamma(a) + lgamma(b) - lgamma(a + b)
    likelihood = count * math.log(low) + (total - count) * math.log1p(-low)
    reached = mixture - prior - likelihood
    assert reached == pytest.approx(-math.log(alpha), abs=1e-4 + 1e-9 * total)
    assert reached >= -math.log(alpha) - 1e-7 * total**0.5 - 1e-6


@pytest.mark.parametrize("total", [1, 1000, 10**9])
def test_never_and_always_are_bounded_at_one_side_only(total: int) -> None:
    never, always = bounds(0, total, 1e-300), bounds(total, total, 1e-300)
    assert never[0] == 0
    assert always[1] == 1
    assert always[0] == pytest.approx(1 - never[1], abs=1e-9)


def test_nothing_seen_says_nothing() -> None:
    assert bounds(0, 0, 0.01) == (0, 1)


@pytest.mark.parametrize(("count", "total"), [(-1, 5), (6, 5), (math.nan, 5), (1, math.nan)])
def test_counts_that_cannot_be_are_refused(count: float, total: float) -> None:
    with pytest.raises(ValueError, match="is no share"):
        bounds(count, total, 0.01)


def test_a_pair_of_bounds_takes_microseconds() -> None:
    assert min(timeit.repeat(lambda: bounds(50, 1000, 1e-5), number=100, repeat=5)) < 0.02


def wrong_at_some_look(shares: "np.ndarray", values: "np.ndarray", alpha: float) -> float:
    """How many of the runs (rows) have bounds that, at a look, miss the average share so far."""
    counts, total = np.cumsum(values, axis=1), values.shape[1]
    means = np.cumsum(shares) / np.arange(1, total + 1)
    missed = np.zeros(len(values), dtype=bool)
    # All looks up to 100, then 2 % apart: in between the bounds hardly move.
    looks = {*range(1, 100), *np.geomspace(100, total, 160).astype(int).tolist()}
    for look in sorted(looks):
        sums, where = np.unique(counts[:, look - 1], return_inverse=True)
        found = np.array([bounds(float(count), look, alpha) for count in sums])
        outside = (found[:, 0] > means[look - 1]) | (found[:, 1] < means[look - 1])
        missed |= outside[where]
    return float(missed.sum())


def most(runs: int, chance: float) -> float:
    """What a binomial count exceeds once in a million: five standard deviations, and a bit."""
    return runs * chance + 5 * math.sqrt(runs * chance) + 5


RUNS, ALPHA = 3000, 0.05


@pytest.mark.parametrize("share", [0.001, 0.01, 0.3, 0.5, 0.95])
def test_all_looks_together_are_wrong_as_rarely_as_promised(share: float) -> None:
    rng = np.random.default_rng(1)
    values = (rng.random((RUNS, 2000)) < share).astype(float)
    wrong = wrong_at_some_look(np.full(2000, share), values, ALPHA)
    assert wrong <= most(RUNS, ALPHA)
    # Bounds that were never wrong would be far too wide.
    assert wrong > RUNS * ALPHA / 50


def test_a_share_that_drifts_is_bounded_by_its_average() -> None:
    rng = np.random.default_rng(2)
    shares = 0.05 + 0.05 * np.sin(np.arange(2000) / 30)
    values = (rng.random((RUNS, 2000)) < shares).astype(float)
    assert wrong_at_some_look(shares, values, ALPHA) <= most(RUNS, ALPHA)


def test_means_of_any_values_from_zero_to_one_are_bounded_as_shares_are() -> None:
    rng = np.random.default_rng(3)
    values = np.round(rng.beta(0.2, 0.8, (RUNS, 1000)), 1)
    mean = float(np.round(np.random.default_rng(4).beta(0.2, 0.8, 10**7), 1).mean())
    assert wrong_at_some_look(np.full(1000, mean), values, ALPHA) <= most(RUNS, ALPHA)


def test_one_look_after_the_other_at_fixed_bounds_would_break_the_promise() -> None:
    """What these tests would find: the usual 95 % interval, looked at each time."""
    rng = np.random.default_rng(5)
    counts = np.cumsum(rng.random((RUNS, 2000)) < 0.3, axis=1)
    totals = np.arange(1, 2001)
    distance = np.abs(counts / totals - 0.3) / np.sqrt(0.3 * 0.7 / totals)
    assert (distance[:, 50:] > 1.96).any(axis=1).sum() > most(RUNS, ALPHA)
