"""The KServe target: one InferenceService for each environment and model, of the same image.

KServe shares traffic between the revision of the object as it is, the candidate, and the one that
had all traffic before. Which server the object describes is an annotation of it.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

from deploy.cluster.errors import ClusterError
from deploy.cluster.matching import says
from deploy.events import Live, State
from deploy.gateway.envoy import GatewayError
from deploy.gateway.routes import cluster_name
from deploy.live import configured
from deploy.manifests.kserve import inference_service
from deploy.manifests.names import FIELD_MANAGER, Json, namespace, object_name
from deploy.release import Release
from deploy.targets.base import Endpoint, TargetError
from deploy.targets.cluster import ClusterTarget
from deploy.targets.inference_waiting import judge_service
from deploy.targets.waiting import Judgement

# The servers that the object has, the one that it describes first.
_SERVERS = "slipway.dev/servers"
_LABELS = {
    "app.kubernetes.io/managed-by": FIELD_MANAGER,
    "app.kubernetes.io/component": "model-server",
}
_ROUTE_SECONDS = 60.0


@dataclass(frozen=True)
class KServeTarget(ClusterTarget):
    """See `deploy.targets.base.Target`."""

    def servers(self) -> dict[str, str]:
        """All versions of one model have one address; KServe shares out what comes there."""
        found: dict[str, str] = {}
        for service in self._services():
            meta = service["metadata"]
            address = f"{meta['name']}-predictor.{meta['namespace']}.svc:80"
            found |= dict.fromkeys(_servers(service), address)
        return found

    def _services(self) -> Iterator[Json]:
        for where in self._namespaces:
            for item in self.cluster.list("InferenceService", where, _LABELS):
                if item["metadata"]["labels"]["slipway.dev/environment"] in self.environments:
                    yield item

    def _service(self, environment: str, model: str) -> Json | None:
        where = namespace(self.configuration.environments[environment])
        return self.cluster.find("InferenceService", where, object_name(model))

    def start(self, release: Release, environment: str) -> str:
        """As a candidate without traffic beside what is live, or alone."""
        model, mine = release.model, release.live()
        name = cluster_name(environment, model, mine)
        service = self._service(environment, model)
        if service is not None and name in _servers(service):
            return name
        others = [live for live in self.ledger.state(environment, model).live if live != mine]
        if others:
            mine = mine.with_share(0)
        state = State(environment, model, live=(mine, *others))
        self._prepare(environment)
        self._apply(state, mine)
        return name

    def _apply(self, state: State, described: Live, *, without_traffic: bool = False) -> None:
        for item in self._rendered(state, described, without_traffic=without_traffic):
            self.cluster.apply(item)

    def _rendered(
        self, state: State, described: Live, *, without_traffic: bool = False
    ) -> list[Json]:
        """without_traffic: what had all traffic before keeps it, whatever the state says."""
        try:
            objects = inference_service(
                self.configuration, state.environment, state.model, state, described.label
            )
        except ValueError as error:
            raise TargetError(str(error)) from error
        names = [cluster_name(state.environment, state.model, live) for live in state.live]
        first = cluster_name(state.environment, state.model, described)
        names = [first, *(name for name in names if name != first)]
        for item in objects:
            notes = item["metadata"].get("annotations", {}) | {_SERVERS: json.dumps(names)}
            item["metadata"] = item["metadata"] | {"annotations": notes}
            if without_traffic:
                item["spec"]["predictor"]["canaryTrafficPercent"] = 0
        return objects

    def wait_ready(self, name: str, release: Release, environment: str) -> None:
        """Until KServe says so of the newest generation, and its pods serve that release."""
        seconds = self.configuration.environments[environment].ready_timeout_seconds
        look = self._wait(name, environment, release.model, seconds)
        if look.state != "ready":
            raise TargetError(f"{release.tag} did not get ready in {environment}: {look.reason}")
        self._require_digests(name, release)

    def _wait(self, name: str, environment: str, model: str, seconds: float) -> Judgement:
        deadline = time.monotonic() + seconds
        while True:
            service = self._service(environment, model)
            if service is None or name not in _servers(service):
                raise TargetError(f"{name} is gone: another rollout has removed it; try again")
            look = judge_service(service, self.pods(name))
            if look.state != "waiting":
                return look
            if time.monotonic() > deadline:
                return Judgement("failed", f"{look.reason} (within {seconds:g} s)")
            time.sleep(self.poll_seconds)

    def ready(self, name: str) -> bool:
        """Whether KServe knows it. Without requests Knative may have no pod of it."""
        try:
            return name in self.servers()
        except TargetError:
            return False

    def route(self) -> None:
        """The candidates' shares, until KServe has taken them."""
        for state, service in self._states():
            wanted = self._wanted(state, service)
            for item in wanted:
                self.cluster.apply(item)
            if wanted:
                self._wait_routed(state)

    def require_routable(self, state: State) -> None:
        """See `Target.require_routable`."""
        if state.environment not in self.environments:
            return
        try:
            inference_service(self.configuration, state.environment, state.model, state)
        except ValueError as error:
            raise TargetError(str(error)) from error

    def in_step(self) -> bool:
        """See `Target.in_step`."""
        try:
            return all(
                service is not None and says(service, item)
                for state, service in self._states()
                for item in self._wanted(state, service)
            )
        except ClusterError:
            return False

    def _states(self) -> Iterator[tuple[State, Json | None]]:
        for (environment, model), state in configured(
            self.ledger.states(), self.configuration
        ).items():
            if environment in self.environments and state.live:
                yield state, self._service(environment, model)

    def _wanted(self, state: State, service: Json | None) -> list[Json]:
        """The object as the ledger has it. One that describes a version which is not live, for it
        is being started or was rolled back from, has no traffic until it is stopped."""
        by_name = {cluster_name(state.environment, state.model, live): live for live in state.live}
        described = next(iter(_servers(service)), None) if service else None
        if described in by_name or service is None:
            return self._rendered(state, by_name.get(described or "", max(state.live)))
        if service["spec"]["predictor"].get("canaryTrafficPercent") == 0:
            return []
        events = self.ledger.events(state.model, state.environment)
        former = {
            cluster_name(state.environment, state.model, live): live
            for event in events
            for live in event.live
        }
        if described not in former:
            return []
        left = former[described].with_share(0)
        return self._rendered(State(state.environment, state.model, live=(left, *state.live)), left)

    def _wait_routed(self, state: State) -> None:
        name = next(iter(_servers(self._service(state.environment, state.model) or {})), "")
        look = self._wait(name, state.environment, state.model, _ROUTE_SECONDS)
        if look.state != "ready":
            raise GatewayError(f"KServe did not take the shares of {state.model}: {look.reason}")

    def endpoint(self, environment: str, model: str, live: Live | None) -> Endpoint:
        """By the address that KServe gives the model; of a version, the one with its tag."""
        service = self._service(environment, model)
        status = (service or {}).get("status", {})
        url = status.get("url")
        if live is not None and service is not None:
            name = cluster_name(environment, model, live)
            servers = _servers(service)
            if name not in servers:
                raise TargetError(f"{name} is not running")
            if len(servers) > 1:
                traffic = status.get("components", {}).get("predictor", {}).get("traffic", ())
                tag = "latest" if name == servers[0] else "prev"
                url = next((item.get("url") for item in traffic if item.get("tag") == tag), None)
        if url is None:
            raise TargetError(f"KServe gives no address for {model} in {environment}")
        return Endpoint(url, self._headers(environment))

    def _remove(self, name: str) -> None:
        service = next((item for item in self._services() if name in _servers(item)), None)
        if service is None:
            return
        meta = service["metadata"]
        environment = meta["labels"]["slipway.dev/environment"]
        model = next(
            item for item in self.configuration.models if object_name(item) == meta["name"]
        )
        state = self.ledger.state(environment, model)
        self._counters.forget(name, meta["namespace"])
        if not state.live:
            self.cluster.delete(service)
            return
        stays = max(state.live, key=lambda live: (live.weight, live))
        if name == _servers(service)[0]:
            # The revision of what stays, anew: the one before serves until it is ready.
            self._apply(state, stays, without_traffic=True)
            self._wait_routed(state)
        self._apply(state, stays)


def _servers(service: Json) -> list[str]:
    text = service.get("metadata", {}).get("annotations", {}).get(_SERVERS, "[]")
    return [str(name) for name in json.loads(text)]
