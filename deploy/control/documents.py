"""What the control API answers, beside the ledger's own types."""

from typing import Literal

import msgspec

from deploy.batch_jobs import BatchJobRecord
from deploy.control.alert import Alert
from deploy.control.progress import Progress
from deploy.events import Event
from deploy.receipts import Receipt

VersionState = Literal["serving", "candidate", "shadow", "resident"]


class Split(msgspec.Struct, frozen=True):
    """Percent of the traffic by live version. generation: of the ledger's state; it is the ETag."""

    model: str
    environment: str
    generation: int
    weights: dict[str, int]


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One live version. state: serving; candidate, a release's with a part of the traffic; shadow,
    with copied requests only; resident, without any. server: its own address, or null where it
    has no server; ready: whether that answers."""

    version: str
    state: VersionState
    weight: int
    mirror: int
    ready: bool
    server: str | None
    onnx_sha256: str
    bento: str
    bento_digest: str
    certificate_sha256: str


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A release in progress. since: UTC, ISO 8601; last_look: the controller's, if it has looked
    at this phase already."""

    phase: Literal["shadow", "canary", "bake"]
    step: int
    candidate: str
    stable: str | None
    since: str
    last_look: Progress | None


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """What one environment serves of a model. since, by: the last change (UTC, ISO 8601) and who
    made it; null where there was none."""

    generation: int
    since: str | None
    by: str | None
    versions: tuple[Version, ...]
    release: Release | None


class ModelState(msgspec.Struct, frozen=True):
    """One model, by environment."""

    model: str
    description: str
    environments: dict[str, Serving]


class ModelList(msgspec.Struct, frozen=True):
    """All configured models."""

    models: tuple[ModelState, ...]


class VersionMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """One live version over the last `seconds`. Shares are 0 to 1; null: no request to tell from.

    error_rate: 5xx or no answer; refusal_rate: 4xx; predictions: share of the rows by class;
    values, confidences: share of the rows by the upper bound of a regression's value, or of the
    predicted class's probability.
    """

    model: str
    environment: str
    version: str
    seconds: float
    requests: int
    requests_per_second: float | None
    error_rate: float | None
    refusal_rate: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    predictions: dict[str, float]
    confidences: dict[str, float]
    values: dict[str, float]
    cpu_cores: float
    memory_bytes: int


class Started(msgspec.Struct, frozen=True):
    """A Dagster run that was started."""

    run_id: str
    url: str


class Changed(msgspec.Struct, frozen=True):
    """The event that records the change, and the split after it."""

    event: Event
    split: Split


class Events(msgspec.Struct, frozen=True):
    """The newest first."""

    events: tuple[Event, ...]


class Checked(msgspec.Struct, frozen=True):
    """Whether the hash chain and the current state are whole; reason: what is not."""

    whole: bool
    reason: str | None = None


class Receipts(msgspec.Struct, frozen=True):
    """One for each request that had the id, the newest last."""

    receipts: tuple[Receipt, ...]


class Alerts(msgspec.Struct, frozen=True):
    """What is pending and firing, then what resolved last."""

    alerts: tuple[Alert, ...]


class LabelsTaken(msgspec.Struct, frozen=True):
    """How many labels are on the disk now."""

    model: str
    environment: str
    accepted: int


class BatchJobs(msgspec.Struct, frozen=True):
    """The newest first."""

    jobs: tuple[BatchJobRecord, ...]


class Health(msgspec.Struct, frozen=True):
    """The control process answers."""

    status: Literal["ok"] = "ok"
