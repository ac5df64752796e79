"""The response cache: a row that the same model has answered already is not computed again.

Rows are looked up one by one, so a batch computes only those that are missing, together. The key
of a row covers the digests of the graph and of the contract: no version ever answers for another.

ONNX Runtime may round the last bits of an answer differently by the size of the batch in which it
was computed. A cached answer has the bits of the batch that computed it: within the tolerance of
the certificate, as every answer, but not always those of computing the row anew.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Protocol

import msgspec

from bentos.model_server.asgi import Request
from bentos.model_server.bundle import CacheLimits
from bentos.model_server.contract import FLOATS, Contract
from bentos.model_server.problems import Problem, no_finite_answer
from bentos.model_server.session import Row, Scored

# Label (or value), and the probabilities in the order of the contract's labels. Never changed.
Answer = tuple[Any, list[float] | None]
Entry = tuple[bytes, Answer]
Compute = Callable[[Sequence[Row], Request], Awaitable[Scored]]

# Expired entries dropped for each new one: so they go without a pause for thousands at once.
EXPIRED_PER_ENTRY = 2


class CacheError(ValueError):
    """A cache that cannot be used as it is configured."""


@dataclass(slots=True)
class Counters:
    """Since the start, in rows; errors: failed look-ups and writes, and unusable values."""

    hits: int = 0
    misses: int = 0
    errors: int = 0
    evictions: int = 0


class ResponseCache(Protocol):
    """Where answers are kept. It never raises: what goes wrong is a miss."""

    async def start(self) -> None:
        """Before the first request."""

    async def get(self, keys: list[bytes]) -> list[Answer | None]:
        """The answers in the order of the keys; None where there is none."""

    async def put(self, entries: Iterable[Entry]) -> None:
        """Keep answers, without making the caller wait."""

    async def close(self) -> None:
        """At shutdown."""


def model_digest(contract: Contract) -> str:
    """What tells this version from every other: hex, of the graph's and the contract's digest."""
    both = f"{contract.onnx_sha256}:{contract.digest()}"
    return hashlib.sha256(both.encode()).hexdigest()


class RowKeys:
    """Keys of one contract's rows: 16 bytes, BLAKE2b of the model's digest and the row."""

    def __init__(self, contract: Contract) -> None:
        self._base = hashlib.blake2b(model_digest(contract).encode(), digest_size=16)
        self._encode = msgspec.msgpack.Encoder().encode
        self._floats = [i for i, field in enumerate(contract.inputs) if field.dtype in FLOATS]

    def __call__(self, row: Row) -> bytes:
        """Equal for rows that are equal to the model: 1 is 1.0 where the contract has a float.

        -0.0 is not 0.0: a graph may tell them apart.
        """
        values = list(row)
        for i in self._floats:
            if type(values[i]) is int:
                values[i] = float(values[i])  # type: ignore[arg-type]
        hashed = self._base.copy()
        hashed.update(self._encode(values))
        return hashed.digest()


class MemoryCache:
    """In this process: the least recently used entry goes first, and none outlives its TTL.

    ttl: seconds; clock: monotonic seconds.
    """

    def __init__(
        self,
        ttl: float,
        max_entries: int,
        counters: Counters,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ttl = ttl
        self._max_entries = max_entries
        self._counters = counters
        self._clock = clock
        # key → (when it expires, answer), the least recently used first
        self._entries: OrderedDict[bytes, tuple[float, Answer]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    async def start(self) -> None:
        """Nothing to do."""

    async def get(self, keys: list[bytes]) -> list[Answer | None]:
        """See ResponseCache."""
        now = self._clock()
        return [self._get(key, now) for key in keys]

    def _get(self, key: bytes, now: float) -> Answer | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= now:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[1]

    async def put(self, entries: Iterable[Entry]) -> None:
        """See ResponseCache."""
        now = self._clock()
        for key, answer in entries:
            self._drop_expired(now)
            self._entries[key] = (now + self._ttl, answer)
            self._entries.move_to_end(key)
            if len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)
                self._counters.evictions += 1

    def _drop_expired(self, now: float) -> None:
        # Whatever was not used for a whole TTL stands before all that was.
        for _ in range(EXPIRED_PER_ENTRY):
            oldest = next(iter(self._entries), None)
            if oldest is None or self._entries[oldest][0] > now:
                return
            del self._entries[oldest]

    async def close(self) -> None:
        """Forget everything."""
        self._entries.clear()


class CachedInference:
    """A cache in front of inference. counters: for the metrics."""

    def __init__(self, contract: Contract, cache: ResponseCache, counters: Counters) -> None:
        self.counters = counters
        self._key = RowKeys(contract)
        self._cache = cache

    async def start(self) -> None:
        """Before the first request."""
        await self._cache.start()

    async def infer(self, rows: Sequence[Row], request: Request, compute: Compute) -> Scored:
        """Score the validated rows of one request; at least one row.

        compute: scores the rows that are missing, in one call; its Problems pass through. Sets
        `request.cache` to `hit`, `miss`, or `partial` where some rows of a batch were there.
        """
        keys = [self._key(row) for row in rows]
        found = await self._cache.get(keys)
        if None not in found:
            self.counters.hits += len(found)
            request.cache = "hit"
            return _joined(found)
        missing = [i for i, answer in enumerate(found) if answer is None]
        self.counters.hits += len(rows) - len(missing)
        self.counters.misses += len(missing)
        scored = await _compute(rows, missing, request, compute)
        answers = list(zip(scored.labels, scored.probabilities or repeat(None), strict=False))
        await self._cache.put([(keys[i], a) for i, a in zip(missing, answers, strict=True)])
        for i, answer in zip(missing, answers, strict=True):
            found[i] = answer
        request.cache = "partial" if len(missing) < len(rows) else "miss"
        return _joined(found)

    async def close(self) -> None:
        """At shutdown."""
        await self._cache.close()


async def _compute(
    rows: Sequence[Row], missing: list[int], request: Request, compute: Compute
) -> Scored:
    if len(missing) == len(rows):
        return await compute(rows, request)
    try:
        return await compute([rows[i] for i in missing], request)
    except Problem as problem:
        if not problem.errors:
            raise
        # It counts the rows that it was given, the client those that it sent.
        raise no_finite_answer(missing[problem.errors[0].row or 0]) from None


def _joined(found: Sequence[Any]) -> Scored:
    """found: answers without a gap."""
    if len(found) == 1:
        label, row = found[0]
        return Scored([label], None if row is None else [row])
    labels, probabilities = zip(*found, strict=True)
    return Scored(list(labels), None if probabilities[0] is None else list(probabilities))


def cached_inference(limits: CacheLimits, contract: Contract, url: str | None) -> CachedInference:
    """The cache that is configured: in Redis where there is a URL, else in this process.

    Raises CacheError with the reason why Redis cannot be used.
    """
    counters = Counters()
    if url is None:
        memory = MemoryCache(limits.ttl_seconds, limits.max_entries, counters)
        return CachedInference(contract, memory, counters)
    # Not loaded where it is not configured: the package redis is an extra.
    from bentos.model_server.redis_cache import RedisCache

    redis = RedisCache(url, contract, limits.ttl_seconds, counters)
    return CachedInference(contract, redis, counters)
