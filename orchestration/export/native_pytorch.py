"""A PyTorch module as MLflow holds it: the exported program, what was fitted in front of it, and
what its answers mean. It has the methods of a scikit-learn estimator."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from bentos.model_server.contract import FLOATS
from orchestration.export.errors import UnservableModel
from orchestration.export.pt2 import FIX

if TYPE_CHECKING:
    import pandas as pd

META_FIX = (
    "log it again with metadata={'slipway': {'kind': 'classification', 'labels': [...]}}, the "
    "labels in the order of the module's columns, or {'slipway': {'kind': 'regression'}}"
)
ONE_MATRIX = (
    "wrap the module in one whose forward takes one matrix (rows, columns) and answers with one"
)
SUM_TOLERANCE = 1e-3
_DTYPES = ("float32", "float64", "int32", "int64")


@dataclass(frozen=True)
class Meaning:
    """What a module's columns are. labels: empty for a regression."""

    kind: Literal["classification", "regression"]
    labels: tuple[str | int | bool, ...] = ()


def read_meaning(metadata: Mapping[str, Any] | None) -> Meaning:
    """From the logged model's metadata. Raises UnservableModel."""
    stated = (metadata or {}).get("slipway")
    if not isinstance(stated, dict) or stated.get("kind") not in ("classification", "regression"):
        raise UnservableModel(f"a PyTorch module does not tell what its answers mean; {META_FIX}")
    if stated["kind"] == "regression":
        return Meaning("regression")
    labels: Any = stated.get("labels")
    types = {type(label) for label in labels} if isinstance(labels, list) else set()
    if len(types) != 1 or not types <= {str, int, bool} or len(set(labels)) != len(labels):
        raise UnservableModel(
            f"the labels {labels!r} in the model's metadata are not different texts, integers or "
            f"booleans; {META_FIX}"
        )
    return Meaning("classification", tuple(labels))


