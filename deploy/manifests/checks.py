"""What is wrong with a set of Kubernetes objects, though each keeps to its schema.

The schema knows types and names of fields. It does not see that a selector selects nothing, that a
minimum lies above its maximum, or that a Secret is nowhere.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import chain

from deploy.manifests.catalog import Catalog, Finding, Json, pod_template
from deploy.manifests.pod_checks import pod_findings
from deploy.manifests.reference_checks import reference_findings
from deploy.manifests.relation_checks import relation_findings

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_LABEL.pattern}(\.{_LABEL.pattern})*")
# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
_PART = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_KEY = re.compile(rf"({_SUBDOMAIN.pattern}/)?{_PART}")
_VALUE = re.compile(rf"({_PART})?")
# Their names become host names; of the others they are DNS subdomains.
_HOSTS = {"Namespace", "Service", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"}


def problems(objects: Sequence[Json], external: Collection[str] = ()) -> list[str]:
    """One sentence each: kind, namespace and name of the object, the field, and what to do.

    external: `Kind/name` of what the objects may refer to and somebody else provides.
    """
    catalog = Catalog(tuple(objects), frozenset(external))
    found = [
        f"{where(item)}: {field} {text}"
        for item in objects
        for field, text in chain(
            _metadata_findings(item),
            _pod_findings(item),
            relation_findings(item, catalog),
            reference_findings(item, catalog),
        )
    ]
    counts = Counter(where(item) for item in objects)
    twice = [name for name, count in counts.items() if count > 1]
    return found + [f"{name}: metadata.name is there twice: leave one out" for name in twice]


def where(item: Json) -> str:
    """How a problem names an object."""
    metadata = item["metadata"]
    place = f"{metadata['namespace']}/" if "namespace" in metadata else ""
    return f"{item['kind']} {place}{metadata.get('name') or metadata.get('generateName')}"


def _metadata_findings(item: Json) -> Iterator[Finding]:
    metadata = item["metadata"]
    name = str(metadata.get("name", ""))
    if item["kind"] in _HOSTS:
        if not _LABEL.fullmatch(name):
            yield "metadata.name", "is no DNS label: at most 63 of a-z, 0-9 and -, none at an end"
    elif not _SUBDOMAIN.fullmatch(name) or len(name) > 253:
        yield "metadata.name", "is no DNS subdomain: at most 253 of a-z, 0-9, - and ."
    if "namespace" in metadata and not _LABEL.fullmatch(metadata["namespace"]):
        yield "metadata.namespace", "is no DNS label: at most 63 of a-z, 0-9 and -, none at an end"
    template = pod_template(item)
    fields = {"metadata.labels": metadata.get("labels", {})}
    if template is not None:
        fields[f"{template.path}.labels"] = template.labels
    for field, labels in fields.items():
        for key, value in labels.items():
            if not _KEY.fullmatch(key):
                yield f"{field}[{key}]", "is no label's key: write prefix/name"
            if not isinstance(value, str) or not _VALUE.fullmatch(value):
                yield f"{field}[{key}]", f"cannot be {value!r}: at most 63 letters, digits, -_."
    for key, value in metadata.get("annotations", {}).items():
        if not _KEY.fullmatch(key) or not isinstance(value, str):
            yield f"metadata.annotations[{key}]", "is no annotation: write prefix/name, and a text"


def _pod_findings(item: Json) -> Iterator[Finding]:
    template = pod_template(item)
    if template is not None:
        yield from pod_findings(template)
