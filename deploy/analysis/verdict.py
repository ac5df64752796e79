"""Whether a release goes on, waits or goes back: pure functions of what the servers counted.

`false_rollback_probability` is for a whole release. It is split evenly, and the union bound adds
it up again: over the phases (each canary step, the bake time, a shadow), over METRICS, over a
metric's parts (classes, bounds), and over the two versions, whose intervals can each be wrong.
With 0.01, three steps and two classes, the interval of one class's share is wrong with a
probability of 0.01 / 4 / 6 / 2 / 2 = 0.0001 at all looks of its step together. Both directions of
a comparison, and the absolute limit for errors, look at the same intervals and cost nothing more.
"""

from collections.abc import Iterable, Sequence

import msgspec

from deploy.analysis import measures
from deploy.analysis.agreement import Agreement
from deploy.analysis.counting import since
from deploy.analysis.findings import (
    Analysis,
    Decision,
    Finding,
    Interval,
    finding,
    independent_rows,
    interval,
)
from deploy.events import Counters
from serving_config.release import Health, ReleasePolicy, Shadow

__all__ = [
    "Analysis",
    "Finding",
    "Interval",
    "compare",
    "judge_shadow",
    "phase_alpha",
    "since",
    "watch",
]

METRICS = ("errors", "refusals", "latency", "predictions", "confidence", "values")
SHADOW_METRICS = ("errors", "disagreement", "probability", "latency")
# A finding for each of a thousand classes would fill the ledger: the nearest to their limit stay.
PARTS_KEPT = 10


def phase_alpha(policy: ReleasePolicy) -> float:
    """What one phase of a release may take of its chance of a false rollback."""
    steps = len(policy.steps) if policy.policy == "canary" else 0
    return policy.analysis.false_rollback_probability / (steps + 1 + (policy.shadow is not None))


def compare(
    policy: ReleasePolicy, candidate: Counters, stable: Counters, baseline: Counters, seconds: float
) -> Analysis:
    """One canary step: what both versions have counted since it began `seconds` ago.

    baseline: what the stable version had counted before the step, of which the limit for a slow
    answer is taken.
    """
    alpha = phase_alpha(policy) / len(METRICS) / 2
    findings = [
        *measures.failures(policy, candidate, stable, alpha),
        measures.health_errors(policy.health, candidate, alpha),
        # Two limits for slow answers: two parts.
        measures.slowness(policy, candidate, stable, baseline, alpha / 2),
        measures.health_p99(policy.health, candidate, alpha / 2),
        *_worst(measures.classes(policy, candidate, stable, alpha)),
        *measures.confidences(policy, candidate, stable, alpha),
        *_worst(measures.values(policy, candidate, stable, alpha)),
    ]
    return _decide(findings, candidate.requests, seconds, policy, policy.max_seconds)


def watch(health: Health, alpha: float, candidate: Counters, seconds: float) -> Analysis:
    """The bake time: `rollback` once a limit is passed for sure (at `alpha`), else `hold`.

    alpha: `phase_alpha` of the release's policy. A p99 within a bucket of the histogram is judged
    at the next bound above: some requests that were too slow are not seen as such.
    """
    findings = [
        measures.health_errors(health, candidate, alpha / 2),
        measures.health_p99(health, candidate, alpha / 2),
    ]
    reason = f"{candidate.requests:,} requests in {seconds:.0f} s, within all limits"
    return _analysis(findings, candidate.requests, seconds, "hold", reason)


def judge_shadow(policy: ReleasePolicy, agreement: Agreement, seconds: float) -> Analysis:
    """The shadow phase, `seconds` after it began. ValueError for a policy without one.

    Answers are paired: what the pairs have is held against a limit. The probability's difference
    is a mean of values from 0 to 1, for which the same bounds hold. Either version can be the slow
    one of a pair by chance, as often as the other: pairs with a slow candidate are compared with
    those where the stable version was slow.
    """
    shadow, pairs = policy.shadow, agreement.pairs
    if shadow is None:
        raise ValueError("the release policy has no shadow")
    alpha = phase_alpha(policy) / len(SHADOW_METRICS)
    failed = interval(agreement.failed, pairs + agreement.failed, alpha)
    independent = independent_rows(agreement.rows, agreement.rows_squared, pairs)
    other = interval(agreement.disagreements, agreement.rows, alpha, independent)
    apart = interval(agreement.difference, agreement.rows, alpha, independent)
    findings = [
        finding("errors", "", failed, None, policy.analysis.max_error_increase),
        finding("disagreement", "another class or value", other, None, shadow.max_disagreement),
        finding("probability", "mean difference", apart, None, shadow.max_probability_difference),
        _paired_latency(policy, agreement, alpha / 2),
    ]
    analysis = _decide(findings, pairs, seconds, shadow, policy.max_seconds)
    if analysis.decision == "rollback" or not pairs:
        return analysis
    mine_ms, other_ms = agreement.candidate_ms / pairs, agreement.stable_ms / pairs
    said = f"{analysis.reason}; {mine_ms:.3g} ms on average, the stable version {other_ms:.3g} ms"
    return msgspec.structs.replace(analysis, reason=said)


def _paired_latency(policy: ReleasePolicy, agreement: Agreement, alpha: float) -> Finding:
    slowdown, limit = policy.analysis.slowdown, policy.analysis.max_slow_increase
    detail = f"over 50 ms and {slowdown:g} times the other version's time"
    mine, other = (
        interval(count, agreement.pairs, alpha) for count in (agreement.slower, agreement.faster)
    )
    return finding("latency", detail, mine, other, limit)


def _worst(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda found: found.excess, reverse=True)[:PARTS_KEPT]


def _decide(
    findings: Sequence[Finding],
    requests: int,
    seconds: float,
    wanted: ReleasePolicy | Shadow,
    max_seconds: float,
) -> Analysis:
    """Go on, wait or give up, if no limit is passed."""
    counted = f"{requests:,} of {wanted.min_requests:,} requests"
    decision: Decision = "hold"
    reason = f"{counted} and {seconds:.0f} of {wanted.min_seconds:g} s so far, within all limits"
    if requests >= wanted.min_requests and seconds >= wanted.min_seconds:
        decision = "promote"
        reason = f"{requests:,} requests in {seconds:.0f} s, within all limits"
    elif seconds >= max_seconds:
        decision, reason = "rollback", f"only {counted} came in {seconds:.0f} s"
    return _analysis(findings, requests, seconds, decision, reason)


def _analysis(
    findings: Sequence[Finding], requests: int, seconds: float, decision: Decision, reason: str
) -> Analysis:
    """That decision, unless a limit is passed."""
    if breached := [found for found in findings if found.breached]:
        decision, reason = "rollback", f"{breached[0].sentence()}"
    return Analysis(
        decision=decision,
        reason=reason,
        requests=requests,
        seconds=seconds,
        findings=tuple(findings),
    )
