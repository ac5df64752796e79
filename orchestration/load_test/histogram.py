"""Latencies in a histogram of bounded size."""

import math

# The leading 8 bits of a value name its bucket: half a bucket is at most 1/256 of the value.
_SUB_BITS = 7
MAX_RELATIVE_ERROR = 1 / 256


def bucket(value: int) -> int:
    """The bucket of a value >= 0: exact below 256, then 128 buckets for each power of two."""
    shift = max(0, value.bit_length() - _SUB_BITS - 1)
    return (shift << _SUB_BITS) + (value >> shift)


def middle(index: int) -> int:
    """The value that stands for a bucket."""
    shift = max(0, (index >> _SUB_BITS) - 1)
    return ((index - (shift << _SUB_BITS)) << shift) + ((1 << shift) >> 1)


class Histogram:
    """Counts of integers >= 0, log-linear as HdrHistogram's (https://hdrhistogram.org).

    An hour in nanoseconds fits in some 4,600 buckets, of which those that occur are stored.
    """

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._total = 0
        self.count = 0
        self.least = 0
        self.most = 0

    def record(self, value: int) -> None:
        """Count one value."""
        index = bucket(value)
        self._counts[index] = self._counts.get(index, 0) + 1
        self._total += value
        if value > self.most:
            self.most = value
        if value < self.least or not self.count:
            self.least = value
        self.count += 1

    def merge(self, other: "Histogram") -> None:
        """Add another one's counts."""
        if not other.count:
            return
        for index, count in other._counts.items():
            self._counts[index] = self._counts.get(index, 0) + count
        self.least = min(self.least, other.least) if self.count else other.least
        self.most = max(self.most, other.most)
        self._total += other._total
        self.count += other.count

    @property
    def mean(self) -> float:
        """Exact; nan of nothing."""
        return self._total / self.count if self.count else math.nan

    def percentile(self, percent: float) -> float:
        """Nearest rank, within MAX_RELATIVE_ERROR of it; nan of nothing."""
        return self.percentiles([percent])[0]

    def percentiles(self, percents: list[float]) -> list[float]:
        """Several at once; percents: ascending."""
        if not self.count:
            return [math.nan] * len(percents)
        found: list[float] = []
        ranked = iter(sorted(self._counts))
        index, seen = 0, 0
        for percent in percents:
            rank = max(1, math.ceil(percent / 100 * self.count))
            while seen < rank:
                index = next(ranked)
                seen += self._counts[index]
            found.append(min(max(middle(index), self.least), self.most))
        return found
