"""The routes of a cluster's gateway: applied, pruned, and waited for."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import NOT_FOUND

from deploy.cluster.client import Cluster
from deploy.cluster.errors import ClusterError
from deploy.cluster.kinds import words
from deploy.cluster.matching import says
from deploy.gateway.envoy import GatewayError
from deploy.manifests.names import FIELD_MANAGER, Json

# Under these labels is what route objects are, see `deploy.manifests.traffic.route_objects`.
_LABELS = {
    "app.kubernetes.io/managed-by": FIELD_MANAGER,
    "app.kubernetes.io/component": "route",
}
# By the setting `kubernetes.traffic`; those of another one are left from before it was changed.
_KINDS = {"gateway-api": "HTTPRoute", "istio": "VirtualService", "nginx": "Ingress"}
_IN_FORCE = ("Accepted", "ResolvedRefs")


@dataclass(frozen=True)
class ClusterRoutes:
    """traffic: the setting `kubernetes.traffic`. namespaces: where routes may be."""

    cluster: Cluster
    traffic: str
    namespaces: Sequence[str]
    seconds: float
    poll_seconds: float

    def bring(self, objects: Sequence[Json]) -> None:
        """Until these are in force and no other one of ours is; GatewayError where the gateway
        does not take them. New ones first: no request is without a route meanwhile. Those that
        another gateway served by go once this one does."""
        for item in objects:
            self.cluster.apply(item)
        for item in self._stale(objects):
            self.cluster.delete(item)
        self._wait(objects)
        for item in self._of_another_gateway():
            self.cluster.delete(item)

    def are(self, objects: Sequence[Json]) -> bool:
        """Whether these, and no other ones of ours, are in force; not where nobody can say."""
        try:
            found = [self._find(item) for item in objects]
            if any(self._stale(objects)) or any(self._of_another_gateway()):
                return False
        except ClusterError:
            return False
        return all(
            item is not None and says(item, wanted) and _trouble(item) is None
            for item, wanted in zip(found, objects, strict=True)
        )

    def _find(self, item: Json) -> Json | None:
        meta = item["metadata"]
        return self.cluster.find(item["kind"], meta.get("namespace"), meta["name"])

    def _stale(self, objects: Sequence[Json]) -> Iterator[Json]:
        wanted = {words(item) for item in objects}
        for kind in (_KINDS[self.traffic], "Service"):
            for namespace in self.namespaces:
                for item in self.cluster.list(kind, namespace, _LABELS):
                    if words(item) not in wanted:
                        yield item

    def _of_another_gateway(self) -> Iterator[Json]:
        for kind in _KINDS.keys() - {self.traffic}:
            for namespace in self.namespaces:
                try:
                    yield from self.cluster.list(_KINDS[kind], namespace, _LABELS)
                except ClusterError as error:
                    if error.status != NOT_FOUND:  # a cluster without that API has none of them
                        raise

    def _wait(self, objects: Sequence[Json]) -> None:
        """Of a route nobody but its gateway says whether it is in force."""
        waiting = [item for item in objects if item["kind"] == "HTTPRoute"]
        deadline = time.monotonic() + self.seconds
        while waiting:
            found = {words(item): self._find(item) for item in waiting}
            said = {name: _trouble(item) for name, item in found.items()}
            waiting = [item for item in waiting if said[words(item)] is not None]
            if waiting and time.monotonic() > deadline:
                name = words(waiting[0])
                raise GatewayError(f"{name} is not in force after {self.seconds:g} s: {said[name]}")
            if waiting:
                time.sleep(self.poll_seconds)


def _trouble(route: Json | None) -> str | None:
    """Why an HTTPRoute is not in force as it is now; None where it is, and for other kinds.

    https://gateway-api.sigs.k8s.io/reference/spec/#routeparentstatus
    """
    if route is None:
        return "it is gone"
    if "parentRefs" not in route.get("spec", {}):
        return None
    generation = route["metadata"]["generation"]
    parents = route.get("status", {}).get("parents", ())
    if len(parents) < len(route["spec"]["parentRefs"]):
        return "no gateway has taken it: is kubernetes.gateway there, and of a known class?"
    for parent in parents:
        conditions = {item["type"]: item for item in parent.get("conditions", ())}
        for kind in _IN_FORCE:
            said = conditions.get(kind)
            if said is None or said.get("observedGeneration", 0) < generation:
                return f"the gateway has not said yet whether it is {kind}"
            if said["status"] != "True":
                return f"not {kind} ({said.get('reason')}): {said.get('message', '')}"
    return None
