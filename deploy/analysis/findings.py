"""One share compared with a limit: for sure past it, or not."""

from typing import Literal

import msgspec

from deploy.analysis.sequential import bounds

Decision = Literal["promote", "hold", "rollback"]
_SAID = {
    "errors": "requests failed",
    "refusals": "requests were refused",
    "latency": "predictions were {}",
    "predictions": "rows were of {}",
    "values": "rows had a {}",
    "disagreement": "rows got {}",
}


class Interval(msgspec.Struct, frozen=True):
    """A share with its confidence bounds, valid however often one looks: count of total."""

    count: int
    total: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """What was seen; 0 of 0 is 0."""
        return self.count / self.total if self.total else 0.0


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison. metric: errors, refusals, latency, predictions, confidence, values,
    disagreement or probability; detail: of what, in words (`class spam`, `slower than 0.5 s`);
    limit: what the candidate's share may exceed the stable one's by (or be, without a stable one).
    """

    metric: str
    detail: str
    candidate: Interval
    stable: Interval | None
    limit: float
    breached: bool

    @property
    def apart(self) -> bool:
        """Whether the limit counts in both directions."""
        return self.metric in ("predictions", "confidence")

    @property
    def excess(self) -> float:
        """By how much the limit is passed for sure; negative where it is not."""
        mine, other = self.candidate, self.stable
        if other is None:
            return mine.low - self.limit
        above = mine.low - other.high
        return (max(above, other.low - mine.high) if self.apart else above) - self.limit

    def sentence(self) -> str:
        """What was seen, with the numbers."""
        mine, other = self.candidate, self.stable
        if self.metric == "probability":
            return (
                f"the predicted class's probability differs by {mine.share:.3g} on average over "
                f"{mine.total:,} rows; at most {self.limit:g} is allowed"
            )
        if self.metric == "confidence" and other is not None:
            return (
                f"the predicted class had a probability of {mine.share:.3g} on average over "
                f"{mine.total:,} rows, {other.share:.3g} over the stable version's "
                f"{other.total:,}; at most {self.limit:g} apart is allowed"
            )
        said = f"{percent(mine.share)} of {mine.total:,} {_SAID[self.metric].format(self.detail)}"
        if other is None:
            return f"{said}; at most {percent(self.limit)} is allowed"
        rule = "apart" if self.apart else "more"
        return (
            f"{said}, {percent(other.share)} of the stable version's {other.total:,}; "
            f"at most {percent(self.limit)} {rule} is allowed"
        )


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict of one look, with its numbers; `reason` is one sentence for people."""

    decision: Decision
    reason: str
    requests: int
    seconds: float
    findings: tuple[Finding, ...] = ()


def independent_rows(rows: int, rows_squared: int, requests: int) -> float:
    """How many independent rows say as much as `rows` rows of `requests` requests.

    The rows of one request need not be independent of each other; at worst they are all alike.
    Then it is rows^2 / rows_squared (Kish 1965, Survey Sampling): the requests where all have as
    many rows, and about one where a single request has nearly all of them.
    """
    return min(requests, rows * rows / rows_squared) if rows_squared else requests


def interval(count: float, total: int, alpha: float, independent: float | None = None) -> Interval:
    """independent: what the total counts for, as of `independent_rows`."""
    count = min(count, total)
    weight = 1.0 if independent is None or not total else min(1.0, independent / total)
    low, high = bounds(count * weight, total * weight, alpha)
    return Interval(round(count), total, low, high)


def finding(
    metric: str, detail: str, candidate: Interval, stable: Interval | None, limit: float
) -> Finding:
    """Compare; breached where the limit is passed for sure."""
    found = Finding(
        metric=metric,
        detail=detail,
        candidate=candidate,
        stable=stable,
        limit=limit,
        breached=False,
    )
    return msgspec.structs.replace(found, breached=found.excess > 0)


def percent(share: float) -> str:
    """As people write it: `4.1 %`."""
    return f"{round(100 * share, 2):g} %"
