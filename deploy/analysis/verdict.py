"""Whether a release goes on, waits or goes back: pure functions of what the servers counted."""

from typing import Literal

import msgspec

from deploy.events import Counters
from serving_config.release import Health, ReleasePolicy


class Interval(msgspec.Struct, frozen=True):
    """A share with its confidence bounds, valid however often one looks: count of total."""

    count: int
    total: int
    low: float
    high: float


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


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict of one look, with its numbers; `reason` is one sentence for people."""

    decision: Literal["promote", "hold", "rollback"]
    reason: str
    requests: int
    seconds: float
    findings: tuple[Finding, ...] = ()


def compare(
    policy: ReleasePolicy, candidate: Counters, stable: Counters, baseline: Counters, seconds: float
) -> Analysis:
    """One canary step: what both versions have counted since it began `seconds` ago.

    baseline: what the stable version had counted before the step, of which the limit for a slow
    answer is taken.
    """
    raise NotImplementedError


def watch(health: Health, alpha: float, candidate: Counters, seconds: float) -> Analysis:
    """The bake time: `rollback` once a limit is passed for sure (at `alpha`), else `hold`."""
    raise NotImplementedError


def since(now: Counters, before: Counters) -> Counters:
    """What was counted since `before`; where a process was restarted meanwhile, since then."""
    raise NotImplementedError
