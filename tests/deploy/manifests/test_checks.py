"""Each check finds the one thing that was broken in objects that had no problem."""

from copy import deepcopy
from typing import Any

import pytest

from deploy.manifests.checks import problems
from deploy.manifests.identity import KEYS
from tests.deploy.manifests.broken import EXTERNAL, GONE, NAME, REGISTRY, broken, whole

POD = "spec.template.spec"
SERVER = f"{POD}.containers.0"
FETCH = f"{POD}.initContainers.0"


def test_what_is_right_has_no_problems() -> None:
    assert problems(whole(), EXTERNAL) == []


MUTATIONS: list[tuple[str, str, Any, str]] = [
    # names and labels
    ("Deployment", "metadata.name", "Iris", "metadata.name is no DNS label"),
    ("ServiceAccount", "metadata.name", "a_b", "metadata.name is no DNS subdomain"),
    ("Role", "metadata.namespace", "-x", "metadata.namespace is no DNS label"),
    ("Namespace", "metadata.labels", {"a b": "c"}, "metadata.labels[a b] is no label's key"),
    ("Namespace", "metadata.labels", {"a": "c-"}, "metadata.labels[a] cannot be 'c-'"),
    ("Namespace", "metadata.labels", {"a": 1}, "metadata.labels[a] cannot be 1"),
    ("Deployment", "spec.template.metadata.labels.a", "x" * 64, "spec.labels[a] cannot be"),
    ("Deployment", "metadata.annotations.digest", 1, "metadata.annotations[digest] is no"),
    # rights
    ("Deployment", f"{POD}.hostNetwork", True, "spec.hostNetwork gives the node away"),
    ("Deployment", f"{POD}.hostPID", True, "hostPID"),
    ("Deployment", f"{POD}.hostIPC", True, "hostIPC"),
    ("Deployment", f"{POD}.automountServiceAccountToken", GONE, "automountServiceAccountToken is"),
    (
        "CronJob",
        f"spec.jobTemplate.{POD}.hostPID",
        True,
        "template.spec.hostPID",
    ),
    ("InferenceService", "spec.predictor.hostPID", True, "spec.predictor.hostPID"),
    (
        "InferenceService",
        "spec.predictor.containers.0.securityContext.runAsNonRoot",
        GONE,
        "runAs",
    ),
    ("Deployment", f"{SERVER}.securityContext.runAsNonRoot", False, "runAsNonRoot is not true"),
    ("Deployment", f"{SERVER}.securityContext.runAsUser", 0, "runAsUser is 0, which is root"),
    ("Deployment", f"{SERVER}.securityContext.seccompProfile.type", "Unconfined", "seccompProfile"),
    ("Deployment", f"{SERVER}.securityContext.allowPrivilegeEscalation", GONE, "allowPrivilegeEsc"),
    ("Deployment", f"{SERVER}.securityContext.privileged", True, "privileged is true"),
    ("Deployment", f"{SERVER}.securityContext.readOnlyRootFilesystem", GONE, "readOnlyRootFile"),
    ("Deployment", f"{SERVER}.securityContext.procMount", "Unmasked", "procMount is not Default"),
    ("Deployment", f"{SERVER}.securityContext.capabilities", {"drop": ["NET_RAW"]}, "capab"),
    ("Deployment", f"{SERVER}.securityContext.capabilities.add", ["SYS_ADMIN"], "has SYS_ADMIN"),
    ("Deployment", f"{FETCH}.securityContext", GONE, "initContainers[fetch-bento].securityContext"),
    ("Deployment", f"{SERVER}.ports.0.hostPort", 3000, "ports[3000].hostPort is the node's"),
    ("Deployment", f"{POD}.volumes.0", {"name": "tmp", "hostPath": {"path": "/"}}, "tmp].hostPath"),
    # resources
    ("Deployment", f"{SERVER}.resources.requests.memory", GONE, "requests.memory is left out"),
    ("Deployment", f"{SERVER}.resources.requests.cpu", GONE, "requests.cpu is left out"),
    ("Deployment", f"{SERVER}.resources.limits.memory", GONE, "limits.memory is left out"),
    ("Deployment", f"{SERVER}.resources.limits.memory", "1Mi", "below the 384Mi requested"),
    ("Deployment", f"{SERVER}.resources.limits.cpu", "1m", "below the 250m requested"),
    ("Deployment", f"{SERVER}.resources.requests.cpu", "fast", "'fast' is no Kubernetes quantity"),
    ("Deployment", f"{FETCH}.resources", GONE, "initContainers[fetch-bento].resources.requests"),
    ("Deployment", f"{POD}.volumes.0.emptyDir.sizeLimit", "big", "'big' is no Kubernetes quantity"),
    ("Deployment", f"{POD}.volumes.0.emptyDir", {}, "emptyDir.sizeLimit is left out"),
    # ports, probes, mounts
    ("Deployment", f"{SERVER}.readinessProbe", GONE, "readinessProbe is missing"),
    ("Deployment", f"{SERVER}.livenessProbe", GONE, "livenessProbe is missing"),
    (
        "Deployment",
        f"{SERVER}.readinessProbe.httpGet.port",
        3001,
        "3001 is none of the",
    ),
    ("Deployment", f"{SERVER}.startupProbe.httpGet.port", "web", "startupProbe.httpGet.port web"),
    (
        "Deployment",
        f"{SERVER}.volumeMounts.0.name",
        "other",
        "names a volume that",
    ),
    ("Deployment", f"{SERVER}.volumeMounts.1.mountPath", "/tmp", "/tmp is another one's too"),  # noqa: S108
    ("Deployment", f"{POD}.terminationGracePeriodSeconds", 5, "raise that"),
    # selectors
    ("Deployment", "spec.selector", {}, "spec.selector is empty"),
    ("Deployment", "spec.selector.matchLabels.a", "b", "spec.selector does not match"),
    (
        "Deployment",
        "spec.selector.matchExpressions",
        [{"key": "slipway.dev/model", "operator": "NotIn", "values": ["iris"]}],
        "spec.selector does not match",
    ),
    (
        "Deployment",
        f"{POD}.topologySpreadConstraints.0.labelSelector",
        {"matchLabels": {"a": "b"}},
        "[topology.kubernetes.io/zone].labelSelector does not match",
    ),
    ("Service", "spec.selector", {"a": "b"}, "spec.selector selects no pods"),
    ("Service", "spec.ports.0.targetPort", "web", "targetPort web is no port of the pods'"),
    ("PodDisruptionBudget", "spec.selector.matchLabels", {"a": "b"}, "selects no pods"),
    # numbers
    ("Deployment", "spec.strategy.rollingUpdate.maxSurge", 0, "allows no pod more and none less"),
    ("Deployment", "spec.progressDeadlineSeconds", 2, "not above minReadySeconds 2"),
    ("HorizontalPodAutoscaler", "spec.minReplicas", 4, "minReplicas is 4, above maxReplicas 3"),
    ("Deployment", "spec.replicas", 2, "spec.replicas would undo it"),
    ("PodDisruptionBudget", "spec.minAvailable", 1, "either minAvailable or maxUnavailable"),
    ("PodDisruptionBudget", "spec.maxUnavailable", GONE, "either minAvailable or maxUnavailable"),
    ("PodDisruptionBudget", "spec.maxUnavailable", 0, "lets no pod be evicted"),
    ("InferenceService", "spec.predictor.minReplicas", 4, "minReplicas is 4, above maxReplicas 3"),
    ("InferenceService", "spec.predictor.canaryTrafficPercent", 101, "is no percentage"),
    # references
    (
        "HorizontalPodAutoscaler",
        "spec.scaleTargetRef.name",
        "x",
        "names Deployment",
    ),
    ("Deployment", f"{POD}.serviceAccountName", "x", "names ServiceAccount slipway-staging/x"),
    ("Deployment", f"{POD}.imagePullSecrets.0.name", "x", "names Secret slipway-staging/x"),
    ("Deployment", f"{POD}.volumes.1.secret", {"secretName": "x"}, "Secret slipway-staging/x"),
    ("Deployment", f"{POD}.volumes.1", {"name": "keys", "configMap": {"name": "x"}}, "ConfigMap"),
    (
        "Deployment",
        f"{POD}.volumes.3.persistentVolumeClaim.claimName",
        "x",
        "PersistentVolumeClaim",
    ),
    ("Deployment", f"{SERVER}.envFrom", [{"configMapRef": {"name": "x"}}], "names ConfigMap"),
    (
        "Deployment",
        f"{SERVER}.env.0",
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "x", "key": "a"}}},
        "env names Secret slipway-staging/x",
    ),
    ("RoleBinding", "roleRef.name", "x", "roleRef names Role slipway-staging/x"),
    ("RoleBinding", "subjects.0.name", "x", "subjects names ServiceAccount slipway-staging/x"),
    ("HTTPRoute", "spec.rules.0.backendRefs.0.name", "x", "names Service slipway-staging/x"),
    ("HTTPRoute", "spec.rules.0.backendRefs.0.port", 80, f"asks port 80 of Service {NAME}, which"),
    ("HTTPRoute", "spec.rules.0.filters.0.requestMirror.backendRef.name", "x", "names Service"),
    ("Ingress", "spec.rules.0.http.paths.0.backend.service.name", "x", "names Service"),
    ("Ingress", "spec.rules.0.http.paths.0.backend.service.port.number", 80, "asks port 80"),
]


