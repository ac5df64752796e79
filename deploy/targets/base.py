"""What a rollout needs of the place where model servers run."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from deploy.analysis.agreement import Agreement
from deploy.events import Counters, Live, State
from deploy.release import Release


class TargetError(RuntimeError):
    """The place could not do what was asked; the message names the server and the cause."""


@dataclass(frozen=True)
class Endpoint:
    """Where and as whom to ask a model: the URL in front of `/predict`, with the headers that pin
    a version and those that carry an API key."""

    url: str
    headers: Mapping[str, str]


class Target(Protocol):
    """Names are cluster names: one for each Bento in one environment."""

    def servers(self) -> dict[str, str]:
        """The model servers that were started and not removed: name → `host:port`, where parts of
        the platform reach it."""

    def start(self, release: Release, environment: str) -> str:
        """Start a server, or find it started; returns its name."""

    def wait_ready(self, name: str, release: Release, environment: str) -> None:
        """Until it answers ready with exactly that release; TargetError after the deadline."""

    def ready(self, name: str) -> bool:
        """Whether the server answers ready, at one look."""

    def hold(self, name: str) -> AbstractContextManager[None]:
        """Meanwhile `stop` leaves the server alone. Whoever starts one holds it until it is on the
        ledger, and cannot hold it for longer than it lives. Several may; waits for a `stop`."""

    def route(self) -> None:
        """Bring the gateway to what the ledger says, and wait until it is in force."""

    def require_routable(self, state: State) -> None:
        """TargetError where the gateway has no way to serve by that state, which is to come: asked
        before the ledger takes it, and without a word to the gateway."""

    def in_step(self) -> bool:
        """Whether the gateway serves by what the ledger says; not where it does not answer."""

    def drain(self, name: str, environment: str) -> None:
        """Until a server without new requests has finished those in flight, or the deadline."""

    def stop(self, name: str) -> None:
        """Stop and forget a server that is neither live on the ledger nor held; any other one is
        left alone. One that is gone already is no error."""

    def observe(self, name: str) -> Counters:
        """What the server has counted so far; TargetError where it or its gateway cannot say."""

    def endpoint(self, environment: str, model: str, live: Live | None) -> Endpoint:
        """Where clients ask that one version, whatever its weight; without one, as the weights
        have it."""

    def agreement(self, candidate: str, stable: str, since: str, slowdown: float) -> Agreement:
        """What two servers have answered to the same requests since that moment (UTC, ISO 8601);
        slowdown: how many times as long is slow. TargetError where that is not to be had."""
