"""One look at a release in progress: what its servers say, and the verdict on it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from deploy.analysis.verdict import Analysis, compare, judge_shadow, phase_alpha, since, watch
from deploy.control.progress import Progress
from deploy.events import Counters, Event, Live, Phase
from deploy.gateway.routes import cluster_name
from deploy.phases import began, find, policy_of, share
from deploy.targets.base import Target, TargetError

# Seconds between two looks, which come every second unless a server is slow to answer.
_LONGEST_GAP = 30


@dataclass(frozen=True)
class Look:
    """The release that `event` belongs to. watched: how many seconds of its phase were watched up
    to the look before; seconds: up to this one, if it succeeds. Time in which nobody looked does
    not count: the platform was down, or asleep, or its clock was put forward."""

    target: Target
    event: Event
    phase: Phase
    watched: float
    seconds: float

    @classmethod
    def at(
        cls, moment: datetime, target: Target, event: Event, phase: Phase, last: Progress | None
    ) -> "Look":
        """At that moment (with its time zone). last: what the look before has written."""
        before, watched = began(phase, event), 0.0
        if last is not None and (last.began, last.phase, last.step) == (
            before,
            phase.name,
            phase.step,
        ):
            before, watched = last.at, last.analysis.seconds
        gap = (moment - datetime.fromisoformat(before)).total_seconds()
        return cls(target, event, phase, watched, watched + (gap if 0 < gap <= _LONGEST_GAP else 0))

    def _cluster(self, live: Live) -> str:
        return cluster_name(self.event.environment, self.event.model, live)

    @property
    def candidate(self) -> str:
        """The candidate's server."""
        live = find(self.event.live, self.phase.candidate)
        if live is None:
            raise TargetError(f"version {self.phase.candidate} is not live any more")
        return self._cluster(live)

    @property
    def stable(self) -> str | None:
        """The stable version's server, where it is live still."""
        stable = self.phase.stable
        live = find(self.event.live, stable.label) if stable else None
        return self._cluster(live) if live else None

    def is_candidates_fault(self) -> bool:
        """Whether the candidate alone cannot be observed: the stable version can, by the very same
        means, or the candidate's server does not answer where no other one is left to ask."""
        if self.stable is None:
            return not self.target.ready(self.candidate)
        try:
            self.target.observe(self.stable)
        except TargetError:
            return False
        return True

    def judge(self) -> Analysis:
        """The verdict; TargetError where a server cannot be observed."""
        policy, counted = policy_of(self.phase), self._counted(self.candidate, self.phase.candidate)
        if self.phase.name == "bake":
            return watch(policy.health, phase_alpha(policy), counted, self.seconds)
        if self.stable is None or self.phase.stable is None:
            raise TargetError("the stable version is not live any more")
        if self.phase.name == "shadow":
            begun = began(self.phase, self.event)
            slowdown = policy.analysis.slowdown
            agreed = self.target.agreement(self.candidate, self.stable, begun, slowdown)
            return judge_shadow(policy, agreed, self.seconds)
        label = self.phase.stable.label
        before = self.phase.baseline.get(label, Counters())
        beside = self._counted(self.stable, label)
        return compare(policy, counted, beside, before, self.seconds)

    def _counted(self, name: str, label: str) -> Counters:
        return since(self.target.observe(name), self.phase.baseline.get(label, Counters()))

    def is_baked(self) -> bool:
        """Whether the bake time is over."""
        policy = policy_of(self.phase)
        return self.phase.name == "bake" and self.seconds >= policy.bake_seconds

    def progress(self, analysis: Analysis, moment: datetime) -> Progress:
        """For all to read."""
        event, phase, policy = self.event, self.phase, policy_of(self.phase)
        wanted: dict[str, tuple[int, float]] = {
            "shadow": (policy.shadow.min_requests, policy.shadow.min_seconds)
            if policy.shadow
            else (0, 0),
            "canary": (policy.min_requests, policy.min_seconds),
            "bake": (0, policy.bake_seconds),
        }
        requests, seconds = wanted[phase.name]
        return Progress(
            environment=event.environment,
            model=event.model,
            generation=event.generation,
            candidate=phase.candidate,
            stable=phase.stable.label if phase.stable else None,
            phase=phase.name,
            step=phase.step,
            weight=share(phase),
            wanted_requests=requests,
            wanted_seconds=seconds,
            analysis=analysis,
            at=moment.isoformat(timespec="milliseconds"),
            began=began(phase, event),
        )


Clock = Callable[[], datetime]