@pytest.mark.parametrize(("kind", "path", "value", "expected"), MUTATIONS)
def test_what_was_broken_is_found_and_named(
    kind: str, path: str, value: Any, expected: str
) -> None:
    found = broken(kind, path, value)
    assert [problem for problem in found if expected in problem], found
    assert all(problem.count("\n") == 0 for problem in found)


def test_an_autoscaler_by_cpu_needs_a_request_for_cpu() -> None:
    found = broken("Deployment", f"{SERVER}.resources.requests.cpu", GONE)
    assert any("spec.metrics[cpu] is a share of what each container requests" in it for it in found)


def test_a_problem_names_the_object_the_field_and_the_fix() -> None:
    (found,) = broken("HorizontalPodAutoscaler", "spec.minReplicas", 4)
    assert found == (
        f"HorizontalPodAutoscaler slipway-staging/{NAME}: "
        "spec.minReplicas is 4, above maxReplicas 3: lower it"
    )


def test_two_objects_of_one_name_are_a_problem() -> None:
    objects = whole()
    (found,) = problems([*objects, deepcopy(objects[0])], EXTERNAL)
    assert found.startswith("Namespace slipway-staging: metadata.name is there twice")


def test_what_is_optional_need_not_be_there_and_what_is_provided_by_others_is() -> None:
    found = problems(whole())
    missing = {problem.split(" names ")[1].split(",")[0] for problem in found}
    assert missing == {
        f"Secret slipway-staging/{REGISTRY}",
        f"Secret slipway-staging/{KEYS}",
        "PersistentVolumeClaim slipway-staging/log",
    }
