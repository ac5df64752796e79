"""The cluster's own controllers, one step at a time: until a step is taken, every status is that
of the generation before."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.deploy.cluster.api_server import ApiServer, Json, Request

_LOOKED_AT = ("deployments", "httproutes", "inferenceservices")


def condition(kind: str, status: str, **more: Any) -> Json:
    return {"type": kind, "status": status, **more}


@dataclass
class Controllers:
    """troubles: part of a Deployment's name → what becomes of its pods instead of being ready.
    pod_made: told of each pod once it is ready, and of its Deployment."""

    api: ApiServer
    troubles: dict[str, Callable[[Json], None]] = field(default_factory=dict)
    pod_made: Callable[[Json, Json], None] = lambda pod, deployment: None
    pod_gone: Callable[[Json], None] = lambda pod: None
    made: int = 0

    def step_at_each_look(self) -> "Controllers":
        """A step behind each look at a Deployment or a route: what waits sees the old one first."""

        def follow(request: Request) -> None:
            if request.method == "GET" and request.plural in _LOOKED_AT:
                self.step()

        self.api.after.append(follow)
        return self

    def settle(self) -> None:
        for _ in range(4):
            self.step()

    def step(self) -> None:
        with self.api.lock:
            for deployment in self.api.of("deployments.apps"):
                if "deletionTimestamp" in deployment["metadata"]:
                    self._remove(deployment)
                else:
                    self._follow(deployment)
            for service in self.api.of("inferenceservices.serving.kserve.io"):
                self._serve(service)
            for route in self.api.of("httproutes.gateway.networking.k8s.io"):
                self._accept(route)

    def pods(self, deployment: Json) -> list[Json]:
        """Of all its revisions."""
        sets = {item["metadata"]["uid"] for item in self._replica_sets(deployment)}
        return [
            pod
            for pod in self.api.of("pods", deployment["metadata"]["namespace"])
            if pod["metadata"]["ownerReferences"][0]["uid"] in sets
        ]

    def _replica_sets(self, deployment: Json) -> list[Json]:
        uid = deployment["metadata"]["uid"]
        sets = self.api.of("replicasets.apps", deployment["metadata"]["namespace"])
        return [item for item in sets if item["metadata"]["ownerReferences"][0]["uid"] == uid]

    def _remove(self, deployment: Json) -> None:
        for pod in self.pods(deployment):
            self.pod_gone(pod)
        meta = deployment["metadata"]
        self.api.drop(("deployments.apps", meta["namespace"], meta["name"]))

    def _follow(self, deployment: Json) -> None:
        meta, spec = deployment["metadata"], deployment["spec"]
        status = deployment.setdefault("status", {})
        digest = hashlib.sha256(json.dumps(spec["template"], sort_keys=True).encode()).hexdigest()
        name = f"{meta['name']}-{digest[:8]}"
        sets = self._replica_sets(deployment)
        current = next((item for item in sets if item["metadata"]["name"] == name), None)
        if current is None:
            current = self._replica_set(deployment, name, len(sets) + 1)
        mine = [pod for pod in self.pods(deployment) if self._is_of(pod, current)]
        if status.get("observedGeneration") == meta["generation"]:
            for pod in mine:
                self._run(pod, deployment)
        while len(mine) < spec["replicas"]:
            mine.append(self._pod(current))
        for pod in mine[spec["replicas"] :]:
            self.remove_pod(pod)
        ready = [pod for pod in mine if _is_ready(pod)]
        if len(ready) >= spec["replicas"]:
            for pod in self.pods(deployment):
                if not self._is_of(pod, current):
                    self.remove_pod(pod)
        everyone = self.pods(deployment)
        status |= {
            "observedGeneration": meta["generation"],
            "replicas": len(everyone),
            "updatedReplicas": min(len(mine), spec["replicas"]),
            "availableReplicas": len([pod for pod in everyone if _is_ready(pod)]),
        }
        self.api.touch(deployment)

    def _is_of(self, pod: Json, replica_set: Json) -> bool:
        return bool(pod["metadata"]["ownerReferences"][0]["uid"] == replica_set["metadata"]["uid"])

    def _replica_set(self, deployment: Json, name: str, revision: int) -> Json:
        meta = deployment["metadata"]
        return self.api.add(
            "replicasets.apps",
            {
                "metadata": {
                    "name": name,
                    "labels": deployment["spec"]["template"]["metadata"]["labels"],
                    "annotations": {"deployment.kubernetes.io/revision": str(revision)},
                    "ownerReferences": [{"uid": meta["uid"], "controller": True}],
                },
                "spec": {"template": deployment["spec"]["template"]},
            },
            meta["namespace"],
        )

    def _pod(self, replica_set: Json) -> Json:
        meta = replica_set["metadata"]
        self.made += 1  # no two pods ever have one name
        name = f"{meta['name']}-{self.made}"
        return self.api.add(
            "pods",
            {
                "metadata": {
                    "name": name,
                    "labels": meta["labels"],
                    "ownerReferences": [{"uid": meta["uid"], "controller": True}],
                },
                "spec": replica_set["spec"]["template"]["spec"],
                "status": {"phase": "Pending"},
            },
            meta["namespace"],
        )

    def _run(self, pod: Json, deployment: Json) -> None:
        trouble = next(
            (act for part, act in self.troubles.items() if part in deployment["metadata"]["name"]),
            None,
        )
        if trouble is not None:
            trouble(pod)
        elif not _is_ready(pod):
            pod["status"] = {
                "phase": "Running",
                "podIP": "10.1.0.1",
                "conditions": [condition("Ready", "True")],
                "containerStatuses": [{"name": "server", "ready": True, "state": {"running": {}}}],
            }
            self.pod_made(pod, deployment)
        self.api.touch(pod)

    def remove_pod(self, pod: Json) -> None:
        meta = pod["metadata"]
        self.pod_gone(pod)
        self.api.drop(("pods", meta["namespace"], meta["name"]))

    def _serve(self, service: Json) -> None:
        """KServe and Knative: a revision for each other pod, ready one step after it was made."""
        meta, predictor = service["metadata"], dict(service["spec"]["predictor"])
        canary = predictor.pop("canaryTrafficPercent", None)
        status = service.setdefault("status", {"url": f"http://{meta['name']}.example"})
        told = status.setdefault("components", {}).setdefault("predictor", {})
        digest = hashlib.sha256(json.dumps(predictor, sort_keys=True).encode()).hexdigest()[:8]
        if status.get("observedGeneration") != meta["generation"]:
            status["observedGeneration"] = meta["generation"]
            if told.get("latestCreatedRevision") != digest:
                told["latestCreatedRevision"] = digest
                said = [condition(kind, "Unknown") for kind in ("PredictorReady", "Ready")]
                status["conditions"] = said
                self.api.touch(service)
                return
        if told["latestCreatedRevision"] != told.get("latestReadyRevision"):
            owner = {"metadata": meta | {"name": f"{meta['name']}-{digest}"}}
            owner["metadata"]["labels"] = predictor["labels"]
            owner["spec"] = {"template": {"spec": predictor}}
            pod = self._pod(owner)
            trouble = next((act for part, act in self.troubles.items() if part in str(owner)), None)
            if trouble is not None:
                trouble(pod)
                return
            pod["status"] = {
                "phase": "Running",
                "podIP": "10.1.0.1",
                "conditions": [condition("Ready", "True")],
            }
            self.pod_made(pod, owner)
            told["previousRolledoutRevision"] = told.get("latestRolledoutRevision")
            told["latestReadyRevision"] = digest
        if canary is None:
            told["latestRolledoutRevision"] = digest
        shares = [{"tag": "latest", "percent": 100 if canary is None else canary}]
        if canary is not None:
            shares.append({"tag": "prev", "percent": 100 - canary})
        url = status["url"].removeprefix("http://")
        told["traffic"] = [share | {"url": f"http://{share['tag']}-{url}"} for share in shares]
        status["conditions"] = [condition(kind, "True") for kind in ("PredictorReady", "Ready")]
        self.api.touch(service)

    def _accept(self, route: Json) -> None:
        generation = route["metadata"]["generation"]
        said = [
            condition(kind, "True", observedGeneration=generation, reason=kind)
            for kind in ("Accepted", "ResolvedRefs")
        ]
        route["status"] = {"parents": [{"conditions": said}]}
        self.api.touch(route)


def _is_ready(pod: Json) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any((item["type"], item["status"]) == ("Ready", "True") for item in conditions)


def waits(reason: str, message: str = "") -> Callable[[Json], None]:
    """A container that waits for that reason, such as ImagePullBackOff."""

    def act(pod: Json) -> None:
        state = {"waiting": {"reason": reason, "message": message}}
        image = pod["spec"]["containers"][0]["image"]
        status = {"name": "server", "image": image, "ready": False, "state": state}
        pod["status"] = {"phase": "Pending", "containerStatuses": [status]}

    return act


def ends(code: int, reason: str = "Error", *, init: bool = False) -> Callable[[Json], None]:
    """A container that ends and is started again and again; or an init container."""

    def act(pod: Json) -> None:
        name = pod["spec"]["initContainers"][0]["name"] if init else "server"
        status = {
            "name": name,
            "ready": False,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": code, "reason": reason}},
        }
        where = "initContainerStatuses" if init else "containerStatuses"
        pod["status"] = {"phase": "Running", where: [status]}

    return act
