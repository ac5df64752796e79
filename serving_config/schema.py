"""The settings' types. `serving_config/schemas/*.json` is generated from them for editors."""

import re
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from serving_config.alerts import Alerts
from serving_config.base import Name, Seconds, Settings
from serving_config.batch import Batch, BatchJobs
from serving_config.features import Features
from serving_config.gateway import Gateway
from serving_config.kubernetes import Artifacts, Kubernetes, Pods, TargetName
from serving_config.monitoring import Drift, Quality, Retraining
from serving_config.parts import ControlProcess, Dagster, ModelServers, Registry
from serving_config.predictions import LoggedColumns, PredictionLog, Predictions
from serving_config.release import ReleasePolicy
from serving_config.variants import Quantization, Variants


class Platform(Settings):
    """`platform.yaml`: the local platform."""

    host: Literal["127.0.0.1", "0.0.0.0"] = "127.0.0.1"  # noqa: S104
    """The address that every part listens on: this machine alone, or 0.0.0.0, every address that
    it has, as a container needs it. MLflow, Dagster and metrics ask nobody for a key: keep other
    machines away from their ports. Clients on other machines predict with a key only.
    `SLIPWAY_HOST`."""
    default_environment: Name = "staging"
    """The environment of a request without `X-Environment`."""
    default_model: Name | None = None
    """The model behind a bare `/predict`."""
    gateway: Gateway = Gateway()
    """The Envoy gateway that clients talk to."""
    dagster: Dagster = Dagster()
    """Dagster's UI, storage and code location."""
    mlflow: Registry = Registry()
    """The MLflow server."""
    model_servers: ModelServers = ModelServers()
    """Where the model servers of this machine are reached."""
    control: ControlProcess = ControlProcess()
    """Where the control process is reached."""
    sensor_interval_seconds: Annotated[int, Field(ge=1, le=3600)] = 2
    """How often the registry is asked for new model versions, in seconds."""
    ledger_url: Annotated[str, Field(pattern=r"^(sqlite:///|postgresql\+psycopg://)")] | None = (
        Field(default=None, repr=False)
    )
    """The ledger's SQLAlchemy URL; a SQLite file in the home where it is left out.
    `SLIPWAY_LEDGER_URL`, so that no password need stand here."""
    alerts: Alerts = Alerts()
    """Which limits are watched, and who is told."""
    predictions: Predictions = Predictions()
    """The compacted prediction log."""
    batch: BatchJobs = BatchJobs()
    """Batch scoring."""
    artifacts: Artifacts = Artifacts()
    """Where the files of versions are kept for other machines."""
    kubernetes: Kubernetes = Kubernetes()
    """The cluster, for environments that run there."""


class Environment(Settings):
    """`environments/<name>.yaml`: how models run in one environment."""

    name: Name
    """The value of `X-Environment`."""
    target: TargetName = "local"
    """Where its model servers run: `local`, under this machine's supervisor; `kubernetes`, as
    Deployments; `kserve`, as InferenceServices. `SLIPWAY_TARGET` goes over it in every one."""
    kubernetes: Pods = Pods()
    """How they run on a cluster."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Worker processes of each model server."""
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    """ONNX Runtime threads of each worker."""
    access_log: bool = True
    """Whether each model server writes one JSON line for every answer."""
    cache_url: Annotated[str, Field(pattern=r"^rediss?://")] | None = Field(
        default=None, repr=False
    )
    """A Redis that holds the response cache of all servers; each worker's memory where left out.

    `SLIPWAY_CACHE_URL` goes over it in every environment, so that no password need stand here.
    """
    ready_timeout_seconds: Seconds = 60
    """How long a new model server may take until it is ready."""
    drain_timeout_seconds: Seconds = 30
    """How long a replaced model server may finish what it has in flight."""
    sticky: Annotated[tuple[Literal["session", "key"], ...], Field(strict=False)] = ("session",)
    """What keeps a client on its side of a split: `session`, the header `X-Session-ID`; `key`, the
    API key. The first that a request has counts; a request without any is assigned by chance."""
    release: ReleasePolicy = ReleasePolicy()
    """How a version replaces the one that serves; a model may have its own."""
    prediction_log: PredictionLog = PredictionLog()
    """What is kept of every answer, and how surely."""


class Verification(Settings):
    """What `conversion_parity` may show at most."""

    tolerance: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 1e-5
    """Largest difference of a probability, or of a value relative to max(1, |value|)."""
    max_label_flips: Annotated[int, Field(ge=0)] = 0
    """Rows that may get another label than the trained model's."""
    max_share_over_tolerance: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    """Share of rows, 0 to 1, that may differ by more than the tolerance."""


class Cache(Settings):
    """A response cache: the same row of the same model is computed once."""

    ttl_seconds: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 60
    """How long an answer is kept."""
    max_entries: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """Rows kept in the memory of each worker; the least recently used one goes first."""


