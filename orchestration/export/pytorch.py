"""PyTorch modules: PyTorch's own ONNX exporter, behind the preprocessing as we convert it."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestration.export.data import Data, wide
from orchestration.export.errors import UnservableModel
from orchestration.export.graph import OPSET, Graph, Tensor
from orchestration.export.native_pytorch import TorchModel, read_meaning
from orchestration.export.pt2 import FIX, read_program
from orchestration.export.registry import Scores, estimates
from orchestration.export.signature import within
from orchestration.export.skops_files import load_skops
from orchestration.export.tree_models import complement

PREPROCESSING = "preprocessing.skops"
INSTALL = ".venv/bin/uv pip install -e '.[torch]'"


def load_torch(folder: Path, mlmodel: Mapping[str, Any], trusted: tuple[str, ...]) -> TorchModel:
    """mlmodel: what `MLmodel` in the folder says. Raises UnservableModel."""
    require_torch()
    conf = mlmodel["flavors"]["pytorch"]
    path = within(folder, str(conf.get("model_data", "data"))) / "model.pt2"
    if not path.is_file():
        raise UnservableModel(
            f"the module is stored as pickle, which runs code when it is loaded; {FIX}"
        )
    files = [str(f.get("path", "")) for f in conf.get("extra_files") or ()]
    found = [within(folder, f) for f in files if Path(f).name == PREPROCESSING]
    if found and '"tensor"' in str((mlmodel.get("signature") or {}).get("inputs")):
        raise UnservableModel(
            f"the signature is of the matrix behind {PREPROCESSING}, a request has the columns "
            "before it: mlflow.models.set_signature(model_info.model_uri, infer_signature(table, "
            "labels)), then register the version"
        )
    preprocessing = load_skops(found[0], trusted) if found else None
    return TorchModel(read_program(path), read_meaning(mlmodel.get("metadata")), preprocessing)


def require_torch() -> None:
    """UnservableModel with the command to install it."""
    try:
        import onnxscript  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise UnservableModel(
            f"the model needs {error.name or 'torch'}, which is not installed here "
            f"({error}): {INSTALL}"
        ) from error


@estimates("orchestration.TorchModel")
def module(model: TorchModel, data: Data, graph: Graph) -> Tensor | Scores:
    """The preprocessing in float64, the module in its own dtype."""
    from orchestration.export.compose import transform

    if model.preprocessing is not None:
        data = transform(model.preprocessing, data, graph)
    x = graph.cast(wide(data, graph), model.dtype)
    if x.width != model.width:
        raise UnservableModel(
            f"the module takes {model.width} columns and gets {x.width}; log it with the signature "
            "and the preprocessing that it was trained with"
        )
    exported = _exported(model.program)
    (answer,) = graph.inline(exported, {exported.graph.input[0].name: x.name})
    columns = max(1, len(model.meaning.labels))
    dtype = {1: "float32", 11: "float64"}.get(exported.graph.output[0].type.tensor_type.elem_type)
    if dtype is None:
        raise UnservableModel("the module does not answer with float32 or float64; convert inside")
    rank = len(exported.graph.output[0].type.tensor_type.shape.dim)
    if rank == 1 or columns == 1 or _one_column(exported):
        flat = graph.node("Reshape", [answer, graph.constant([-1, 1], "int64")])
        value = Tensor(flat, dtype, 1)
        if model.meaning.kind == "regression":
            return value
        return Scores.best_of(complement(value, graph), graph)
    return Scores.best_of(Tensor(answer, dtype, columns), graph)


def _one_column(exported: Any) -> bool:
    return bool(exported.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 1)


def _exported(program: Any) -> Any:
    """The program as an ONNX model without anything of where and how it was traced."""
    import onnx.inliner
    import torch

    with _quiet():
        model = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, external_data=False, verbose=False
        ).model_proto
    model = onnx.inliner.inline_local_functions(model) if model.functions else model
    opset = next(o.version for o in model.opset_import if not o.domain)
    nested = [n.op_type for n in model.graph.node if any(a.HasField("g") for a in n.attribute)]
    if nested or opset != OPSET:
        raise UnservableModel(
            f"the module has branches or loops ({', '.join(nested)}), which are not served; "
            "compute both sides and choose with torch.where"
            if nested
            else f"PyTorch exports the module in ONNX opset {opset}, served is {OPSET}"
        )
    for part in (*model.graph.node, *model.graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says about packages that are not installed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
