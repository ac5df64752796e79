"""From the rows of a request to its answer: reading, deciding, on-demand views."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from bentos.feature_transformer.checks import require_consistent
from bentos.feature_transformer.entity_rows import Asked, Row
from bentos.feature_transformer.lookup import (
    Read,
    ViewAnswer,
    ViewPlan,
    plan,
    refusal,
    serve,
    unique_keys,
)
from bentos.feature_transformer.on_demand import OnDemand
from bentos.feature_transformer.online_store import OnlineStore, StoreDownError
from bentos.feature_transformer.settings import FeaturesConfig, Scalar
from bentos.model_server.problems import Problem
from feature_repo.description import Description, FeatureServiceDescription

if TYPE_CHECKING:
    from feast import FeatureStore

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """With a time zone."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Outcome:
    """body: the answer, or the Problem; the rest is for the metrics.

    lookups: by view and status, of entity rows; ages: seconds, of what the store had for a key;
    failures: reads without an answer.
    """

    body: bytes | Problem
    lookups: Counter[tuple[str, str]] = field(default_factory=Counter)
    ages: list[tuple[str, float]] = field(default_factory=list)
    failures: int = 0


@dataclass(frozen=True)
class _Service:
    described: FeatureServiceDescription
    views: tuple[ViewPlan, ...]
    on_demand: tuple[OnDemand, ...]


class Features:
    """All services of a store. FeaturesError where `config` does not belong to it."""

    def __init__(
        self,
        store: "FeatureStore",
        description: Description,
        config: FeaturesConfig,
        clock: Clock = utc_now,
    ) -> None:
        require_consistent(config, description)
        self.description, self.config, self._clock = description, config, clock
        views = [view for view in description.views if view.kind == "feature_view"]
        self._online = OnlineStore(store, views, config.read_seconds)
        self._services = {item.name: self._service(store, item) for item in description.services}

    def _service(self, store: "FeatureStore", service: FeatureServiceDescription) -> _Service:
        views, on_demand = [], []
        described = {view.name: view for view in self.description.views}
        for name in dict.fromkeys(item.view for item in service.features):
            asked = {item.name: item.dtype for item in service.features if item.view == name}
            if described[name].kind == "feature_view":
                views.append(plan(described[name], service, list(asked), self.config))
            else:
                on_demand.append(OnDemand(store.get_on_demand_feature_view(name), asked))
        return _Service(service, tuple(views), tuple(on_demand))

    def probe(self) -> None:
        """Read every view once; StoreDownError."""
        for view in {view.name: view for s in self._services.values() for view in s.views}.values():
            self._online.probe(view)

    def answer(self, asked: Asked, *, down: bool = False) -> Outcome:
        """Look everything up. down: without asking the store, as if it did not answer."""
        service, now = self._services[asked.service], self._clock()
        answers, failures = [], 0
        for view in service.views:
            keys, rows = unique_keys(view, asked.entities)
            read = None if down else self._read(view, keys)
            failures += read is None
            answers.append(serve(view, read, rows, now))
        body = refusal(answers, asked.entities) or self._body(service, answers, asked.request)
        return Outcome(body, _lookups(answers), _ages(answers), failures)

    def _read(self, view: ViewPlan, keys: Sequence[Row]) -> Read:
        try:
            return self._online.read(view, keys)
        except StoreDownError:
            return None

    def _body(
        self, service: _Service, answers: Sequence[ViewAnswer], request: Sequence[Row]
    ) -> bytes:
        columns: dict[str, list[Scalar | None]] = {}
        for answer in answers:
            for name in answer.view.features:
                columns[name] = answer.column(name)
        if service.on_demand:
            names = [item.name for item in service.described.request]
            fields = dict(zip(names, zip(*request, strict=True), strict=True))
            for view in service.on_demand:
                columns |= view.columns(fields)
        document = {
            "features": {item.name: columns[item.name] for item in service.described.features},
            "views": {answer.view.name: _about(answer) for answer in answers},
            "defaulted": _defaulted(answers),
        }
        return msgspec.json.encode(document)


def _about(answer: ViewAnswer) -> dict[str, list[Any]]:
    return {
        "as_of": [answer.served[key].as_of for key in answer.rows],
        "status": [answer.served[key].status for key in answer.rows],
    }


def _defaulted(answers: Sequence[ViewAnswer]) -> list[str]:
    return sorted(
        name
        for answer in answers
        if any(item.defaulted for item in answer.served)
        for name in answer.view.features
    )


def _lookups(answers: Sequence[ViewAnswer]) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for answer in answers:
        for key in answer.rows:
            item = answer.served[key]
            counts[answer.view.name, item.status] += 1
            if item.defaulted:
                counts[answer.view.name, "defaulted"] += 1
    return counts


def _ages(answers: Sequence[ViewAnswer]) -> list[tuple[str, float]]:
    return [
        (answer.view.name, item.age_seconds)
        for answer in answers
        for item in answer.served
        if item.age_seconds is not None
    ]
