"""Whether what objects refer to is there: in the set, or with somebody else."""

from collections.abc import Iterator
from typing import Any

from deploy.manifests.catalog import Catalog, Finding, Json, PodTemplate, pod_template

# A field, the kind, the name, and the namespace ('' for an object without one).
_Reference = tuple[str, str, str, str]


def reference_findings(item: Json, catalog: Catalog) -> Iterator[Finding]:
    """All of one object."""
    for field, kind, name, namespace in _references(item):
        if not catalog.has(kind, namespace, name):
            named = f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
            yield field, f"names {named}, which is not there: add it, or correct the name"
    for field, name, namespace, port in _backends(item):
        service = catalog.find("Service", namespace, name)
        ports = [entry.get("port") for entry in service["spec"]["ports"]] if service else []
        names = [entry.get("name") for entry in service["spec"]["ports"]] if service else []
        if service and port not in (*ports, *names):
            yield field, f"asks port {port} of Service {name}, which has {ports[0]}: name that"


def _references(item: Json) -> Iterator[_Reference]:
    namespace = item["metadata"].get("namespace", "")
    if (template := pod_template(item)) is not None:
        yield from _of_pod(template)
    for field, name, of, _ in _backends(item):
        yield field, "Service", name, of
    match item["kind"]:
        case "HorizontalPodAutoscaler":
            target = item["spec"]["scaleTargetRef"]
            yield "spec.scaleTargetRef", target["kind"], target["name"], namespace
        case "RoleBinding":
            role = item["roleRef"]
            of = namespace if role["kind"] == "Role" else ""
            yield "roleRef", role["kind"], role["name"], of
            for subject in item.get("subjects", ()):
                if subject["kind"] == "ServiceAccount":
                    of = subject.get("namespace", namespace)
                    yield "subjects", "ServiceAccount", subject["name"], of


def _of_pod(template: PodTemplate) -> Iterator[_Reference]:
    spec, path, namespace = template.spec, template.path, template.namespace
    if account := spec.get("serviceAccountName"):
        yield f"{path}.serviceAccountName", "ServiceAccount", account, namespace
    for secret in spec.get("imagePullSecrets", ()):
        yield f"{path}.imagePullSecrets", "Secret", secret["name"], namespace
    for volume in spec.get("volumes", ()):
        for kind, name in _of_volume(volume):
            yield f"{path}.volumes[{volume['name']}]", kind, name, namespace
    for field, container in template.containers:
        for kind, name in _of_variables(container):
            yield f"{field}.env", kind, name, namespace


def _of_volume(volume: Json) -> Iterator[tuple[str, str]]:
    if "persistentVolumeClaim" in volume:
        yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    sources = [volume, *volume.get("projected", {}).get("sources", ())]
    for source in sources:
        yield from _required("ConfigMap", source.get("configMap"))
        yield from _required("Secret", source.get("secret"))


def _of_variables(container: Json) -> Iterator[tuple[str, str]]:
    for variable in container.get("env", ()):
        source = variable.get("valueFrom", {})
        yield from _required("ConfigMap", source.get("configMapKeyRef"))
        yield from _required("Secret", source.get("secretKeyRef"))
    for source in container.get("envFrom", ()):
        yield from _required("ConfigMap", source.get("configMapRef"))
        yield from _required("Secret", source.get("secretRef"))


def _required(kind: str, reference: Json | None) -> Iterator[tuple[str, str]]:
    if reference is not None and not reference.get("optional"):
        yield kind, reference.get("secretName") or reference["name"]


def _backends(item: Json) -> Iterator[tuple[str, str, str, Any]]:
    """The Services that a route sends to: field, name, namespace, port (its number or name)."""
    namespace = item["metadata"].get("namespace", "")
    for number, rule in enumerate(item.get("spec", {}).get("rules", ())):
        field = f"spec.rules[{number}]"
        if item["kind"] == "HTTPRoute":
            filters = [one.get("requestMirror") for one in rule.get("filters", ())]
            mirrors = [one["backendRef"] for one in filters if one is not None]
            for backend in [*rule.get("backendRefs", ()), *mirrors]:
                of = backend.get("namespace", namespace)
                yield f"{field}.backendRefs", backend["name"], of, backend.get("port")
        elif item["kind"] == "Ingress":
            for path in rule.get("http", {}).get("paths", ()):
                service = path["backend"]["service"]
                port = service["port"].get("number", service["port"].get("name"))
                yield f"{field}.http.paths", service["name"], namespace, port
