"""A request for a rollout, and what may be in its way."""

from collections.abc import Callable
from dataclasses import dataclass, field

from deploy.analysis.verdict import Analysis
from deploy.changes import head
from deploy.events import Action, Live, Phase, State
from deploy.history import last_healthy
from deploy.ledger import Ledger
from deploy.phases import stable_beside
from deploy.release import Release
from serving_config.release import ReleasePolicy


@dataclass(frozen=True)
class Request:
    """Who asks for what. Only a person may put an older version in front of a newer one, and give
    or take a variant's traffic.

    beside: live without traffic where another version has it, as variants come to staging.
    """

    release: Release
    environment: str
    action: Action
    actor: str
    dagster_run: str | None = None
    older_allowed: bool = False
    policy: ReleasePolicy = field(default_factory=lambda: ReleasePolicy(bake_seconds=0))
    beside: bool = False

    def superseded_by(self, state: State) -> Live | None:
        """What is live already and stays, where no person has asked: a newer version, or another
        variant of this one that has traffic."""
        subject, takes_traffic = self.release.live(), not self.beside
        stays = [
            live
            for live in state.live
            if live.version > subject.version
            or (takes_traffic and live.weight and _is_variant_of(live, subject))
        ]
        if self.older_allowed:
            return None
        return max(stays, key=lambda live: live.version, default=None)


def _is_variant_of(live: Live, other: Live) -> bool:
    return live.version == other.version and live.variant != other.variant


# Golden requests to the candidate, which is live without traffic in that state.
Gate = Callable[[Request, State], Analysis]


def watched_bake(ledger: Ledger, request: Request) -> Phase | None:
    """The bake time that the release has to wait for: a candidate beside the version that bakes
    would end the watch over it. None where the release would replace that version at once, or
    where there is nothing that the watch could go back to."""
    environment, release = request.environment, request.release
    state, last = head(ledger, environment, release.model)
    phase, subject = last.phase if last else None, release.live()
    if phase is None or phase.name != "bake" or request.policy.policy == "direct":
        return None
    if request.beside or request.superseded_by(state) is not None:
        return None
    if stable_beside(state.live, subject.label) is None:
        return None
    return phase if last_healthy(ledger.events(release.model, environment)) else None
