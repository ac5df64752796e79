"""uvloop, taking many new connections at each of its turns.

libuv accepts one connection a turn (since 1.45). A turn under full load takes 100 ms, because all
requests that have come are worked on in it, so ten clients a second would get in: a probe of /ready
with a connection of its own would wait behind everybody who came before it.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvloop

# So many that a crowd gets in soon, so few that nobody waits for it.
ACCEPTS_PER_TURN = 256
# No descriptor or memory is left for a connection: look again after this time.
PAUSE_SECONDS = 0.1
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
logger = logging.getLogger("slipway.model_server")


class Listener:
    """What uvicorn wants of a server that it asked the loop for: that it ends."""

    def __init__(
        self,
        loop: "Loop",
        protocol_factory: Callable[[], asyncio.Protocol],
        sock: socket.socket,
        backlog: int,
    ) -> None:
        self._loop = loop
        self._protocol_factory = protocol_factory
        self._sock = sock
        self._joining: set[asyncio.Task[Any]] = set()
        sock.setblocking(False)
        sock.listen(backlog)
        loop.add_reader(sock.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                connection, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                logger.error("No new connection can be taken: %s", error)
                self._loop.remove_reader(self._sock.fileno())
                self._loop.call_later(PAUSE_SECONDS, self._resume)
                return
            self._join(connection)

    def _join(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        joining = self._loop.connect_accepted_socket(self._protocol_factory, connection)
        task: asyncio.Task[Any] = self._loop.create_task(joining)
        self._joining.add(task)
        task.add_done_callback(self._joined)

    def _joined(self, task: "asyncio.Task[Any]") -> None:
        self._joining.discard(task)
        if task.cancelled():
            return
        if error := task.exception():
            logger.error("A new connection is lost: %s", error)
        elif self._sock.fileno() < 0:  # uvicorn has said goodbye to all that it knew
            task.result()[0].close()

    def _resume(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock.fileno(), self._accept)

    def close(self) -> None:
        """Take no more connections."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    async def wait_closed(self) -> None:
        """Nothing is left to wait for."""


class Loop(uvloop.Loop):
    """See the module."""

    async def create_server(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        """As asyncio's; for a socket that is given and has no TLS, the server is a Listener."""
        sock = options.get("sock")
        if args or sock is None or options.get("ssl") is not None:
            return await super().create_server(protocol_factory, *args, **options)
        return Listener(self, protocol_factory, sock, options.get("backlog", 100))


def factory(use_subprocess: bool = False) -> Callable[[], Loop]:
    """As uvicorn's own factories of loops."""
    return Loop


def install() -> None:
    """Make uvicorn's own choice of a loop and a protocol these; to be called before it is
    configured."""
    from uvicorn import config

    config.LOOP_FACTORIES["auto"] = f"{__name__}:factory"
    config.HTTP_PROTOCOLS["auto"] = "bentos.model_server.http_protocol:Protocol"