@dataclass(frozen=True)
class TorchModel:
    """program: a `torch.export.ExportedProgram` that takes one matrix (rows, width) and answers
    with (rows, columns) or (rows,): probabilities, or the value of a regression. One column of a
    classification is the probability of the second label.
    preprocessing: a fitted scikit-learn transformer that makes that matrix of the model's columns;
        None where they are it.
    """

    program: Any
    meaning: Meaning
    preprocessing: Any = None

    def __post_init__(self) -> None:
        """Raises UnservableModel for a program that cannot be served."""
        _require_evaluation(self.program)
        batch, _ = _shape(self._input, "takes")
        _require_any_batch(self.program, batch)
        columns = _shape(_output(self.program), "answers with")[1]
        labels = len(self.meaning.labels)
        expected = {1} if not labels else {labels, 1} if labels == 2 else {labels}
        if columns not in expected:
            raise UnservableModel(
                f"the module answers with {columns} column(s), its metadata states "
                + (f"{labels} labels" if labels else "a regression, which is one column")
                + f"; {META_FIX}"
            )
        self._require_sound_answers()

    @cached_property
    def _input(self) -> Any:
        """The tensor that the program takes, without values."""
        users = self.program.graph_signature.user_inputs
        if len(users) != 1:
            raise UnservableModel(f"the module takes {len(users)} inputs; {ONE_MATRIX}")
        return next(n.meta["val"] for n in self.program.graph.nodes if n.name == users[0])

    @property
    def width(self) -> int:
        """Columns of the matrix that the program takes."""
        return _shape(self._input, "takes")[1]

    @property
    def dtype(self) -> str:
        """Of that matrix."""
        name = str(self._input.dtype).removeprefix("torch.")
        if name not in _DTYPES:
            raise UnservableModel(
                f"the module takes {name}, which is not served; let it take one of "
                f"{', '.join(_DTYPES)} and convert inside"
            )
        return name

    @property
    def classes_(self) -> npt.NDArray[Any]:
        """The labels in the order of the probabilities."""
        return np.array(self.meaning.labels)

    @property
    def feature_names_in_(self) -> "npt.NDArray[np.object_] | None":
        """The columns that the preprocessing was fitted on, if it knows them."""
        return getattr(self.preprocessing, "feature_names_in_", None)

    @cached_property
    def _module(self) -> Any:
        return self.program.module(check_guards=False)

    def predict(self, data: "pd.DataFrame | npt.NDArray[Any]") -> npt.NDArray[Any]:
        """The label with the highest probability, or the value."""
        if self.meaning.kind == "regression":
            return self.run(self.matrix(data))[:, 0]
        best: npt.NDArray[Any] = self.classes_[self.predict_proba(data).argmax(axis=1)]
        return best

    def predict_proba(self, data: "pd.DataFrame | npt.NDArray[Any]") -> npt.NDArray[Any]:
        """(rows, labels), in the module's dtype."""
        answers = self.run(self.matrix(data))
        if answers.shape[1] > 1:
            return answers
        return np.concatenate([np.ones_like(answers) - answers, answers], axis=1)

    def matrix(self, data: "pd.DataFrame | npt.NDArray[Any]") -> npt.NDArray[Any]:
        """What the program is given, in its dtype."""
        given: Any = data if self.preprocessing is None else self.preprocessing.transform(data)
        values = np.asarray(given.toarray() if hasattr(given, "toarray") else given, np.float64)
        if self.dtype not in FLOATS and not np.isfinite(values).all():
            raise ValueError(f"a missing value has no place in {self.dtype}")
        with np.errstate(over="ignore"):  # beyond float32 is infinite, as in the graph
            return values.astype(self.dtype)

    def run(self, matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The program's answers, (rows, columns). ValueError where one is not a number: a network
        passes NaN on where other models refuse it."""
        import torch

        with torch.inference_mode(), _one_thread():
            result = self._module(torch.from_numpy(np.ascontiguousarray(matrix)))
        answers: npt.NDArray[Any] = result.numpy().reshape(len(matrix), -1)
        if np.isnan(answers).any():
            raise ValueError("the module answers NaN")
        return answers

    def _require_sound_answers(self) -> None:
        """A row's answer is its own, and probabilities are some."""
        rng = np.random.default_rng(0)
        shape, numbers = (4, self.width), self.dtype in FLOATS
        rows = (rng.normal(size=shape) if numbers else np.zeros(shape)).astype(self.dtype)
        together = self.run(rows)
        alone = np.concatenate([self.run(rows[i : i + 1]) for i in range(len(rows))])
        if not np.allclose(together, alone, rtol=1e-3, atol=1e-5):
            raise UnservableModel(
                "the module's answer for a row depends on chance or on the other rows of the "
                "batch; log module.eval(), and normalize by fitted statistics"
            )
        if self.meaning.kind == "regression":
            return
        total = together.sum(axis=1)
        sums = together.shape[1] == 1 or np.allclose(total, 1, atol=SUM_TOLERANCE)
        if together.min() < 0 or together.max() > 1 or not sums:
            raise UnservableModel(
                f"the module answers {np.round(together[0], 3).tolist()} where probabilities were "
                "expected; end it with torch.sigmoid (one column) or torch.softmax(..., 1)"
            )


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _require_evaluation(program: Any) -> None:
    """UnservableModel for a module that was logged in training mode."""
    for node in program.graph.nodes:
        name = getattr(getattr(node.target, "_schema", None), "name", "")
        # dropout(input, p, train); batch_norm(input, weight, bias, mean, var, training, ...)
        place = 2 if name.endswith("dropout") else 5
        trains = node.args[place : place + 1] == (True,)
        if trains and name.endswith(("dropout", "batch_norm")):
            raise UnservableModel(
                f"the module was logged in training mode ({name}), in which it answers by chance "
                "or by the batch; call module.eval() first and log it again"
            )


def _output(program: Any) -> Any:
    users = program.graph_signature.user_outputs
    if len(users) != 1:
        raise UnservableModel(f"the module has {len(users)} outputs; {ONE_MATRIX}")
    return next(n.meta["val"] for n in program.graph.nodes if n.name == users[0])


def _shape(value: Any, does: str) -> tuple[Any, int]:
    """The batch dimension and the number of columns."""
    shape: tuple[Any, ...] = tuple(getattr(value, "shape", ()))
    if len(shape) not in (1, 2) or not all(isinstance(size, int) for size in shape[1:]):
        raise UnservableModel(
            f"the module {does} shape ({', '.join(map(str, shape))}); {ONE_MATRIX}"
        )
    return shape[0], int(shape[1]) if len(shape) == 2 else 1


def _require_any_batch(program: Any, batch: Any) -> None:
    expression = None if isinstance(batch, int) else batch.node.expr
    if expression is None or expression.is_number:
        raise UnservableModel(f"the module was exported for batches of {batch} row(s) alone; {FIX}")
    limits = program.range_constraints.get(expression)
    if limits is not None and (limits.lower > 2 or limits.upper < 2**31):
        raise UnservableModel(
            f"the module was exported for batches of {limits.lower} to {limits.upper} rows: it "
            f"asks for the number of rows; take that out, and {FIX}"
        )
