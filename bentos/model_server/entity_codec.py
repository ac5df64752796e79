"""Requests that name entities instead of all inputs: JSON to rows that lack looked-up features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from bentos.model_server import explain
from bentos.model_server.codec import (
    LARGE_BODY,
    REFUSED,
    Row,
    categories_of,
    count_quotes,
    require_categories,
    row_structs,
)
from bentos.model_server.contract import Contract, ContractError, FeatureSource
from bentos.model_server.explain_entities import EntityExplainer
from bentos.model_server.feature_client import Asked
from bentos.model_server.fields import RANGES, Field
from bentos.model_server.problems import Problem, invalid, malformed, too_many_rows

# As a key or a text of its own, in the body of every request with entities: within another text
# its quotes would be escaped.
MARK = b'"entities"'


@dataclass(frozen=True)
class EntityRows:
    """asked: what to look up; given: by row, the inputs that are not looked up, in order."""

    asked: Asked
    given: list[Row]


class _Peek(msgspec.Struct):
    """Whether there are entities."""

    entities: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _PeekBatch(msgspec.Struct):
    """Whether a row has entities."""

    instances: list[_Peek] = []


def entity_fields(source: FeatureSource) -> list[Field]:
    """The join keys, as compiled inputs are."""
    ranges = [RANGES.get(key.dtype, (None, None)) for key in source.entities]
    return [
        Field(key.name, key.dtype, True, low, high, None, None)
        for key, (low, high) in zip(source.entities, ranges, strict=True)
    ]


def given_fields(source: FeatureSource, fields: Sequence[Field]) -> list[Field]:
    """The inputs that a request with entities gives itself."""
    return [field for field in fields if field.name not in source.provided]


class EntityCodec:
    """Bound to one contract. fields: its compiled inputs; max_rows: of one batch request."""

    def __init__(
        self, contract: Contract, source: FeatureSource, fields: Sequence[Field], max_rows: int
    ) -> None:
        """ContractError where a request with entities could not be told from one without."""
        if any(field.name == "entities" for field in fields):
            raise ContractError(
                f"{contract.model} has an input called entities and a feature service: a request "
                "could mean either; give the input another name"
            )
        self._entities = entity_fields(source)
        self._given = given_fields(source, fields)
        self._max_rows = max_rows
        self._categories = categories_of(self._given)
        names = [field.name for field in self._given]
        self._sent = [(names.index(name), name) for name in source.request]
        self._explain = EntityExplainer(source, self._entities, self._given)
        entities, _ = row_structs(self._entities)
        given, _ = row_structs(self._given)
        required = any(field.required for field in self._given)
        features: Any = ("features", given) if required else (
            "features", given | msgspec.UnsetType, msgspec.UNSET
        )  # fmt: skip
        row = msgspec.defstruct(
            "EntityRow", [("entities", entities), features], forbid_unknown_fields=True
        )
        batch = msgspec.defstruct(
            "EntityBatch", [("instances", list[row])], forbid_unknown_fields=True  # type: ignore[valid-type]
        )  # fmt: skip
        self._one = msgspec.json.Decoder(row)
        self._many: msgspec.json.Decoder[Any] = msgspec.json.Decoder(batch)
        self._peek = msgspec.json.Decoder(_Peek)
        self._peek_batch = msgspec.json.Decoder(_PeekBatch)
        self._encode = msgspec.json.Encoder().encode

    def decode_one(self, body: bytes) -> EntityRows | None:
        """None for a `/predict` request without entities; a Problem (400, 422) where refused."""
        try:
            rows = [self._one.decode(body)]
        except REFUSED as error:
            if refusal := self._refusal(body, error, many=False):
                raise refusal from None
            return None
        return self._rows(body, rows, 0, many=False)

    def decode_batch(self, body: bytes) -> EntityRows | None:
        """None for a `/predict/batch` request without entities; else as `decode_one`, and 413."""
        try:
            rows = self._many.decode(body).instances
        except REFUSED as error:
            if refusal := self._refusal(body, error, many=True):
                raise refusal from None
            return None
        if len(rows) > self._max_rows:
            raise too_many_rows(len(rows), self._max_rows)
        return self._rows(body, rows, 2, many=True) if rows else None

    def _rows(self, body: bytes, rows: list[Any], quotes: int, *, many: bool) -> EntityRows:
        """quotes: those of the keys around the rows; more than all account for mean that a key
        may stand twice, see `Codec`."""
        keys = [msgspec.structs.astuple(row.entities) for row in rows]
        nothing: Row = (None,) * len(self._given)
        features = [row.features for row in rows]
        bare = features.count(msgspec.UNSET)
        given = [nothing if f is msgspec.UNSET else msgspec.structs.astuple(f) for f in features]
        quotes += 2 * len(rows) + count_quotes(self._entities, keys)
        quotes += 2 * (len(rows) - bare) + count_quotes(self._given, given)
        if body.count(b'"') != quotes:
            self._require_single_keys(body, many=many)
        require_categories(self._categories, given, many=many)
        entities = [self._encode(row.entities) for row in rows]
        request = [self._encode({n: row[i] for i, n in self._sent}) for row in given]
        first = 0 if many else None
        return EntityRows(Asked(entities, request if self._sent else [], first), given)

    def _require_single_keys(self, body: bytes, *, many: bool) -> None:
        document = explain.parse(body)
        if errors := self._explain.many(document) if many else self._explain.one(document):
            raise invalid(errors)

    def _refusal(self, body: bytes, refusal: BaseException, *, many: bool) -> Problem | None:
        """None where there are no entities in it."""
        try:
            rows = self._peek_batch.decode(body).instances if many else [self._peek.decode(body)]
        except REFUSED:
            return None  # nor is it anything else: the codec says why
        if all(row.entities is msgspec.UNSET for row in rows):
            return None
        if len(body) > LARGE_BODY:
            return explain.in_brief(refusal)
        document = explain.parse(body)
        if errors := self._explain.many(document) if many else self._explain.one(document):
            return invalid(errors)
        return malformed(f"the body cannot be read: {refusal}")
