"""A real HTTP server that gets alerts, and answers as a test wants."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str]]
OK: Answer = (200, {})


@dataclass
class Receiver:
    """`answers` are given one after the other, then 200; an Event among them hangs until set."""

    port: int
    answers: list[Answer | threading.Event]
    got: list[Any] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/secret-path?token=secret-token"

    def wait_for(self, done: Callable[[list[Any]], bool], seconds: float = 20) -> list[Any]:
        with self.changed:
            assert self.changed.wait_for(lambda: done(self.got), seconds), self.got
            return list(self.got)

    def take(self, body: bytes) -> Answer:
        with self.changed:
            self.got.append(json.loads(body))
            self.changed.notify_all()
            answer = self.answers.pop(0) if self.answers else OK
        if isinstance(answer, threading.Event):
            answer.wait(30)
            return OK
        return answer


@contextmanager
def receiver(*answers: Answer | threading.Event) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status, headers = me.take(body)
            self.send_response(status)
            for name, value in ({"content-length": "0"} | headers).items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Silent."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Silent: a sender that gives up is part of a test."""

    hanging: Sequence[threading.Event] = [a for a in answers if isinstance(a, threading.Event)]
    with Server(("127.0.0.1", 0), Handler) as server:
        me = Receiver(server.server_address[1], list(answers))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield me
        finally:
            for event in hanging:
                event.set()
            server.shutdown()
            thread.join()
