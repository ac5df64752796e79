"""Settings of the cluster: where model servers run there, and how requests reach them."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from serving_config.base import Seconds, Settings

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/: decimal numbers
# with an SI or a binary suffix. Exponents are left out, and so are signs.
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]{1,9})?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_SUFFIXES = {
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
}


def amount(quantity: str) -> float:
    """What a Kubernetes quantity stands for: cores, or bytes. ValueError for what is none."""
    found = _QUANTITY.fullmatch(quantity)
    if found is None:
        raise ValueError("is no Kubernetes quantity: write 250m or 0.25 (cores), 512Mi (memory)")
    return float(found[1]) * _SUFFIXES.get(found[2] or "", 1.0)


def _quantity(value: str) -> str:
    if amount(value) <= 0:
        raise ValueError("must be above 0")
    return value


Quantity = Annotated[str, AfterValidator(_quantity)]
Replica = Annotated[int, Field(ge=1, le=1000)]
# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names
DnsLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Host = Annotated[
    str, Field(pattern=r"^(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$")
]

TargetName = Literal["local", "kubernetes", "kserve"]


class Replicas(Settings):
    """How many pods one live version has; a HorizontalPodAutoscaler decides in between."""

    minimum: Replica = 1
    """Pods that are always there. Two and more outlive the loss of a node."""
    maximum: Replica = 3
    """Pods at most."""
    cpu_percent: Annotated[int, Field(ge=1, le=100)] = 70
    """The share of the requested CPU that the autoscaler aims at."""

    @model_validator(mode="after")
    def _ordered(self) -> "Replicas":
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        return self


class Resources(Settings):
    """What one pod asks for, and may take. docs/kubernetes.md says how to size it."""

    cpu: Quantity = "250m"
    """Cores that are kept for it."""
    memory: Quantity = "384Mi"
    """Memory that is kept for it."""
    cpu_limit: Quantity | None = None
    """Cores that it may take at most; no limit where it is left out, since throttling costs
    latency while other cores are idle."""
    memory_limit: Quantity = "768Mi"
    """Memory beyond which it is killed."""

    @model_validator(mode="after")
    def _limits_above_requests(self) -> "Resources":
        if amount(self.memory_limit) < amount(self.memory):
            raise ValueError(f"memory_limit {self.memory_limit} is below memory {self.memory}")
        if self.cpu_limit is not None and amount(self.cpu_limit) < amount(self.cpu):
            raise ValueError(f"cpu_limit {self.cpu_limit} is below cpu {self.cpu}")
        return self


class Pods(Settings):
    """`environments/<name>.yaml`: how its model servers run on a cluster."""

    namespace: DnsLabel | None = None
    """`slipway-<environment>` where it is left out."""
    replicas: Replicas = Replicas()
    """How many."""
    resources: Resources = Resources()
    """Of each pod."""


class StepResources(Settings):
    """What Dagster's pods ask for, by asset or check; docs/kubernetes.md says how to size it.

    The graph is exported, proved and scored with in pods of their own: they need the most, and the
    steps that wait for them the least.
    """

    waiting: Resources = Resources(cpu="100m", memory="768Mi", memory_limit="1536Mi")
    """Of a lifecycle's or a batch job's run, and of a step that waits for a pod of its own."""
    onnx_model: Resources = Resources(cpu="1", memory="2Gi", memory_limit="4Gi")
    """Of the pod that exports."""
    conversion_parity: Resources = Resources(cpu="1", memory="2Gi", memory_limit="4Gi")
    """Of the pod that proves the graph equal to the trained model."""
    batch_predictions: Resources = Resources(cpu="2", memory="2Gi", memory_limit="6Gi")
    """Of the pod that scores a table; `platform.batch.limits.threads` says on how many cores."""
    bento: Resources = Resources(cpu="500m", memory="1Gi", memory_limit="2Gi")
    """Of the step that builds the Bento."""
    training: Resources = Resources(cpu="1", memory="2Gi", memory_limit="4Gi")
    """Of a run that trains."""
    other: Resources = Resources(cpu="250m", memory="1Gi", memory_limit="3Gi")
    """Of every other step, and of the runs that do their work themselves."""

    def of(self, step: str) -> Resources:
        """step: an asset's, a check's or a job's name, without the model's."""
        found: Resources = getattr(self, step) if step in type(self).model_fields else self.other
        return found


class DagsterOnKubernetes(Settings):
    """`kubernetes.dagster` of `platform.yaml`: Dagster's own runs and steps."""

    runs: Literal["local", "kubernetes"] = "local"
    """`local`: as processes beside the code location, the lifecycle in one. `kubernetes`: each run
    is a Job, each step of a lifecycle another, and export, verification and batch scoring have pods
    of their own. `SLIPWAY_DAGSTER_RUNS`."""
    image: Annotated[str, Field(pattern=r"^[^\s{}]+$")] = "slipway/orchestration:latest"
    """Of the runs and the steps. `SLIPWAY_DAGSTER_IMAGE`."""
    steps: StepResources = StepResources()
    """What each step's pod asks for."""
    scratch: Quantity = "8Gi"
    """Room on the node's disk for a pod's files: what is beyond that evicts it."""
    start_timeout_seconds: Seconds = 600
    """How long such a pod may wait for a node."""
    step_timeout_seconds: Seconds = 3600
    """How long a pod that exports or verifies may take."""
    batch_timeout_seconds: Annotated[float, Field(gt=0, le=604_800, allow_inf_nan=False)] = 86_400
    """How long a pod that scores a table may take."""


