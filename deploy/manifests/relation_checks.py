"""What is wrong between objects: selectors, ports, and numbers that have to agree."""

from collections.abc import Iterator

from deploy.manifests.catalog import Catalog, Finding, Json, PodTemplate, pod_template, selects


def relation_findings(item: Json, catalog: Catalog) -> Iterator[Finding]:
    """All of one object."""
    match item["kind"]:
        case "Deployment" | "StatefulSet" | "DaemonSet":
            yield from _selector(item)
            yield from _rollout(item["spec"])
        case "Service":
            yield from _service(item, catalog)
        case "HorizontalPodAutoscaler":
            yield from _autoscaler(item, catalog)
        case "PodDisruptionBudget":
            yield from _disruption_budget(item, catalog)
        case "InferenceService":
            yield from _inference_service(item["spec"]["predictor"])


def _namespace(item: Json) -> str:
    return str(item["metadata"].get("namespace", ""))


def _selector(item: Json) -> Iterator[Finding]:
    template = pod_template(item)
    selector = item["spec"].get("selector", {})
    if template is None:
        return
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield "spec.selector", "is empty: select the template's labels"
    elif not selects(selector, template.labels):
        yield "spec.selector", "does not match spec.template.metadata.labels: make them agree"
    for spread in template.spec.get("topologySpreadConstraints", ()):
        if not selects(spread.get("labelSelector", {}), template.labels):
            field = f"{template.path}.topologySpreadConstraints[{spread['topologyKey']}]"
            yield f"{field}.labelSelector", "does not match the pods' own labels: make them agree"


def _rollout(spec: Json) -> Iterator[Finding]:
    rolling = spec.get("strategy", {}).get("rollingUpdate", {})
    if {str(rolling.get(name, 1)) for name in ("maxUnavailable", "maxSurge")} <= {"0", "0%"}:
        yield "spec.strategy.rollingUpdate", "allows no pod more and none less: set maxSurge 1"
    ready, deadline = spec.get("minReadySeconds", 0), spec.get("progressDeadlineSeconds", 600)
    if deadline <= ready:
        text = f"is {deadline}, not above minReadySeconds {ready}: raise it"
        yield "spec.progressDeadlineSeconds", text


def _service(item: Json, catalog: Catalog) -> Iterator[Finding]:
    spec = item["spec"]
    if spec.get("type") == "ExternalName" or "selector" not in spec:
        return
    pods = catalog.pods(_namespace(item), {"matchLabels": spec["selector"]})
    if not pods:
        yield "spec.selector", "selects no pods of this namespace: make it agree with their labels"
    for port in spec.get("ports", ()):
        target = port.get("targetPort", port["port"])
        if pods and not all(target in _container_ports(template) for template in pods):
            text = f"{target} is no port of the pods' containers: name one of theirs"
            yield f"spec.ports[{port['port']}].targetPort", text


def _container_ports(template: PodTemplate) -> set[object]:
    ports = [port for _, item in template.containers for port in item.get("ports", ())]
    return {port["containerPort"] for port in ports} | {port.get("name") for port in ports}


def _autoscaler(item: Json, catalog: Catalog) -> Iterator[Finding]:
    spec = item["spec"]
    minimum, maximum = spec.get("minReplicas", 1), spec["maxReplicas"]
    if minimum > maximum:
        yield "spec.minReplicas", f"is {minimum}, above maxReplicas {maximum}: lower it"
    target = spec["scaleTargetRef"]
    scaled = catalog.find(target["kind"], _namespace(item), target["name"])
    if scaled is None:
        return
    if "replicas" in scaled["spec"]:
        text = f"scales {target['name']}, whose spec.replicas would undo it: leave that out"
        yield "spec.scaleTargetRef", text
    template = pod_template(scaled)
    for metric in spec.get("metrics", ()):
        name = metric.get("resource", {}).get("name")
        if name and template is not None and not _requested(name, template):
            yield f"spec.metrics[{name}]", "is a share of what each container requests: request it"


def _requested(resource: str, template: PodTemplate) -> bool:
    containers = template.spec["containers"]
    return all(resource in one.get("resources", {}).get("requests", {}) for one in containers)


def _disruption_budget(item: Json, catalog: Catalog) -> Iterator[Finding]:
    spec = item["spec"]
    if not catalog.pods(_namespace(item), spec.get("selector", {})):
        yield "spec.selector", "selects no pods of this namespace: make it agree with their labels"
    if ("minAvailable" in spec) == ("maxUnavailable" in spec):
        yield "spec", "has to have either minAvailable or maxUnavailable: set maxUnavailable 1"
    if str(spec.get("maxUnavailable", 1)) in ("0", "0%") or spec.get("minAvailable") == "100%":
        yield "spec", "lets no pod be evicted, so no node can be drained: set maxUnavailable 1"


def _inference_service(predictor: Json) -> Iterator[Finding]:
    minimum, maximum = predictor.get("minReplicas", 1), predictor.get("maxReplicas", 0)
    if maximum and minimum > maximum:
        yield "spec.predictor.minReplicas", f"is {minimum}, above maxReplicas {maximum}: lower it"
    if not 0 <= predictor.get("canaryTrafficPercent", 0) <= 100:
        yield "spec.predictor.canaryTrafficPercent", "is no percentage: write 0 to 100"
