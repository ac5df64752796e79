"""What the ledger says: what is live, the events that led to it, and changes to make."""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from bentos.model_server.contract import version_label

GENESIS = "0" * 64
# deploy, promote: all traffic to one version (of staging, of the others). load: a version beside
# the live ones, without traffic. shadow, canary: a release's next phase. split: by hand. healthy:
# a release is over, the version it replaced has left. unhealthy: a release is over that passed a
# limit, and no version is there to go back to. rollback; retire: a version without traffic has
# left. revert: the gateway did not follow, so the change before is taken back.
Action = Literal[
    "deploy",
    "promote",
    "load",
    "shadow",
    "canary",
    "split",
    "healthy",
    "unhealthy",
    "rollback",
    "retire",
    "revert",
]


class LedgerError(RuntimeError):
    """The ledger cannot be read or written; nothing was changed."""


class LedgerConflictError(LedgerError):
    """Somebody else changed the state since it was read."""


class ReleaseInProgressError(LedgerConflictError):
    """Another candidate's shadow, canary or bake time has to end first."""


class Live(msgspec.Struct, frozen=True, forbid_unknown_fields=True, order=True, omit_defaults=True):
    """One live model version: what is served, and its share of the traffic in percent.

    mirror: percent of the other versions' requests that are copied to it, for a version without
    traffic. One with neither is resident: a request may pin it, and traffic can come back at once.
    """

    version: int
    variant: str
    onnx_sha256: str
    bento: str
    bento_digest: str
    certificate_sha256: str
    weight: int
    mirror: int = 0

    @property
    def label(self) -> str:
        """How clients name it."""
        return version_label(self.version, self.variant)

    def with_share(self, weight: int, mirror: int = 0) -> "Live":
        """The same version with another share of the traffic."""
        return msgspec.structs.replace(self, weight=weight, mirror=mirror)


class Counters(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What one model server has counted since it started, as its gateway and it itself saw it.

    requests, errors (5xx, or no answer), refusals (4xx): through the gateway. durations: requests
    for predictions by the upper bound in seconds of the bucket, not cumulated, `+Inf` last.
    predictions: rows by class. confidences: rows by the upper bound of the predicted class's
    probability. values: rows by the upper bound of a regression's value. rows_squared: the squares
    of the requests' rows, added up, which says how uneven they are; 0 where it is not known.
    """

    requests: int = 0
    errors: int = 0
    refusals: int = 0
    durations: dict[str, int] = {}
    predictions: dict[str, int] = {}
    confidences: dict[str, int] = {}
    values: dict[str, int] = {}
    rows_squared: int = 0


class Phase(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Where a release stands that is not over: `evidence["phase"]` of the event that began it.

    candidate: the label of the version that comes. stable: the one to go back to, with the weight
    it would have then; None where nothing served before. policy: the release policy as it was when
    the release began, as `ReleasePolicy.model_dump()`. step: index into the policy's steps.
    baseline: by label, what the servers had counted when the phase began. since: when it began
    (as `Event.at`), where an event that left the release alone has come after that.
    """

    name: Literal["shadow", "canary", "bake"]
    candidate: str
    stable: Live | None
    policy: dict[str, Any]
    step: int = 0
    baseline: dict[str, Counters] = {}
    since: str | None = None


class State(msgspec.Struct, frozen=True):
    """What one environment serves of one model; generation 0 is nothing yet."""

    environment: str
    model: str
    generation: int = 0
    live: tuple[Live, ...] = ()


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One row. `live` is the state after the event; `at` is UTC, ISO 8601."""

    id: int
    at: str
    environment: str
    model: str
    generation: int
    action: Action
    version: int
    variant: str
    onnx_sha256: str
    weight: int
    actor: str
    dagster_run: str | None
    evidence: dict[str, Any]
    live: tuple[Live, ...]
    previous_hash: str
    hash: str

    @property
    def label(self) -> str:
        """How clients name the version that the event is about."""
        return version_label(self.version, self.variant)

    @property
    def state(self) -> State:
        """The state that it led to."""
        return State(self.environment, self.model, self.generation, self.live)

    @property
    def phase(self) -> Phase | None:
        """The phase of a release that this event began; LedgerError for one that is none."""
        if "phase" not in self.evidence:
            return None
        try:
            return msgspec.convert(self.evidence["phase"], Phase)
        except msgspec.ValidationError as error:
            raise LedgerError(f"event {self.id} holds no phase: {error}") from error

    def expected_hash(self) -> str:
        """SHA-256 over the canonical JSON of all other fields."""
        content = msgspec.to_builtins(self)
        del content["hash"]
        return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a writer wants: from the state it has read to `live`, about `subject`."""

    base: State
    action: Action
    subject: Live
    live: tuple[Live, ...]
    actor: str
    dagster_run: str | None = None
    evidence: dict[str, Any] = {}


class Actor(msgspec.Struct, frozen=True):
    """Who changes something, as the ledger will say; dagster_run where one does."""

    name: str
    dagster_run: str | None = None

    def change(
        self,
        base: State,
        action: Action,
        subject: Live,
        live: tuple[Live, ...],
        evidence: Mapping[str, Any],
    ) -> Change:
        """A change that this one wants."""
        return Change(
            base=base,
            action=action,
            subject=subject,
            live=live,
            actor=self.name,
            dagster_run=self.dagster_run,
            evidence=dict(evidence),
        )
