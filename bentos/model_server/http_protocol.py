"""uvicorn's HTTP protocol with limits on headers, in size and in time.

uvicorn has none with httptools: one connection that sends a header without end fills the memory,
and one that sends nothing stays for ever. The gateway has such limits too; a plain `bentoml serve`
needs its own.
"""

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES = 64 << 10
HEADERS_SECONDS = 10.0
_REFUSAL = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n"
    b"content-type: application/problem+json\r\ncontent-length: %d\r\n\r\n%b"
)
_PROBLEM = (
    b'{"type":"urn:slipway:problem:headers-too-large","title":"Request Header Fields Too Large",'
    b'"status":431,"detail":"the headers of the request are larger than %d bytes"}'
)

# One for each server, by its set of connections; asyncio itself keeps no task alive.
_watches: dict[int, "asyncio.Task[None]"] = {}


class Protocol(HttpToolsProtocol):
    """One connection. `awaited`: since when headers are to come, or None while there are some."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._header_bytes = 0
        self.awaited: float | None = None

    def connection_made(  # type: ignore[override]  # as uvicorn's
        self, transport: asyncio.Transport
    ) -> None:
        """The client is there, and may take a while until it says something."""
        super().connection_made(transport)
        self.awaited = time.monotonic()
        server = id(self.connections)
        if server not in _watches:
            _watches[server] = watching = self.loop.create_task(watch(self.connections))
            watching.add_done_callback(lambda _: _watches.pop(server, None))

    def on_message_begin(self) -> None:
        """A request begins: from now on its headers are counted."""
        super().on_message_begin()
        self.awaited = time.monotonic()

    def on_headers_complete(self) -> None:
        """All headers have come; what follows is bounded elsewhere."""
        self.awaited = None
        self._header_bytes = 0
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Parse, and count what came if the headers are not complete after it."""
        super().data_received(data)
        if self.awaited is None:
            return
        self._header_bytes += len(data)
        if self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            problem = _PROBLEM % MAX_HEADER_BYTES
            self.transport.write(_REFUSAL % (len(problem), problem))
            self.transport.close()


async def watch(connections: set[Any]) -> None:
    """Close those whose headers do not come, as long as there are any: one look a second at all
    of them, where a timer for each would cost every request something."""
    while connections:
        await asyncio.sleep(1)
        latest = time.monotonic() - HEADERS_SECONDS
        for protocol in list(connections):
            if protocol.awaited is not None and protocol.awaited < latest:
                protocol.transport.close()
