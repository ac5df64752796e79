"""What both ways to run model servers on a cluster have in common: pods are asked, routes are
applied, and who starts or stops a server is known to all replicas of the platform."""

import re
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from http.client import FORBIDDEN

import msgspec

from deploy.analysis.agreement import Agreement
from deploy.cluster.client import Cluster
from deploy.cluster.errors import ClusterError
from deploy.cluster.leases import Leases
from deploy.cluster.pods import ask, is_ready
from deploy.events import Counters
from deploy.home import Home
from deploy.keys import platform_headers
from deploy.ledger import Ledger
from deploy.live import live_clusters
from deploy.manifests.environment import environment_objects
from deploy.manifests.names import Json, namespace, object_name, selector
from deploy.release import Release
from deploy.targets.base import TargetError
from deploy.targets.metrics_text import answers, counters, in_hand
from deploy.targets.pod_counters import PodCounters, instance
from serving_config.schema import Configuration, Environment

_NO_SETTINGS = Environment(name="none")


@dataclass(frozen=True)
class ClusterTarget:
    """The environments of `configuration` that run on one cluster, in the same way.

    poll_seconds: between two looks at something that is waited for.
    """

    home: Home
    configuration: Configuration
    ledger: Ledger
    cluster: Cluster
    environments: Sequence[str]
    poll_seconds: float = 1.0
    leases: Leases = field(init=False)

    def __post_init__(self) -> None:
        platform = self.configuration.platform.kubernetes.namespace
        object.__setattr__(self, "leases", Leases(self.cluster, platform))

    @cached_property
    def _counters(self) -> PodCounters:
        return PodCounters(self.cluster)

    @property
    def _namespaces(self) -> list[str]:
        """Of the environments; several may share one."""
        settings = self.configuration.environments
        return sorted({namespace(settings[name]) for name in self.environments})

    def _prepare(self, environment: str) -> None:
        """What an environment has once. Its namespace is made where there is none: whoever may
        deploy in one may not change it, nor always look at it."""
        where = namespace(self.configuration.environments[environment])
        for item in environment_objects(self.configuration, environment):
            if item["kind"] != "Namespace" or not self._has_namespace(where):
                self.cluster.apply(item)

    def _has_namespace(self, name: str) -> bool:
        """Where that is forbidden to say it may be there: what is applied in it next tells."""
        try:
            return self.cluster.find("Namespace", None, name) is not None
        except ClusterError as error:
            if error.status != FORBIDDEN:
                raise
            return True

    def hold(self, name: str) -> AbstractContextManager[None]:
        """See `Target.hold`; what a killed process held is free after `leases.SECONDS`."""
        return self.leases.holding(name)

    def stop(self, name: str) -> None:
        """See `Target.stop`; until its pods have gone."""
        with self.leases.alone(name) as is_free:
            if is_free and name not in live_clusters(self.ledger):
                self._remove(name)
        self.leases.sweep()

    def _remove(self, name: str) -> None:
        raise NotImplementedError

    def pods(self, name: str) -> list[Json]:
        """All that are there, ready or not."""
        labels, settings = selector(object_name(name)), self.configuration.environments
        places = {
            namespace(settings[environment])
            for environment in self.environments
            if re.search(rf"-{re.escape(environment)}-[0-9a-f]{{8}}$", name)
        }
        return [pod for where in places for pod in self.cluster.list("Pod", where, labels)]

    def drain(self, name: str, environment: str) -> None:
        """Until no pod has a request in hand, or the environment's drain time-out. What the
        gateway still sends meanwhile is answered: a pod goes on for a while when it is stopped."""
        settings = self.configuration.environments.get(environment, _NO_SETTINGS)
        deadline = time.monotonic() + settings.drain_timeout_seconds
        while self._is_busy(name) and time.monotonic() < deadline:
            time.sleep(self.poll_seconds)

    def _is_busy(self, name: str) -> bool:
        try:
            pods = [pod for pod in self.pods(name) if is_ready(pod)]
            return any(in_hand(ask(self.cluster, pod, "/metrics")) > 0 for pod in pods)
        except (TargetError, ValueError):  # nobody knows: until the deadline it may be
            return True

    def observe(self, name: str) -> Counters:
        """What its pods have answered. The cluster's gateway is not asked: a request that got to
        no pod is counted nowhere here."""
        pods = self.pods(name)
        if not pods:
            raise TargetError(f"{name} is not running")
        texts: dict[str, str] = {}
        failures: list[TargetError] = []
        for pod in pods:
            if not is_ready(pod):
                continue
            try:
                texts[instance(pod)] = ask(self.cluster, pod, "/metrics")
            except TargetError as error:
                failures.append(error)
        if not texts:
            raise TargetError(f"{name} cannot be observed: none of its pods is ready")
        if failures:
            raise TargetError(f"{name} cannot be observed: {failures[0]}") from failures[0]
        try:
            counted = {key: _counted(text) for key, text in texts.items()}
        except ValueError as error:
            raise TargetError(f"{name} gives metrics that cannot be: {error}") from error
        where = pods[0]["metadata"]["namespace"]
        return self._counters.total(name, where, counted, map(instance, pods))

    def agreement(self, candidate: str, stable: str, since: str, slowdown: float) -> Agreement:
        """Answers are compared by access logs, which a cluster keeps elsewhere."""
        raise TargetError(
            f"{candidate} runs on a cluster, where the answers to copied requests are not "
            "compared: leave `shadow` out of the release policy"
        )

    def logs(self, name: str, lines: int) -> str:
        """The last lines of each pod."""
        found = []
        for pod in self.pods(name):
            container = pod["spec"]["containers"][0]["name"]
            text = self.cluster.logs(pod, container, lines)
            found.append(f"== {pod['metadata']['name']}\n{text}")
        if not found:
            raise TargetError(f"{name} is not running")
        return "\n".join(found)

    def _headers(self, environment: str) -> dict[str, str]:
        return {"X-Environment": environment} | platform_headers(self.home)

    def _require_digests(self, name: str, release: Release) -> None:
        """That every ready pod of the server has just that model loaded."""
        for pod in filter(is_ready, self.pods(name)):
            text = ask(self.cluster, pod, "/model/info")
            try:
                digest = msgspec.json.decode(text)["contract"]["onnx_sha256"]
            except (msgspec.DecodeError, KeyError, TypeError):
                digest = None
            if digest != release.bundle.onnx_sha256:
                raise TargetError(
                    f"pod {pod['metadata']['name']} of {release.tag} serves ONNX digest {digest}, "
                    f"not {release.bundle.onnx_sha256}"
                )


def _counted(text: str) -> Counters:
    return msgspec.structs.replace(counters(text), **answers(text))
