"""The gateway's settings: where it listens, and what one client may ask of it."""

from typing import Annotated

from pydantic import Field

from serving_config.base import Port, Seconds, Service, Settings

Rate = Annotated[int, Field(ge=1, le=1_000_000)]


class RateLimit(Settings):
    """A token bucket: it holds `burst` requests and is filled `requests_per_second`."""

    requests_per_second: Rate
    """Requests that may come each second in the long run; what comes beyond that gets 429."""
    burst: Rate | None = None
    """Requests that may come at once; those of one second where it is left out."""

    @property
    def size(self) -> int:
        """Requests that a full bucket holds."""
        return self.burst or self.requests_per_second


class Limits(Settings):
    """What the gateway refuses. The largest body is that of the models' `serving`."""

    per_key: RateLimit = RateLimit(requests_per_second=10_000)
    """Requests with the same `X-API-Key` or `Authorization` header, valid or not."""
    per_address: RateLimit = RateLimit(requests_per_second=20_000)
    """Requests from one client address (an IPv6 /64), whatever keys they name."""
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    """Open connections of all clients; a new one beyond that is closed at once."""
    max_requests_per_server: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    """Requests in flight to one model server; what comes beyond that gets 503."""
    max_header_kib: Annotated[int, Field(ge=1, le=8192)] = 32
    """KiB of one request's headers together; more gets 431."""
    max_headers: Annotated[int, Field(ge=10, le=10_000)] = 100
    """Headers of one request; more gets 431."""
    headers_timeout_seconds: Seconds = 10
    """A request whose headers have not arrived by then gets 408."""
    request_timeout_seconds: Seconds = 30
    """A request that has not arrived whole by then gets 408."""
    response_timeout_seconds: Seconds = 60
    """A request that has no answer by then, counted from its last byte, gets 504."""
    idle_timeout_seconds: Seconds = 60
    """A connection without a request is closed after that."""


class Gateway(Service):
    """The Envoy gateway."""

    port: Port = 8080
    """The TCP port that clients talk to, on `host` of platform.yaml."""
    limits: Limits = Limits()
    """What the gateway refuses."""
    access_log: bool = True
    """Whether one JSON line is written to `logs/gateway-access.log` for every request."""
    trusted_proxies: Annotated[int, Field(ge=0, le=16)] = 0
    """Proxies of yours in front of the gateway: the client's address is taken from the entry that
    the first of them appended to `X-Forwarded-For`. With 0 it is that of the connection."""