class Kubernetes(Settings):
    """`platform.yaml`: the cluster, for environments whose `target` is kubernetes or kserve."""

    context: str | None = None
    """The context of the kubeconfig; the current one, or the pod's own service account, where it
    is left out."""
    namespace: DnsLabel = "slipway"
    """Where the platform's own parts run: the control API, Dagster, the feature transformer."""
    image: Annotated[str, Field(pattern=r"^[^\s{}]+(\{(model|bento)\}[^\s{}]*)*$")] = (
        "slipway/model-server:latest"
    )
    """The image of a model server. With `{bento}` (and `{model}`) it is one for each Bento, as
    `make build-images` tags them; without, one for all, and each pod fetches its Bento from
    `artifacts.url` and holds it against its digest."""
    image_pull_secret: DnsLabel | None = None
    """The Secret with the registry's credentials, in each environment's namespace."""
    traffic: Literal["gateway-api", "istio", "nginx"] = "gateway-api"
    """What shares the traffic: Gateway API's HTTPRoute, Istio's VirtualService or the NGINX
    ingress controller's canaries (which know one candidate at a time)."""
    gateway: Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")] = "slipway/slipway"
    """`namespace/name` of the Gateway (of Gateway API or Istio) that the routes belong to."""
    ingress_class: DnsLabel = "nginx"
    """The class of the ingress objects, with `traffic: nginx`."""
    hostnames: Annotated[tuple[Host, ...], Field(strict=False)] = ()
    """Host names that the routes answer for; all that the gateway has where it is left out."""
    url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    """Where the platform itself reaches that gateway, for smoke tests and probes, such as
    `http://slipway-envoy.slipway`. `SLIPWAY_CLUSTER_GATEWAY_URL`."""
    request_timeout_seconds: Seconds = 10
    """How long one request to the API server may take."""
    predictions_claim: DnsLabel | None = None
    """A PersistentVolumeClaim (ReadWriteMany, in each environment's namespace) for the prediction
    log's segments. Without one the servers keep no prediction log."""
    dagster: DagsterOnKubernetes = DagsterOnKubernetes()
    """Dagster's runs and steps."""


class Artifacts(Settings):
    """`platform.yaml`: how ONNX, certificate and Bento reach other machines."""

    url: Annotated[str, Field(pattern=r"^[a-z0-9+]+://[^@]*$")] | None = None
    """A folder as fsspec names it, such as `s3://bucket/slipway`; only this home has them where it
    is left out. No credentials here: fsspec reads them from its own variables and files.
    `SLIPWAY_ARTIFACTS_URL`."""
