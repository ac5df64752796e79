"""One simulated client: a request at a time on a raw keep-alive connection."""

import asyncio
import ssl
from dataclasses import dataclass
from typing import Protocol, cast

import httptools


@dataclass(frozen=True)
class Address:
    """Where connections go: a resolved address, so that no request waits for a resolver.

    tls: None for plain HTTP. name: the server's, for its certificate.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    name: str | None = None


class Listener(Protocol):
    """Is told how each request of a client ended; the client is free then."""

    def on_answer(self, client: "Client", status: int, version: str, size: int) -> None:
        """A complete answer came; size: its bytes."""

    def on_failure(self, client: "Client", kind: str, connected: bool) -> None:
        """No answer will come. connected: whether there was a connection at all."""


class Client:
    """Sends one request at a time, and connects again where the server closed.

    due, sent_at: of the request in flight, by `time.monotonic_ns()`.
    """

    def __init__(self, address: Address, listener: Listener) -> None:
        self.due = 0
        self.sent_at = 0
        self.busy = False
        self._address = address
        self._listener = listener
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None

    def send(self, request: bytes, due: int, now: int) -> None:
        """Send a request, connecting first where there is no connection."""
        self.due, self.sent_at, self.busy = due, now, True
        if self._connection is not None:
            self._connection.write(request)
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect(request))

    async def _connect(self, request: bytes) -> None:
        try:
            await self.connect()
        except OSError as error:
            self._connecting = None
            self.busy = False
            self._listener.on_failure(self, kind_of(error), connected=False)
        else:
            self._connecting = None
            if self._connection is None:
                self.lost(None)  # accepted and closed at once
            else:
                self._connection.write(request)

    async def connect(self) -> None:
        """Open the connection; OSError where the server does not take it."""
        loop, address = asyncio.get_running_loop(), self._address
        connection = Connection(self)
        self._connection = connection
        try:
            await loop.create_connection(
                lambda: connection,
                address.host,
                address.port,
                ssl=address.tls,
                server_hostname=address.name if address.tls else None,
            )
        except BaseException:
            if self._connection is connection:  # there may be a newer one after `abort`
                self._connection = None
            raise

    def answered(self, status: int, version: str, size: int, reusable: bool) -> None:
        """The connection has a complete answer."""
        if not reusable:
            self._drop()
        self.busy = False
        self._listener.on_answer(self, status, version, size)

    def lost(self, error: Exception | None) -> None:
        """The connection is gone; harmless unless a request is in flight."""
        self._drop()
        if self.busy and self._connecting is None:
            self.busy = False
            self._listener.on_failure(self, kind_of(error), connected=True)

    def abort(self, kind: str | None = None) -> None:
        """Close at once. kind: how the request in flight failed; None: nobody wants to know."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        self._drop()
        if self.busy:
            self.busy = False
            if kind is not None:
                self._listener.on_failure(self, kind, connected=True)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def kind_of(error: Exception | None) -> str:
    """A failure as people say it. error: what asyncio or httptools gave, None for an early end."""
    match error:
        case None:
            return "connection closed"
        case ConnectionRefusedError():
            return "connection refused"
        case ConnectionResetError() | BrokenPipeError():
            return "connection reset"
        case TimeoutError():
            return "timeout"
        case httptools.HttpParserError():
            return "not HTTP"
        case OSError(strerror=str(text)):
            return text
    return type(error).__name__


class Connection(asyncio.Protocol):
    """One TCP connection; reads answers by httptools. Silent after `close`."""

    def __init__(self, client: Client) -> None:
        self._client: Client | None = client
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._begin()

    def _begin(self) -> None:
        self._size = 0
        self._version = b""
        self._framed = self._reusable = self._headed = self._complete = False

    def write(self, request: bytes) -> None:
        """Send a request; the connection is open."""
        if self._transport is not None:
            self._transport.write(request)

    def close(self) -> None:
        """Close at once and tell nobody."""
        self._client = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's."""
        self._transport = cast(asyncio.Transport, transport)
        if self._client is None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Asyncio's."""
        client = self._client
        if client is None:
            return
        if not client.busy:
            client.lost(None)  # nobody asked; what else it says is not to be trusted
            return
        self._size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            client.lost(error)
            return
        if self._complete:
            self._answered(client)

    def _answered(self, client: Client) -> None:
        status, version = self._parser.get_status_code(), self._version.decode("latin-1")
        size, reusable = self._size, self._reusable
        self._begin()
        client.answered(status, version, size, reusable)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of httptools."""
        name = name.lower()
        if name == b"x-model-version":
            self._version = value
        elif name in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        """Of httptools."""
        self._headed = True
        self._reusable = self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        """Of httptools; 1xx goes before the answer."""
        self._complete = self._parser.get_status_code() >= 200

    def eof_received(self) -> None:
        """Asyncio's; closes the connection. An idle one must not be written to any more."""
        if self._client is not None and not self._client.busy:
            self._client.lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's. An answer without a length ends here."""
        client, self._transport = self._client, None
        if client is None:
            return
        if exc is None and self._headed and not self._framed:
            self._reusable = False
            self._answered(client)
        else:
            client.lost(exc)
