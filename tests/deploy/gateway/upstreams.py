"""Small real HTTP servers that say what they were asked, on ports of their own."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Upstream:
    """One server. A request to /slow is held until `release` is set."""

    port: int
    waiting: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)


@contextmanager
def upstream(name: str) -> Iterator[Upstream]:
    """Answers with its name, the path and the headers of the request."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            if self.path.startswith("/slow"):
                me.waiting.set()
                me.release.wait(30)
            said: dict[str, Any] = {
                "name": name,
                "path": self.path,
                "headers": {key.lower(): value for key, value in self.headers.items()},
                "body": self._body().decode(),
            }
            body = json.dumps(said).encode()
            self.send_response(422 if self.path.startswith("/refuse") else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.send_header("x-model-version", name)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("transfer-encoding", ""):
                return self.rfile.read(int(self.headers.get("content-length", 0)))
            body = b""
            while size := int(self.rfile.readline() or b"0", 16):
                body += self.rfile.read(size + 2)[:-2]
            self.rfile.readline()
            return body

        def log_message(self, *_: object) -> None:
            """Silent."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            """Silent: a client of the gateway that gives up is part of a test."""

    with Server(("127.0.0.1", 0), Handler) as server:
        me = Upstream(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield me
        finally:
            me.release.set()
            server.shutdown()
            thread.join()
