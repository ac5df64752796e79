"""One input of the contract, compiled: its msgspec type, its limits, and its complaints.

msgspec accepts or refuses (fast); `complaint` explains a refusal (only ever run on refusal).
Both are made from the same limits here, and a property test holds them together.
"""

import math
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from bentos.model_server.contract import FLOATS, INTEGERS, Contract, ContractError, Dtype, Input
from bentos.model_server.problems import clean

MAX_CHOICES = 20
FLOAT32_MAX = 3.4028234663852886e38
RANGES: dict[str, tuple[float, float]] = {
    "float32": (-FLOAT32_MAX, FLOAT32_MAX),
    "float64": (-sys.float_info.max, sys.float_info.max),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
}
NOUNS: dict[str, str] = {
    "float32": "a number",
    "float64": "a number",
    "int32": "an integer",
    "int64": "an integer",
    "bool": "true or false",
    "string": "a text",
}


def shown(value: object) -> str:
    """A value as a client would recognise it, cut to about 40 characters."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return f'the text "{clean(value, 40)}"'
        case list():
            return "an array"
        case dict():
            return "an object"
        case float() if math.isnan(value):
            return "NaN"
        case int() | float() if abs(value) > sys.float_info.max:
            return "a number beyond float64"
        case int() | float():
            return str(value) if abs(value) < 1e30 else f"{float(value):g}"
        case _:
            return type(value).__name__


@dataclass(frozen=True)
class Field:
    """low and high bound a number, both inclusive: the contract's range cut to what the field's
    dtype and the graph inputs it feeds can hold."""

    name: str
    dtype: Dtype
    required: bool
    low: float | None
    high: float | None
    categories: tuple[str | int, ...] | None
    max_length: int | None

    @property
    def allowed(self) -> frozenset[str | int | None] | None:
        """The categories as a set to look up, with null where it is allowed."""
        if self.categories is None:
            return None
        return frozenset(self.categories) | (frozenset() if self.required else {None})

    def annotation(self) -> Any:
        """The msgspec type that accepts exactly the values without a complaint (but for
        categories, which the codec looks up itself: a float column may have integer ones)."""
        kind: Any = {"bool": bool, "string": str}.get(self.dtype)
        if self.dtype in FLOATS:
            kind = Annotated[float, msgspec.Meta(ge=self.low, le=self.high)]
        elif self.dtype in INTEGERS:
            kind = Annotated[int, msgspec.Meta(ge=self.low, le=self.high)]
        elif self.max_length is not None:
            kind = Annotated[str, msgspec.Meta(max_length=self.max_length)]
        return kind if self.required else kind | None

    def expected(self) -> str:
        """What the field takes, in words."""
        null = "" if self.required else ", or null"
        if self.categories is not None:
            listed = self.categories[:MAX_CHOICES]
            choices = ", ".join(f'"{c}"' if isinstance(c, str) else str(c) for c in listed)
            more = len(self.categories) - len(listed)
            return f"one of {choices}" + (f" and {more} more" if more else "") + null
        if self.dtype == "string" and self.max_length is not None:
            return f"a text of at most {self.max_length} characters{null}"
        if self.low is None or self.high is None:
            return NOUNS[self.dtype] + null
        limits = RANGES.get(self.dtype, (None, None))
        if (self.low, self.high) == limits:
            return f"{NOUNS[self.dtype]} within {self.dtype}{null}"
        return f"{NOUNS[self.dtype]} from {self.low:.8g} to {self.high:.8g}{null}"

    def complaint(self, value: object) -> str | None:
        """Why a JSON value is refused, or None: what was expected and what came."""
        if value is None:
            return None if not self.required else f"expected {self.expected()}, got null"
        if self._accepts(value):
            return None
        if isinstance(value, str) and self._too_long(value):
            return f"expected {self.expected()}, got {len(value)} characters"
        return f"expected {self.expected()}, got {shown(value)}"

    def _too_long(self, value: str) -> bool:
        return self.max_length is not None and len(value) > self.max_length

    def _accepts(self, value: object) -> bool:
        if self.categories is not None and (
            isinstance(value, bool | list | dict) or value not in self.categories
        ):
            return False
        if self.dtype == "string":
            return isinstance(value, str) and not self._too_long(value)
        if self.dtype == "bool":
            return isinstance(value, bool)
        number = int | float if self.dtype in FLOATS else int
        if isinstance(value, bool) or not isinstance(value, number):
            return False
        if self.dtype in FLOATS and abs(value) <= sys.float_info.max:
            value = float(value)  # as msgspec does: an integer is rounded, then compared
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


def _limits(field: Input, contract: Contract) -> tuple[float | None, float | None]:
    if field.dtype not in RANGES:
        return None, None
    fed = [g.dtype for g in contract.graph_inputs if field.name in g.columns]
    ranges = [RANGES[dtype] for dtype in (field.dtype, *fed) if dtype in RANGES]
    lows = [low for low, _ in ranges] + ([] if field.minimum is None else [field.minimum])
    highs = [high for _, high in ranges] + ([] if field.maximum is None else [field.maximum])
    low, high = max(lows), min(highs)
    # msgspec wants integer bounds for an integer; a fraction never equals an integer anyway.
    return (math.ceil(low), math.floor(high)) if field.dtype in INTEGERS else (low, high)


def _compile(field: Input, contract: Contract) -> Field:
    integers = [
        g.name for g in contract.graph_inputs if field.name in g.columns and g.dtype not in FLOATS
    ]
    if not field.required and field.dtype != "string" and integers:
        raise ContractError(
            f"input {field.name} may be null, but graph input {integers[0]} has no NaN to stand "
            "for it; log the model with a float column or make the input required"
        )
    low, high = _limits(field, contract)
    return Field(
        field.name, field.dtype, field.required, low, high, field.categories, field.max_length
    )


def compile_fields(contract: Contract) -> tuple[Field, ...]:
    """The contract's inputs in their order; ContractError where one can never be served."""
    return tuple(_compile(field, contract) for field in contract.inputs)
