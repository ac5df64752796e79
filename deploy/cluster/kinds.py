"""The kinds of objects that Slipway has on a cluster, and what it may do with each."""

from dataclasses import dataclass
from urllib.parse import quote

from deploy.manifests.names import Json

_GATEWAY_API = (
    "kubectl apply --server-side -f https://github.com/kubernetes-sigs/gateway-api/releases/"
    "latest/download/standard-install.yaml"
)
_KSERVE = "helm install kserve-crd oci://ghcr.io/kserve/charts/kserve-crd, then kserve itself"
# What brings the definitions of a group that a cluster does not have by itself.
INSTALL = {
    "gateway.networking.k8s.io": _GATEWAY_API,
    "networking.istio.io": "istioctl install",
    "serving.kserve.io": _KSERVE,
}


@dataclass(frozen=True)
class Kind:
    """One kind, by the words that its address is made of."""

    group: str
    version: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None, name: str | None = None) -> str:
        """Its address on the API server; of one object, or of all in the namespace."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        inside = f"/namespaces/{quote(namespace or '')}" if self.namespaced else ""
        return f"{root}{inside}/{self.plural}" + (f"/{quote(name)}" if name else "")

    @property
    def api_version(self) -> str:
        """As an object says it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def full_name(self) -> str:
        """As `kubectl auth can-i` takes it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


KINDS = {
    "Namespace": Kind("", "v1", "namespaces", namespaced=False),
    "ConfigMap": Kind("", "v1", "configmaps"),
    "Pod": Kind("", "v1", "pods"),
    "Service": Kind("", "v1", "services"),
    "ServiceAccount": Kind("", "v1", "serviceaccounts"),
    "Deployment": Kind("apps", "v1", "deployments"),
    "ReplicaSet": Kind("apps", "v1", "replicasets"),
    "HorizontalPodAutoscaler": Kind("autoscaling", "v2", "horizontalpodautoscalers"),
    "PodDisruptionBudget": Kind("policy", "v1", "poddisruptionbudgets"),
    "Lease": Kind("coordination.k8s.io", "v1", "leases"),
    "NetworkPolicy": Kind("networking.k8s.io", "v1", "networkpolicies"),
    "Ingress": Kind("networking.k8s.io", "v1", "ingresses"),
    "HTTPRoute": Kind("gateway.networking.k8s.io", "v1", "httproutes"),
    "ReferenceGrant": Kind("gateway.networking.k8s.io", "v1beta1", "referencegrants"),
    "VirtualService": Kind("networking.istio.io", "v1", "virtualservices"),
    "DestinationRule": Kind("networking.istio.io", "v1", "destinationrules"),
    "InferenceService": Kind("serving.kserve.io", "v1beta1", "inferenceservices"),
}


def kind_of(item: Json) -> Kind:
    """Of an object; by its own words where it is none of `KINDS`' group and version."""
    known = KINDS.get(item["kind"])
    group, _, version = item["apiVersion"].rpartition("/")
    if known is not None and (known.group, known.version) == (group, version):
        return known
    if known is not None:
        return Kind(group, version, known.plural, known.namespaced)
    return Kind(group, version, f"{item['kind'].lower()}s")


def words(item: Json) -> str:
    """How a sentence calls an object: `Deployment slipway-staging/iris-1`."""
    meta = item["metadata"]
    where = f"{meta['namespace']}/" if meta.get("namespace") else ""
    return f"{item['kind']} {where}{meta['name']}"
