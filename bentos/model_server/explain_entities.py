"""Why a request with entities was refused; as `explain`, for the other form of a request."""

from collections.abc import Callable, Sequence
from typing import Any

from bentos.model_server.contract import FeatureSource
from bentos.model_server.explain import Object, duplicates, named, strangers
from bentos.model_server.fields import Field, shown
from bentos.model_server.problems import MAX_ERRORS, FieldError


class EntityExplainer:
    """entities: the join keys; given: the inputs that stand beside them."""

    def __init__(
        self, source: FeatureSource, entities: Sequence[Field], given: Sequence[Field]
    ) -> None:
        self._source = source
        self._entities = entities
        self._given = given

    def one(self, document: Object, row: int | None = None) -> list[FieldError]:
        """What is wrong with a document, or a row of a batch, that has entities."""
        errors = duplicates(document, row) + strangers(document, "entities", "features", row=row)
        errors += self._part(document, "entities", self._of_entities, row)
        if "features" in document or any(field.required for field in self._given):
            errors += self._part(document, "features", self._of_features, row)
        return errors

    def many(self, document: Object) -> list[FieldError]:
        """What is wrong with a batch of which a row has entities; ends after MAX_ERRORS."""
        errors = duplicates(document) + strangers(document, "instances")
        for index, row in enumerate(document["instances"]):
            if isinstance(row, Object) and "entities" in row:
                errors += self.one(row, index)
            else:
                message = "is missing; either all rows of a request have entities, or none has"
                errors.append(FieldError("entities", message, index))
            if len(errors) > MAX_ERRORS:
                break
        return errors

    def _part(
        self,
        document: Object,
        name: str,
        explain: Callable[[Object, int | None], list[FieldError]],
        row: int | None,
    ) -> list[FieldError]:
        value: Any = document.get(name)
        if isinstance(value, Object):
            return explain(value, row)
        came = f"got {shown(value)}" if name in document else "it is missing"
        return [FieldError(name, f"expected an object, {came}", row)]

    def _of_entities(self, value: Object, row: int | None) -> list[FieldError]:
        what = f"an entity of the feature service {self._source.service}"
        errors = named(self._entities, value, row, what)
        return [FieldError(f"entities.{e.field}", e.message, e.row) for e in errors]

    def _of_features(self, value: Object, row: int | None) -> list[FieldError]:
        told = [
            FieldError(
                name,
                f"comes from the feature service {self._source.service} for these entities: leave "
                "it out, or leave out entities and give every input",
                row,
            )
            for name in self._source.provided
            if name in value
        ]
        rest = Object({k: v for k, v in value.items() if k not in self._source.provided})
        rest.duplicates = value.duplicates
        what = "an input that a request with entities gives"
        return told + named(self._given, rest, row, what)