Origin = Annotated[str, Field(pattern=r"^(\*|https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?)$")]


class Serving(Settings):
    """Limits of one model server."""

    max_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Rows of one request."""
    max_body_bytes: Annotated[int, Field(ge=1024, le=1 << 27)] = 4 << 20
    """Bytes of one request's body."""
    max_concurrency: Annotated[int, Field(ge=1, le=100_000)] = 4096
    """Requests that one worker has in hand at once; what comes beyond that is refused (503)."""
    max_queue_rows: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """Rows that may wait for inference in one worker; what comes beyond that is refused (503)."""
    max_batch_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 256
    """Rows of several requests that are computed together; one request is never cut in two."""
    deadline_seconds: Seconds = 10
    """A request that has no answer by then gets 504."""
    cache: Cache | None = None
    """The response cache; off where it is left out."""
    cors_origins: Annotated[tuple[Origin, ...], Field(strict=False)] = ()
    """Web origins whose pages may ask this model (CORS), or `*`; none where it is left out."""

    @model_validator(mode="after")
    def _queue_holds_a_request(self) -> "Serving":
        if self.max_queue_rows < self.max_rows:
            raise ValueError(
                f"max_queue_rows {self.max_queue_rows} is below max_rows {self.max_rows}: "
                "the largest request could never be queued"
            )
        return self


class Column(Settings):
    """What is known of one input beyond the MLflow signature; enforced at serving."""

    minimum: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Smallest allowed number."""
    maximum: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Largest allowed number."""
    categories: Annotated[tuple[str | int, ...], Field(strict=False)] | None = None
    """The allowed values."""
    max_length: Annotated[int, Field(ge=1)] | None = None
    """Longest allowed text, in characters."""

    @model_validator(mode="after")
    def _ordered(self) -> "Column":
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        if self.categories is not None and not self.categories:
            raise ValueError("categories is empty: nothing would be allowed")
        return self


class Model(Settings):
    """`models/<name>.yaml`: one model that Slipway takes to production."""

    name: Name
    """The name in URLs, asset keys and Bentos."""
    registered_model: str = Field(default="", max_length=256)
    """The registered model in MLflow; the same as `name` where it is left out."""
    description: str = ""
    """One line for the UI."""
    promotion: Literal["auto", "manual"] = "manual"
    """`auto`: to production as soon as the smoke test in staging passed. `manual`: on command."""
    training: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None
    """`package.module:function` that `slipway train` calls."""
    trainings: dict[Name, Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]] = Field(default={})
    """Others by name, for `slipway train MODEL --with NAME`: another framework, say."""
    variants: Variants = ("fp32",)
    """What is built of each version: `fp32`, as it was trained, and `int8` (`3-int8`), quantized.
    `promotion` is about the first; the others are loaded beside it in staging."""
    quantization: Quantization = Quantization()
    """What an int8 variant may lose, and has to gain."""
    batch: Batch = Batch()
    """Batch scoring."""
    trusted_types: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Types beyond scikit-learn's own that the skops file of a version may contain."""
    inputs: dict[str, Column] = Field(default={})
    """Ranges and categories by input name."""
    verification: Verification = Verification()
    """Limits of `conversion_parity`."""
    serving: Serving = Serving()
    """Limits of the model server."""
    release: dict[Name, ReleasePolicy] = Field(default={})
    """How a version of this model replaces another, by environment; for what is left out, the
    environment's own `release` counts."""
    feature_service: Annotated[str, Field(pattern=r"^\w{1,128}$")] | None = None
    """The Feast feature service that fills in what a request's entities stand for."""
    prediction_log: LoggedColumns = LoggedColumns()
    """Which of its inputs are not kept, or only as a hash."""
    drift: Drift = Drift()
    """When its live traffic counts as another than it was trained on."""
    quality: Quality = Quality()
    """What its answers are measured by once their labels are known."""
    retraining: Retraining | None = None
    """Whether a failed check trains a new version; off where it is left out."""

    @model_validator(mode="before")
    @classmethod
    def _default_registered_model(cls, data: object) -> object:
        if isinstance(data, dict) and not data.get("registered_model") and "name" in data:
            return data | {"registered_model": data["name"]}
        return data

    @model_validator(mode="after")
    def _variants_begin_as_trained(self) -> "Model":
        if self.variants[0] != "fp32" or len(set(self.variants)) != len(self.variants):
            raise ValueError(
                f"variants {list(self.variants)}: fp32 comes first, and each stands once"
            )
        return self

    @model_validator(mode="after")
    def _registered_model_is_a_name(self) -> "Model":
        if re.search(r"[/:]", self.registered_model):
            raise ValueError(f"registered_model {self.registered_model!r} contains '/' or ':'")
        return self


