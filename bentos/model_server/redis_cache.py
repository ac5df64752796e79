"""The response cache in Redis, shared by the workers and servers of a model version.

Redis only ever saves work: where it is slow, full, gone or holds nonsense, the model answers. Who
can write to it can write answers, so it belongs to the platform alone.
"""

import asyncio
import math
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bentos.model_server.breaker import Breaker
from bentos.model_server.cache import Answer, CacheError, Counters, Entry, model_digest
from bentos.model_server.contract import Contract, Outputs

# For one look-up, including connecting: no request waits longer than this for the cache.
TIMEOUT_SECONDS = 0.05
# For what no request waits for: connecting before the first one, and writing.
PATIENT_SECONDS = 2.0
# Rows that may wait to be asked for, and as many to be written. What goes beyond is computed, and
# not kept: were it all to be asked for at once, that alone could take longer than the time-out.
MAX_ROWS = 1024


class _Value(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """What stands under a key. key: again, so that no value is ever read for another's."""

    key: bytes
    label: str | int | float | bool
    probabilities: list[float] | None


class Values:
    """Answers of one contract as msgpack, read back strictly."""

    def __init__(self, outputs: Outputs) -> None:
        self._labels = frozenset(outputs.labels)
        self._probabilities = None if outputs.probabilities is None else len(outputs.labels)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(_Value)

    def encode(self, key: bytes, answer: Answer) -> bytes:
        """The value of an entry."""
        return self._encoder.encode(_Value(key, *answer))

    def decode(self, key: bytes, data: bytes) -> Answer | None:
        """None where it is no answer of this contract to this key."""
        try:
            value = self._decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        numbers = value.probabilities
        right = value.key == key and (numbers and len(numbers)) == self._probabilities
        if not (right and self._known(value.label) and all(map(math.isfinite, numbers or ()))):
            return None
        return value.label, value.probabilities

    def _known(self, label: object) -> bool:
        if self._labels:
            return label in self._labels
        return isinstance(label, float) and math.isfinite(label)


def _connect(url: str) -> tuple[Any, str]:
    """A client, which connects when it is used, and its place without the password."""
    try:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError as error:
        raise CacheError(
            "SLIPWAY_CACHE_URL names a Redis, but the package redis is not installed here: "
            "pip install 'slipway[redis]', or where the Bento runs alone pip install 'redis>=6.4'"
        ) from error
    try:
        # RESP2: every server and proxy speaks it, without a greeting.
        client = Redis.from_url(
            url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=TIMEOUT_SECONDS,
        )
        parts = urlsplit(url)
        host = f"{parts.hostname}:{parts.port or 6379}"
        return client, host if parts.hostname else parts.path
    except ValueError:  # whose text may quote the password
        raise CacheError(
            "SLIPWAY_CACHE_URL is no URL of a Redis; expected redis://[user:password@]host:port/db "
            "(rediss:// for TLS) with special characters percent-encoded"
        ) from None


class RedisCache:
    """At most one MGET and one write are under way; what comes meanwhile goes together in the next.

    ttl: seconds; url: of redis-py. Raises CacheError where Redis cannot be used.
    """

    def __init__(self, url: str, contract: Contract, ttl: float, counters: Counters) -> None:
        self._client, place = _connect(url)
        self._breaker = Breaker(place)
        self._prefix = f"slipway:cache:{model_digest(contract)[:32]}:"
        self._values = Values(contract.outputs)
        self._milliseconds = max(1, round(ttl * 1000))
        self._counters = counters
        self._asked: dict[asyncio.Future[list[Answer | None]], list[bytes]] = {}
        self._unwritten: list[Entry] = []
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """See ResponseCache. Connects, so that the first request need not."""
        try:
            async with asyncio.timeout(PATIENT_SECONDS):
                await self._client.ping()
        except Exception as error:  # whatever it is, the model can answer
            self._counters.errors += 1
            self._breaker.failed(error)

    def _name(self, key: bytes) -> str:
        return self._prefix + key.hex()

    async def get(self, keys: list[bytes]) -> list[Answer | None]:
        """See ResponseCache."""
        waiting = sum(map(len, self._asked.values()))
        if waiting + len(keys) > MAX_ROWS or not self._breaker.allows():
            return [None] * len(keys)
        answer: asyncio.Future[list[Answer | None]] = asyncio.get_running_loop().create_future()
        self._asked[answer] = keys
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await answer
        except TimeoutError:
            self._counters.errors += 1
            return [None] * len(keys)

    async def _read(self) -> None:
        try:
            while self._asked:
                asked, self._asked = self._asked, {}
                keys = [key for some in asked.values() for key in some]
                values = iter(await self._look_up(keys))
                if self._breaker.open:  # who came meanwhile need not find out for himself
                    asked, self._asked = asked | self._asked, {}
                for answer, some in asked.items():
                    found = [self._decoded(key, next(values, None)) for key in some]
                    if not answer.done():
                        answer.set_result(found)
        finally:
            self._reader = None

    async def _look_up(self, keys: list[bytes]) -> list[bytes | None]:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                names = [self._name(key) for key in keys]
                values: list[bytes | None] = await self._client.mget(names)
        except Exception as error:  # as in `start`
            self._counters.errors += 1
            self._breaker.failed(error)
            return []
        self._breaker.succeeded()
        return values

    def _decoded(self, key: bytes, value: bytes | None) -> Answer | None:
        if value is None:
            return None
        answer = self._values.decode(key, value)
        if answer is None:
            self._counters.errors += 1
        return answer

    async def put(self, entries: Iterable[Entry]) -> None:
        """See ResponseCache. Written in the background; not at all where Redis lags behind."""
        entries = list(entries)
        if self._breaker.open or len(self._unwritten) + len(entries) > MAX_ROWS:
            return
        self._unwritten += entries
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())

    async def _write(self) -> None:
        """Failures are counted alone: where they mean an outage, the next look-up finds it out."""
        while self._unwritten:
            entries, self._unwritten = self._unwritten, []
            try:
                async with asyncio.timeout(PATIENT_SECONDS):
                    results = await self._set(entries)
                self._counters.errors += sum(isinstance(r, Exception) for r in results)
            except Exception:  # as in `start`
                self._counters.errors += 1
                self._unwritten.clear()
        self._writer = None

    async def _set(self, entries: list[Entry]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for key, answer in entries:
            pipeline.set(self._name(key), self._values.encode(key, answer), px=self._milliseconds)
        results: list[Any] = await pipeline.execute(raise_on_error=False)
        return results

    async def close(self) -> None:
        """Let what is under way end, which its time-outs bound, and close the connections."""
        await asyncio.gather(*filter(None, (self._reader, self._writer)))
        await self._client.aclose()
