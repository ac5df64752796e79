"""On-demand feature views: features that Feast computes from the request."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bentos.feature_transformer.settings import Scalar
from feature_repo.description import Dtype

if TYPE_CHECKING:
    from feast import OnDemandFeatureView

_TYPES: dict[Dtype, Any] = {
    "int32": int,
    "int64": int,
    "float32": float,
    "float64": float,
    "bool": bool,
    "string": str,
}


class TransformationError(RuntimeError):
    """The code of an on-demand view failed, or made something else than it declares."""


class OnDemand:
    """features: those that a service asks for, with their types."""

    def __init__(self, view: "OnDemandFeatureView", features: Mapping[str, Dtype]) -> None:
        self._view = view
        self._features = {name: _TYPES[dtype] for name, dtype in features.items()}

    def columns(self, request: Mapping[str, Sequence[Scalar]]) -> dict[str, list[Scalar | None]]:
        """The features by name; request: the request's fields by name, at least one row."""
        try:
            return self._columns({name: list(values) for name, values in request.items()})
        except Exception as error:  # the view's code is anybody's
            raise TransformationError(f"on-demand view {self._view.name} failed") from error

    def _columns(self, inputs: dict[str, list[Scalar]]) -> dict[str, list[Scalar | None]]:
        rows = len(next(iter(inputs.values())))
        found = self._transformed(inputs, rows)
        columns = {}
        for name, kind in self._features.items():
            if len(found[name]) != rows:
                raise ValueError(f"{name} has {len(found[name])} values for {rows} rows")
            columns[name] = [None if _missing(value) else kind(value) for value in found[name]]
        return columns

    def _transformed(self, inputs: dict[str, list[Scalar]], rows: int) -> Mapping[str, Any]:
        view = self._view
        if view.mode != "python":
            import pyarrow

            table = view.transform_arrow(pyarrow.Table.from_pydict(inputs), False)
            columns: Mapping[str, Any] = table.to_pydict()
            return columns
        if not view.singleton:
            return dict(view.transform_dict(inputs))
        singles = [
            view.transform_dict({name: [values[row]] for name, values in inputs.items()})
            for row in range(rows)
        ]
        return {name: [single[name] for single in singles] for name in self._features}


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
