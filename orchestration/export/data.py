"""What flows between the steps of a pipeline: a table with named columns, or a matrix."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bentos.model_server.contract import Dtype, GraphInput, Scalar, TextPreprocessing
from orchestration.export.errors import UnservableModel
from orchestration.export.graph import Graph, Tensor


@dataclass
class Requirements:
    """What the conversion found that the contract must hold: by input name."""

    text: dict[str, TextPreprocessing] = field(default_factory=dict)
    categories: dict[str, tuple[Scalar, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """The model's columns before the first transformer.

    numbers and strings hold all columns of that kind; `columns` gives name, dtype and position
    in its tensor. scikit-learn sees these columns as a DataFrame.
    """

    columns: tuple[tuple[str, Dtype, int], ...]
    numbers: Tensor | None
    strings: Tensor | None
    requirements: Requirements

    @property
    def width(self) -> int:
        """How many columns."""
        return len(self.columns)

    def pick(self, columns: Sequence[int]) -> "Table":
        """Some columns, in the given order."""
        return replace(self, columns=tuple(self.columns[i] for i in columns))


Data = Table | Tensor


def matrix(data: Data, graph: Graph) -> Tensor:
    """The data as numbers: float32 where every column is, else float64, as NumPy stacks them."""
    if isinstance(data, Tensor):
        return data
    strings = [name for name, dtype, _ in data.columns if dtype == "string"]
    if strings or data.numbers is None:
        raise UnservableModel(
            f"the text column(s) {strings} reach a step that computes with numbers; "
            "encode them in a ColumnTransformer (OneHotEncoder, TfidfVectorizer) and log again"
        )
    selected = graph.select(data.numbers, [position for _, _, position in data.columns])
    narrow = all(dtype == "float32" for _, dtype, _ in data.columns)
    return graph.cast(selected, "float32") if narrow else selected


def wide(data: Data, graph: Graph) -> Tensor:
    """The data as float64."""
    return graph.cast(matrix(data, graph), "float64")


def open_table(
    columns: Sequence[tuple[str, Dtype]], graph: Graph
) -> tuple[Table, tuple[GraphInput, ...]]:
    """The graph's inputs: one float64 matrix of all numbers, one matrix of all strings.

    A float32 column is rounded first, so that the graph sees what the model saw in training.
    """
    numeric = [(n, d) for n, d in columns if d != "string"]
    texts = [n for n, d in columns if d == "string"]
    numbers = strings = None
    inputs: list[GraphInput] = []
    if numeric:
        numbers = graph.input("numbers", "float64", len(numeric))
        inputs.append(GraphInput("numbers", "float64", tuple(n for n, _ in numeric)))
        narrow = np.array([[d == "float32" for _, d in numeric]])
        if narrow.any():
            rounded = graph.cast(graph.cast(numbers, "float32"), "float64")
            mask = graph.constant(narrow)
            name = graph.node("Where", [mask, rounded.name, numbers.name])
            numbers = Tensor(name, "float64", len(numeric))
    if texts:
        strings = graph.input("strings", "string", len(texts))
        inputs.append(GraphInput("strings", "string", tuple(texts)))
    positions = {n: i for names in ([n for n, _ in numeric], texts) for i, n in enumerate(names)}
    placed = tuple((n, d, positions[n]) for n, d in columns)
    return Table(placed, numbers, strings, Requirements()), tuple(inputs)
