"""What two versions answered to the same requests."""

from collections.abc import Sequence
from typing import Any

import msgspec

from deploy.analysis.measures import SHORTEST_SLOW

# Share of the larger one by which two values of a regression may differ and still agree.
_A_TENTH = 0.1


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """pairs: requests that both answered. rows, disagreements: rows of those, and how many got
    another class, or a value off by more than a tenth of the larger one. difference: the sum over
    the rows of how far the probabilities of the class that the stable version predicts are apart.
    rows_squared: the squares of the pairs' rows, added up; 0 where it is not known.
    failed: requests that the stable version answered and the candidate refused, or with an error.
    candidate_ms, stable_ms: durations of the pairs, sums in milliseconds. slower, faster: pairs
    where the candidate took too much longer than the stable version, and where it was the reverse;
    see `is_slower`.
    """

    pairs: int = 0
    rows: int = 0
    disagreements: int = 0
    difference: float = 0.0
    failed: int = 0
    rows_squared: int = 0
    candidate_ms: float = 0.0
    stable_ms: float = 0.0
    slower: int = 0
    faster: int = 0

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(
            pairs=self.pairs + other.pairs,
            rows=self.rows + other.rows,
            disagreements=self.disagreements + other.disagreements,
            difference=self.difference + other.difference,
            failed=self.failed + other.failed,
            rows_squared=self.rows_squared + other.rows_squared,
            candidate_ms=self.candidate_ms + other.candidate_ms,
            stable_ms=self.stable_ms + other.stable_ms,
            slower=self.slower + other.slower,
            faster=self.faster + other.faster,
        )


def is_slower(one_ms: float, other_ms: float, slowdown: float) -> bool:
    """Whether it took more than `slowdown` times as long as the other, and 50 ms at least."""
    return one_ms > max(1000 * SHORTEST_SLOW, slowdown * other_ms)


def disagree(candidate: Any, stable: Any, *, classes: bool) -> bool:
    """Whether two predictions are another class, or values off by more than a tenth."""
    if classes or not (isinstance(candidate, float) and isinstance(stable, float)):
        return bool(candidate != stable)
    return abs(candidate - stable) > _A_TENTH * max(abs(candidate), abs(stable))


def apart(candidate: Sequence[float], stable: Sequence[float], *, same_class: bool) -> float:
    """How far the probabilities of the class that the stable version predicts are apart.

    By row, in the order of each version's own classes. Two versions that predict the same class
    need no common order; where they do not and one has other classes, nothing tells which of its
    numbers is the class's, and it counts as 0.
    """
    most = max(stable)
    if same_class:
        return abs(max(candidate) - most)
    return abs(candidate[stable.index(most)] - most) if len(candidate) == len(stable) else most
