"""Questions to the pods of a model server.

Within the cluster a pod is asked at its own address: the network policies let the platform's
namespace in. From outside no such address is reachable, so the API server asks it for us, with the
caller's right to `get pods/proxy`; a network policy has to let the API server in for that.
"""

from collections.abc import Mapping

import httpx

from deploy.cluster.client import Cluster
from deploy.cluster.errors import ClusterError
from deploy.gateway.envoy import NO_TLS
from deploy.manifests.names import PORT, Json
from deploy.targets.base import TargetError

_SECONDS = 5.0
_MAX_BYTES = 8 << 20
_NONE: Mapping[str, str] = {}


def ask(cluster: Cluster, pod: Json, path: str, headers: Mapping[str, str] = _NONE) -> str:
    """What a pod answers with 200; TargetError, with its words, for anything else."""
    name = pod["metadata"]["name"]
    try:
        if not cluster.inside:
            content = cluster.through_proxy(pod, path, headers)
        else:
            content = _directly(pod, path, headers)
    except (httpx.HTTPError, ClusterError) as error:
        raise TargetError(f"pod {name} does not answer {path}: {error}") from error
    if len(content) > _MAX_BYTES:
        raise TargetError(f"pod {name} answers {path} with more than {_MAX_BYTES} bytes")
    return content.decode(errors="replace")


def _directly(pod: Json, path: str, headers: Mapping[str, str]) -> bytes:
    address = pod.get("status", {}).get("podIP")
    if not address:
        raise TargetError(f"pod {pod['metadata']['name']} has no address yet")
    host = f"[{address}]" if ":" in address else address
    url = f"http://{host}:{PORT}{path}"
    answer = httpx.get(url, headers=dict(headers), timeout=_SECONDS, verify=NO_TLS, trust_env=False)
    if answer.status_code != httpx.codes.OK:
        raise TargetError(f"{url} answers {answer.status_code}: {answer.text[:500]}")
    return answer.content


def is_ready(pod: Json) -> bool:
    """Whether the pod gets requests: it is ready, and not on its way out."""
    conditions = pod.get("status", {}).get("conditions", ())
    ready = any((item["type"], item["status"]) == ("Ready", "True") for item in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def is_running(pod: Json) -> bool:
    """Whether its server may answer, ready or not."""
    return bool(pod.get("status", {}).get("phase") == "Running")
