"""An int8 variant of an exported graph: static or dynamic scales, whichever is more accurate."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from msgspec.structs import replace

from orchestration.export.errors import ExportError
from orchestration.export.export import Exported
from orchestration.quantization.calibrate import (
    answers,
    answers_with_numbers,
    error,
    peaks,
    session_of,
)
from orchestration.quantization.layers import FEWEST, find_layers
from orchestration.quantization.narrow import narrow
from orchestration.quantization.rewrite import int8_operators, rewrite
from orchestration.verification.rows import Values, build_space, spread
from serving_config.variants import Quantization

if TYPE_CHECKING:
    import pandas as pd

Method = Literal["static", "dynamic"]

VARIANT = "int8"
SEED = 20260101
# A row's own scales fit rows beyond the calibration's, too, and cost some 7 % of the rate: fixed
# ones have to be this much more accurate.
_MORE_ACCURATE = 1.1
_OLDEST_OPSET = 13
_METADATA = "slipway.quantization"


class UnquantizableModel(ExportError):  # noqa: N818  it names a state of the model
    """A graph that has no int8 variant; the message says why."""


@dataclass(frozen=True)
class Quantized(Exported):
    """model, contract: of the variant. The rest is in the model's metadata too.

    errors: by method, the mean absolute difference from the original on the calibration rows.
    """

    method: Method
    errors: dict[str, float]
    calibration_rows: int
    base_sha256: str
    operators: dict[str, int]


def quantize(
    base: Exported, reference: "pd.DataFrame | None", settings: Quantization, seed: int = SEED
) -> Quantized:
    """The same arguments give the same bytes.

    reference: as `verify` takes it; `settings.calibration_rows` of it count. Raises
    UnquantizableModel, at once, where no layer is worth it; and without a row to calibrate on.
    """
    model = _prepared(base)
    layers = find_layers(model.graph)
    rows = _calibration_rows(base, reference, settings.calibration_rows, seed)
    largest = peaks(model, layers, base.contract, rows)
    candidates = {"dynamic": rewrite(model, layers, None)}
    if all(largest.values()):  # a layer that is at 0 in all these rows says nothing of others
        candidates["static"] = rewrite(model, layers, largest)
    expected = answers(session_of(base.model, base.contract), rows)
    errors = {
        method: float(f"{error(expected, _answers(candidate, base, rows)):.3g}")
        for method, candidate in candidates.items()
    }
    method = choose(errors)
    return _described(candidates[method], base, method, errors, len(rows))


def choose(errors: Mapping[str, float]) -> Method:
    """The more accurate method; errors: by method."""
    fixed = "static" in errors and errors["static"] * _MORE_ACCURATE < errors["dynamic"]
    return "static" if fixed else "dynamic"


def _calibration_rows(
    base: Exported, reference: "pd.DataFrame | None", count: int, seed: int
) -> list[Values]:
    """Rows that the original answers with numbers. Made-up ones may stand beside given ones, but
    alone they say nothing of how large real numbers are."""
    space = build_space(base.contract, reference, seed)
    session = session_of(base.model, base.contract)
    if not answers_with_numbers(session, space.only_allowed(space.given)):
        raise UnquantizableModel(
            "no row is known that scales could be fixed from and the loss measured on: log the "
            "version with an input_example of real rows, or let the training run log "
            "reference/reference.parquet"
        )
    return answers_with_numbers(session, list(spread(space.reference, count)))


def _prepared(base: Exported) -> Any:
    """The graph in float32 where it can be quantized, each opset imported once."""
    import onnx

    model = onnx.load_model_from_string(base.model)
    if model.functions:
        from onnx.inliner import inline_local_functions

        model = inline_local_functions(model)
    opsets = {imported.domain: imported.version for imported in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(*item) for item in sorted(opsets.items()))
    if not find_layers(model.graph):
        raise UnquantizableModel(_nothing_in(model))
    if opsets[""] < _OLDEST_OPSET:
        raise UnquantizableModel(
            f"the graph is of opset {opsets['']}: log it with {_OLDEST_OPSET} or later"
        )
    narrow(model.graph)
    return model


def _nothing_in(model: Any) -> str:
    kinds = {node.op_type for node in model.graph.node}
    why = "none of its operators multiplies rows by a matrix"
    if kinds & {"MatMul", "Gemm"}:
        why = f"none of its layers has at least {FEWEST} inputs and {FEWEST} outputs"
    if any(kind.startswith("TreeEnsemble") for kind in kinds):
        why = "trees compare, and have nothing to multiply"
    elif "TfIdfVectorizer" in kinds:
        why += ", its time goes into texts"
    return f"nothing can be quantized: {why}; leave int8 out of `variants` in the model's YAML"


def _answers(model: Any, base: Exported, rows: Any) -> Any:
    return answers(session_of(_encoded(model), base.contract), rows)


def _encoded(model: Any) -> bytes:
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _described(
    model: Any, base: Exported, method: Method, errors: dict[str, float], rows: int
) -> Quantized:
    stated = {
        "method": method,
        "errors": errors,
        "calibration_rows": rows,
        "base_sha256": base.contract.onnx_sha256,
    }
    entry = model.metadata_props.add()
    entry.key, entry.value = _METADATA, json.dumps(stated, sort_keys=True)
    return read(_encoded(model), base)


def read(model: bytes, base: Exported) -> Quantized:
    """The variant as its bytes describe it. ExportError where it was not made from `base`."""
    import onnx

    loaded = onnx.load_model_from_string(model)
    stated: Mapping[str, Any] = next(
        (json.loads(p.value) for p in loaded.metadata_props if p.key == _METADATA), {}
    )
    if stated.get("base_sha256") != base.contract.onnx_sha256:
        raise ExportError(
            f"the int8 graph was not made from the ONNX graph {base.contract.onnx_sha256[:12]} of "
            f"{base.contract.model} version {base.contract.version}; build the variant again"
        )
    digest = hashlib.sha256(model).hexdigest()
    contract = replace(base.contract, variant=VARIANT, onnx_sha256=digest)
    operators = dict(sorted(Counter(int8_operators(loaded)).items()))
    return Quantized(model, contract, **stated, operators=operators)