class Configuration(Settings):
    """All of it, cross-checked."""

    platform: Platform
    environments: dict[str, Environment]
    models: dict[str, Model]
    features: Features = Features()

    @property
    def max_body_bytes(self) -> int:
        """Bytes of the largest body that any model takes: the gateway refuses more."""
        servings = [model.serving for model in self.models.values()] or [Serving()]
        return max(serving.max_body_bytes for serving in servings)

    def release_policy(self, environment: str, model: str) -> ReleasePolicy:
        """How versions of the model are released in the environment: what the model says, and the
        environment's for the rest. KeyError for unknown ones."""
        base = self.environments[environment].release
        own = self.models[model].release.get(environment)
        return base if own is None else own.over(base)

    @model_validator(mode="after")
    def _policies_are_possible(self) -> "Configuration":
        for model in self.models.values():
            for environment in model.release.keys() & self.environments.keys():
                try:
                    self.release_policy(environment, model.name)
                except ValidationError as error:
                    reason = error.errors()[0]["msg"].removeprefix("Value error, ")
                    raise ValueError(
                        f"models/{model.name}.yaml: release.{environment}, with the rest of "
                        f"environments/{environment}.yaml: {reason}"
                    ) from None
        return self

    @model_validator(mode="after")
    def _copies_can_be_compared(self) -> "Configuration":
        """Answers are compared by the access logs of one machine."""
        for environment in self.environments.values():
            if environment.target == "local":
                continue
            where = {f"environments/{environment.name}.yaml: release.shadow": environment.release}
            for model in self.models.values():
                if environment.name in model.release:
                    key = f"models/{model.name}.yaml: release.{environment.name}.shadow"
                    where[key] = self.release_policy(environment.name, model.name)
            for key, policy in where.items():
                if policy.shadow is not None:
                    raise ValueError(
                        f"{key}: with `target: {environment.target}` the answers to copied "
                        "requests cannot be compared: leave `shadow` out, or use `target: local`"
                    )
        return self

    @model_validator(mode="after")
    def _gateway_outwaits_models(self) -> "Configuration":
        """Else the gateway's 504 would come before the model server's own."""
        seconds = self.platform.gateway.limits.response_timeout_seconds
        for model in self.models.values():
            if model.serving.deadline_seconds >= seconds:
                raise ValueError(
                    f"models/{model.name}.yaml: serving.deadline_seconds "
                    f"{model.serving.deadline_seconds:g} must be below "
                    f"gateway.limits.response_timeout_seconds {seconds:g} of platform.yaml"
                )
        return self

    @model_validator(mode="after")
    def _references_resolve(self) -> "Configuration":
        owners_of_ports: dict[int, str] = {}
        platform = self.platform
        services = {"gateway": platform.gateway, "dagster": platform.dagster}
        services |= {"mlflow": platform.mlflow, "features": self.features}
        for name, service in services.items():
            port = service.port
            other = owners_of_ports.setdefault(port, name)
            if other != name:
                raise ValueError(f"platform.yaml: {other}.port and {name}.port are both {port}")
        missing = {"staging", "production"} - set(self.environments)
        if missing:
            raise ValueError(f"environments/{min(missing)}.yaml is missing")
        if self.platform.default_environment not in self.environments:
            raise ValueError(
                f"platform.yaml: default_environment: {self.platform.default_environment!r} is "
                f"none of {sorted(self.environments)}"
            )
        default = self.platform.default_model
        if default is not None and default not in self.models:
            raise ValueError(
                f"platform.yaml: default_model: {default!r} is none of {sorted(self.models)}"
            )
        for model in self.models.values():
            self._require_retraining(model)
            unknown = set(model.release) - set(self.environments)
            if unknown:
                raise ValueError(
                    f"models/{model.name}.yaml: release: {min(unknown)!r} is none of "
                    f"{sorted(self.environments)}"
                )
        owners: dict[str, str] = {}
        for model in self.models.values():
            other = owners.setdefault(model.registered_model, model.name)
            if other != model.name:
                raise ValueError(
                    f"models/{model.name}.yaml: registered_model: {model.registered_model!r} is "
                    f"already served by models/{other}.yaml"
                )
        return self

    def _require_retraining(self, model: Model) -> None:
        """That it can come about."""
        settings, where = model.retraining, f"models/{model.name}.yaml: retraining"
        if settings is None:
            return
        if model.training is None:
            raise ValueError(f"{where}: it has no `training`")
        if settings.environment not in self.environments:
            raise ValueError(
                f"{where}.environment: {settings.environment!r} is none of "
                f"{sorted(self.environments)}"
            )
        silent = {"drift": "is not enabled"} if not model.drift.enabled else {}
        silent |= {"quality": "has no limit"} if model.quality.limit is None else {}
        if silent.keys() >= set(settings.checks):
            why = ", ".join(f"{check} {silent[check]}" for check in settings.checks)
            raise ValueError(f"{where}.checks: none of them can fail: {why}")
