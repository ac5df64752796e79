"""Inference: rows of a contract in, labels and probabilities out.

The one class that runs a model. Verification, serving and batch scoring call it, so what was
proved is what answers.
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from bentos.model_server.contract import (
    FLOATS,
    Contract,
    GraphInput,
    Input,
    Scalar,
    TextPreprocessing,
)

Row = Sequence[Scalar]
Feeds = dict[str, npt.NDArray[Any]]


class ModelLoadError(RuntimeError):
    """A model file that is not what its contract says, or that ONNX Runtime cannot load."""


@dataclass(frozen=True)
class Predictions:
    """labels: one JSON-able value a row; probabilities: (rows, classes) or None."""

    labels: list[Any]
    probabilities: npt.NDArray[Any] | None

    def __len__(self) -> int:
        return len(self.labels)


class Scored(NamedTuple):
    """The finite answers of one request, as they are written out.

    labels: one JSON-able value a row; probabilities: by row, in the order of the contract's
    labels, widened to Python floats (a float32 reads back exactly); None where the model has none.
    """

    labels: list[Any]
    probabilities: list[list[float]] | None


@cache
def marks() -> dict[int, None]:
    """All combining marks, to be removed before NFKD: none of them becomes ASCII, but it sorts a
    run of them by insertion, and a hundred thousand in a row would take 10 s."""
    return dict.fromkeys(c for c in range(0x110000) if unicodedata.combining(chr(c)))


def preprocess(text: str, steps: TextPreprocessing) -> str:
    """What `sklearn.feature_extraction.text` does to a document before it tokenizes it."""
    if steps.lowercase:
        text = text.lower()
    if steps.strip_accents and not text.isascii():
        bare = unicodedata.normalize("NFKD", text.translate(marks()))
        text = bare.encode("ascii", "ignore").decode("ascii")
    return text


def _column(field: Input, values: Sequence[Scalar]) -> Sequence[Scalar]:
    if field.dtype == "string" and field.text is not None:
        return [preprocess(str(value), field.text) for value in values]
    if field.dtype in FLOATS or not field.required:
        return [np.nan if value is None else value for value in values]
    return values


def _matrix_of_floats(contract: Contract) -> GraphInput | None:
    """The graph's only input, where it takes all the contract's fields, floats, in their order."""
    names = tuple(field.name for field in contract.inputs)
    if len(contract.graph_inputs) != 1 or not all(f.dtype in FLOATS for f in contract.inputs):
        return None
    only = contract.graph_inputs[0]
    fits = only.shape == "matrix" and only.columns == names and only.dtype in FLOATS
    return only if fits else None


def feeds(contract: Contract, rows: Sequence[Row]) -> Feeds:
    """Rows, each in the order of `contract.inputs`, as the arrays the graph takes.

    Each array is (rows, columns), or (rows,) for a vector, in the graph input's dtype; strings
    are object arrays. The rows must have been validated: nothing is checked here.
    """
    by_name = {
        field.name: _column(field, [row[i] for row in rows])
        for i, field in enumerate(contract.inputs)
    }
    arrays: Feeds = {}
    for graph_input in contract.graph_inputs:
        dtype: Any = object if graph_input.dtype == "string" else graph_input.dtype
        if graph_input.shape == "vector":
            arrays[graph_input.name] = np.asarray(by_name[graph_input.columns[0]], dtype=dtype)
            continue
        matrix = np.empty((len(rows), len(graph_input.columns)), dtype=dtype)
        for j, column in enumerate(graph_input.columns):
            matrix[:, j] = by_name[column]
        arrays[graph_input.name] = matrix
    return arrays


class ModelSession:
    """An ONNX Runtime session bound to its contract. Thread-safe, as ONNX Runtime's run is."""

    def __init__(self, model: bytes, contract: Contract, threads: int = 1) -> None:
        """model: the bytes of `model.onnx`; threads: intra-op threads (1 suits small models).

        Raises ModelLoadError where the digest is not the contract's, ONNX Runtime refuses the
        graph, or the graph's inputs and outputs are not those of the contract.
        """
        self.contract = contract
        digest = hashlib.sha256(model).hexdigest()
        if digest != contract.onnx_sha256:
            raise ModelLoadError(
                f"model.onnx has digest {digest[:12]}, the contract of {contract.model} version "
                f"{contract.version} demands {contract.onnx_sha256[:12]}: the file was exchanged"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises a dozen classes without a common base
            raise ModelLoadError(f"ONNX Runtime cannot load model.onnx: {error}") from error
        self._check_names()
        self._floats = _matrix_of_floats(contract)
        if any(field.text is not None and field.text.strip_accents for field in contract.inputs):
            marks()  # 0.1 s, which no request should have to wait for
        outputs = contract.outputs
        self._outputs = [outputs.prediction]
        if outputs.probabilities is not None:
            self._outputs.append(outputs.probabilities)

    def _check_names(self) -> None:
        contract = self.contract
        stated = {
            "inputs": sorted(i.name for i in contract.graph_inputs),
            "outputs": [
                o for o in (contract.outputs.prediction, contract.outputs.probabilities) if o
            ],
        }
        inputs = sorted(i.name for i in self._session.get_inputs())
        outputs = {o.name for o in self._session.get_outputs()}
        if stated["inputs"] != inputs or not outputs.issuperset(stated["outputs"]):
            raise ModelLoadError(
                f"the graph has inputs {inputs} and outputs {sorted(outputs)}, "
                f"the contract states {stated}"
            )

    @property
    def label_type(self) -> str:
        """Of the prediction's elements, as the graph states it: `string`, `int64`, `float`, …"""
        types = {output.name: output.type for output in self._session.get_outputs()}
        stated: str = types[self.contract.outputs.prediction]
        return stated.removeprefix("tensor(").removesuffix(")")

    @classmethod
    def load(cls, path: Path, contract: Contract, threads: int = 1) -> "ModelSession":
        """Read `model.onnx` once and load what was read, so that what was hashed is what runs."""
        try:
            model = path.read_bytes()
        except OSError as error:
            raise ModelLoadError(f"cannot read {path}: {error.strerror}") from error
        return cls(model, contract, threads)

    def feeds(self, rows: Sequence[Row]) -> Feeds:
        """The arrays for `run`, of validated rows in the order of `contract.inputs`."""
        if self._floats is not None:  # in one go; None becomes NaN here too
            return {self._floats.name: np.array(rows, dtype=self._floats.dtype)}
        return feeds(self.contract, rows)

    def predict(self, rows: Sequence[Row]) -> Predictions:
        """Score rows given in the order of `contract.inputs`; at least one row."""
        return self.run(self.feeds(rows))

    def run(self, arrays: Feeds) -> Predictions:
        """Score arrays as `feeds` makes them."""
        labels, probabilities = self.compute(arrays)
        return Predictions(labels.tolist(), probabilities)

    def compute(self, arrays: Feeds) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
        """What `run` answers, as arrays: the labels (rows,) and the probabilities."""
        result = self._session.run(self._outputs, arrays)
        labels = np.asarray(result[0])
        if labels.ndim > 1:
            labels = labels.reshape(len(labels), -1)[:, 0]
        return labels, np.asarray(result[1]) if len(result) > 1 else None
