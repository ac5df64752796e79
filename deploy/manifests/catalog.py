"""A set of Kubernetes objects that is checked as a whole: finding what one says of another."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Json = dict[str, Any]
# A field, and what is wrong with it and what to do: the rest of a sentence.
Finding = tuple[str, str]

_SERVING = {"Deployment", "StatefulSet", "DaemonSet", "InferenceService"}


@dataclass(frozen=True)
class PodTemplate:
    """The pods of one object. path: the field of their spec; is_serving: they run for ever."""

    path: str
    namespace: str
    labels: Json
    spec: Json
    is_serving: bool

    @property
    def containers(self) -> Iterator[tuple[str, Json]]:
        """All of them, each with its field."""
        for kind in ("initContainers", "containers"):
            for container in self.spec.get(kind, ()):
                yield f"{self.path}.{kind}[{container['name']}]", container


def pod_template(item: Json) -> PodTemplate | None:
    """None for what starts no pods."""
    kind, spec = item["kind"], item.get("spec", {})
    namespace = item["metadata"].get("namespace", "")
    serves = kind in _SERVING
    if kind == "Pod":
        return PodTemplate("spec", namespace, item["metadata"].get("labels", {}), spec, serves)
    if kind == "InferenceService":
        predictor = spec["predictor"]
        labels = predictor.get("labels", {})
        return PodTemplate("spec.predictor", namespace, labels, predictor, serves)
    path = "spec.template"
    if kind == "CronJob":
        path, spec = "spec.jobTemplate.spec.template", spec["jobTemplate"]["spec"]
    elif kind not in _SERVING | {"Job", "ReplicaSet"}:
        return None
    template = spec["template"]
    labels = template.get("metadata", {}).get("labels", {})
    return PodTemplate(f"{path}.spec", namespace, labels, template["spec"], serves)


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector matches; matchExpressions with In, NotIn, Exists, DoesNotExist."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    return all(_holds(expression, labels) for expression in selector.get("matchExpressions", ()))


def _holds(expression: Json, labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    match expression["operator"]:
        case "In":
            return value in expression["values"]
        case "NotIn":
            return value not in expression["values"]
        case "Exists":
            return value is not None
        case _:
            return value is None


@dataclass(frozen=True)
class Catalog:
    """All objects, and what somebody else provides as `Kind/name`."""

    objects: tuple[Json, ...]
    external: frozenset[str] = frozenset()

    @cached_property
    def _by_name(self) -> dict[tuple[str, str, str], Json]:
        return {
            (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]): item
            for item in self.objects
            if "name" in item["metadata"]
        }

    @cached_property
    def templates(self) -> list[PodTemplate]:
        """The pods of all objects."""
        return [found for item in self.objects if (found := pod_template(item)) is not None]

    def find(self, kind: str, namespace: str, name: str) -> Json | None:
        """The object of that name."""
        return self._by_name.get((kind, namespace, name))

    def has(self, kind: str, namespace: str, name: str) -> bool:
        """Whether it is there, or somebody else provides it."""
        return f"{kind}/{name}" in self.external or self.find(kind, namespace, name) is not None

    def pods(self, namespace: str, selector: Mapping[str, Any]) -> list[PodTemplate]:
        """Those that a LabelSelector selects."""
        return [
            template
            for template in self.templates
            if template.namespace == namespace and selects(selector, template.labels)
        ]
