"""scikit-learn's decision trees and their ensembles, as one float64 TreeEnsemble.

Trees, forests and GradientBoosting compare the input cast to float32 with a float64 threshold
(`sklearn.tree._tree`: `X_ndarray[i, feature] <= node.threshold`, X is float32), so the input is
cast down and up again and every comparison is the same. HistGradientBoosting compares float64.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestration.export.graph import Graph, Tensor

MODES = {"<=": 0, "<": 1, "in": 6}


@dataclass
class Forest:
    """Binary trees in the form of ONNX's TreeEnsemble; leaves add their weight to a target."""

    targets: int
    roots: list[int] = field(default_factory=list)
    features: list[int] = field(default_factory=list)
    modes: list[int] = field(default_factory=list)
    splits: list[float] = field(default_factory=list)
    children: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    leaves: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    missing_true: list[int] = field(default_factory=list)
    members: list[list[float]] = field(default_factory=list)
    leaf_targets: list[int] = field(default_factory=list)
    leaf_weights: list[float] = field(default_factory=list)

    def leaf(self, target: int, weight: float) -> int:
        """Add a leaf and return its number."""
        self.leaf_targets.append(target)
        self.leaf_weights.append(weight)
        return len(self.leaf_weights) - 1

    def split(self, feature: int, mode: str, value: float, missing_true: bool) -> int:
        """Add an inner node and return its number; `link` gives it children."""
        self.features.append(feature)
        self.modes.append(MODES[mode])
        self.splits.append(value)
        self.missing_true.append(int(missing_true))
        for side in (0, 1):
            self.children[side].append(0)
            self.leaves[side].append(0)
        return len(self.features) - 1

    def link(self, node: int, side: int, child: int, is_leaf: bool) -> None:
        """Set the child for true (side 0) or false (side 1)."""
        self.children[side][node] = child
        self.leaves[side][node] = int(is_leaf)

    def constant_tree(self, target: int, weight: float) -> None:
        """A tree of one leaf: a node whose two sides are that leaf."""
        node, leaf = self.split(0, "<=", 0.0, True), self.leaf(target, weight)
        self.roots.append(node)
        self.link(node, 0, leaf, True)
        self.link(node, 1, leaf, True)

    def add_to(self, graph: Graph, x: Tensor) -> Tensor:
        """The node, in x's dtype (float32 or float64): sums by target, (rows, targets)."""
        from onnx import numpy_helper

        def tensor(values: Iterable[float], name: str) -> Any:
            return numpy_helper.from_array(np.array(list(values), dtype=x.dtype), name)

        attributes: dict[str, Any] = {}
        if self.members:
            flat = [v for member in self.members for v in (*member, np.nan)]
            attributes["membership_values"] = tensor(flat, "members")
        name = graph.node(
            "TreeEnsemble",
            [x.name],
            domain="ai.onnx.ml",
            aggregate_function=1,
            post_transform=0,
            n_targets=self.targets,
            tree_roots=self.roots,
            nodes_featureids=self.features,
            nodes_modes=numpy_helper.from_array(np.array(self.modes, dtype=np.uint8), "modes"),
            nodes_splits=tensor(self.splits, "splits"),
            nodes_truenodeids=self.children[0],
            nodes_falsenodeids=self.children[1],
            nodes_trueleafs=self.leaves[0],
            nodes_falseleafs=self.leaves[1],
            nodes_missing_value_tracks_true=self.missing_true,
            leaf_targetids=self.leaf_targets,
            leaf_weights=tensor(self.leaf_weights, "weights"),
            **attributes,
        )
        return Tensor(name, x.dtype, self.targets)


def add_sklearn_tree(
    forest: Forest, tree: Any, values: npt.NDArray[np.float64], target: int
) -> None:
    """A `sklearn.tree._tree.Tree`. values: (nodes,), what each leaf adds to the target."""
    left, right = tree.children_left, tree.children_right
    if left[0] == -1:
        forest.constant_tree(target, float(values[0]))
        return
    numbers: list[int] = []
    for i in range(tree.node_count):
        if left[i] == -1:
            numbers.append(forest.leaf(target, float(values[i])))
            continue
        missing = bool(tree.missing_go_to_left[i])
        number = forest.split(int(tree.feature[i]), "<=", float(tree.threshold[i]), missing)
        numbers.append(number)
    forest.roots.append(numbers[0])
    for i in range(tree.node_count):
        if left[i] != -1:
            for side, child in enumerate((int(left[i]), int(right[i]))):
                forest.link(numbers[i], side, numbers[child], left[child] == -1)


def add_hist_tree(forest: Forest, predictor: Any, target: int) -> None:
    """A predictor of HistGradientBoosting: float64 thresholds, categories as sets."""
    nodes = predictor.nodes
    if nodes[0]["is_leaf"]:
        forest.constant_tree(target, float(nodes[0]["value"]))
        return
    numbers: list[int] = []
    for node in nodes:
        if node["is_leaf"]:
            numbers.append(forest.leaf(target, float(node["value"])))
            continue
        missing = bool(node["missing_go_to_left"])
        feature = int(node["feature_idx"])
        if node["is_categorical"]:
            bits = predictor.raw_left_cat_bitsets[node["bitset_idx"]]
            forest.members.append([float(c) for c in range(256) if bits[c // 32] >> (c % 32) & 1])
            numbers.append(forest.split(feature, "in", np.nan, missing))
        else:
            numbers.append(forest.split(feature, "<=", float(node["num_threshold"]), missing))
    forest.roots.append(numbers[0])
    for number, node in zip(numbers, nodes, strict=True):
        if not node["is_leaf"]:
            for side, child in enumerate((int(node["left"]), int(node["right"]))):
                forest.link(number, side, numbers[child], bool(nodes[child]["is_leaf"]))
