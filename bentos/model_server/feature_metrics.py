"""Metrics of feature look-ups, of a model that has them."""

from http import HTTPStatus

from bentos.model_server.feature_answer import LookedUp
from bentos.model_server.metrics import Histogram, Metrics
from bentos.model_server.problems import Problem

_RESULTS = {
    HTTPStatus.UNPROCESSABLE_ENTITY: "refused",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
    HTTPStatus.BAD_GATEWAY: "failed",
}


class LookupMetrics:
    """Each result starts at zero, so that a rate can be taken."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._cells = metrics.cells
        self._seconds = Histogram(self._cells, "slipway_entity_lookup_seconds")
        for result in ("ok", *_RESULTS.values()):
            self._cells.index("slipway_entity_lookups", result)

    def _count(self, name: str, label: str, number: int = 1) -> None:
        self._cells.values[self._cells.index(name, label)] += number

    def found(self, looked_up: LookedUp, seconds: float) -> None:
        """A request got its features. seconds: it took."""
        self._count("slipway_entity_lookups", "ok")
        self._seconds.observe(seconds)
        for names in looked_up.defaulted:
            for name in names:
                self._count("slipway_entity_defaults", name)

    def failed(self, problem: Problem, seconds: float) -> None:
        """A request did not."""
        self._count("slipway_entity_lookups", _RESULTS.get(problem.status, "failed"))
        self._seconds.observe(seconds)
        if problem.kind == "overloaded":
            self._metrics.shed("features")
