"""What `GET /v2` and `GET /v2/models/{model}` say; what is announced can be sent as it stands."""

from typing import Any

import msgspec

from bentos.model_server.contract import Contract, version_label
from bentos.model_server.inference_response import PREDICTION, PROBABILITIES
from bentos.model_server.tensor_rows import DATATYPES, TensorRows

EXTENSIONS = ("binary_tensor_data",)
PLATFORM = "onnx_onnxruntime"


class ServerMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v2`. version: the Bento's tag."""

    name: str = "slipway"
    version: str
    extensions: tuple[str, ...] = EXTENSIONS


class TensorMetadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tensor; -1 in its shape is the number of rows."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}


class ModelMetadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of `GET /v2/models/{model}`.

    parameters: `matrix` is the single tensor that may stand for all inputs, if there is one.
    """

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: dict[str, Any] = {}


def model_metadata(
    contract: Contract, rows: TensorRows, datatypes: dict[str, str]
) -> ModelMetadata:
    """Of one model. datatypes: of its outputs by name."""
    optional = {"optional": True}
    inputs = [
        TensorMetadata(f.name, DATATYPES[f.dtype], [-1], {} if f.required else optional)
        for f in rows.fields
    ]
    labels = list(contract.outputs.labels)
    parameters = {"labels": labels} if labels else {}
    shapes = {PREDICTION: [-1], PROBABILITIES: [-1, len(labels)]}
    outputs = [
        TensorMetadata(name, datatype, shapes[name], parameters)
        for name, datatype in datatypes.items()
    ]
    matrix: dict[str, Any] = {}
    if rows.matrix_datatype and rows.matrix_names:
        shape = [-1, len(inputs)]
        whole = TensorMetadata(rows.matrix_names[0], rows.matrix_datatype, shape)
        matrix = {"matrix": {**msgspec.to_builtins(whole), "columns": [i.name for i in inputs]}}
    version = version_label(contract.version, contract.variant)
    return ModelMetadata(contract.model, [version], PLATFORM, inputs, outputs, matrix)
