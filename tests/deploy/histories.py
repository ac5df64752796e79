"""Events of iris in production, made by hand, as a ledger would hold them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import replace

from deploy.events import GENESIS, Event, Live, Phase
from serving_config.release import ReleasePolicy
from tests.deploy.releases import live

START = datetime(2026, 11, 20, 12, tzinfo=UTC)
Weights = dict[int, int]


def phase(name: Any, candidate: int, stable: int | None) -> Phase:
    policy = ReleasePolicy(policy="canary").model_dump(mode="json")
    stable_live = None if stable is None else live(stable)
    return Phase(name=name, candidate=str(candidate), stable=stable_live, policy=policy)


class History:
    """Appends an event a minute; every event is about its newest version unless told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(
        self, action: Any, weights: Weights, of: Phase | None = None, *, mirror: int = 0
    ) -> Event:
        lives: list[Live] = [live(version, weight) for version, weight in weights.items()]
        if mirror:
            lives = [replace(item, mirror=mirror) if item.weight == 0 else item for item in lives]
        number = len(self.events) + 1
        subject = live(max(weights, default=1))
        event = Event(
            id=number,
            at=(START + timedelta(minutes=number)).isoformat(timespec="milliseconds"),
            environment="production",
            model="iris",
            generation=number,
            action=action,
            version=subject.version,
            variant=subject.variant,
            onnx_sha256=subject.onnx_sha256,
            weight=subject.weight,
            actor="ann",
            dagster_run=f"run-{number}",
            evidence={"phase": msgspec.to_builtins(of)} if of else {},
            live=tuple(lives),
            previous_hash=GENESIS,
            hash="",
        )
        self.events.append(event)
        return event

    def promote(self, *versions: int) -> "History":
        """One after the other, directly."""
        for version in versions:
            self.add("promote", {version: 100})
        return self

    def canary(self, candidate: int, stable: int, weight: int) -> Event:
        shares = {stable: 100 - weight, candidate: weight}
        return self.add("canary", shares, phase("canary", candidate, stable))

    def bake(self, candidate: int, stable: int) -> Event:
        return self.add("promote", {stable: 0, candidate: 100}, phase("bake", candidate, stable))
