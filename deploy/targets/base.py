"""What a rollout needs of the place where model servers run."""

from typing import Protocol

from deploy.release import Release


class TargetError(RuntimeError):
    """The place could not do what was asked; the message names the server and the cause."""


class Target(Protocol):
    """Names are cluster names: one for each Bento in one environment."""

    def servers(self) -> dict[str, int]:
        """The model servers that were started and not removed: name → port."""

    def start(self, release: Release, environment: str) -> str:
        """Start a server, or find it started; returns its name."""

    def wait_ready(self, name: str, release: Release, environment: str) -> None:
        """Until it answers ready with exactly that release; TargetError after the deadline."""

    def route(self) -> None:
        """Bring the gateway to what the ledger says, and wait until it is in force."""

    def drain(self, name: str, environment: str) -> None:
        """Until a server without new requests has finished those in flight, or the deadline."""

    def stop(self, name: str) -> None:
        """Stop and forget a server; one that is gone already is no error."""
