"""Objects of a cluster: applied, read, listed and deleted, with a deadline on every request.

Objects are JSON as the API has it. All but leases are written by server-side apply, so that
Slipway owns what it sets and nothing else: https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from deploy.cluster.connection import Connection
from deploy.cluster.errors import Asked, ClusterError, MovedError, NotFoundError, refused
from deploy.cluster.kinds import KINDS, Kind, kind_of
from deploy.manifests.names import FIELD_MANAGER, PORT, Json

_ATTEMPTS = 4
_PAGE = 500
_AGAIN = frozenset({429, 500, 502, 503, 504})
_FIRST_PAUSE = 0.2


class Cluster:
    """One API server. Every method raises ClusterError, which is a TargetError.

    timeout: seconds that one request may take, and that a wait before it is asked again may.
    """

    def __init__(self, connection: Connection, timeout: float) -> None:
        self._connection, self._timeout = connection, timeout

    @property
    def inside(self) -> bool:
        """Whether this process is a pod of the cluster."""
        return self._connection.inside

    def apply(self, item: Json, manager: str = FIELD_MANAGER) -> Json:
        """Server-side apply. ForeignManagerError where somebody else has set one of the fields to
        another value: it is not taken away from them."""
        kind, meta = kind_of(item), item["metadata"]
        asked = Asked("patch", kind, meta.get("namespace"), meta["name"])
        query = {"fieldManager": manager, "force": "false"}
        return self._object(asked, "PATCH", query, item, "application/apply-patch+yaml")

    def get(self, kind: str, namespace: str | None, name: str) -> Json:
        """One object; NotFoundError where there is none."""
        return self._object(Asked("get", KINDS[kind], namespace, name), "GET")

    def find(self, kind: str, namespace: str | None, name: str) -> Json | None:
        """One object, or None."""
        try:
            return self.get(kind, namespace, name)
        except NotFoundError:
            return None

    def list(self, kind: str, namespace: str, labels: Mapping[str, str]) -> list[Json]:
        """All objects with these labels; without any, all in the namespace. A namespace that is
        not there has none."""
        query = {"limit": str(_PAGE)}
        if labels:
            query["labelSelector"] = ",".join(f"{key}={value}" for key, value in labels.items())
        said = {"kind": kind, "apiVersion": KINDS[kind].api_version}
        found: list[Json] = []
        while True:
            page = self._object(Asked("list", KINDS[kind], namespace, None), "GET", query)
            # The items of a list do not say what they are.
            found += [said | item for item in page["items"]]
            more = page.get("metadata", {}).get("continue")
            if not more:
                return found
            query["continue"] = more

    def create(self, item: Json) -> Json:
        """For who must be the first; MovedError where somebody was."""
        kind, meta = kind_of(item), item["metadata"]
        return self._object(Asked("create", kind, meta["namespace"], None), "POST", {}, item)

    def replace(self, item: Json) -> Json:
        """Write back what was read; MovedError where it was changed or removed since."""
        kind, meta = kind_of(item), item["metadata"]
        asked = Asked("update", kind, meta["namespace"], meta["name"])
        try:
            return self._object(asked, "PUT", {}, item)
        except NotFoundError as error:
            raise MovedError(f"somebody else was faster than {asked}: it is gone", 409) from error

    def delete(self, item: Json, *, unchanged: bool = False) -> bool:
        """Delete this very object, with what belongs to it; whether it was there.

        A namesake that was made since stays. unchanged: MovedError where it was changed since.
        """
        kind, meta = kind_of(item), item["metadata"]
        keys = ("uid", "resourceVersion") if unchanged else ("uid",)
        body = {
            "propagationPolicy": "Foreground",
            "preconditions": {key: meta[key] for key in keys},
        }
        asked = Asked("delete", kind, meta.get("namespace"), meta["name"])
        try:
            self._object(asked, "DELETE", {}, body)
        except NotFoundError:
            return False
        return True

    def logs(self, pod: Json, container: str, lines: int, *, previous: bool = False) -> str:
        """The last lines that a container has written; of the one before its restart."""
        meta = pod["metadata"]
        asked = Asked("get", KINDS["Pod"], meta["namespace"], meta["name"], "log")
        query = {"container": container, "tailLines": str(lines)}
        if previous:
            query["previous"] = "true"
        return self._ask(asked, "GET", query).decode(errors="replace")

    def through_proxy(self, pod: Json, path: str, headers: Mapping[str, str]) -> bytes:
        """What a pod answers, asked by the API server for us; ClusterError for none of 2xx."""
        meta = pod["metadata"]
        name = f"{meta['name']}:{PORT}"
        asked = Asked("get", KINDS["Pod"], meta["namespace"], name, "proxy")
        return self._ask(asked, "GET", {}, suffix=f"/proxy{quote(path)}", headers=headers)

    def may(self, verb: str, kind: Kind, namespace: str, part: str = "") -> bool:
        """Whether these credentials allow it."""
        what = {"verb": verb, "group": kind.group, "resource": kind.plural, "namespace": namespace}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": what | ({"subresource": part} if part else {})},
        }
        reviews = Kind("authorization.k8s.io", "v1", "selfsubjectaccessreviews", namespaced=False)
        answer = self._object(Asked("create", reviews, None, None), "POST", {}, review)
        return bool(answer["status"]["allowed"])

    def _object(
        self,
        asked: Asked,
        method: str,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = "application/json",
    ) -> Json:
        content = self._ask(asked, method, query or {}, body, content_type)
        try:
            found = json.loads(content)
        except ValueError as error:
            raise ClusterError(
                f"{self._connection.server} answers {asked} with no JSON: is it an API server?"
            ) from error
        return dict(found)

    def _ask(
        self,
        asked: Asked,
        method: str,
        query: Mapping[str, str],
        body: Json | None = None,
        content_type: str = "application/json",
        suffix: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """The answer's body, after as many attempts as an overloaded server is worth."""
        path = asked.kind.path(asked.namespace, asked.name)
        path += suffix or (f"/{asked.part}" if asked.part else "")
        sent = {"Accept": "application/json", "Content-Type": content_type} | dict(headers or {})
        for attempt in range(1, _ATTEMPTS + 1):
            status, said, retry_after = self._send(asked, method, path, query, sent, body)
            if 200 <= status < 300:
                return said
            # What a pod answers by the proxy is its own word, and final.
            if status not in _AGAIN or attempt == _ATTEMPTS or asked.part == "proxy":
                raise refused(asked, status, said, self._connection.server)
            time.sleep(min(retry_after or _FIRST_PAUSE * 2**attempt, self._timeout))
        raise AssertionError("the last attempt returns or raises")

    def _send(
        self,
        asked: Asked,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: Json | None,
    ) -> tuple[int, bytes, float]:
        """Status, body and `Retry-After` of one answer; ClusterError without any."""
        import urllib3

        client, server = self._connection.client, self._connection.server
        sent, parameters = {**client.default_headers, **headers}, list(query.items())
        client.update_params_for_auth(sent, parameters, ["BearerToken"])
        url = client.configuration.host + path + (f"?{urlencode(parameters)}" if parameters else "")
        try:
            answer = client.rest_client.pool_manager.request(
                method,
                url,
                body=None if body is None else json.dumps(body),
                headers=sent,
                timeout=urllib3.Timeout(total=self._timeout),
                redirect=False,
                retries=False,
            )
            return answer.status, answer.data, _seconds(answer.headers.get("Retry-After"))
        except urllib3.exceptions.NewConnectionError as error:
            raise ClusterError(
                f"{server} does not answer ({_cause(error)}): is the cluster up, and is it the "
                "right one? kubernetes.context names another one"
            ) from error
        except urllib3.exceptions.TimeoutError as error:
            raise ClusterError(
                f"{server} did not {asked} within {self._timeout:g} s "
                "(kubernetes.request_timeout_seconds)"
            ) from error
        except urllib3.exceptions.SSLError as error:
            raise ClusterError(f"{server} cannot be trusted: {error}") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ClusterError(f"{server} broke off: {asked}: {_cause(error)}") from error


def _seconds(retry_after: Any) -> float:
    """0 where it is left out, or a date."""
    try:
        return max(0.0, float(retry_after or 0))
    except ValueError:
        return 0.0


def _cause(error: Exception) -> str:
    """The innermost words: those around it name objects of Python."""
    inner = error.__cause__ or error.__context__
    return str(inner) if isinstance(inner, OSError) else str(error)
