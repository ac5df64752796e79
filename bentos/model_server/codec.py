"""JSON to rows of the contract, answers to JSON.

Decoding goes straight into structs made from the contract. What msgspec accepts is a valid row;
what it refuses is read a second time to say why.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import msgspec

from bentos.model_server import explain
from bentos.model_server.contract import Contract, ContractError, Scalar
from bentos.model_server.fields import Field, compile_fields
from bentos.model_server.problems import (
    MAX_ERRORS,
    FieldError,
    Problem,
    invalid,
    malformed,
    too_many_rows,
)

# A body beyond this is decoded in a thread, for it may take a while, and if it is refused not read
# again to find all the words: in Python that takes up to 0.25 s for each MB.
LARGE_BODY = 1 << 18
Row = tuple[Scalar, ...]
Explain = Callable[[Any], list[FieldError]]
REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def row_structs(fields: Sequence[Field]) -> tuple[type[msgspec.Struct], type[msgspec.Struct]]:
    """A row as a JSON object and as an array; both have the fields in the contract's order.

    Inputs are called f0, f1, … inside, because their own names need not be Python's. In an array
    every position must be there; null stands for a missing value.
    """
    names = {f"f{i}": field.name for i, field in enumerate(fields)}
    types = [(f"f{i}", field.annotation()) for i, field in enumerate(fields)]
    with_defaults: list[Any] = [
        (*entry, *(() if field.required else (None,)))
        for entry, field in zip(types, fields, strict=True)
    ]
    strict: dict[str, Any] = {"forbid_unknown_fields": True, "frozen": True, "gc": False}
    try:
        named = msgspec.defstruct("Features", with_defaults, rename=names, kw_only=True, **strict)
    except ValueError as error:
        raise ContractError(f"an input's name cannot be a JSON key: {error}") from error
    return named, msgspec.defstruct("Values", types, array_like=True, **strict)


def _decoder(field: str, annotation: Any) -> msgspec.json.Decoder[Any]:
    struct = msgspec.defstruct("Request", [(field, annotation)], forbid_unknown_fields=True)
    return msgspec.json.Decoder(struct)


def count_quotes(fields: Sequence[Field], rows: Sequence[Row], *, named: bool = True) -> int:
    """The quotes that the rows' own keys and texts account for, leaving out null's keys."""
    quotes = 2 * len(fields) * len(rows) if named else 0
    for i, field in enumerate(fields):
        if named and not field.required:
            quotes -= 2 * sum(row[i] is None for row in rows)
        if field.dtype == "string":
            texts = [str(row[i]) for row in rows if row[i] is not None]
            quotes += 2 * len(texts) + sum(text.count('"') for text in texts)
    return quotes


Categories = list[tuple[int, Field, frozenset[str | int | None]]]


def categories_of(fields: Sequence[Field]) -> Categories:
    """The fields that have categories: place, field, what is allowed."""
    return [(i, f, allowed) for i, f in enumerate(fields) if (allowed := f.allowed) is not None]


def require_categories(categories: Categories, rows: Sequence[Row], *, many: bool) -> None:
    """Refuse what is not among the categories of a field; many: name the rows."""
    wrong = (
        FieldError(field.name, field.complaint(row[i]) or "", number if many else None)
        for number, row in enumerate(rows)
        for i, field, allowed in categories
        if row[i] not in allowed
    )
    if errors := list(islice(wrong, MAX_ERRORS + 1)):
        raise invalid(errors)


T = TypeVar("T")


async def decoded(decode: Callable[[bytes], T], body: bytes) -> T:
    """What a decoder makes of a body; of a large one in a thread, so that others are served."""
    if len(body) > LARGE_BODY:
        return await asyncio.to_thread(decode, body)
    return decode(body)


class Codec:
    """Bound to one contract. max_rows: rows that one batch request may have."""

    def __init__(self, contract: Contract, max_rows: int) -> None:
        """ContractError where the contract can never be served, or refuses its own example."""
        self.contract = contract
        self.fields = compile_fields(contract)
        self.max_rows = max_rows
        named, positional = row_structs(self.fields)
        self._one = _decoder("features", named)
        # The inputs without the wrapper: unambiguous unless one of them is called features.
        self.unwrapped = all(field.name != "features" for field in self.fields)
        self._bare = msgspec.json.Decoder(named)
        self._named = _decoder("instances", list[named])  # type: ignore[valid-type]
        self._positional = _decoder("instances", list[positional])  # type: ignore[valid-type]
        self._categories = categories_of(self.fields)
        # Of one row's keys, where neither texts nor nulls add to them or take from them.
        plain = all(field.required and field.dtype != "string" for field in self.fields)
        self._fixed_quotes = 2 * len(self.fields) if plain else None
        self._explain_one = partial(explain.one, self.fields, unwrapped=self.unwrapped)
        self._explain_many = partial(explain.many, self.fields)
        self._check_example()

    def _check_example(self) -> None:
        try:
            self.decode_one(msgspec.json.encode({"features": self.contract.example}))
        except Problem as problem:
            raise ContractError(
                f"the contract refuses its own example: {problem.detail}"
            ) from problem

    def decode_one(self, body: bytes) -> Row:
        """The row of a `/predict` request; a Problem (400, 422) where it is refused."""
        wrapped = True
        try:
            try:
                row = msgspec.structs.astuple(self._one.decode(body).features)
            except msgspec.ValidationError:
                if not self.unwrapped or body.strip() == b"{}":
                    raise
                row, wrapped = msgspec.structs.astuple(self._bare.decode(body)), False
        except REFUSED as error:
            raise self._problem(body, self._explain_one, error) from None
        self._look_twice(body, [row], 2 * wrapped + self._quotes([row]), self._explain_one)
        return row

    def decode_batch(self, body: bytes) -> list[Row]:
        """The rows of a `/predict/batch` request; a Problem (400, 413, 422) where refused."""
        named = True
        try:
            try:
                instances = self._named.decode(body).instances
            except msgspec.ValidationError:
                instances, named = self._positional.decode(body).instances, False
        except REFUSED as error:
            raise self._problem(body, self._explain_many, error) from None
        if not instances:
            raise invalid([FieldError("instances", "is empty; expected at least one row")])
        if len(instances) > self.max_rows:
            raise too_many_rows(len(instances), self.max_rows)
        rows = [msgspec.structs.astuple(instance) for instance in instances]
        self._look_twice(body, rows, 2 + self._quotes(rows, named=named), self._explain_many)
        return rows

    def _quotes(self, rows: Sequence[Row], *, named: bool = True) -> int:
        if self._fixed_quotes is not None:
            return self._fixed_quotes * len(rows) if named else 0
        return count_quotes(self.fields, rows, named=named)

    def _look_twice(self, body: bytes, rows: Sequence[Row], quotes: int, find: Explain) -> None:
        """Refuse unknown categories and keys that stand twice (msgspec keeps the last of them).

        More quotes than the rows account for mean a second key, a key with null, or an escape,
        and only then is the body read again. A text that spells its own quotes as \\u0022 can
        hide a second key from this; its sender fools nobody else.
        """
        if self._categories:
            require_categories(self._categories, rows, many=find is self._explain_many)
        if body.count(b'"') != quotes and (errors := find(explain.parse(body))):
            raise invalid(errors)

    def _problem(self, body: bytes, find: Explain, refusal: BaseException) -> Problem:
        if len(body) > LARGE_BODY:
            return explain.in_brief(refusal)
        if errors := find(explain.parse(body)):
            return invalid(errors)
        return malformed(f"the body cannot be read: {refusal}")
