"""Confidence sequences for a share: bounds that hold at all looks together, not one by one.

For s of n and any share p, M_n(p) = B(a+s, b+n-s) / (B(a, b) p^s (1-p)^(n-s)) is the likelihood
ratio of p against a mixture of all shares, with a Beta(a, b) prior as weights. Under the true p it
is a martingale that begins at 1, so by Ville's inequality it ever reaches 1/alpha with a
probability of at most alpha: the p with M_n(p) < 1/alpha hold the true one at every n at once
(Robbins 1970, Statistical methods related to the law of the iterated logarithm; Howard, Ramdas,
McAuliffe, Sekhon 2021, Time-uniform, nonparametric, nonasymptotic confidence sequences).

Counts may be sums of any values from 0 to 1 with mean p, not only of zeros and ones: for each q
(q/p)^x ((1-q)/(1-p))^(1-x) is convex in x, so its mean is at most p q/p + (1-p) (1-q)/(1-p) = 1,
and M_n is a supermartingale. Where the share changes over time, p is its average so far: the mean
of M_n is still at most 1 at each n (log(p q/P + (1-p) (1-q)/(1-P)) is concave in p, and zero at
the average P), which makes each single look exact; that all looks together hold is simulated.
"""

import math

# Little weight on the middle: bounds around rare events (errors, slow answers) are what decides.
PRIOR = (0.5, 0.5)
# Halvings of the interval: more than a float64 can tell apart.
_HALVINGS = 60


def bounds(count: float, total: float, alpha: float) -> tuple[float, float]:
    """The lower and the upper bound of a share, of which `count` of `total` was seen: both hold at
    all looks with a probability of 1 - alpha. ValueError for a count that is not 0 to total."""
    if not 0 <= count <= total:
        raise ValueError(f"{count} of {total} is no share")
    if total == 0:
        return 0.0, 1.0
    a, b = PRIOR
    threshold = _log_beta(a + count, b + total - count) - _log_beta(a, b) + math.log(alpha)
    return _lower(count, total - count, threshold), 1 - _lower(total - count, count, threshold)


def _lower(hits: float, misses: float, threshold: float) -> float:
    """The smallest p with p^hits (1-p)^misses > e^threshold; it rises up to hits/(hits+misses)."""
    outside, inside = 0.0, hits / (hits + misses)
    for _ in range(_HALVINGS):
        p = (outside + inside) / 2
        if not outside < p < inside:
            break
        if hits * math.log(p) + misses * math.log1p(-p) > threshold:
            inside = p
        else:
            outside = p
    return outside


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
