"""The Kubernetes target: each live version is a Deployment, behind the cluster's own gateway."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from deploy.cluster.errors import ClusterError, ForeignManagerError
from deploy.cluster.pods import ask, is_ready, is_running
from deploy.events import Live, State
from deploy.gateway.routes import cluster_name
from deploy.live import configured
from deploy.manifests.names import FIELD_MANAGER, PORT, Json, namespace, object_name, selector
from deploy.manifests.traffic import route_objects
from deploy.manifests.workload import server_objects
from deploy.release import Release
from deploy.targets.base import Endpoint, TargetError
from deploy.targets.cluster import ClusterTarget
from deploy.targets.cluster_routes import ClusterRoutes
from deploy.targets.local import routing
from deploy.targets.waiting import Judgement, Words, judge

# On each Deployment: the server's name, of which the Deployment's may be a shorter one.
_SERVER = "slipway.dev/server"
_ROUTE_SECONDS = 30.0
_LAST_LINES = 20
_LABELS = {
    "app.kubernetes.io/managed-by": FIELD_MANAGER,
    "app.kubernetes.io/component": "model-server",
}
# A server is known by its Deployment, which therefore is made first and goes last.
_BESIDE = ("HorizontalPodAutoscaler", "PodDisruptionBudget", "Service")


@dataclass(frozen=True)
class KubernetesTarget(ClusterTarget):
    """See `deploy.targets.base.Target`."""

    def servers(self) -> dict[str, str]:
        """See `Target.servers`; those that are being deleted are none."""
        return {
            name: f"{item['metadata']['name']}.{item['metadata']['namespace']}.svc:{PORT}"
            for name, item in self._deployments()
        }

    def _deployments(self) -> Iterator[tuple[str, Json]]:
        for where in self._namespaces:
            for item in self.cluster.list("Deployment", where, _LABELS):
                meta = item["metadata"]
                name = meta.get("annotations", {}).get(_SERVER)
                environment = meta["labels"].get("slipway.dev/environment")
                if name and "deletionTimestamp" not in meta and environment in self.environments:
                    yield name, item

    def start(self, release: Release, environment: str) -> str:
        """Apply what the environment and the server need; what is there already stays."""
        live = release.live()
        name = cluster_name(environment, release.model, live)
        objects = self._server_objects(environment, release.model, live)
        self._prepare(environment)
        where = namespace(self.configuration.environments[environment])
        found = self.cluster.find("Deployment", where, object_name(name))
        if found is not None and "deletionTimestamp" in found["metadata"]:
            self._wait_gone(name, found)
            found = None
        for item in objects:
            if item["kind"] == "Deployment":
                notes = item["metadata"].get("annotations", {}) | {_SERVER: name}
                item["metadata"] = item["metadata"] | {"annotations": notes}
            self.cluster.apply(item)
        if found is None:
            self._begin_with(self._minimum(environment), objects[0])
        return name

    def _minimum(self, environment: str) -> int:
        return self.configuration.environments[environment].kubernetes.replicas.minimum

    def _begin_with(self, pods: int, deployment: Json) -> None:
        """The autoscaler would bring it there too, a while later. By a manager of its own, since a
        field that the same one leaves out the next time goes back to one pod.

        https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership
        """
        scale = {key: deployment[key] for key in ("apiVersion", "kind")}
        meta = {key: deployment["metadata"][key] for key in ("name", "namespace")}
        if pods > 1:
            wanted = scale | {"metadata": meta, "spec": {"replicas": pods}}
            with suppress(ForeignManagerError):  # the autoscaler was faster
                self.cluster.apply(wanted, f"{FIELD_MANAGER}-start")

    def wait_ready(self, name: str, release: Release, environment: str) -> None:
        """Until the Deployment has all its pods, of its newest generation and no fewer than it is
        to have at least, and each of them serves exactly that release."""
        seconds = self.configuration.environments[environment].ready_timeout_seconds
        deadline = time.monotonic() + seconds
        while (look := self._look(name, environment)).state == "waiting":
            if time.monotonic() > deadline:
                look = Judgement("failed", f"{look.reason} (within {seconds:g} s)", look.words)
                break
            time.sleep(self.poll_seconds)
        if look.state == "failed":
            said = look.reason + self._last_words(look.words)
            raise TargetError(f"{release.tag} did not get ready in {environment}: {said}")
        self._require_digests(name, release)

    def _look(self, name: str, environment: str) -> Judgement:
        where = namespace(self.configuration.environments[environment])
        deployment = self.cluster.find("Deployment", where, object_name(name))
        if deployment is None or "deletionTimestamp" in deployment["metadata"]:
            raise TargetError(f"{name} is gone: another rollout has removed it; try again")
        labels = selector(object_name(name))
        pods = self.cluster.list("Pod", where, labels)
        sets = self.cluster.list("ReplicaSet", where, labels)
        look = judge(deployment, sets, pods, self._minimum(environment))
        return self._refusal(pods) or look if look.state == "waiting" else look

    def _refusal(self, pods: list[Json]) -> Judgement | None:
        """A server that runs and refuses its model will not change its mind."""
        for pod in pods:
            if is_running(pod) and not is_ready(pod):
                try:
                    ask(self.cluster, pod, "/ready")
                except TargetError as error:
                    if "model-refused" in str(error):
                        return Judgement("failed", str(error))
        return None

    def _last_words(self, words: Words | None) -> str:
        """The last line of a container's log, of its run that ended where there is one."""
        if words is None:
            return ""
        for previous in (True, False):
            try:
                text = self.cluster.logs(words.pod, words.container, _LAST_LINES, previous=previous)
            except ClusterError:
                continue
            if lines := text.strip().splitlines():
                return f"; its last words: {lines[-1][:300]}"
        return "; it has left no last words"

    def ready(self, name: str) -> bool:
        """Whether a pod gets requests."""
        try:
            return any(map(is_ready, self.pods(name)))
        except TargetError:
            return False

    @property
    def _routes(self) -> ClusterRoutes:
        platform = self.configuration.platform.kubernetes
        spaces = sorted({*self._namespaces, platform.namespace})
        return ClusterRoutes(
            self.cluster, platform.traffic, spaces, _ROUTE_SECONDS, self.poll_seconds
        )

    def route(self) -> None:
        """How far live versions may grow, then the routes; also those of environments in which
        nothing was ever live, which are to say so."""
        for environment in self.environments:
            if not self._has_namespace(namespace(self.configuration.environments[environment])):
                self._prepare(environment)
        wanted = self._wanted_routes()
        for item in self._autoscalers():
            self.cluster.apply(item)
        self._routes.bring(wanted)

    def require_routable(self, state: State) -> None:
        """See `Target.require_routable`."""
        self._wanted_routes(state)

    def in_step(self) -> bool:
        """See `Target.in_step`."""
        try:
            wanted = self._wanted_routes()
        except TargetError:
            return False
        return self._routes.are(wanted)

    def _wanted_routes(self, coming: State | None = None) -> list[Json]:
        """coming: instead of what the ledger has of it."""
        try:
            given = routing(self.configuration, self.ledger, coming)
            return route_objects(given, self.configuration)
        except ValueError as error:
            raise TargetError(str(error)) from error

    def _autoscalers(self) -> Iterator[Json]:
        states = configured(self.ledger.states(), self.configuration)
        for (environment, model), state in states.items():
            for live in state.live if environment in self.environments else ():
                for item in self._server_objects(environment, model, live):
                    if item["kind"] == _BESIDE[0]:
                        yield item

    def _server_objects(self, environment: str, model: str, live: Live) -> list[Json]:
        try:
            return server_objects(self.configuration, environment, model, live)
        except ValueError as error:
            raise TargetError(str(error)) from error

    def endpoint(self, environment: str, model: str, live: Live | None) -> Endpoint:
        """Through the cluster's gateway, with the platform's own key."""
        settings = self.configuration.platform.kubernetes
        if settings.url is None:
            raise TargetError(
                "kubernetes.url in platform.yaml (or SLIPWAY_CLUSTER_GATEWAY_URL) is not set: "
                "it says where the platform reaches the cluster's gateway"
            )
        headers = self._headers(environment)
        if settings.hostnames:
            headers["Host"] = settings.hostnames[0].replace("*", "slipway")
        if live is not None:
            headers["X-Model-Version"] = live.label
        return Endpoint(f"{settings.url.rstrip('/')}/models/{model}", headers)

    def _remove(self, name: str) -> None:
        """The Deployment last: until then the server is found, and removed, again."""
        deployment = dict(self._deployments()).get(name)
        if deployment is None:
            return
        meta = deployment["metadata"]
        for kind in _BESIDE:
            item = self.cluster.find(kind, meta["namespace"], meta["name"])
            if item is not None:
                self.cluster.delete(item)
        self._counters.forget(name, meta["namespace"])
        self.cluster.delete(deployment)
        self._wait_gone(name, deployment)

    def _wait_gone(self, name: str, deployment: Json) -> None:
        """Whoever starts it anew must not find the one that is going."""
        pod = deployment["spec"]["template"]["spec"]
        seconds = pod.get("terminationGracePeriodSeconds", 30) + 30
        deadline = time.monotonic() + seconds
        meta = deployment["metadata"]
        while (found := self.cluster.find("Deployment", meta["namespace"], meta["name"])) and (
            found["metadata"]["uid"] == meta["uid"]
        ):
            if time.monotonic() > deadline:
                raise TargetError(f"{name} is still being deleted after {seconds:g} s")
            time.sleep(self.poll_seconds)
