"""Differences and sums of counters that begin at zero again when their process is restarted."""

from collections.abc import Callable, Mapping
from operator import add, sub
from typing import Any

from deploy.events import Counters

# Each group begins again together: Envoy's numbers, and the model server's.
_GATEWAY = ("requests", "errors", "refusals")
_SERVER = ("durations", "predictions", "confidences", "values")


def since(now: Counters, before: Counters) -> Counters:
    """What was counted since `before`; where a process was restarted meanwhile, since then: a
    number that fell says so for all numbers of its process."""
    gateway = {name: getattr(now, name) - getattr(before, name) for name in _GATEWAY}
    if min(gateway.values()) < 0:
        gateway = {name: getattr(now, name) for name in _GATEWAY}
    server: dict[str, Any] = {n: _by_key(sub, getattr(now, n), getattr(before, n)) for n in _SERVER}
    if any(count < 0 for cells in server.values() for count in cells.values()):
        server = {name: getattr(now, name) for name in _SERVER}
    return Counters(**gateway, **server)


def added(one: Counters, other: Counters) -> Counters:
    """The sum of what was counted in two stretches of time."""
    numbers = {name: getattr(one, name) + getattr(other, name) for name in _GATEWAY}
    cells: dict[str, Any] = {n: _by_key(add, getattr(one, n), getattr(other, n)) for n in _SERVER}
    return Counters(**numbers, **cells)


def _by_key(
    operation: Callable[[int, int], int], one: Mapping[str, int], other: Mapping[str, int]
) -> dict[str, int]:
    return {key: operation(one.get(key, 0), other.get(key, 0)) for key in {**one, **other}}
