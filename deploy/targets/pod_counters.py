"""What all pods of a server have counted, also those that have gone.

An autoscaler takes pods away at any time, and with them what they have counted. A sum over the
pods that are left would fall, which reads as a restart: everything ever counted would count
anew. So a ConfigMap beside the server keeps what was last seen of each pod, for all replicas of
the platform; what a pod has counted between the last look that was kept and its end is lost.
"""

import threading
import time
from collections.abc import Iterable, Mapping
from functools import reduce

import msgspec

from deploy.analysis.counting import added, at_least
from deploy.cluster.client import Cluster
from deploy.cluster.errors import MovedError
from deploy.events import Counters
from deploy.manifests.names import FIELD_MANAGER, Json, object_name

_KEPT_SECONDS = 5.0
_MOST_GONE = 1000
_FIELD = "counted"


class _Record(msgspec.Struct):
    """gone: the sum of pods that are no more, and `ended` which those are. seen: by pod."""

    gone: Counters = Counters()
    ended: list[str] = []
    seen: dict[str, Counters] = {}


class PodCounters:
    """Of all servers of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._kept_at: dict[str, float] = {}
        self._last: dict[str, Counters] = {}
        self._lock = threading.Lock()

    def total(
        self, name: str, namespace: str, counted: Mapping[str, Counters], present: Iterable[str]
    ) -> Counters:
        """All that the server has counted.

        counted: what was just read, by a pod's `instance`. present: all instances that are there;
        of one that could not be read, what was seen last counts.
        """
        item = self._cluster.find("ConfigMap", namespace, _name(name))
        before = _read(item)
        record = _followed(before, counted, set(present))
        moved = (record.ended, record.seen.keys()) != (before.ended, before.seen.keys())
        due = time.monotonic() >= self._kept_at.get(name, 0) + _KEPT_SECONDS
        if moved or (due and record != before):
            self._keep(name, namespace, item, record)
        total = reduce(added, record.seen.values(), record.gone)
        with self._lock:
            total = self._last[name] = at_least(total, self._last.get(name, Counters()))
        return total

    def _keep(self, name: str, namespace: str, item: Json | None, record: _Record) -> None:
        data = {_FIELD: msgspec.json.encode(record).decode()}
        try:
            if item is None:
                self._cluster.create(_config_map(name, namespace) | {"data": data})
            else:
                self._cluster.replace(item | {"data": data})
        except MovedError:  # another replica has just kept its look
            return
        self._kept_at[name] = time.monotonic()

    def forget(self, name: str, namespace: str) -> None:
        """The server is being removed."""
        item = self._cluster.find("ConfigMap", namespace, _name(name))
        if item is not None:
            self._cluster.delete(item)
        self._last.pop(name, None)


def instance(pod: Json) -> str:
    """One life of a pod's containers: the next one counts from zero."""
    statuses = pod.get("status", {}).get("containerStatuses", ())
    return f"{pod['metadata']['uid']}:{sum(item.get('restartCount', 0) for item in statuses)}"


def _followed(before: _Record, counted: Mapping[str, Counters], present: set[str]) -> _Record:
    ended = [key for key in before.seen if key not in present]
    gone = reduce(added, (before.seen[key] for key in ended), before.gone)
    seen = {key: item for key, item in before.seen.items() if key in present}
    for key, item in counted.items():
        if key in before.ended:  # another replica already knows better
            continue
        seen[key] = at_least(item, seen.get(key, Counters()))
    return _Record(gone, [*before.ended, *ended][-_MOST_GONE:], seen)


def _read(item: Json | None) -> _Record:
    text = (item or {}).get("data", {}).get(_FIELD)
    try:
        return _Record() if text is None else msgspec.json.decode(text, type=_Record)
    except msgspec.DecodeError:  # somebody has edited it
        return _Record()


def _name(name: str) -> str:
    return object_name(f"counted-{name}")


def _config_map(name: str, namespace: str) -> Json:
    meta = {
        "name": _name(name),
        "namespace": namespace,
        "labels": {"app.kubernetes.io/managed-by": FIELD_MANAGER},
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}
