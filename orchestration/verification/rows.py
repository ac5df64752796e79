"""The rows to compare on: what a request could hold, as lists in the order of the contract."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bentos.model_server.contract import FLOATS, Contract, Input, Scalar
from orchestration.export.contract import accepts, as_scalar, plausible

if TYPE_CHECKING:
    import pandas as pd

Values = list[Scalar]

MAX_REFERENCE = 2000  # rows of the reference data that are compared
MIN_REFERENCE = 200  # fewer are filled up with rows drawn around them
DEFAULT_SPREAD = 3.0  # of a number of which nothing is known


@dataclass(frozen=True)
class Space:
    """The rows a contract allows, around some reference rows.

    given: the different rows of the reference data, whether or not the contract allows them.
    drawn: allowed rows made up around them, where few were given.
    """

    contract: Contract
    given: tuple[Values, ...] = ()
    drawn: tuple[Values, ...] = ()

    @cached_property
    def reference(self) -> tuple[Values, ...]:
        """The allowed rows, given and drawn."""
        return (*self.only_allowed(self.given), *self.drawn)

    @cached_property
    def bases(self) -> list[Values]:
        """Rows to vary: complete reference rows if there are any, the contract's example where
        the contract refuses everything given."""
        complete = [row for row in self.reference if None not in row]
        return complete or list(self.reference) or [example_row(self.contract)]

    @cached_property
    def numeric(self) -> list[int]:
        """The positions of the numbers (not of booleans)."""
        return [i for i, f in enumerate(self.contract.inputs) if f.dtype not in ("string", "bool")]

    def allows(self, row: Sequence[Scalar]) -> bool:
        """Whether a request with this row would be accepted."""
        return all(accepts(f, v) for f, v in zip(self.contract.inputs, row, strict=True))

    def only_allowed(self, rows: Sequence[Values]) -> list[Values]:
        """The accepted rows, each once, in order."""
        return [row for row in unique(rows) if self.allows(row)]

    def values(self, i: int) -> list[Scalar]:
        """The different values of field i in the reference rows, without missing ones."""
        return list(dict.fromkeys(row[i] for row in self.reference if row[i] is not None))

    def span(self, i: int) -> tuple[float, float]:
        """The range of a number: of the reference, widened by half, within the contract's."""
        field, seen = self.contract.inputs[i], [float(v) for v in self.values(i) if v is not None]
        low, high = (min(seen), max(seen)) if seen else (-DEFAULT_SPREAD, DEFAULT_SPREAD)
        margin = (high - low) / 2 or max(1.0, abs(high))
        positive = bool(seen) and low >= 0  # a count or an amount: negatives are edges
        low, high = 0.0 if positive else low - margin, high + margin
        if field.minimum is not None:
            low = max(low, field.minimum)
        if field.maximum is not None:
            high = min(high, field.maximum)
        return low, max(low, high)


def unique(rows: Sequence[Values]) -> list[Values]:
    """Each row once, in order."""
    return list({repr(row): row for row in rows}.values())


def example_row(contract: Contract) -> Values:
    """The contract's example, in the order of its inputs."""
    return [contract.example.get(field.name) for field in contract.inputs]


def number(field: Input, value: float) -> Scalar:
    """A number as the field's dtype has it in JSON."""
    return float(value) if field.dtype in FLOATS else round(value)


def build_space(contract: Contract, data: "pd.DataFrame | None", seed: int) -> Space:
    """The reference rows: the different rows of the data, filled up to 200.

    More than 2,000 rows are sampled. Fewer than 200 are filled up with the contract's example and
    rows whose values are drawn column by column from the data, numbers moved by a tenth of their
    spread; without data, from the contract's ranges and categories. Rows that the contract
    refuses stay among those given and are not replaced.
    """
    rng = np.random.default_rng(seed)
    rows: list[Values] = []
    if data is not None and len(data):
        rows = unique(_from_data(contract, data, rng))
    space = Space(contract, tuple(rows))
    if len(rows) >= MIN_REFERENCE:
        return space
    made_up = [_drawn(space, rng) for _ in range(MIN_REFERENCE - len(rows))]
    drawn = space.only_allowed([*rows, example_row(contract), *made_up])
    return Space(contract, space.given, tuple(drawn[len(space.reference) :]))


def _from_data(contract: Contract, data: "pd.DataFrame", rng: np.random.Generator) -> list[Values]:
    if len(data) > MAX_REFERENCE:
        chosen = np.sort(rng.choice(len(data), MAX_REFERENCE, replace=False))
        data = data.iloc[chosen]
    columns = [data[field.name].tolist() for field in contract.inputs]
    pairs = list(contract.inputs)
    return [
        [as_scalar(v, f) for f, v in zip(pairs, values, strict=True)]
        for values in zip(*columns, strict=True)
    ]


def _drawn(space: Space, rng: np.random.Generator) -> Values:
    return [_draw(space, i, field, rng) for i, field in enumerate(space.contract.inputs)]


def _draw(space: Space, i: int, field: Input, rng: np.random.Generator) -> Scalar:
    seen = space.values(i)
    if field.dtype == "bool":
        return bool(rng.integers(2))
    if field.categories:
        return field.categories[int(rng.integers(len(field.categories)))]
    if field.dtype == "string":
        return (
            _mix(seen, rng)
            if field.text
            else seen[int(rng.integers(len(seen)))]
            if seen
            else (str(plausible(field)))
        )
    low, high = space.span(i)
    if not seen:
        return number(field, rng.uniform(low, high))
    base = seen[int(rng.integers(len(seen)))]
    moved = float(base or 0) + rng.normal() * (high - low) / 20
    return number(field, min(max(moved, low), high))


def _mix(texts: Sequence[Scalar], rng: np.random.Generator) -> str:
    """Words of two texts."""
    if not texts:
        return "text"
    first, second = (str(texts[int(rng.integers(len(texts)))]).split(" ") for _ in range(2))
    return " ".join(first[: len(first) // 2] + second[len(second) // 2 :])


def spread(rows: Sequence[Values], count: int) -> Iterator[Values]:
    """At most `count` rows at even distances."""
    places: npt.NDArray[np.intp] = np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)
    return (rows[i] for i in dict.fromkeys(places.tolist()))
