"""Functions of one number: FunctionTransformer and PowerTransformer."""

from typing import Any

import numpy as np
import numpy.typing as npt

from orchestration.export.data import Data, wide
from orchestration.export.errors import UnservableModel
from orchestration.export.graph import Graph, Tensor
from orchestration.export.numeric import standard_scaler
from orchestration.export.registry import transforms

_FUNCTIONS = {
    "log": "Log",
    "exp": "Exp",
    "sqrt": "Sqrt",
    "absolute": "Abs",
    "reciprocal": "Reciprocal",
    "negative": "Neg",
}
_BASES = {"log2": 2.0, "log10": 10.0}
_SERVED = sorted((*_FUNCTIONS, *_BASES, "log1p", "expm1"))


@transforms("FunctionTransformer")
def function_transformer(step: Any, data: Data, graph: Graph) -> Data:
    """The identity, or a NumPy function that ONNX has as well."""
    return data if step.func is None else function(step.func, wide(data, graph), graph)


def function(func: Any, x: Tensor, graph: Graph) -> Tensor:
    """A NumPy ufunc on a tensor; UnservableModel for any other function."""
    name = getattr(func, "__name__", str(func))
    if isinstance(func, np.ufunc) and name in _FUNCTIONS:
        return graph.unary(_FUNCTIONS[name], x)
    if isinstance(func, np.ufunc) and name in _BASES:
        return graph.apply("Div", graph.unary("Log", x), np.log(_BASES[name]))
    if func is np.log1p:
        return _log1p(x, graph)
    if func is np.expm1:
        return _expm1(x, graph)
    raise UnservableModel(
        f"FunctionTransformer with {name} cannot become ONNX; use one of "
        f"{', '.join('numpy.' + f for f in _SERVED)}, or compute it before the pipeline"
    )


def _log1p(x: Tensor, graph: Graph) -> Tensor:
    """log(u) x / (u - 1) with u = 1 + x, and x where u is 1: exact for small x (W. Kahan)."""
    u = graph.apply("Add", x, 1.0)
    return _corrected(graph.unary("Log", u), graph.apply("Sub", u, 1.0), x, u, graph)


def _expm1(x: Tensor, graph: Graph) -> Tensor:
    """(u - 1) x / log(u) with u = exp(x), and x where u is 1; u - 1 where x is large."""
    u = graph.unary("Exp", x)
    less = graph.apply("Sub", u, 1.0)
    near = _corrected(less, graph.unary("Log", u), x, u, graph)
    far = graph.apply("Greater", graph.unary("Abs", x), 1.0)
    return Tensor(graph.node("Where", [far.name, less.name, near.name]), x.dtype, x.width)


def _corrected(value: Tensor, divisor: Tensor, x: Tensor, u: Tensor, graph: Graph) -> Tensor:
    """value x / divisor, and x where u is 1, as both are 0 there."""
    quotient = graph.node("Div", [x.name, divisor.name])
    product = graph.node("Mul", [value.name, quotient])
    same = graph.apply("Equal", u, 1.0).name
    return Tensor(graph.node("Where", [same, x.name, product]), x.dtype, x.width)


@transforms("PowerTransformer")
def power_transformer(step: Any, data: Data, graph: Graph) -> Tensor:
    """scipy.stats.yeojohnson or scipy.special.boxcox by column, then the scaler."""
    x, powers = wide(data, graph), np.asarray(step.lambdas_, dtype=np.float64).reshape(1, -1)
    if step.method == "box-cox":
        result = _power_of_log(graph.unary("Log", x), powers, graph)
    else:
        result = _yeo_johnson(x, powers, graph)
    # a lambda of NaN is a column that was all missing and passes unchanged
    result = _choose(np.isnan(powers), x, result, graph)
    return standard_scaler(step._scaler, result, graph) if step.standardize else result


def _yeo_johnson(x: Tensor, powers: npt.NDArray[np.float64], graph: Graph) -> Tensor:
    """Each side of 0 by its own power of |x| + 1."""
    logarithm = _log1p(graph.unary("Abs", x), graph)
    above = _power_of_log(logarithm, powers, graph)
    below = graph.unary("Neg", _power_of_log(logarithm, 2 - powers, graph))
    positive = graph.apply("GreaterOrEqual", x, 0.0).name
    return Tensor(graph.node("Where", [positive, above.name, below.name]), x.dtype, x.width)


def _power_of_log(logarithm: Tensor, powers: npt.NDArray[np.float64], graph: Graph) -> Tensor:
    """expm1(power log) / power, and the logarithm itself where the power is 0."""
    zero = np.abs(powers) < np.finfo(np.float64).eps
    safe = np.where(zero | np.isnan(powers), 1.0, powers)
    raised = _expm1(graph.apply("Mul", logarithm, safe), graph)
    return _choose(zero, logarithm, graph.apply("Div", raised, safe), graph)


def _choose(mask: npt.NDArray[np.bool_], yes: Tensor, no: Tensor, graph: Graph) -> Tensor:
    """By column."""
    if not mask.any():
        return no
    name = graph.node("Where", [graph.constant(mask), yes.name, no.name])
    return Tensor(name, no.dtype, no.width)
