"""Objects of every kind that is checked, without a problem, and with one."""

from copy import deepcopy
from typing import Any

from deploy.events import State
from deploy.manifests.checks import problems
from deploy.manifests.identity import KEYS
from deploy.manifests.kserve import inference_service
from deploy.manifests.names import Json
from serving_config.kubernetes import Kubernetes
from tests.deploy.manifests.settings import configuration, rendered
from tests.deploy.releases import live

GONE = object()
REGISTRY = "registry"
EXTERNAL = (f"Secret/{REGISTRY}", f"Secret/{KEYS}", "PersistentVolumeClaim/log")
NAME = rendered(configuration(), live(3))[-1]["metadata"]["name"]
METADATA = {"name": "iris", "namespace": "slipway-staging"}
ROUTE: Json = {
    "kind": "HTTPRoute",
    "metadata": METADATA,
    "spec": {
        "rules": [
            {
                "backendRefs": [{"name": NAME, "port": 3000}],
                "filters": [{"requestMirror": {"backendRef": {"name": NAME, "port": 3000}}}],
            }
        ]
    },
}
INGRESS: Json = {
    "kind": "Ingress",
    "metadata": METADATA,
    "spec": {
        "rules": [
            {
                "http": {
                    "paths": [{"backend": {"service": {"name": NAME, "port": {"number": 3000}}}}]
                }
            }
        ]
    },
}
ROLE: Json = {"kind": "Role", "metadata": METADATA}
BINDING: Json = {
    "kind": "RoleBinding",
    "metadata": METADATA,
    "roleRef": {"kind": "Role", "name": "iris"},
    "subjects": [{"kind": "ServiceAccount", "name": "model-server"}],
}


def whole() -> list[Json]:
    """Objects without a problem, of every kind that is checked."""
    cluster = Kubernetes(image_pull_secret=REGISTRY, predictions_claim="log")
    settings = configuration(cluster=cluster, cache_url="redis://cache.example/0", target="kserve")
    objects = rendered(settings, live(3))
    state = State("staging", "iris", 1, (live(3, 90), live(4, 10)))
    objects += inference_service(settings, "staging", "iris", state)
    deployment = next(item for item in objects if item["kind"] == "Deployment")
    job = {"spec": {"template": {"spec": deployment["spec"]["template"]["spec"]}}}
    cron_job = {"kind": "CronJob", "metadata": METADATA, "spec": {"jobTemplate": job}}
    return deepcopy([*objects, ROUTE, INGRESS, ROLE, BINDING, cron_job])


def broken(kind: str, path: str, value: Any) -> list[str]:
    """The problems after one change to the first object of the kind."""
    objects = whole()
    where: Any = next(item for item in objects if item["kind"] == kind)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        where = where[part]
    if value is GONE:
        del where[last]
    else:
        where[last] = value
    return problems(objects, EXTERNAL)
