"""Read a PyTorch program that `torch.export.save` wrote, without running anything of the file.

`torch.export.load` itself unpickles weights, constants and sample inputs where the archive tells
it to, loads shared libraries, looks operators up by any dotted name and evaluates expressions. So
the archive is screened first: what a trained network needs passes, everything else is refused.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestration.export.errors import UnservableModel

FIX = (
    "log it again with mlflow.pytorch.log_model(module.eval(), ..., serialization_format='pt2', "
    "input_example=rows), rows being a NumPy array of 2 or more"
)

_OPERATOR = re.compile(
    r"torch\.ops\.aten\._?[a-z]\w*\.[A-Za-z]\w*"
    r"|torch\.ops\.higher_order\.wrap_with_set_grad_enabled"
    r"|torch\.sym_(int|float|max|min|not)|_operator\.[a-z]\w*|math\.[a-z]\w*",
    re.ASCII,
)
_NAME = re.compile(r"[\w.]*", re.ASCII)
_WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
# Sizes, as sympy writes them: Mul(Integer(2), Symbol('s77', positive=True, integer=True)).
_EXPRESSION = re.compile(r"[\w ()+\-*/,.='<>]*", re.ASCII)
_SYMBOL = re.compile(
    r"[a-z]\d+|Symbol|Integer|Add|Mul|Pow|FloorDiv|Mod|PythonMod|Max|Min|positive|nonnegative"
    r"|integer|True|False"
)
_FILES = {
    "models/model.json",
    "data/sample_inputs/model.pt",
    "archive_format",
    "archive_version",
    "byteorder",
    ".data/version",
    ".data/serialization_id",
}
_CONTAINERS = {"builtins.tuple", "builtins.list", "builtins.dict", None}


def read_program(path: Path) -> Any:
    """The `torch.export.ExportedProgram` of a file. Raises UnservableModel."""
    import torch

    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnservableModel(f"{path.name} cannot be read ({error}); {FIX}") from error
    try:
        _screen(data)
        program = torch.export.load(io.BytesIO(data))
    except UnservableModel:
        raise
    except Exception as error:  # zipfile, json and torch raise whatever the broken file provokes
        reason = str(error).strip().partition("\n")[0][:200]
        raise UnservableModel(f"{path.name} cannot be read ({reason}); {FIX}") from error
    # Python source from the file, which would be run as a check of the inputs
    program._guards_code = []
    return program


def _screen(data: bytes) -> None:
    """UnservableModel for an archive in which there is more than a graph of operators, and its
    weights as bare numbers."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = {name.partition("/")[2]: name for name in archive.namelist()}
        if len(names) != len(archive.namelist()):
            raise _refused("has files twice")
        for name in names:
            if name not in _FILES and not name.startswith(("data/weights/", "data/constants/")):
                raise _refused(f"holds {name}")
        for kind in ("weights", "constants"):
            config = json.loads(archive.read(names[f"data/{kind}/model_{kind}_config.json"]))
            _screen_tensors(config["config"], f"data/{kind}/model.pt" in names)
        _screen_samples(archive.read(names["data/sample_inputs/model.pt"]))
        _screen_graph(json.loads(archive.read(names["models/model.json"])))


def _refused(what: str) -> UnservableModel:
    return UnservableModel(
        f"the PyTorch archive {what}, which can run code when it is loaded; {FIX}"
    )


def _screen_tensors(config: dict[str, Any], legacy: bool) -> None:
    for name, tensor in config.items():
        plain = re.fullmatch(r"(weight|tensor)_\d+", str(tensor["path_name"]))
        if tensor["use_pickle"] or not plain or legacy:
            raise _refused(f"holds {name} as a pickle")


def _screen_samples(data: bytes) -> None:
    import torch

    try:
        torch.load(io.BytesIO(data), weights_only=True)
    except Exception as error:  # as torch refuses: load() would unpickle it all the same
        raise _refused("holds its example inputs as a pickle") from error


def _screen_graph(document: dict[str, Any]) -> None:
    for key, text in _texts({k: v for k, v in document.items() if k != "guards_code"}):
        if key in ("target", "as_operator"):
            allowed = _OPERATOR.fullmatch(text) is not None
        elif key == "expr_str":
            words = _WORD.findall(text)
            allowed = bool(_EXPRESSION.fullmatch(text)) and all(map(_SYMBOL.fullmatch, words))
        elif key in ("in_spec", "out_spec"):
            allowed = not text or ("__" not in text and _is_plain_tree(json.loads(text)[1]))
        else:
            named = key in ("name", "fqn") or key.endswith("_name")
            allowed = not named or _NAME.fullmatch(text) is not None
        if not allowed:
            raise _refused(f"has {key} {text[:100]!r}")


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text below, with the key it has; what the graph was traced from is left out."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, key)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name != "metadata":
                yield from _texts(item, name)


def _is_plain_tree(spec: dict[str, Any]) -> bool:
    return spec["type"] in _CONTAINERS and all(map(_is_plain_tree, spec["children_spec"]))
