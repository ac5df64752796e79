"""As whom the platform's parts talk to the cluster, and what they may do there."""

from collections.abc import Collection, Sequence

from deploy.cluster.rights import (
    OF_ANY_GATEWAY,
    OF_ISTIO,
    OF_KSERVE,
    OF_NGINX,
    RIGHTS,
    Right,
)
from deploy.kubernetes.settings import Source
from deploy.kubernetes.workload import labels
from deploy.manifests.dagster import DEPLOYER, PLAIN, RULES
from deploy.manifests.names import Json, namespace
from serving_config.schema import Environment

_RBAC = "rbac.authorization.k8s.io"
_API = f"{_RBAC}/v1"
ROLE = "slipway-deployer"
_MODES = ("enforce", "audit", "warn")
Rule = tuple[str, Sequence[str], Sequence[str]]


def _rules(rights: Sequence[Right], only: Collection[str] = ()) -> tuple[Rule, ...]:
    """As Roles have them; only: of these plurals, of all where it is empty."""
    found: dict[tuple[str, str], list[str]] = {}
    for verb, kind, part in rights:
        if not only or kind.plural in only:
            resource = f"{kind.plural}/{part}" if part else kind.plural
            found.setdefault((kind.group, resource), []).append(verb)
    return tuple((group, (resource,), verbs) for (group, resource), verbs in found.items())


# What the target does, and where: leases are in the platform's namespace, and so is the Service
# that nothing answers for. Namespaces are there, of which a Role may say that its own is looked at.
# Pods are asked at their own addresses, not by the API server's proxy.
_ROUTES = _rules(RIGHTS, {"httproutes"})
_STALE_ROUTES = _rules(OF_ANY_GATEWAY)
_ELSEWHERE = {"namespaces", "leases", "httproutes", "virtualservices", "ingresses"}
TARGET = (
    ("", ("namespaces",), ("get",)),
    *_rules(
        [
            (verb, kind, part)
            for verb, kind, part in RIGHTS
            if kind.plural not in _ELSEWHERE and part != "proxy"
        ]
    ),
    *_STALE_ROUTES,
)
PLATFORM = (*_rules(RIGHTS, {"leases", "services"}), *_STALE_ROUTES)
# What a component adds, by `kubernetes.traffic` and by `target: kserve`.
TRAFFIC = {"gateway-api": _ROUTES, "istio": _rules(OF_ISTIO), "nginx": _rules(OF_NGINX)}
KSERVE = _rules(OF_KSERVE)


def platform_namespace(source: Source) -> Json:
    """Of the platform's own parts."""
    security = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in _MODES}
    own = {"name": source.namespace, "labels": labels("namespace") | security}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": own}


def accounts(source: Source) -> list[Json]:
    """Of those that deploy, and of those that need not know of the cluster."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": source.namespace, "labels": labels("access")},
            "automountServiceAccountToken": token,
        }
        for name, token in ((DEPLOYER, True), (PLAIN, False))
    ]


def rule(group: str, resources: Sequence[str], verbs: Sequence[str]) -> Json:
    """As a Role has it."""
    return {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}


def in_environment(source: Source, environment: Environment) -> list[Json]:
    """What deploying takes there; the namespace itself only this tree makes."""
    return granted(source, namespace(environment), TARGET)


def in_platform(source: Source) -> list[Json]:
    """What starting Dagster's runs takes, and what the target does there."""
    return granted(source, source.namespace, (*RULES, *PLATFORM))


def granted(source: Source, where: str, rules: Sequence[Rule]) -> list[Json]:
    """A Role in the namespace `where`, and its RoleBinding to those that deploy."""
    metadata = {"name": ROLE, "namespace": where, "labels": labels("access")}
    made = [rule(*each) for each in rules]
    return [
        {"apiVersion": _API, "kind": "Role", "metadata": metadata, "rules": made},
        _binding(source, metadata),
    ]


def _binding(source: Source, metadata: Json) -> Json:
    subject = {"kind": "ServiceAccount", "name": DEPLOYER, "namespace": source.namespace}
    return {
        "apiVersion": _API,
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": metadata["name"]},
        "subjects": [subject],
    }
