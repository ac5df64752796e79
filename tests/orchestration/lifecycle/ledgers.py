"""A ledger with a canary on it, made by hand."""

from typing import Any

import msgspec

from deploy.analysis.verdict import Analysis, Finding, Interval
from deploy.events import Change, Event, Live, Phase, State
from deploy.ledger import Ledger
from serving_config.release import ReleasePolicy
from tests.deploy.releases import live

POLICY = ReleasePolicy(policy="canary", steps=(10, 50))


def analysis(decision: Any, reason: str, failed: int = 0) -> Analysis:
    found = Finding(
        metric="errors",
        detail="requests failed",
        candidate=Interval(failed, 200, failed / 400, failed / 100),
        stable=Interval(1, 1800, 0.0, 0.01),
        limit=0.01,
        breached=failed > 0,
    )
    return Analysis(decision=decision, reason=reason, requests=200, seconds=3.5, findings=(found,))


def phase(step: int, candidate: int = 2) -> dict[str, Any]:
    stable = live(1)
    made = Phase(
        name="canary",
        candidate=str(candidate),
        stable=stable,
        policy=POLICY.model_dump(mode="json"),
        step=step,
    )
    return {"phase": msgspec.to_builtins(made)}


def append(
    ledger: Ledger, action: Any, *lives: Live, actor: str = "controller", **evidence: Any
) -> Event:
    state = ledger.state("production", "iris")
    return ledger.record(
        Change(
            base=State("production", "iris", state.generation, state.live),
            action=action,
            subject=lives[0],
            live=lives,
            actor=actor,
            dagster_run="run-1",
            evidence=evidence,
        )
    )


def verdict(*arguments: Any) -> dict[str, Any]:
    made = analysis(*arguments)
    return {"analysis": msgspec.to_builtins(made), "reason": made.reason}


def canary(ledger: Ledger) -> None:
    """Version 1 serves; version 2 is at 50 % after a step at 10 %."""
    append(ledger, "promote", live(1), actor="ann")
    append(ledger, "load", live(2, 0), live(1), actor="ann")
    replayed = verdict("promote", "all golden rows came back")
    append(ledger, "canary", live(2, 10), live(1, 90), actor="ann", **phase(0), **replayed)
    held = verdict("promote", "no difference found")
    append(ledger, "canary", live(2, 50), live(1, 50), **phase(1), **held)
