"""The verdict on what a candidate answered to golden rows, before any traffic."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from deploy.analysis.verdict import Finding, Interval


@dataclass(frozen=True)
class Own:
    """The candidate's golden rows: how many there are, how many came back otherwise, alone and as
    one batch, and the words of its first refusal."""

    rows: int
    alone: int
    together: int
    refusal: str | None = None


@dataclass(frozen=True)
class Pair:
    """One row that the stable version answers. difference: of the probability of the class that
    it predicts; refusal: the words with which the candidate refuses the row."""

    disagree: bool
    difference: float | None = None
    refusal: str | None = None
    candidate_ms: float = 0.0
    stable_ms: float = 0.0


def findings(own: Own, pairs: Sequence[Pair], max_disagreement: float) -> tuple[Finding, ...]:
    """Own rows and disagreement decide; probability and latency are there to be looked at."""
    found = [
        _finding("disagreement", f"its own golden rows {how}, against its certificate", wrong, 0.0)
        for how, wrong in (
            ("alone", _all(own.alone, own.rows)),
            ("as one batch", _all(own.together, own.rows)),
        )
    ]
    if pairs:
        share = _all(sum(pair.disagree for pair in pairs), len(pairs))
        detail = "against the stable version: another class, or a value off by more than a tenth"
        found.append(_finding("disagreement", detail, share, max_disagreement))
    return (*found, *_probability(pairs), *_latency(pairs))


def _probability(pairs: Sequence[Pair]) -> list[Finding]:
    differences = [pair.difference for pair in pairs if pair.difference is not None]
    if not differences:
        return []
    far = sum(difference > 0.1 for difference in differences)
    detail = f"of the stable version's class: more than 0.1 apart; mean {fmean(differences):.4f}"
    return [_finding("probability", detail, _all(far, len(differences)), 1.0)]


def _latency(pairs: Sequence[Pair]) -> list[Finding]:
    answered = [pair for pair in pairs if pair.refusal is None]
    if not answered:
        return []
    slowest = max(pair.stable_ms for pair in answered)
    candidate = median(pair.candidate_ms for pair in answered)
    stable = median(pair.stable_ms for pair in answered)
    slower = sum(pair.candidate_ms > slowest for pair in answered)
    detail = (
        f"slower than the stable version's slowest, {slowest:.2f} ms; "
        f"median {candidate:.2f} ms, of the stable version {stable:.2f} ms"
    )
    return [_finding("latency", detail, _all(slower, len(answered)), 1.0)]


def _finding(metric: str, detail: str, share: Interval, limit: float) -> Finding:
    """Without any row nothing is proved, so that is a breach as well."""
    breached = share.total == 0 or share.low > limit
    return Finding(
        metric=metric, detail=detail, candidate=share, stable=None, limit=limit, breached=breached
    )


def _all(count: int, total: int) -> Interval:
    """Every row there is was asked: the share is known, not estimated."""
    share = count / total if total else 0.0
    return Interval(count, total, share, share)


def reason(found: Sequence[Finding], own: Own, pairs: Sequence[Pair]) -> str:
    """What is wrong, or how far the two agree; with the words of a refusal."""
    told = [_breach(finding) for finding in found if finding.breached]
    if not told:
        told = [f"all {own.rows} golden rows came back as the certificate says"]
        if pairs:
            differing = sum(pair.disagree for pair in pairs)
            told.append(f"{differing} of {len(pairs)} rows differ from the stable version's")
    refusals = [pair.refusal for pair in pairs if pair.refusal is not None]
    if own.refusal is not None:
        told.append(f"the candidate refuses golden rows of its own: {own.refusal}")
    if refusals:
        told.append(
            f"the candidate refuses {len(refusals)} of {len(pairs)} rows that the stable version "
            f"answers: {refusals[0]}"
        )
    return "; ".join(told)


def _breach(finding: Finding) -> str:
    share = finding.candidate
    if share.total == 0:
        return "the certificate has no golden rows: nothing proves that the candidate is right"
    return (
        f"{share.count} of {share.total} rows differ, over the limit of {finding.limit:.0%} "
        f"({finding.detail})"
    )
