"""The body of `/features`: a service's name, and rows of the keys and fields that it takes.

As with a model's input, what msgspec accepts is valid, and what it refuses is read a second time
to say why.
"""

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from bentos.feature_transformer.checks import typed
from bentos.feature_transformer.settings import Scalar
from bentos.model_server import explain
from bentos.model_server.codec import LARGE_BODY, REFUSED, row_structs
from bentos.model_server.fields import Field, shown
from bentos.model_server.problems import (
    MAX_ERRORS,
    FieldError,
    Problem,
    clean,
    invalid,
    malformed,
    too_many_rows,
)
from feature_repo.description import Description, FeatureServiceDescription

Row = tuple[Scalar, ...]
_KEYS = ("service", "entities", "request")


class Asked(NamedTuple):
    """One request. entities: rows of the service's join keys; request: rows of its request fields,
    as many."""

    service: str
    entities: list[Row]
    request: list[Row]


_NULL = msgspec.Raw(b"null")


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    service: str
    entities: msgspec.Raw
    request: msgspec.Raw = _NULL


class _Rows:
    """Rows of one kind. where: `entities` or `request`."""

    def __init__(self, where: str, fields: Sequence[Field]) -> None:
        self.where, self.fields = where, tuple(fields)
        struct, _ = row_structs(self.fields)
        self._decoder = msgspec.json.Decoder(list[struct])  # type: ignore[valid-type]

    def decode(self, raw: msgspec.Raw) -> list[Row]:
        """One of codec.REFUSED where a row is wrong."""
        return [msgspec.structs.astuple(row) for row in self._decoder.decode(raw)]

    def complaints(self, rows: object) -> Iterator[FieldError]:
        """What is wrong with the rows of a parsed body."""
        if not isinstance(rows, list):
            yield FieldError(self.where, f"expected an array of objects, got {shown(rows)}")
            return
        for number, row in enumerate(rows):
            place = f"{self.where}[{number}]"
            if isinstance(row, dict):
                yield from self._row(place, number, row)
            else:
                yield FieldError(place, f"expected an object, got {shown(row)}", number)

    def _row(self, place: str, number: int, row: dict[str, Any]) -> Iterator[FieldError]:
        for field in self.fields:
            if field.name not in row:
                message: str | None = f"is missing; expected {field.expected()}"
            else:
                message = field.complaint(row[field.name])
            if message:
                yield FieldError(f"{place}.{field.name}", message, number)
        takes = ", ".join(field.name for field in self.fields) or "nothing"
        for name in row.keys() - {field.name for field in self.fields}:
            message = f"is unknown; the service takes {takes} here"
            yield FieldError(f"{place}.{clean(name, 80)}", message, number)


class Codec:
    """Bound to the services of one store. max_rows: that one request may have."""

    def __init__(self, description: Description, max_rows: int) -> None:
        self._max_rows = max_rows
        self._body = msgspec.json.Decoder(_Body)
        self._services = {item.name: _rows_of(item) for item in description.services}

    def decode(self, body: bytes) -> Asked:
        """A Problem (400, 404, 413, 422) where the request is refused."""
        try:
            asked = self._body.decode(body)
        except REFUSED as error:
            raise self._problem(body, error) from None
        kinds = self._services.get(asked.service)
        if kinds is None:
            raise self._unknown(asked.service)
        entities, request = kinds
        try:
            rows = entities.decode(asked.entities)
            fields = None if asked.request == _NULL else request.decode(asked.request)
        except REFUSED as error:
            raise self._problem(body, error) from None
        return Asked(asked.service, rows, self._matching(rows, fields, request))

    def _matching(self, rows: list[Row], fields: list[Row] | None, request: _Rows) -> list[Row]:
        if not rows:
            raise invalid([FieldError("entities", "is empty; expected at least one row")])
        if len(rows) > self._max_rows:
            raise too_many_rows(len(rows), self._max_rows, "entities")
        if fields is None:
            if not request.fields:
                return [()] * len(rows)
            takes = ", ".join(field.name for field in request.fields)
            message = f"is missing; the service reads {takes} from the request"
            raise invalid([FieldError("request", message)])
        if len(fields) != len(rows):
            message = f"has {len(fields)} rows, entities has {len(rows)}; expected as many"
            raise invalid([FieldError("request", message)])
        return fields

    def _unknown(self, service: str) -> Problem:
        known = ", ".join(sorted(self._services)) or "none"
        return Problem(
            HTTPStatus.NOT_FOUND,
            "unknown-service",
            f"there is no feature service {clean(service, 80)}; there is: {known}",
        )

    def _problem(self, body: bytes, refusal: BaseException) -> Problem:
        if len(body) > LARGE_BODY:
            return explain.in_brief(refusal)
        if errors := list(islice(self._complaints(explain.parse(body)), MAX_ERRORS + 1)):
            return invalid(errors)
        return malformed(f"the body cannot be read: {refusal}")

    def _complaints(self, document: object) -> Iterator[FieldError]:
        if not isinstance(document, dict):
            text = f"expected an object with service and entities, got {shown(document)}"
            yield FieldError(explain.WHOLE_BODY, text)
            return
        for name in document.keys() - {*_KEYS}:
            yield FieldError(clean(name, 80), f"is unknown; a request has {', '.join(_KEYS)} alone")
        service = document.get("service")
        if not isinstance(service, str):
            given = f"got {shown(service)}" if "service" in document else "it is missing"
            yield FieldError("service", f"expected a feature service's name, {given}")
        if "entities" not in document:
            yield FieldError("entities", "is missing; expected an array of objects")
        elif isinstance(service, str) and service in self._services:
            entities, request = self._services[service]
            yield from entities.complaints(document["entities"])
            if document.get("request") is not None:
                yield from request.complaints(document["request"])


def _rows_of(service: FeatureServiceDescription) -> tuple[_Rows, _Rows]:
    entities = [typed(field) for field in service.entities]
    request = [typed(field) for field in service.request]
    return _Rows("entities", entities), _Rows("request", request)
