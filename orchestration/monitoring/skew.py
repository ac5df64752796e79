"""Whether what was served online is what the offline store has of that moment. Pure functions."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from feature_repo.description import FeatureServiceDescription

Values = Mapping[str, Any]
# A store that keeps whole seconds alone (Redis) says 10:00:00 of a row of 10:00:00.4.
_SECOND = timedelta(seconds=1) - timedelta(microseconds=1)


@dataclass(frozen=True)
class Served:
    """One answered row. lookups: by feature view, `as_of` (RFC 3339 or None) and `status`;
    features: by input."""

    request_id: str
    row: int
    time: datetime
    entities: Values
    lookups: Mapping[str, Values]
    features: Values


@dataclass(frozen=True)
class Asked:
    """What the offline store is asked: the features of these entities as they were then."""

    entities: Values
    request: Values
    at: datetime


# The features of a feature service, for each that is asked, in order; None: missing.
Offline = Callable[[Sequence[Asked]], Sequence[Values]]


@dataclass(frozen=True)
class Difference:
    """One value that is not the same. as_of: the event timestamp that was served."""

    served: Served
    view: str
    feature: str
    online: Any
    offline: Any
    as_of: datetime


@dataclass(frozen=True)
class Audit:
    """values: compared; apart: row look-ups by status that had no value of the store to compare;
    hidden: features of which the log has no value,
    or not what they are computed from."""

    rows: int
    values: int
    differences: tuple[Difference, ...]
    apart: Mapping[str, int]
    hidden: tuple[str, ...]


def audit(
    rows: Sequence[Served],
    service: FeatureServiceDescription,
    on_demand: Collection[str],
    offline: Offline,
) -> Audit:
    """Compare, exactly: the tolerance is 0, two missing values are equal.

    on_demand: the on-demand views, which are computed anew from the request's own fields. Every
    other view is asked for at its own `as_of`, so the joins of two views do not mix.
    """
    request = [field.name for field in service.request]
    wanted, hidden = _logged(rows, service, on_demand)
    apart: Counter[str] = Counter()
    values, found = 0, list[Difference]()
    for view, names in wanted.items():
        asked = []
        for row in rows:
            at = _moment(row, None if view in on_demand else view)
            if at is None:
                apart[f"{view}: {row.lookups.get(view, {}).get('status', 'not looked up')}"] += 1
            else:
                asked.append((row, at))
        answers = offline([_asked(row, at, request) for row, at in asked]) if asked else []
        for (row, at), answer in zip(asked, answers, strict=True):
            values += len(names)
            found += _differences(row, view, names, answer, at)
    return Audit(len(rows), values, tuple(found), dict(apart), hidden)


def _logged(
    rows: Sequence[Served], service: FeatureServiceDescription, on_demand: Collection[str]
) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """The features to compare by view, and those of which the log knows too little."""
    logged = {name for row in rows for name in row.features}
    unknown = on_demand if {field.name for field in service.request} - logged else ()
    wanted: dict[str, list[str]] = {}
    hidden = []
    for feature in service.features if rows else ():
        if feature.name in logged and feature.view not in unknown:
            wanted.setdefault(feature.view, []).append(feature.name)
        else:
            hidden.append(feature.name)
    return wanted, tuple(hidden)


def _differences(
    row: Served, view: str, names: Sequence[str], offline: Values, at: datetime
) -> list[Difference]:
    return [
        Difference(row, view, name, row.features.get(name), offline[name], at)
        for name in names
        if not same(row.features.get(name), offline[name])
    ]


def _moment(row: Served, view: str | None) -> datetime | None:
    """The event timestamp that was served; None where it was no value of the store."""
    if view is None:
        return row.time
    look = row.lookups.get(view, {})
    if look.get("status") != "present" or not look.get("as_of"):
        return None
    return datetime.fromisoformat(look["as_of"])


def _asked(row: Served, at: datetime, request: Sequence[str]) -> Asked:
    until = at if at.microsecond else at + _SECOND
    return Asked(row.entities, {name: row.features.get(name) for name in request}, until)


def same(online: Any, offline: Any) -> bool:
    """Equal, or both missing."""
    if _missing(online) or _missing(offline):
        return _missing(online) and _missing(offline)
    return bool(online == offline)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
