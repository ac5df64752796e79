"""A stand-in for a cluster's API server, as far as dagster-k8s asks it: it keeps Jobs and Pods, and
runs each Pod's container as a process of this machine, as a node would.

It checks neither rights nor quotas, mounts nothing and schedules nowhere: what it shows is what is
asked for, and that what is asked for runs.
"""

import json
import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]
_ADDRESS = re.compile(
    r"/api(?:s/batch)?/v1/namespaces/([^/]+)/(jobs|pods|events)(?:/([^/]+))?(/\w+)?"
)


class Container:
    """A pod's only container. status: in place of a process, what it is to end as."""

    def __init__(self, pod: Json, folder: Path, variables: dict[str, str], status: Json | None):
        self.pod, self._status = pod, status
        self.log = folder / f"{pod['metadata']['name']}.log"
        self.log.touch()
        self.process: subprocess.Popen[bytes] | None = None
        if status is not None:
            return
        spec = pod["spec"]["containers"][0]
        asked = {item["name"]: item["value"] for item in spec["env"] if "value" in item}
        command = [*spec["command"], *spec.get("args", ())]
        # As the image has them.
        image = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=os.environ | image | asked | variables, stdout=log, stderr=log
            )

    def status(self) -> Json:
        if self._status is not None:
            return self._status
        assert self.process is not None
        code = self.process.poll()
        if code is None:
            state: Json = {"running": {"startedAt": now()}}
        else:
            reason = "Completed" if code == 0 else "Error"
            state = {"terminated": {"exitCode": code, "reason": reason}}
        name = self.pod["spec"]["containers"][0]["name"]
        running = {"name": name, "ready": code is None, "restartCount": 0, "state": state}
        running |= {"image": "", "imageID": ""}
        return {"phase": "Running", "containerStatuses": [running]}

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class ApiServer:
    """variables: over those of each container, in place of what this machine has not (mounts,
    secrets). outcome: called with each Pod, says how it ends without being run; None runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variables: dict[str, str] = {}
        self.outcome: Callable[[Json], Json | None] = lambda _: None
        self.refusal: tuple[int, str] | None = None
        self.jobs: list[Json] = []
        self.created: list[Json] = []
        self.pods: dict[str, Container] = {}
        self.url = ""

    def kubeconfig(self) -> Path:
        path = self.folder / "kubeconfig"
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "stand-in",
                    "contexts": [{"name": "stand-in", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": {"server": self.url}}],
                    "users": [{"name": "u", "user": {"token": "none"}}],
                }
            )
        )
        return path

    def create(self, kind: str, namespace: str, item: Json) -> Json:
        own = {"namespace": namespace, "uid": str(uuid.uuid4()), "creationTimestamp": now()}
        item["metadata"] |= own
        if kind == "jobs":
            self.jobs.append(item)
            return item
        self.created.append(item)
        container = Container(item, self.folder, self.variables, self.outcome(item))
        self.pods[item["metadata"]["name"]] = container
        return item

    def shown(self, container: Container) -> Json:
        return container.pod | {"status": container.status()}

    def find(self, query: dict[str, list[str]]) -> list[Json]:
        field, _, value = query.get("labelSelector", query.get("fieldSelector", [""]))[0].partition(
            "="
        )
        return [
            self.shown(pod)
            for name, pod in self.pods.items()
            if (field == "metadata.name" and name == value)
            or pod.pod["metadata"].get("labels", {}).get(field) == value
        ]

    def delete(self, name: str) -> None:
        self.pods.pop(name).end()


def _handler(server: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def log_message(self, *_: Any) -> None: ...

        def _asked(self) -> tuple[str, str, str | None, str | None, dict[str, list[str]]]:
            url = urlsplit(self.path)
            found = _ADDRESS.fullmatch(url.path)
            assert found is not None, self.path
            return found[1], found[2], found[3], found[4], parse_qs(url.query)

        def _answer(self, status: int, body: Json) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _missing(self) -> None:
            said = {"kind": "Status", "reason": "NotFound", "code": 404, "message": "not found"}
            self._answer(404, said)

        def do_POST(self) -> None:
            namespace, kind, *_ = self._asked()
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if server.refusal:
                status, message = server.refusal
                said = {"kind": "Status", "message": message, "code": status, "reason": "Forbidden"}
                self._answer(status, said)
            else:
                self._answer(201, server.create(kind, namespace, body))

        def do_GET(self) -> None:
            _, kind, name, part, query = self._asked()
            if kind != "pods":
                self._answer(200, {"kind": "List", "items": []})
            elif name is None:
                self._answer(200, {"kind": "PodList", "items": server.find(query)})
            elif name not in server.pods:
                self._missing()
            elif part == "/log":
                self._log(server.pods[name], query)
            else:
                self._answer(200, server.shown(server.pods[name]))

        def do_DELETE(self) -> None:
            _, _, name, _, _ = self._asked()
            if name not in server.pods:
                self._missing()
                return
            server.delete(name)
            self._answer(200, {"kind": "Status", "status": "Success"})

        def _log(self, container: Container, query: dict[str, list[str]]) -> None:
            """All of it, once the container has ended: `follow` is asked for."""
            if "follow" in query and container.process is not None:
                container.process.wait()
            self.send_response(200)
            self.end_headers()
            lines = container.log.read_text().splitlines()
            kept = lines[-int(query.get("tailLines", ["1000000"])[0]) :]
            for number, line in enumerate(kept):
                stamp = f"{now()[:-1]}.{number:09d}Z " if "timestamps" in query else ""
                self.wfile.write(f"{stamp}{line}\n".encode())

    return Handler


@contextmanager
def api_server(folder: Path) -> Iterator[ApiServer]:
    server = ApiServer(folder)
    listening = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    server.url = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        for container in server.pods.values():
            container.end()
        listening.shutdown()
        thread.join()
        listening.server_close()
