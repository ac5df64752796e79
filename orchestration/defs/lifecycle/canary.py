"""What the ledger says of a canary, for the check `canary_analysis`. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import dagster as dg
import msgspec

from deploy.analysis.plot import analysis_svg
from deploy.analysis.verdict import Analysis, Finding, Interval
from deploy.events import Event, LedgerError
from deploy.history import Result
from orchestration.defs.lifecycle.metadata import table
from orchestration.release_progress import phase_title
from orchestration.svg import markdown_image


@dataclass(frozen=True)
class Judged:
    """One phase that is over. analysis: None where a person ended it."""

    title: str
    ended_by: Event
    analysis: Analysis | None


def is_canary(event: Event, candidate: str) -> bool:
    """Whether the event began a phase of the candidate before it had all traffic."""
    phase = event.phase
    return phase is not None and phase.name != "bake" and phase.candidate == candidate


def canary_events(events: Sequence[Event], candidate: str, last: Event) -> list[Event]:
    """The candidate's phases up to `last`, which ended the canary; empty where there was none.

    events: of one model and environment, in order.
    """
    before = [event for event in events if event.id < last.id]
    found: list[Event] = []
    while before and is_canary(before[-1], candidate):
        found.insert(0, before.pop())
    return [*found, last] if found else []


def judged(events: Sequence[Event]) -> list[Judged]:
    """What came before the first phase, and each phase, with the verdict that ended it.

    events: as `canary_events` returns them.
    """
    replayed = analysis(events[0])
    gate = [Judged("replay", events[0], replayed)] if replayed else []
    return gate + [
        Judged(_title(event), after, analysis(after)) for event, after in pairwise(events)
    ]


def analysis(event: Event) -> Analysis | None:
    """The verdict that led to the event; LedgerError for one that is none."""
    if "analysis" not in event.evidence:
        return None
    try:
        return msgspec.convert(event.evidence["analysis"], Analysis)
    except msgspec.ValidationError as error:
        raise LedgerError(f"event {event.id} holds no analysis: {error}") from error


def _title(event: Event) -> str:
    phase = event.phase
    if phase is None:
        return event.action
    shares = {live.label: live.mirror or live.weight for live in event.live}
    return phase_title(phase.name, shares.get(phase.candidate, 0))


def reason(event: Event) -> str:
    """Why, in a sentence: as the ledger has it, or who did it."""
    said = event.evidence.get("reason")
    return str(said) if said else f"{event.action} by {event.actor}"


def ended(result: Result, last: Event) -> str:
    """How a canary ended that was not released."""
    if result == "rolled back":
        return f"rolled back: {reason(last)}"
    return f"superseded: {last.actor} changed what {last.environment} serves ({last.action})"


def canary_metadata(events: Sequence[Event]) -> dict[str, Any]:
    """Decision, reason, steps, findings and plot; events: as `canary_events` returns them."""
    phases = judged(events)
    last = phases[-1]
    found: dict[str, Any] = {
        "decision": last.analysis.decision if last.analysis else last.ended_by.action,
        "reason": last.analysis.reason if last.analysis else reason(last.ended_by),
        "steps": table([_step(phase) for phase in phases]),
    }
    findings = [row for phase in phases for row in _findings(phase)]
    if findings:
        found["worst_findings"] = table(findings)
    return found | _plot(events[0], phases)


def _step(phase: Judged) -> dict[str, Any]:
    numbers = phase.analysis
    return {
        "phase": phase.title,
        "requests": numbers.requests if numbers else None,
        "seconds": f"{numbers.seconds:.0f}" if numbers else None,
        "decision": numbers.decision if numbers else phase.ended_by.action,
        "reason": numbers.reason if numbers else reason(phase.ended_by),
    }


def _findings(phase: Judged) -> list[dict[str, Any]]:
    return [
        {
            "phase": phase.title,
            "metric": found.metric,
            "of": found.detail,
            "candidate": _share(found.candidate),
            "stable": _share(found.stable) if found.stable else "",
            "limit": f"{found.limit:.2%}",
            "breached": "breached" if found.breached else "",
        }
        for found in _worst(phase.analysis)
    ]


def _worst(analysis: Analysis | None) -> list[Finding]:
    """Of each metric the part that is nearest to its limit, and whatever is past it.

    A metric that is compared and limited as well has two.
    """
    ranked = sorted(analysis.findings if analysis else (), key=lambda found: -found.excess)
    nearest: dict[tuple[str, bool], Finding] = {}
    for found in ranked:
        nearest.setdefault((found.metric, found.stable is None), found)
    return [found for found in ranked if found.breached or found in nearest.values()]


def _share(interval: Interval) -> str:
    """`1.2% [0.8%, 1.9%]`"""
    if interval.low == interval.high:  # counted in full, not estimated
        return f"{interval.share:.2%}"
    return f"{interval.share:.2%} [{interval.low:.2%}, {interval.high:.2%}]"


def _plot(begun: Event, phases: Sequence[Judged]) -> dict[str, Any]:
    judged_by = [item.analysis for item in phases if item.analysis and item.title != "replay"]
    analyses = [item for item in judged_by if item.findings]
    phase = begun.phase
    if not analyses or phase is None or phase.stable is None:
        return {}
    svg = analysis_svg(phase.candidate, phase.stable.label, analyses)
    return {"plot": dg.MetadataValue.md(markdown_image("canary analysis", svg))}
