"""Tensors to rows of the contract, under the same limits as the rows of `/predict/batch`.

Named: one tensor of shape [n] or [n, 1] for each input, by the input's name; one that is not
required may be left out. Matrix: a single tensor of shape [n, inputs], its columns the contract's
inputs in order, where these are all floats, all integers or all booleans.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from bentos.model_server import tensors
from bentos.model_server.codec import Row
from bentos.model_server.contract import FLOATS, INTEGERS, Contract
from bentos.model_server.fields import Field
from bentos.model_server.inference_request import HEADER_LENGTH, RequestInput, refused
from bentos.model_server.problems import (
    MAX_ERRORS,
    FieldError,
    Problem,
    clean,
    invalid,
    too_many_rows,
)

DATATYPES = {
    "float32": "FP32",
    "float64": "FP64",
    "int32": "INT32",
    "int64": "INT64",
    "bool": "BOOL",
    "string": "BYTES",
}
MATRIX_NAMES = ("input", "inputs")
EXACT_INTEGER = 2**53


def suits(field: Field, datatype: str) -> bool:
    """Whether a tensor may hold the values of a field: a float also takes integers."""
    if field.dtype in FLOATS:
        return datatype in tensors.FLOATING | tensors.INTEGRAL
    if field.dtype in INTEGERS:
        return datatype in tensors.INTEGRAL
    return datatype == DATATYPES[field.dtype]


def matrix_datatype(fields: Sequence[Field]) -> str | None:
    """The datatype of a matrix that holds every input, or None where they are of several kinds."""
    dtypes = {field.dtype for field in fields}
    for kind in (FLOATS, INTEGERS, ("bool",)):
        if dtypes.issubset(kind):
            return DATATYPES[max(dtypes)]  # the wider one: "float64" > "float32"
    return None


class TensorRows:
    """Bound to one contract. max_rows: rows that one request may have."""

    def __init__(self, contract: Contract, fields: Sequence[Field], max_rows: int) -> None:
        self.fields = fields
        self.max_rows = max_rows
        self.matrix_datatype = matrix_datatype(fields)
        self._names = [field.name for field in fields]
        graph = [g.name for g in contract.graph_inputs] if len(contract.graph_inputs) == 1 else []
        offered = dict.fromkeys([*graph, *MATRIX_NAMES]) if self.matrix_datatype else {}
        self.matrix_names = tuple(name for name in offered if name not in self._names)
        self._takes = ", ".join(self._names[:20]) + (", …" if len(fields) > 20 else "")
        if self.matrix_names:
            self._takes += f", or {self.matrix_names[0]} alone with all of them"
        # The very types that read /predict, one list for each input.
        types = [(f"f{i}", list[field.annotation()]) for i, field in enumerate(fields)]  # type: ignore[misc]
        self._columns = msgspec.defstruct("Columns", types, array_like=True)

    def decode(self, inputs: Sequence[RequestInput], binary: bytes) -> list[Row]:
        """The rows of a request; a Problem (413, 422) where it is refused."""
        if not inputs:
            raise refused("inputs", "is empty; expected at least one tensor")
        matrix = len(inputs) == 1 and inputs[0].name in self.matrix_names
        width = len(self.fields) if matrix else 1
        for tensor in inputs:
            self._require_tensor(tensor, matrix=matrix)
        if len({tensor.shape[0] for tensor in inputs}) > 1:
            shapes = ", ".join(f"{tensor.name} {tensor.shape}" for tensor in inputs[:20])
            raise refused("inputs", f"the tensors differ in their rows: {shapes}")
        data = read_data(inputs, binary)
        if matrix:
            columns = [data[0][i::width] for i in range(width)]
            datatypes = [inputs[0].datatype] * width
            return self._rows(columns, datatypes)
        return self._rows(*self._by_name(inputs, data))

    def _require_tensor(self, tensor: RequestInput, *, matrix: bool) -> None:
        """Refuse a name, datatype or shape that has no place here, before any data is read."""
        if tensor.name not in self._names and not matrix:
            raise refused(tensor.name, f"is not an input of this model, which takes {self._takes}")
        known = {tensors.BYTES, *tensors.NUMPY}
        if tensor.datatype not in known:
            got = clean(tensor.datatype, 40)
            raise refused(tensor.name, f"has datatype {got}; known are {', '.join(sorted(known))}")
        shape, width = tensor.shape, len(self.fields)
        expected = f"[n, {width}]" if matrix else "[n] or [n, 1]"
        fits = shape[1:] == [width] if matrix else shape[1:] in ([], [1])
        if not shape or not fits:
            raise refused(tensor.name, f"expected shape {expected}, got {str(shape)[:80]}")
        if shape[0] == 0:
            raise refused(tensor.name, "is empty; expected at least one row")
        if shape[0] > self.max_rows:
            raise too_many_rows(shape[0], self.max_rows, clean(tensor.name, 80))

    def _by_name(
        self, inputs: Sequence[RequestInput], data: list[list[Any]]
    ) -> tuple[list[list[Any]], list[str]]:
        """Columns and their datatypes in the contract's order."""
        given = {tensor.name: i for i, tensor in enumerate(inputs)}
        if len(given) < len(inputs):
            names = [tensor.name for tensor in inputs]
            twice = next(name for name in names if names.count(name) > 1)
            raise refused(twice, "stands twice in the request")
        if errors := [
            FieldError(field.name, f"is missing; expected {field.expected()}")
            for field in self.fields
            if field.required and field.name not in given
        ]:
            raise invalid(errors)
        places = [given.get(name) for name in self._names]
        missing = [None] * inputs[0].shape[0]
        columns = [missing if place is None else data[place] for place in places]
        own = [DATATYPES[field.dtype] for field in self.fields]
        datatypes = [
            d if place is None else inputs[place].datatype
            for d, place in zip(own, places, strict=True)
        ]
        return columns, datatypes

    def _rows(self, columns: list[list[Any]], datatypes: list[str]) -> list[Row]:
        checked = [
            self._column(field, values, datatype)
            for field, values, datatype in zip(self.fields, columns, datatypes, strict=True)
        ]
        try:
            valid = msgspec.structs.astuple(msgspec.convert(checked, self._columns))
        except msgspec.ValidationError:
            raise self._complaints(checked) from None
        for field, values in zip(self.fields, valid, strict=True):
            if (allowed := field.allowed) is not None and not allowed.issuperset(values):
                raise self._complaints(checked)
        return list(zip(*valid, strict=True))

    def _column(self, field: Field, values: list[Any], datatype: str) -> list[Any]:
        """The values of a field, with None for NaN where a missing value is allowed."""
        if not suits(field, datatype):
            expected = f"{field.expected()}, as {DATATYPES[field.dtype]}"
            raise refused(field.name, f"expected {expected}, got a tensor of {datatype}")
        if field.dtype in FLOATS and datatype in ("INT64", "UINT64"):
            for row, value in enumerate(values):
                if value is not None and abs(value) > EXACT_INTEGER and int(float(value)) != value:
                    message = f"expected a number that float64 holds exactly, got {value}"
                    raise invalid([FieldError(field.name, message, row)])
        if field.required or datatype not in tensors.FLOATING:
            return values
        return [None if value != value else value for value in values]

    def _complaints(self, columns: list[list[Any]]) -> Problem:
        errors: list[FieldError] = []
        for field, values in zip(self.fields, columns, strict=True):
            for row, value in enumerate(values):
                if message := field.complaint(value):
                    errors.append(FieldError(field.name, message, row))
                if len(errors) > MAX_ERRORS:
                    return invalid(errors)
        return invalid(errors)


def read_data(inputs: Sequence[RequestInput], binary: bytes) -> list[list[Any]]:
    """The elements of each tensor; a 422 Problem naming the first whose data is not as stated."""
    stated = sum(tensor.binary_size or 0 for tensor in inputs)
    if stated != len(binary):
        raise refused(
            HEADER_LENGTH,
            f"leaves {len(binary)} bytes behind the JSON object; the tensors' binary_data_size "
            f"add up to {stated}",
        )
    data: list[list[Any]] = []
    offset = 0
    for tensor in inputs:
        size = tensor.binary_size
        if (size is None) != tensor.has_json:
            raise refused(tensor.name, "expected either data or the parameter binary_data_size")
        try:
            if size is None:
                values = tensors.from_json(bytes(tensor.data), tensor.datatype, tensor.shape)
            else:
                part = binary[offset : offset + size]
                values = tensors.from_binary(part, tensor.datatype, tensor.shape)
        except tensors.TensorError as error:
            raise refused(tensor.name, str(error)) from None
        offset += size or 0
        data.append(values)
    return data
