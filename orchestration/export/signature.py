"""The MLflow signature and input example of a logged model, read from its folder.

Read without importing MLflow (2.4 s): `MLmodel` is YAML with the signature as JSON in it
(mlflow.models.signature, mlflow.types.schema).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bentos.model_server.contract import Dtype
from orchestration.export.errors import UnservableModel

if TYPE_CHECKING:
    import pandas as pd

FIX = (
    "log it again with signature=mlflow.models.infer_signature(X, model.predict(X)) "
    "in log_model(model, name=..., signature=...)"
)

_COLUMN_TYPES: dict[str, Dtype] = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "string",
}
_TENSOR_TYPES: dict[str, Dtype] = {
    "float64": "float64",
    "float32": "float32",
    "int64": "int64",
    "int32": "int32",
    "bool": "bool",
    "str": "string",
    "object": "string",
}


@dataclass(frozen=True)
class Field:
    """One input as the signature has it."""

    name: str
    dtype: Dtype
    required: bool = True


@dataclass(frozen=True)
class Signature:
    """Inputs in order. tensor: the model takes an array, not a DataFrame."""

    fields: tuple[Field, ...]
    tensor: bool


def within(folder: Path, name: str) -> Path:
    """The path of a file that `MLmodel` names. UnservableModel where it leaves the folder."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise UnservableModel(
            f"MLmodel names {name}, which lies outside of the model's folder; log the model again"
        )
    return path


def read_signature(mlmodel: Mapping[str, Any], names: Sequence[str] | None) -> Signature:
    """The signature in a parsed `MLmodel`.

    names: what the model calls the columns of an array, else x0, x1, ...
    Raises UnservableModel without one, or with a type that no request can carry.
    """
    signature = mlmodel.get("signature") or {}
    if not signature.get("inputs"):
        raise UnservableModel(f"the model was logged without a signature; {FIX}")
    specs = json.loads(signature["inputs"])
    if any(spec.get("type") == "tensor" for spec in specs):
        return Signature(_tensor_fields(specs, names), tensor=True)
    fields = []
    for i, spec in enumerate(specs):
        dtype = _COLUMN_TYPES.get(str(spec["type"]))
        name = spec.get("name") or ("text" if dtype == "string" else f"x{i}")
        if dtype is None:
            raise UnservableModel(
                f"input {name!r} is of type {spec['type']}, which is not served; log the model "
                f"with columns of {', '.join(sorted(_COLUMN_TYPES))}"
            )
        fields.append(Field(name, dtype, bool(spec.get("required", True))))
    unnamed = len(specs) == 1 and not specs[0].get("name")
    return Signature(tuple(fields), tensor=unnamed)


def _tensor_fields(
    specs: Sequence[Mapping[str, Any]], names: Sequence[str] | None
) -> tuple[Field, ...]:
    fields: list[Field] = []
    for spec in specs:
        dtype, shape = spec["tensor-spec"]["dtype"], list(spec["tensor-spec"]["shape"])
        kind = _TENSOR_TYPES.get("str" if str(dtype).startswith("<U") else str(dtype))
        if kind is None or len(shape) > 2 or (len(shape) == 2 and shape[1] < 1):
            raise UnservableModel(
                f"the signature's tensor of shape {tuple(shape)} and dtype {dtype} is not served; "
                "log the model with a two-dimensional array (-1, n) or a DataFrame of columns"
            )
        width = shape[1] if len(shape) == 2 else 1
        named = spec.get("name")
        if named and width == 1:
            fields.append(Field(str(named), kind))
        elif kind == "string" and width == 1:
            fields.append(Field("text", kind))
        elif names is not None and len(names) == width and len(specs) == 1:
            fields.extend(Field(str(n), kind) for n in names)
        else:
            prefix = f"{named}_" if named and len(specs) > 1 else "x"
            fields.extend(Field(f"{prefix}{i}", kind) for i in range(width))
    return tuple(fields)


def read_example(
    folder: Path, mlmodel: Mapping[str, Any], fields: Sequence[Field]
) -> "pd.DataFrame | None":
    """The input example logged with the model, its columns named as the fields; None if none.

    UnservableModel where `MLmodel` has it outside of the folder.
    """
    import pandas as pd

    info = mlmodel.get("saved_input_example_info") or {}
    path = within(folder, str(info.get("artifact_path") or "input_example.json"))
    if not info or not path.is_file() or info.get("type") not in ("dataframe", "ndarray"):
        return None
    document = json.loads(path.read_text())
    if isinstance(document, dict) and {"columns", "data"} <= set(document):
        frame = pd.DataFrame(document["data"], columns=[str(c) for c in document["columns"]])
    elif isinstance(document, dict) and "data" in document:
        frame = pd.DataFrame(document["data"])
    elif isinstance(document, list):
        frame = pd.DataFrame(document)
    else:
        return None
    names = [field.name for field in fields]
    if set(names) <= set(frame.columns):
        return frame[names]
    return frame.set_axis(names, axis=1) if len(frame.columns) == len(names) else None
