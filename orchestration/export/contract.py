"""The contract's inputs and example: the signature, the YAML and the conversion joined."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace

from bentos.model_server.contract import FLOATS, Contract, Input, Scalar
from orchestration.export.data import Requirements
from orchestration.export.errors import UnservableModel
from orchestration.export.native import NativeModel
from serving_config.schema import Column


def contract_inputs(
    native: NativeModel, requirements: Requirements, settings: dict[str, Column]
) -> tuple[Input, ...]:
    """The signature's fields with the YAML's ranges and what the conversion found."""
    known = [field.name for field in native.signature.fields]
    if unknown := sorted(set(settings) - set(known)):
        raise UnservableModel(
            f"the model's YAML has inputs {unknown} that the model does not take; it takes {known}"
        )
    fields = []
    for field in native.signature.fields:
        column = settings.get(field.name, Column())
        categories = column.categories or requirements.categories.get(field.name)
        fields.append(
            Input(
                field.name,
                field.dtype,
                field.required,
                column.minimum,
                column.maximum,
                _categories(categories),
                column.max_length,
                requirements.text.get(field.name),
            )
        )
    return tuple(fields)


def _categories(values: Sequence[Scalar] | None) -> tuple[str | int, ...] | None:
    """Categories a contract can hold; fractions are left to the encoder."""
    if values is None:
        return None
    kept: list[str | int] = []
    for value in values:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, str | int) and not isinstance(value, bool):
            kept.append(value)
    return tuple(kept) if kept else None


def plausible(field: Input) -> Scalar:
    """A value that the contract allows."""
    if field.categories:
        return field.categories[0]
    if field.dtype == "string":
        return "text"[: field.max_length or 4]
    if field.dtype == "bool":
        return False
    low, high = field.minimum, field.maximum
    value = (low + high) / 2 if low is not None and high is not None else low or high or 0.0
    if low is not None and value < low:
        value = low
    if field.dtype in FLOATS:
        return float(value)
    return int(np.ceil(value))


def as_scalar(value: Any, field: Input) -> Scalar:
    """A value of a DataFrame as JSON has it, in the field's dtype; NaN becomes None."""
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return None
    if field.dtype == "string":
        return str(value)
    if field.dtype == "bool":
        return bool(value)
    return float(value) if field.dtype in FLOATS else int(value)


def accepts(field: Input, value: Scalar) -> bool:
    """Whether the contract allows the value (the checks of a request, for one field)."""
    if value is None:
        return not field.required
    if field.categories is not None and value not in field.categories:
        return False
    if isinstance(value, str):
        return field.max_length is None or len(value) <= field.max_length
    low, high = field.minimum, field.maximum
    return bool(
        np.isfinite(value) and (low is None or value >= low) and (high is None or value <= high)
    )


def with_example(native: NativeModel, contract: Contract) -> Contract:
    """The first logged row that is complete and allowed, else plausible values.

    An optional field that the model itself cannot do without becomes required.
    """
    rows: list[list[Scalar]] = []
    if native.example is not None:
        for values in native.example.head(50).itertuples(index=False):
            pairs = zip(contract.inputs, values, strict=True)
            rows.append([as_scalar(v, f) for f, v in pairs])
    rows.append([plausible(field) for field in contract.inputs])
    allowed = (
        r
        for r in rows
        if all(v is not None and accepts(f, v) for f, v in zip(contract.inputs, r, strict=True))
    )
    row = next(allowed, rows[-1])
    inputs = tuple(
        field
        if field.required or _takes_missing(native, contract, row, i)
        else replace(field, required=True)
        for i, field in enumerate(contract.inputs)
    )
    example = {f.name: v for f, v in zip(inputs, row, strict=True)}
    return replace(contract, inputs=inputs, example=example)


def _takes_missing(native: NativeModel, contract: Contract, row: Sequence[Scalar], i: int) -> bool:
    """Whether the model itself answers when field i is missing."""
    if contract.inputs[i].text is not None:
        return False
    changed = [None if j == i else value for j, value in enumerate(row)]
    try:
        native.predict([changed])
    except Exception:  # each framework has its own error for a missing value
        return False
    return True
