"""What the feature transformer answers, read as strictly as a client's input: it is another
process, and a wrong row would be a wrong prediction that nobody notices."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Literal

import msgspec

from bentos.model_server.codec import categories_of
from bentos.model_server.contract import FeatureSource
from bentos.model_server.fields import Field
from bentos.model_server.http_client import HttpAnswer
from bentos.model_server.problems import (
    FieldError,
    clean,
    feature_lookup_failed,
    features_unavailable,
)

_PLACE = re.compile(r"(?P<part>entities|request)\[(?P<row>\d{1,9})\]\.?(?P<name>.*)", re.DOTALL)
# What concerns the transformer; anything else may be the fault of one request in the call.
_BUSY = (
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)

Status = Literal["present", "unknown", "stale", "down"]


class View(msgspec.Struct, frozen=True):
    """One feature view's values, by row. as_of: RFC 3339."""

    as_of: list[Annotated[str, msgspec.Meta(max_length=40)] | None]
    status: list[Status]


class _Refusal(msgspec.Struct, frozen=True):
    """A problem document of the transformer."""

    detail: str = ""
    errors: tuple[FieldError, ...] = ()


class FeaturesRefusedError(Exception):
    """The transformer refuses some of the entities. errors: one at least, with the row of the
    call, where it is known, and the field as a client of the model server calls it."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__(errors[0].message)
        self.errors = errors


@dataclass(frozen=True)
class LookedUp:
    """Features of some rows. columns: one list for each provided input, in the contract's order;
    lookups: by row, the views' `{"as_of", "status"}` as JSON; defaulted: by row, the features that
    defaults stand in for."""

    columns: list[list[Any]]
    lookups: list[str]
    defaulted: list[list[str]]

    def part(self, start: int, end: int) -> "LookedUp":
        """Some of its rows."""
        columns = [column[start:end] for column in self.columns]
        return LookedUp(columns, self.lookups[start:end], self.defaulted[start:end])


class FeatureAnswers:
    """Reads the answers for one contract. fields: those of the provided inputs, in its order."""

    def __init__(self, source: FeatureSource, fields: Sequence[Field]) -> None:
        self._service = source.service
        self._fields = fields
        self._categories = categories_of(fields)
        columns = msgspec.defstruct(
            "Columns",
            [(f"f{i}", list[field.annotation()]) for i, field in enumerate(fields)],  # type: ignore[misc]
            rename={f"f{i}": field.name for i, field in enumerate(fields)},
            frozen=True,
        )
        answer = msgspec.defstruct(
            "Answer",
            [
                ("features", columns),
                ("views", dict[str, View]),
                ("defaulted", list[str | list[str]], []),
            ],
            frozen=True,
        )
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(answer)
        self._refusals = msgspec.json.Decoder(_Refusal)
        self._encode = msgspec.json.Encoder().encode

    def read(self, answer: HttpAnswer, rows: int) -> LookedUp:
        """The features of as many rows as were asked for.

        FeaturesRefusedError where the transformer refuses entities; a Problem where it has none to
        give (503), or where what it gave cannot be used (502).
        """
        if answer.status != HTTPStatus.OK:
            raise self._refusal(answer)
        try:
            found = self._decoder.decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise feature_lookup_failed(clean(str(error), 300)) from None
        columns = [*msgspec.structs.astuple(found.features)]
        self._require(columns, found.views, rows)
        defaulted = _by_row(found.defaulted, found.views, rows)
        return LookedUp(columns, self._lookups(found.views, rows), defaulted)

    def _require(self, columns: list[list[Any]], views: dict[str, View], rows: int) -> None:
        """Refuse another number of rows, and what the contract's categories do not have."""
        for field, column in zip(self._fields, columns, strict=True):
            if len(column) != rows:
                raise feature_lookup_failed(f"{field.name} has {len(column)} values, not {rows}")
        for i, field, allowed in self._categories:
            if not allowed.issuperset(columns[i]):
                complaint = next(filter(None, map(field.complaint, columns[i])), "")
                raise feature_lookup_failed(f"{field.name}: {complaint}")
        for name, view in views.items():
            if len(view.as_of) != rows or len(view.status) != rows:
                raise feature_lookup_failed(f"the view {clean(name, 80)} has not {rows} rows")

    def _lookups(self, views: dict[str, View], rows: int) -> list[str]:
        return [
            self._encode(
                {n: {"as_of": v.as_of[i], "status": v.status[i]} for n, v in views.items()}
            ).decode()
            for i in range(rows)
        ]

    def _refusal(self, answer: HttpAnswer) -> Exception:
        try:
            refusal = self._refusals.decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            refusal = _Refusal()
        detail = clean(refusal.detail, 300) or "no reason is given"
        if answer.status == HTTPStatus.UNPROCESSABLE_ENTITY:
            errors = [_placed(error) for error in refusal.errors]
            return FeaturesRefusedError(errors or [FieldError("entities", detail)])
        if answer.status in _BUSY:
            after = answer.headers.get(b"retry-after", b"")
            seconds = int(after) if after.isdigit() and len(after) < 5 else 1
            return features_unavailable(f"the feature transformer: {detail}", seconds)
        return feature_lookup_failed(
            f"service {self._service}, status {answer.status}: {detail}", answered=False
        )


def _placed(error: FieldError) -> FieldError:
    """`entities[3].customer_id` as `entities.customer_id` of row 3."""
    found = _PLACE.fullmatch(error.field)
    if found is None:
        return error
    name = clean(found["name"], 80)
    if found["part"] == "entities":
        name = f"entities.{name}" if name else "entities"
    return FieldError(name, clean(error.message, 500), int(found["row"]))


def _by_row(defaulted: list[Any], views: dict[str, View], rows: int) -> list[list[str]]:
    """The names for each row; where they are told for all rows together, those of each row with
    a value that is of no time."""
    if len(defaulted) == rows and all(isinstance(names, list) for names in defaulted):
        return defaulted
    names = [name for name in defaulted if isinstance(name, str)]
    if not names:
        return [[] for _ in range(rows)]
    lacking = [any(view.as_of[i] is None for view in views.values()) for i in range(rows)]
    return [names if lacks else [] for lacks in lacking]
