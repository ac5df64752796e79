"""A stand-in for an API server, over real HTTP on a loopback port.

It keeps what a client must not get wrong: resource versions, generations that change with the
specification only, statuses that nobody but a controller writes, who set which field, namespaces,
label selectors, preconditions, and every kind of refusal. No pod runs: `controllers.py` plays the
cluster, one step at a time.
"""

import copy
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx

from tests.deploy.cluster.ownership import ConflictsError, Leaves, applied, leaves, rebuilt

Json = dict[str, Any]
Key = tuple[str, str, str]  # full name of the kind (`deployments.apps`), namespace, name
_CLUSTER_WIDE = {"namespaces", "selfsubjectaccessreviews"}
_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_BUILT_IN = {"", "apps", "autoscaling", "policy", "coordination.k8s.io", "networking.k8s.io",
             "authorization.k8s.io"}  # fmt: skip
_DEFAULTS: dict[str, Json] = {
    "deployments.apps": {"replicas": 1, "progressDeadlineSeconds": 600},
    "services": {"clusterIP": "10.0.0.1", "type": "ClusterIP"},
}


class RefusalError(Exception):
    """An answer that is none of 2xx."""

    def __init__(self, status: int, reason: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status, self.headers = status, more.pop("headers", {})
        self.body = {
            "kind": "Status",
            "status": "Failure",
            "code": status,
            "reason": reason,
            "message": message,
            "details": more,
        }


@dataclass(frozen=True)
class Request:
    """One request, taken apart."""

    method: str
    group: str
    plural: str
    namespace: str
    name: str
    part: str  # log, proxy/…, status
    query: dict[str, str]
    body: Any
    headers: Any

    @property
    def kind(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def verb(self) -> str:
        return "list" if self.method == "GET" and not self.name else _VERBS[self.method]

    @property
    def key(self) -> Key:
        return self.kind, self.namespace, self.name

    def __str__(self) -> str:
        part = f"/{self.part}" if self.part else ""
        return f"{self.verb} {self.kind}{part} {self.namespace}/{self.name}"


@dataclass
class ApiServer:
    """groups: the API groups that are served. forbidden: (verb, kind or kind/part). faults: asked
    before each request; they may raise a RefusalError. backends: pod → port of its server. texts:
    (pod, container, whether of the run before) → log."""

    objects: dict[Key, Json] = field(default_factory=dict)
    owners: dict[Key, dict[str, set[Any]]] = field(default_factory=dict)
    groups: set[str] = field(default_factory=lambda: set(_BUILT_IN))
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    faults: list[Callable[[Request], None]] = field(default_factory=list)
    after: list[Callable[[Request], None]] = field(default_factory=list)
    backends: dict[str, int] = field(default_factory=dict)
    texts: dict[tuple[str, str, bool], str] = field(default_factory=dict)
    token: str | None = None
    calls: list[str] = field(default_factory=list)
    port: int = 0
    _version: int = 0
    lock: Any = field(default_factory=threading.RLock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # What controllers and tests use.

    def add(self, kind: str, item: Json, namespace: str = "") -> Json:
        """Put an object there, as its controller would; no rule is asked."""
        meta = item.setdefault("metadata", {})
        if namespace:
            meta.setdefault("namespace", namespace)
        key = (kind, namespace, meta["name"])
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": "2026-01-01T00:00:00Z"}
        meta.setdefault("generation", 1)
        with self.lock:
            self.objects[key] = item
            self.touch(item)
        return item

    def of(self, kind: str, namespace: str | None = None) -> list[Json]:
        with self.lock:
            return [
                item
                for (its, where, _), item in self.objects.items()
                if its == kind and namespace in (None, where)
            ]

    def saved(self) -> Callable[[], None]:
        """Everything as it is now, to be brought back."""
        kept = copy.deepcopy((self.objects, self.owners)), dict(self.backends)

        def restore() -> None:
            with self.lock:
                self.objects, self.owners = copy.deepcopy(kept[0])
                self.backends = dict(kept[1])

        return restore

    def touch(self, item: Json) -> None:
        self._version += 1
        item["metadata"]["resourceVersion"] = str(self._version)

    def drop(self, key: Key) -> None:
        """Remove it and, as the garbage collector, what it owns."""
        with self.lock:
            item = self.objects.pop(key)
            self.owners.pop(key, None)
            for other, each in list(self.objects.items()):
                owners = each["metadata"].get("ownerReferences", ())
                if item["metadata"]["uid"] in [owner["uid"] for owner in owners]:
                    self.drop(other)

    def edit(self, key: Key, manager: str, wanted: Json) -> None:
        """Somebody else's forced server-side apply."""
        with self.lock:
            self._applied(key, wanted, manager, force=True)

    # What it answers.

    def answer(self, request: Request) -> Any:
        """JSON, or text; RefusalError."""
        for fault in self.faults:
            fault(request)
        with self.lock:
            self._check(request)
            if request.kind == "pods" and request.part.startswith("log"):
                return self._log(request)
            if not request.part.startswith("proxy"):
                return self._answer(request)
        return self._proxied(request)

    def _check(self, request: Request) -> None:
        sent = request.headers.get("Authorization", "")
        if self.token is not None and sent != f"Bearer {self.token}":
            raise RefusalError(401, "Unauthorized", "Unauthorized")
        if request.group not in self.groups:
            raise RefusalError(404, "NotFound", "the server could not find the requested resource")
        part = request.part.split("/")[0]
        resource = f"{request.kind}/{part}" if part else request.kind
        if (request.verb, resource) in self.forbidden:
            raise RefusalError(403, "Forbidden", f"cannot {request.verb} {resource}")
        name = request.namespace
        creates = request.method in ("POST", "PATCH") and request.plural not in _CLUSTER_WIDE
        if creates and ("namespaces", "", name) not in self.objects:
            said = f'namespaces "{name}" not found'
            raise RefusalError(404, "NotFound", said, kind="namespaces", name=name)

    def _answer(self, request: Request) -> Json:
        if request.kind == "selfsubjectaccessreviews.authorization.k8s.io":
            asked = request.body["spec"]["resourceAttributes"]
            full = f"{asked['resource']}.{asked['group']}".strip(".")
            full += f"/{asked['subresource']}" if "subresource" in asked else ""
            return {"status": {"allowed": (asked["verb"], full) not in self.forbidden}}
        if request.verb == "list":
            return self._list(request)
        if request.method == "POST":
            return self._created(request)
        if request.method == "PATCH":
            return self._patched(request)
        item = self.objects.get(request.key)
        if item is None:
            said = f'{request.kind} "{request.name}" not found'
            raise RefusalError(404, "NotFound", said, name=request.name, kind=request.plural)
        if request.method == "GET":
            return copy.deepcopy(item)
        return self._replaced(request, item) if request.method == "PUT" else self._deleted(request)

    def _list(self, request: Request) -> Json:
        wanted = [term.split("=") for term in request.query.get("labelSelector", "").split(",")]
        labels = {term[0]: term[1] for term in wanted if len(term) == 2}
        found = [
            {key: value for key, value in item.items() if key not in ("kind", "apiVersion")}
            for item in self.of(request.kind, request.namespace)
            if labels.items() <= item["metadata"].get("labels", {}).items()
        ]
        start, most = int(request.query.get("continue", 0)), int(request.query.get("limit", 500))
        more = {"continue": str(start + most)} if start + most < len(found) else {}
        return {"items": copy.deepcopy(found[start : start + most]), "metadata": more}

    def _created(self, request: Request) -> Json:
        key = (request.kind, request.namespace, request.body["metadata"]["name"])
        if key in self.objects:
            raise RefusalError(409, "AlreadyExists", f"{key[2]} already exists", name=key[2])
        self.add(request.kind, copy.deepcopy(request.body), request.namespace)
        return copy.deepcopy(self.objects[key])

    def _replaced(self, request: Request, item: Json) -> Json:
        body, meta = copy.deepcopy(request.body), item["metadata"]
        if body["metadata"].get("resourceVersion") not in (None, meta["resourceVersion"]):
            said = "the object has been modified; please apply your changes to the latest version"
            raise RefusalError(409, "Conflict", said, name=request.name)
        body["metadata"] |= {"uid": meta["uid"]}
        self._store(request.key, body)
        return copy.deepcopy(self.objects[request.key])

    def _patched(self, request: Request) -> Json:
        assert request.headers["Content-Type"] == "application/apply-patch+yaml"
        assert "managedFields" not in request.body["metadata"]
        manager, force = request.query["fieldManager"], request.query.get("force") == "true"
        self._applied(request.key, request.body, manager, force=force)
        return copy.deepcopy(self.objects[request.key])

    def _applied(self, key: Key, body: Json, manager: str, *, force: bool) -> None:
        identity = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}
        wanted: Leaves = {
            path: value for path, value in leaves(copy.deepcopy(body)) if path[0] != "status"
        }
        owned = {path: value for path, value in wanted.items() if path not in identity}
        item = self.objects.get(key, {})
        now = dict(leaves(copy.deepcopy(item))) if item else {}
        owners = copy.deepcopy(self.owners.get(key, {}))
        try:
            merged = applied(now, owners, manager, owned, force=force)
        except ConflictsError as error:
            causes = [
                {
                    "reason": "FieldManagerConflict",
                    "message": f'conflict with "{who}" using {body["apiVersion"]}',
                    "field": where,
                }
                for who, where in error.found
            ]
            raise RefusalError(
                409, "Conflict", "Apply failed", name=key[2], causes=causes
            ) from None
        self.owners[key] = owners
        self._store(key, rebuilt({path: wanted[path] for path in identity & set(wanted)} | merged))

    def _store(self, key: Key, item: Json) -> None:
        """What a write to the object itself may change: all but its status."""
        before = self.objects.get(key)
        if before is None:
            spec = _DEFAULTS.get(key[0])
            if spec is not None:
                item["spec"] = copy.deepcopy(spec) | item.get("spec", {})
            self.add(key[0], item, key[1])
            return
        item.pop("status", None)
        kept = ("uid", "creationTimestamp", "generation", "resourceVersion", "deletionTimestamp")
        for name in kept:
            if name in before["metadata"]:
                item["metadata"][name] = before["metadata"][name]
        if "status" in before:
            item["status"] = before["status"]
        if item == before:
            return
        outside = ("metadata", "status")
        if {k: v for k, v in item.items() if k not in outside} != {
            k: v for k, v in before.items() if k not in outside
        }:
            item["metadata"]["generation"] += 1
        self.objects[key] = item
        self.touch(item)

    def _deleted(self, request: Request) -> Json:
        item = self.objects[request.key]
        for name, value in ((request.body or {}).get("preconditions") or {}).items():
            if item["metadata"][name] != value:
                raise RefusalError(
                    409, "Conflict", f"the {name} in the precondition is another one"
                )
        if request.kind == "deployments.apps":  # until its pods have gone
            item["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            self.touch(item)
        else:
            self.drop(request.key)
        return {"kind": "Status", "status": "Success"}

    def _log(self, request: Request) -> str:
        before = request.query.get("previous") == "true"
        key = (request.name, request.query.get("container", ""), before)
        if key not in self.texts:
            raise RefusalError(400, "BadRequest", "previous terminated container not found")
        lines = self.texts[key].splitlines()[-int(request.query.get("tailLines", 10_000)) :]
        return "\n".join(lines) + "\n"

    def _proxied(self, request: Request) -> str:
        pod = request.name.partition(":")[0]
        port = self.backends.get(pod)
        if port is None:
            raise RefusalError(503, "ServiceUnavailable", f"error trying to reach service: {pod}")
        found = httpx.get(
            f"http://127.0.0.1:{port}/{request.part.removeprefix('proxy/')}", trust_env=False
        )
        if found.status_code != httpx.codes.OK:
            raise RefusalError(found.status_code, "", found.text)
        return found.text


def taken_apart(method: str, target: str, body: Any, headers: Any) -> Request:
    url = urlsplit(target)
    words = [unquote(word) for word in url.path.strip("/").split("/")]
    group = words[1] if words[0] == "apis" else ""
    rest = words[3:] if words[0] == "apis" else words[2:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    plural, name, part = rest[0], *(rest[1:2] or [""]), "/".join(rest[2:])
    query = {key: values[-1] for key, values in parse_qs(url.query).items()}
    return Request(method, group, plural, namespace, name, part, query, body, headers)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet
    api: ApiServer

    def log_message(self, *args: Any) -> None: ...

    def _do(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = taken_apart(
            self.command, self.path, json.loads(content) if content else None, self.headers
        )
        self.api.calls.append(str(request))
        headers: dict[str, str] = {}
        try:
            status, found = 200, self.api.answer(request)
        except RefusalError as refusal:
            status, found, headers = refusal.status, refusal.body, refusal.headers
        for follow in self.api.after:
            follow(request)
        said = found.encode() if isinstance(found, str) else json.dumps(found).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(said))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do  # noqa: N815 - its names


@contextmanager
def api_server(*namespaces: str) -> Iterator[ApiServer]:
    """Running, with these namespaces."""
    api = ApiServer()
    for name in namespaces:
        api.add("namespaces", {"metadata": {"name": name}})
    handler = type("Handler", (_Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    api.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
