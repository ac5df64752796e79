"""What the platform does on a cluster, as its Role has to allow it, and `kubectl auth can-i` asks.

Who may not make a namespace, which is of the whole cluster, finds it made by an administrator.
"""

from deploy.cluster.kinds import KINDS, Kind

# Verb, kind, and which part of it where it is not the object itself.
Right = tuple[str, Kind, str]

_READ = ("get", "list")
_PRUNE = ("list", "delete")
# `patch` is what a server-side apply asks for, and `create` where nothing is there yet.
_APPLY = ("get", "list", "create", "patch", "delete")
_COMPARE_AND_SWAP = ("get", "list", "create", "update", "delete")


def _rights(verbs: tuple[str, ...], *kinds: str) -> list[Right]:
    return [(verb, KINDS[kind], "") for kind in kinds for verb in verbs]


RIGHTS: tuple[Right, ...] = (
    # Looked at; made only where there is none.
    *_rights(("get", "create", "patch"), "Namespace"),
    *_rights(("create", "patch"), "ServiceAccount", "NetworkPolicy"),
    *_rights(_APPLY, "Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"),
    *_rights(_APPLY, "HTTPRoute"),
    *_rights(_PRUNE, "VirtualService", "Ingress"),
    *_rights(_READ, "Pod", "ReplicaSet"),
    *_rights(_COMPARE_AND_SWAP, "ConfigMap", "Lease"),
    ("get", KINDS["Pod"], "log"),
    # From outside the cluster only: within it pods are asked at their own addresses.
    ("get", KINDS["Pod"], "proxy"),
)
# Routes that are left from another `kubernetes.traffic`.
OF_ANY_GATEWAY = tuple(_rights(_PRUNE, "HTTPRoute", "VirtualService", "Ingress"))
# Instead of HTTPRoute, by `kubernetes.traffic`; and of Deployment, by `target: kserve`.
OF_ISTIO = tuple(_rights(_APPLY, "VirtualService"))
OF_NGINX = tuple(_rights(_APPLY, "Ingress"))
OF_KSERVE = tuple(_rights(_APPLY, "InferenceService"))
