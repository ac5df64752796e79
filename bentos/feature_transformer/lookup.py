"""What becomes of the values that an online store has, or has not: answers, defaults, refusals.

Nothing here knows Feast.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Literal, NamedTuple

from bentos.feature_transformer.entity_rows import Row
from bentos.feature_transformer.settings import FeaturesConfig, Scalar
from bentos.model_server.fields import shown
from bentos.model_server.problems import MAX_ERRORS, FieldError, Problem, unavailable
from feature_repo.description import FeatureServiceDescription, View

Status = Literal["present", "unknown", "stale", "down"]
Values = Mapping[str, Scalar | None]


class Found(NamedTuple):
    """What the store has for one key. at: the values' event timestamp, with a time zone."""

    at: datetime
    values: Values


# By key; None where the store has nothing. None for all of it: the store did not answer.
Read = Sequence[Found | None] | None


@dataclass(frozen=True)
class ViewPlan:
    """One feature view as one service asks for it.

    keys: its join keys' places in the service's entity rows; defaults: None where it refuses.
    """

    name: str
    join_keys: tuple[str, ...]
    keys: tuple[int, ...]
    features: tuple[str, ...]
    ttl_seconds: float | None
    serves_stale: bool
    defaults: Mapping[Status, Values | None]


class Served(NamedTuple):
    """What is answered for one key. as_of: of the values, None for defaults; age_seconds: of what
    was found; values: None where the request is refused."""

    status: Status
    as_of: datetime | None
    age_seconds: float | None
    values: Values | None
    defaulted: bool = False


@dataclass(frozen=True)
class ViewAnswer:
    """served: by key; rows: for each entity row, which key is its."""

    view: ViewPlan
    served: Sequence[Served]
    rows: Sequence[int]

    def column(self, feature: str) -> list[Scalar | None]:
        """A feature's values, by entity row."""
        values = [None if item.values is None else item.values.get(feature) for item in self.served]
        return [values[key] for key in self.rows]


def plan(
    view: View, service: FeatureServiceDescription, features: Sequence[str], config: FeaturesConfig
) -> ViewPlan:
    """features: those of the view that the service asks for."""
    names = [field.name for field in service.entities]
    join_keys = tuple(field.name for field in view.entities)
    chosen = config.view(view.name)
    stand_in = {name: chosen.defaults[name] for name in features if name in chosen.defaults}
    return ViewPlan(
        name=view.name,
        join_keys=join_keys,
        keys=tuple(names.index(key) for key in join_keys),
        features=tuple(features),
        ttl_seconds=view.ttl_seconds,
        serves_stale=chosen.on_stale == "serve",
        defaults={
            "unknown": stand_in if chosen.on_unknown == "default" else None,
            "stale": stand_in if chosen.on_stale == "default" else None,
            "down": stand_in if config.on_store_down == "default" else None,
        },
    )


def unique_keys(view: ViewPlan, entities: Sequence[Row]) -> tuple[list[Row], list[int]]:
    """The different keys of a view in a request, and for each entity row which one is its."""
    places: dict[Row, int] = {}
    rows = [
        places.setdefault(tuple(row[place] for place in view.keys), len(places)) for row in entities
    ]
    return list(places), rows


def serve(view: ViewPlan, read: Read, rows: Sequence[int], now: datetime) -> ViewAnswer:
    """Decide about each key that was read; now: with a time zone."""
    if read is None:
        values = view.defaults["down"]
        down = Served("down", None, None, values, values is not None)
        return ViewAnswer(view, [down] * (max(rows) + 1), rows)
    return ViewAnswer(view, [_served(view, found, now) for found in read], rows)


def _served(view: ViewPlan, found: Found | None, now: datetime) -> Served:
    if found is None:
        values = view.defaults["unknown"]
        return Served("unknown", None, None, values, values is not None)
    age = (now - found.at).total_seconds()
    if view.ttl_seconds is None or age <= view.ttl_seconds:
        return Served("present", found.at, age, found.values)
    if view.serves_stale:
        return Served("stale", found.at, age, found.values)
    values = view.defaults["stale"]
    # A refusal says how old the value is; a default is of no time.
    return Served(
        "stale", None if values is not None else found.at, age, values, values is not None
    )


def refusal(answers: Sequence[ViewAnswer], entities: Sequence[Row]) -> Problem | None:
    """Why a request is refused: a 503 Problem where a store is down, a 422 one with an error for
    each entity row without usable values; None where all can be answered."""
    down = [item.view.name for item in answers if _refused(item.served, "down")]
    if down:
        return store_down(f"the online store of {', '.join(down)} does not answer")
    refused = {
        row
        for item in answers
        for row, key in enumerate(item.rows)
        if item.served[key].values is None
    }
    if not refused:
        return None
    shown_rows = sorted(refused)[:MAX_ERRORS]
    errors = tuple(_error(row, answers, entities[row]) for row in shown_rows)
    more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "unusable-features",
        f"{errors[0].field}: {errors[0].message}{more}",
        title="There are no usable features for this entity",
        errors=errors,
    )


def store_down(detail: str) -> Problem:
    """503: trying again can help."""
    return unavailable("feature-store-down", detail, retry_after=1)


def _refused(served: Sequence[Served], status: Status) -> bool:
    return any(item.status == status and item.values is None for item in served)


def _error(row: int, answers: Sequence[ViewAnswer], entity: Row) -> FieldError:
    refused = [item for item in answers if item.served[item.rows[row]].values is None]
    first = refused[0].view
    field = f"entities[{row}]" + (f".{first.join_keys[0]}" if len(first.join_keys) == 1 else "")
    return FieldError(field, "; ".join(_reasons(row, refused, entity)), row)


def _reasons(row: int, refused: Sequence[ViewAnswer], entity: Row) -> Iterator[str]:
    for answer in refused:
        view, served = answer.view, answer.served[answer.rows[row]]
        key = ", ".join(shown(entity[place]) for place in view.keys)
        if served.status == "unknown":
            yield f"unknown: {view.name} has no values for {key}"
        elif served.as_of is not None:
            as_of = served.as_of.isoformat().replace("+00:00", "Z")
            yield (
                f"stale: {view.name} has values of {as_of} for {key}, "
                f"older than its TTL of {view.ttl_seconds:g} s"
            )
