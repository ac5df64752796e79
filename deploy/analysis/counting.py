"""Differences and sums of counters that begin at zero again when their process is restarted."""

from collections.abc import Callable
from operator import add, sub
from typing import Any

import msgspec

from deploy.events import Counters

# Each group begins again together: Envoy's numbers, and the model server's.
_GATEWAY = ("requests", "errors", "refusals")
_SERVER = ("durations", "predictions", "confidences", "values", "rows_squared")


def since(now: Counters, before: Counters) -> Counters:
    """What was counted since `before`; where a process was restarted meanwhile, since then: a
    number that fell says so for all numbers of its process."""
    grown = _combined(sub, now, before)
    for names in (_GATEWAY, _SERVER):
        if any(_lowest(getattr(grown, name)) < 0 for name in names):
            restarted = {name: getattr(now, name) for name in names}
            grown = msgspec.structs.replace(grown, **restarted)
    return grown


def added(one: Counters, other: Counters) -> Counters:
    """The sum of what was counted in two stretches of time."""
    return _combined(add, one, other)


def at_least(one: Counters, other: Counters) -> Counters:
    """The larger of both, number by number: of two looks at the same processes, the later one."""
    return _combined(max, one, other)


def _combined(operation: Callable[[int, int], int], one: Counters, other: Counters) -> Counters:
    found: dict[str, Any] = {}
    for name in (*_GATEWAY, *_SERVER):
        mine, its = getattr(one, name), getattr(other, name)
        if isinstance(mine, int):
            found[name] = operation(mine, its)
        else:
            keys = {**mine, **its}
            found[name] = {key: operation(mine.get(key, 0), its.get(key, 0)) for key in keys}
    return Counters(**found)


def _lowest(numbers: int | dict[str, int]) -> int:
    return numbers if isinstance(numbers, int) else min(numbers.values(), default=0)
