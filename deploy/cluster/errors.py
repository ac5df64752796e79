"""What an API server refuses, in one sentence that names the cause and the fix."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from deploy.cluster.kinds import INSTALL, Kind
from deploy.targets.base import TargetError

_MOST_WORDS = 500


class ClusterError(TargetError):
    """A request to the API server failed. status: its HTTP status, 0 without an answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class NotFoundError(ClusterError):
    """There is no such object; its namespace and its kind are there."""


class MovedError(ClusterError):
    """Somebody else changed, made or removed the object meanwhile: read it again."""


class ForeignManagerError(ClusterError):
    """Somebody else set the fields that Slipway sets, to other values."""


class Asked:
    """One request, as sentences call it. verb: Kubernetes' own, such as `patch`."""

    def __init__(
        self, verb: str, kind: Kind, namespace: str | None, name: str | None, part: str = ""
    ) -> None:
        self.verb, self.kind, self.namespace, self.name = verb, kind, namespace, name
        self.part = part

    @property
    def resource(self) -> str:
        """The resource that the rights are about, such as `pods/log`."""
        return self.kind.full_name + (f"/{self.part}" if self.part else "")

    @property
    def where(self) -> str:
        """` in namespace x`, or nothing."""
        return f" in namespace {self.namespace}" if self.namespace else ""

    def __str__(self) -> str:
        name = f" {self.name}" if self.name else ""
        return f"{self.verb} {self.resource}{name}{self.where}"


def refused(asked: Asked, status: int, body: bytes, server: str) -> ClusterError:
    """The error for an answer that is none of 2xx. server: how to call the API server."""
    said = _status(body)
    message = str(said.get("message") or body.decode(errors="replace")).strip()[:_MOST_WORDS]
    if status == 401:
        return ClusterError(
            f"{server} does not accept the credentials (401): they have expired or are another "
            "cluster's; sign in again, or set kubernetes.context",
            status,
        )
    if status == 403:
        return _forbidden(asked, message, server)
    if status == 404:
        return _not_found(asked, said, server)
    if status == 409:
        return _conflict(asked, said, message)
    if status == 422:
        return ClusterError(f"{server} finds an object invalid ({asked}): {message}", status)
    if status == 429:
        return ClusterError(f"{server} is overloaded (429) and did not {asked}: try again", status)
    return ClusterError(f"{server} answers {status} to {asked}: {message}", status)


def _status(body: bytes) -> Mapping[str, Any]:
    """The `Status` object that an API server explains itself by; nothing where it is none."""
    with suppress(ValueError):
        found = json.loads(body)
        if isinstance(found, dict):
            return found
    return {}


def _forbidden(asked: Asked, message: str, server: str) -> ClusterError:
    if "exceeded quota" in message:
        return ClusterError(
            f"the namespace's ResourceQuota refuses {asked}: {message}; raise it, or lower "
            "kubernetes.replicas or kubernetes.resources of the environment",
            403,
        )
    if "is being terminated" in message:
        return ClusterError(
            f"namespace {asked.namespace} is being deleted: wait until it is gone, then try again",
            403,
        )
    if "violates PodSecurity" in message or "admission webhook" in message:
        return ClusterError(f"the cluster's admission refuses {asked}: {message}", 403)
    namespace = f" -n {asked.namespace}" if asked.namespace else ""
    return ClusterError(
        f"{server} forbids to {asked} (403): bind a Role that allows it, and check it with "
        f"`kubectl auth can-i {asked.verb} {asked.resource}{namespace}`",
        403,
    )


def _not_found(asked: Asked, said: Mapping[str, Any], server: str) -> ClusterError:
    details = said.get("details") or {}
    if details.get("kind") == "namespaces" and asked.kind.plural != "namespaces":
        return ClusterError(
            f"there is no namespace {asked.namespace} in {server}: "
            f"`kubectl create namespace {asked.namespace}`",
            404,
        )
    if asked.name is not None and details.get("name"):
        return NotFoundError(f"there is no {asked.kind.plural} {asked.name}{asked.where}", 404)
    install = INSTALL.get(asked.kind.group)
    how = f": install it with `{install}`" if install else ""
    return ClusterError(
        f"{server} does not know {asked.kind.full_name} ({asked.kind.version}){how}", 404
    )


def _conflict(asked: Asked, said: Mapping[str, Any], message: str) -> ClusterError:
    causes = (said.get("details") or {}).get("causes") or ()
    foreign = [item for item in causes if item.get("reason") == "FieldManagerConflict"]
    if not foreign:
        return MovedError(f"somebody else was faster than {asked}: {message}", 409)
    managers = sorted({_manager(item.get("message", "")) for item in foreign})
    fields = ", ".join(item.get("field", "?") for item in foreign)
    return ForeignManagerError(
        f"{', '.join(managers)} has changed {fields} of {asked.kind.plural} {asked.name}"
        f"{asked.where}, which Slipway sets: set the fields back (`kubectl get "
        f"{asked.kind.full_name} {asked.name} -n {asked.namespace} -o yaml --show-managed-fields` "
        "shows who has which), or give Slipway's settings the same values",
        409,
    )


def _manager(message: str) -> str:
    """Out of `conflict with "kubectl-edit" using apps/v1`."""
    _, quoted, rest = message.partition('"')
    return rest.partition('"')[0] if quoted else "another field manager"
