"""API keys: who a request is from, by a file of hashes that `slipway keys` writes.

The file is read again when it changed, so that a key works, or no longer does, within a second or
two. A file that was there and cannot be read lets nobody in.
"""

import asyncio
import hmac
import ipaddress
import logging
import os
import socket
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec

from bentos.model_server.problems import Problem, forbidden, unauthorized, unavailable

# A key is `slipway_<id>_<secret>`; the id is not secret, it names the entry.
PREFIX = "slipway_"
# The name of the platform's own key; no user's key can have it.
PLATFORM = "slipway-platform"
ID_LENGTH = 8
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z"
_ID = slice(len(PREFIX), len(PREFIX) + ID_LENGTH)
_MAX_LENGTH = 256
_NO_DIGEST = bytes(32)
_POLL_SECONDS = 1.0
logger = logging.getLogger("slipway.model_server")

Scope = Literal["predict", "admin"]


class KeyEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key at rest. sha256: hex, of the whole key; internal: the platform's own."""

    id: Annotated[str, msgspec.Meta(pattern=rf"^[0-9a-f]{{{ID_LENGTH}}}\Z")]
    name: Annotated[str, msgspec.Meta(pattern=NAME)]
    scopes: tuple[Scope, ...]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    created: datetime
    revoked: datetime | None
    internal: bool = False


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """keys.json. Unknown fields are refused: a misspelt `revoked` must not let a key in."""

    version: Literal[1]
    keys: tuple[KeyEntry, ...]


class _Key(NamedTuple):
    name: str
    scopes: tuple[str, ...]
    digest: bytes


def read_keys(path: Path) -> tuple[KeyEntry, ...]:
    """All entries of the file; OSError or msgspec.DecodeError."""
    return msgspec.json.decode(path.read_bytes(), type=KeyFile).keys


class Keys:
    """path: keys.json; None where keys are never configured. required: it was there before, so
    that its absence is a failure."""

    def __init__(self, path: Path | None, *, required: bool = False) -> None:
        self._path = path
        self._keys: dict[bytes, _Key] | None = None
        self._seen: tuple[int, ...] | None = None
        self._existed = required
        self._failure: str | None = None
        self.refresh()

    def require(self, headers: Mapping[bytes, bytes], client: str | None, scope: str) -> str:
        """The caller's name, '' for one on this machine while no key is configured.

        headers: by lower-case name; client: the socket's IP address. Raises a Problem: 401 without
        a valid key, 403 for a key without the scope, 503 while the keys cannot be read.
        """
        keys = self._keys
        if keys is None:
            if self._failure is None and scope == "predict" and _is_local(headers, client):
                return ""
            raise self._closed(scope)
        given = _given(headers)
        if given is None:
            raise unauthorized("send an API key as X-API-Key or as Authorization: Bearer")
        key = keys.get(given[_ID])
        # An unknown id costs the same as a wrong secret.
        digest = _NO_DIGEST if key is None else key.digest
        if not hmac.compare_digest(sha256(given).digest(), digest) or key is None:
            raise unauthorized("this API key is unknown or was revoked")
        if scope not in key.scopes:
            raise forbidden(
                f"the key {key.name} has the scope {', '.join(key.scopes)}; this needs {scope}"
            )
        return key.name

    def _closed(self, scope: str) -> Problem:
        if self._failure is not None:
            return unavailable(
                "keys-unavailable",
                "the API keys cannot be read, so nobody is let in; the server's log says why",
                retry_after=1,
            )
        who = "only clients on this machine may predict" if scope == "predict" else "this is closed"
        add = "slipway keys add" + (" NAME --scope admin" if scope == "admin" else "")
        return unauthorized(f"no API key is configured, so {who}: `{add}` makes one")

    async def watch(self) -> None:
        """Keep up with the file, for ever."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            self.refresh()

    def refresh(self) -> None:
        """Read the file again if it changed since it was read."""
        if self._path is None:
            return
        try:
            stat = os.stat(self._path)
            self._existed = True
            seen = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            if seen != self._seen:
                self._accept(read_keys(self._path))
                self._seen = seen
        except FileNotFoundError:
            if self._existed:
                self._fail(f"{self._path} has vanished")
        except Exception as error:  # whatever it is: with old keys a revoked one would go on
            self._fail(f"{self._path}: {error}")

    def _accept(self, entries: tuple[KeyEntry, ...]) -> None:
        self._keys = {
            entry.id.encode(): _Key(entry.name, entry.scopes, bytes.fromhex(entry.sha256))
            for entry in entries
            if entry.revoked is None
        }
        if self._failure is not None:
            logger.warning("The API keys can be read again")
        self._failure = None

    def _fail(self, reason: str) -> None:
        if reason != self._failure:
            logger.error("The API keys cannot be read, so nobody is let in: %s", reason)
        self._keys, self._seen, self._failure = None, None, reason


def _given(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The key of a request; X-API-Key goes before Authorization."""
    given = headers.get(b"x-api-key")
    if given is None:
        # Few spellings: the gateway counts the requests of each text that stands here.
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme not in (b"Bearer", b"bearer"):
            return None
    return given if len(given) <= _MAX_LENGTH else b""


def _is_local(headers: Mapping[bytes, bytes], client: str | None) -> bool:
    """Neither the socket's other end nor anybody behind a proxy is on another machine."""
    forwarded = headers.get(b"x-forwarded-for", b"").decode("latin-1")
    named = [name.strip() for name in forwarded.split(",")] if forwarded else []
    if len(named) > 1 and headers.get(b"x-envoy-internal") == b"true" and _is_here(named[-1]):
        named.pop()  # Envoy signs the copies that it sends of requests, by its own address
    return all(_is_loopback(address) for address in (client, *named))


@lru_cache(1024)
def _is_here(address: str) -> bool:
    """Whether it is an address of this machine: it would speak to that one from that one."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))  # sends nothing
            return bool(probe.getsockname()[0] == address)
    except (OSError, ValueError):
        return False


@lru_cache(1024)
def _is_loopback(client: str | None) -> bool:
    """127.0.0.0/8 and ::1, also 127.0.0.0/8 as a socket for both families has it."""
    try:
        address = ipaddress.ip_address(client or "")
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
