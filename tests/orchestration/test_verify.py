"""Verification: right graphs pass, wrong graphs fail and show where."""

from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import xgboost
from onnx import helper, numpy_helper
from sklearn import datasets
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from bentos.model_server.certificate import (
    Certificate,
    Comparison,
    Golden,
    Limits,
    Parity,
    decode_certificate,
)
from bentos.model_server.session import ModelSession
from orchestration.export import Exported, NativeModel, export
from orchestration.export.signature import Field, Signature
from orchestration.verification.changes import scores_of
from orchestration.verification.compare import Answered, answers, difference
from orchestration.verification.rows import build_space
from orchestration.verification.thresholds import threshold_rows
from orchestration.verify import SEED, advice, verify
from serving_config.schema import Column, Model

LIMITS = Limits()


def native_of(model, x, y):
    fields = tuple(Field(f"x{i}", "float64") for i in range(x.shape[1]))
    return NativeModel("sklearn", model.fit(x, y), Signature(fields, tensor=True))


def frame_of(native, x):
    return pd.DataFrame(x, columns=[field.name for field in native.signature.fields])


def certify(native, exported, reference):
    session = ModelSession(exported.model, exported.contract)
    return verify(native, session, reference, LIMITS)


def figures(certificate):
    return {c.kind: c for c in certificate.parity.comparisons}


def rewritten(exported, change):
    """The exported model with its ONNX graph changed, and the contract of the changed bytes."""
    import hashlib

    from msgspec.structs import replace

    model = onnx.load_model_from_string(exported.model)
    change(model.graph)
    data = model.SerializeToString()
    return Exported(data, replace(exported.contract, onnx_sha256=hashlib.sha256(data).hexdigest()))


MODELS = {
    "forest": (RandomForestClassifier(20, random_state=0), datasets.load_breast_cancer),
    "extra trees": (ExtraTreesClassifier(10, random_state=0), datasets.load_wine),
    "tree": (DecisionTreeClassifier(random_state=0), datasets.load_iris),
    "boosting": (GradientBoostingClassifier(n_estimators=10, random_state=0), datasets.load_iris),
    "hist": (HistGradientBoostingClassifier(max_iter=20), datasets.load_breast_cancer),
    "hist of three": (HistGradientBoostingClassifier(max_iter=10), datasets.load_wine),
    "xgboost": (xgboost.XGBClassifier(n_estimators=20), datasets.load_breast_cancer),
    "logistic": (LogisticRegression(), datasets.load_breast_cancer),
    "without probabilities": (RidgeClassifier(), datasets.load_breast_cancer),
    "forest regression": (RandomForestRegressor(10, random_state=0), datasets.load_diabetes),
    "hist regression": (HistGradientBoostingRegressor(max_iter=20), datasets.load_diabetes),
    "xgboost regression": (xgboost.XGBRegressor(n_estimators=20), datasets.load_diabetes),
}


@pytest.mark.parametrize(("model", "load"), MODELS.values(), ids=MODELS)
def test_a_model_behind_a_scaler_is_certified_beside_its_thresholds_too(model, load):
    x, y = load(return_X_y=True)
    native = native_of(make_pipeline(StandardScaler(), model), x, y)
    certificate = certify(native, export(native, Model(name="m"), 1), frame_of(native, x))
    assert certificate.parity.passed, advice(certificate)
    kinds = figures(certificate)
    assert min(c.rows for c in kinds.values()) > 80
    assert max(c.max_abs_diff for c in kinds.values()) < 1e-6
    assert sum(c.label_flips for c in kinds.values()) == 0
    if hasattr(model, "estimators_") or hasattr(model, "_predictors"):
        assert sum(c.ties for c in kinds.values()) == 0
    assert decode_certificate(certificate.encode()) == certificate


def test_the_threshold_rows_of_a_tree_are_all_its_reachable_thresholds():
    x, y = datasets.load_iris(return_X_y=True)
    native = native_of(DecisionTreeClassifier(max_depth=2, random_state=0), x, y)
    exported = export(native, Model(name="m"), 1)
    space = build_space(exported.contract, frame_of(native, x), SEED)
    rows = np.array(threshold_rows(native, space, SEED))
    tree = native.model.tree_
    for feature, threshold in zip(tree.feature, tree.threshold, strict=True):
        if feature >= 0:
            nearest = np.abs(rows[:, feature] - threshold).min()
            assert nearest <= np.spacing(np.float32(threshold))


def float32_scaler(graph):
    """What converters make of a pipeline: everything from the input on in float32."""
    cast = helper.make_node("Cast", ["numbers"], ["narrow"], to=1)
    widened = helper.make_node("Cast", ["narrow"], ["rounded"], to=11)
    for node in graph.node:
        node.input[:] = ["rounded" if n == "numbers" else n for n in node.input]
    graph.node.insert(0, cast)
    graph.node.insert(1, widened)


def test_a_float32_scaler_in_front_of_trees_fails_and_shows_the_rows():
    x, y = datasets.load_breast_cancer(return_X_y=True)
    native = native_of(
        make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=20)), x, y
    )
    wrong = rewritten(export(native, Model(name="m"), 1), float32_scaler)
    certificate = certify(native, wrong, frame_of(native, x))
    assert not certificate.parity.passed
    assert figures(certificate)["thresholds"].over_tolerance > 50
    assert 0 < len(certificate.parity.worst) <= 20
    worst = certificate.parity.worst[0]
    assert worst.difference > 1e-3
    assert worst.expected_probabilities != worst.actual_probabilities
    assert set(worst.features) == {f"x{i}" for i in range(30)}


def test_a_single_perturbed_threshold_fails():
    x, y = datasets.load_iris(return_X_y=True)
    native = native_of(
        make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=5, random_state=0)),
        x,
        y,
    )

    def perturb(graph):
        (trees,) = (n for n in graph.node if n.op_type == "TreeEnsemble")
        (splits,) = (a for a in trees.attribute if a.name == "nodes_splits")
        values = numpy_helper.to_array(splits.t).copy()
        # after the start scores, the first node is the root of the first tree
        values[3] += 1e-6
        splits.t.CopyFrom(numpy_helper.from_array(values, "splits"))

    exported = export(native, Model(name="m"), 1)
    assert certify(native, exported, frame_of(native, x)).parity.passed
    certificate = certify(native, rewritten(exported, perturb), frame_of(native, x))
    assert not certificate.parity.passed
    assert figures(certificate)["reference"].over_tolerance == 0
    assert figures(certificate)["thresholds"].over_tolerance > 0
    assert "beside a threshold" in advice(certificate)


def test_swapped_labels_are_flips():
    x, y = datasets.load_breast_cancer(return_X_y=True)
    native = native_of(LogisticRegression(max_iter=5000), x[:, :4], y)

    def swap(graph):
        for node in graph.node:
            if node.op_type == "ArgMax":
                node.op_type = "ArgMin"

    certificate = certify(
        native, rewritten(export(native, Model(name="m"), 1), swap), frame_of(native, x[:, :4])
    )
    assert figures(certificate)["reference"].label_flips > 500
    assert "Ordinary rows differ" in advice(certificate)


def test_without_reference_rows_each_kind_still_has_some():
    x, y = datasets.load_iris(return_X_y=True)
    native = native_of(make_pipeline(StandardScaler(), RandomForestClassifier(5)), x, y)
    config = Model(name="m", inputs={f"x{i}": Column(minimum=0.0, maximum=8.0) for i in range(4)})
    certificate = certify(native, export(native, config, 1), None)
    assert certificate.parity.passed
    assert all(c.rows > 0 for c in certificate.parity.comparisons)


def test_an_example_of_two_rows_is_enough_to_find_thresholds():
    x, y = datasets.load_iris(return_X_y=True)
    native = native_of(RandomForestClassifier(3, random_state=0), x, y)
    certificate = certify(native, export(native, Model(name="m"), 1), frame_of(native, x[:2]))
    assert certificate.parity.passed
    assert figures(certificate)["thresholds"].rows > 20


def test_every_row_keeps_to_the_contract_and_the_golden_rows_are_reproduced():
    x, y = datasets.load_iris(return_X_y=True)
    native = native_of(make_pipeline(StandardScaler(), LogisticRegression()), x, y)
    config = Model(name="m", inputs={"x0": Column(minimum=4.0, maximum=8.0)})
    exported = export(native, config, 1)
    certificate = certify(native, exported, frame_of(native, x))
    golden = certificate.golden
    assert 8 <= len(golden.rows) <= 16
    session = ModelSession(exported.model, exported.contract)
    rows = [[row[f"x{i}"] for i in range(4)] for row in golden.rows]
    assert all(4.0 <= row[0] <= 8.0 for row in rows)
    batch = session.predict(rows)
    assert [a.prediction for a in golden.batch] == batch.labels
    assert [list(a.probabilities) for a in golden.batch] == batch.probabilities.tolist()
    for row, answer in zip(rows, golden.single, strict=True):
        assert list(answer.probabilities) == session.predict([row]).probabilities[0].tolist()


def test_the_same_arguments_give_the_same_certificate():
    x, y = datasets.load_wine(return_X_y=True)
    native = native_of(make_pipeline(StandardScaler(), LogisticRegression()), x, y)
    exported = export(native, Model(name="m"), 1)
    first, second = (certify(native, exported, frame_of(native, x)) for _ in range(2))
    assert first.encode() == second.encode()


def test_texts_and_categories_are_certified():
    rng = np.random.default_rng(0)
    words = np.array(["good", "bad", "plot", "été", "中文", "the"])
    frame = pd.DataFrame(
        {
            "text": [" ".join(rng.choice(words, 6)) for _ in range(120)],
            "city": rng.choice(["Paris", "Zürich"], 120),
            "age": rng.integers(18, 90, 120),
        }
    )
    model = make_pipeline(
        ColumnTransformer(
            [
                ("t", TfidfVectorizer(), "text"),
                ("c", OneHotEncoder(handle_unknown="ignore"), ["city"]),
                ("a", "passthrough", ["age"]),
            ]
        ),
        RandomForestClassifier(10, random_state=0),
    ).fit(frame, rng.choice(["no", "yes"], 120))
    fields = (Field("text", "string"), Field("city", "string"), Field("age", "int64"))
    native = NativeModel("sklearn", model, Signature(fields, tensor=False))
    certificate = certify(native, export(native, Model(name="m"), 1), frame)
    assert certificate.parity.passed, advice(certificate)
    assert all(c.rows > 50 for c in certificate.parity.comparisons)


def test_a_text_that_is_tokenized_otherwise_fails():
    texts = ["good film", "bad film", "été gris", "été bleu", "a plot", "the end"] * 20
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(
        texts, [0, 1, 1, 0, 1, 0] * 20
    )
    native = NativeModel("sklearn", model, Signature((Field("text", "string"),), tensor=True))

    def ascii_tokens(graph):
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name == "tokenexp":
                    attribute.s = b"[a-z0-9_]+"

    wrong = rewritten(export(native, Model(name="m"), 1), ascii_tokens)
    certificate = certify(native, wrong, pd.DataFrame({"text": texts}))
    assert not certificate.parity.passed
    assert any("é" in str(w.features["text"]) for w in certificate.parity.worst)


@pytest.mark.parametrize(
    ("expected", "actual", "apart"),
    [
        ((0.25, 0.75), (0.25, 0.75), 0.0),
        ((0.25, 0.75), (0.5, 0.5), 0.25),
        ((np.nan, 0.5), (np.nan, 0.5), 0.0),
        ((np.nan, 0.5), (0.5, 0.5), np.finfo(float).max),
        ((0.5, 0.5), (np.inf, 0.5), np.finfo(float).max),
        ((0.5, 0.5), (0.5, 0.25, 0.25), np.finfo(float).max),
    ],
)
def test_nan_is_as_different_as_can_be_unless_both_have_it(expected, actual, apart):
    assert difference(Answered(0, expected), Answered(0, actual), regression=False) == apart


def test_a_regression_is_compared_relative_to_its_value():
    assert difference(Answered(1e6, None), Answered(1e6 + 1, None), regression=True) == 1e-6
    assert difference(Answered(0.5, None), Answered(0.25, None), regression=True) == 0.25


def test_a_label_between_two_equal_probabilities_is_a_tie_not_a_flip():
    x, y = datasets.load_breast_cancer(return_X_y=True)
    native = native_of(make_pipeline(StandardScaler(), LogisticRegression()), x, y)

    def a_little_off(graph):
        for initializer in graph.initializer:
            values = numpy_helper.to_array(initializer)
            if values.shape == (30, 1):
                initializer.CopyFrom(numpy_helper.from_array(values * (1 + 1e-9), initializer.name))

    wrong = rewritten(export(native, Model(name="m"), 1), a_little_off)
    certificate = certify(native, wrong, frame_of(native, x))
    assert figures(certificate)["thresholds"].ties > 0
    assert certificate.parity.passed


def test_what_the_last_bit_of_a_logarithm_decides_is_a_tie():
    x, y = datasets.load_breast_cancer(return_X_y=True)
    model = make_pipeline(FunctionTransformer(np.log1p), RandomForestClassifier(10, random_state=0))
    native = native_of(model, x[:, :8], y)
    certificate = certify(native, export(native, Model(name="m"), 1), frame_of(native, x[:, :8]))
    assert certificate.parity.passed, advice(certificate)
    assert figures(certificate)["thresholds"].ties > 0


def test_a_model_that_accepts_nothing_is_not_certified():
    x, y = datasets.load_iris(return_X_y=True)
    native = native_of(LogisticRegression(max_iter=500), x, y)
    exported = export(native, Model(name="m"), 1)
    native.model.n_features_in_ = 3
    certificate = certify(native, exported, None)
    assert not certificate.parity.passed
    assert "input_example" in advice(certificate)


def onnx_native_of(model, features, example=None):
    fields = tuple(Field(f"x{i}", "float32") for i in range(features))
    data = model.SerializeToString()
    return NativeModel("onnx", data, Signature(fields, tensor=True), example)


def label_only(x, y):
    """A logged ONNX model that answers with a label and nothing else."""
    from skl2onnx import to_onnx

    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    model = to_onnx(fitted, x[:1], options={"zipmap": False}, target_opset=18)
    del model.graph.output[1]
    return onnx_native_of(model, x.shape[1])


def always(place):
    """The graph answers with one class for every row."""

    def change(graph):
        answer = graph.output[0].name
        for node in graph.node:
            node.output[:] = ["answer" if n == answer else n for n in node.output]
            node.input[:] = ["answer" if n == answer else n for n in node.input]
        graph.initializer.append(numpy_helper.from_array(np.array(0, dtype=np.int64), "zero"))
        graph.initializer.append(numpy_helper.from_array(np.array(place, dtype=np.int64), "place"))
        graph.node.append(helper.make_node("Mul", ["answer", "zero"], ["nothing"]))
        graph.node.append(helper.make_node("Add", ["nothing", "place"], [answer]))

    return change


@pytest.mark.parametrize("place", [0, 1])
def test_a_model_that_only_gives_labels_has_no_ties_that_excuse_a_constant_answer(place):
    x, y = datasets.load_breast_cancer(return_X_y=True)
    native = label_only(x[:, :4].astype(np.float32), y)
    exported = export(native, Model(name="m"), 1)
    reference = frame_of(native, x[:, :4])
    assert certify(native, exported, reference).parity.passed
    certificate = certify(native, rewritten(exported, always(place)), reference)
    assert not certificate.parity.passed
    assert figures(certificate)["reference"].label_flips > 100
    assert figures(certificate)["reference"].ties == 0


def argmax_of_shuffled_columns():
    """Probabilities whose columns are in another order than the labels."""
    order = numpy_helper.from_array(np.array([2, 0, 1], dtype=np.int64), "order")
    weights = numpy_helper.from_array(np.array([[1, -1, 0], [0.5, 0, 2]], np.float32), "weights")
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "weights"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["p"], axis=1),
            helper.make_node("Gather", ["p", "order"], ["q"], axis=1),
            helper.make_node("ArgMax", ["q"], ["label"], axis=1, keepdims=0),
        ],
        "g",
        [helper.make_tensor_value_info("x", 1, [None, 2])],
        [
            helper.make_tensor_value_info("label", 7, [None]),
            helper.make_tensor_value_info("p", 1, [None, 3]),
        ],
        [order, weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_a_logged_graph_whose_label_is_not_the_highest_probability_fails():
    native = onnx_native_of(argmax_of_shuffled_columns(), 2)
    rng = np.random.default_rng(0)
    certificate = certify(
        native, export(native, Model(name="m"), 1), frame_of(native, rng.normal(size=(300, 2)))
    )
    kinds = figures(certificate)
    assert not certificate.parity.passed
    assert kinds["reference"].label_flips == 300
    assert kinds["reference"].over_tolerance == 0
    assert min(c.label_flips for c in kinds.values()) > 10
    assert certificate.parity.worst
    assert "is not the class with the highest probability" in advice(certificate)
    assert "classlabels" in advice(certificate)


def test_a_logged_graph_whose_labels_are_those_of_its_columns_passes():
    from skl2onnx import to_onnx
    from sklearn.naive_bayes import GaussianNB

    x, y = datasets.load_iris(return_X_y=True)
    x = x.astype(np.float32)
    model = to_onnx(GaussianNB().fit(x, y + 1), x[:1], options={"zipmap": False}, target_opset=18)
    native = onnx_native_of(model, 4)
    exported = export(native, Model(name="m"), 1)
    assert exported.contract.outputs.labels == (1, 2, 3)
    certificate = certify(native, exported, frame_of(native, x))
    assert certificate.parity.passed, advice(certificate)


def iris_with_limits(maximum):
    x, y = datasets.load_iris(return_X_y=True)
    native = native_of(make_pipeline(StandardScaler(), LogisticRegression()), x, y)
    config = Model(name="m", inputs={"x0": Column(minimum=0.0, maximum=maximum)})
    return native, export(native, config, 1)


def spread_out(count, outside):
    """So many different flowers, the last ones with a sepal of 10 cm."""
    x, _ = datasets.load_iris(return_X_y=True)
    rows = x[np.arange(count) % len(x)] + np.arange(count)[:, None] * 1e-6
    rows[count - outside :, 0] = 10.0
    return rows


def test_reference_rows_outside_the_contract_are_counted_and_fail_the_certificate():
    native, exported = iris_with_limits(8.5)
    certificate = certify(native, exported, frame_of(native, spread_out(400, 40)))
    reference = figures(certificate)["reference"]
    assert (reference.rows, reference.excluded, reference.made_up) == (360, 40, 0)
    assert reference.label_flips == reference.over_tolerance == 0
    assert not certificate.parity.passed
    assert "40 of 400 given rows were excluded" in advice(certificate)
    assert "minimum, maximum" in advice(certificate)
    assert decode_certificate(certificate.encode()) == certificate


def test_a_few_reference_rows_outside_the_contract_are_counted_and_pass():
    native, exported = iris_with_limits(8.5)
    certificate = certify(native, exported, frame_of(native, spread_out(400, 20)))
    assert figures(certificate)["reference"].excluded == 20
    assert certificate.parity.passed, advice(certificate)


def test_no_row_is_made_up_in_place_of_an_excluded_one():
    native, exported = iris_with_limits(8.5)
    certificate = certify(native, exported, frame_of(native, spread_out(400, 400)))
    reference = figures(certificate)["reference"]
    assert (reference.rows, reference.excluded, reference.made_up) == (0, 400, 0)
    assert not certificate.parity.passed
    assert "400 of 400 given rows were excluded" in advice(certificate)


def test_a_small_reference_is_filled_up_and_its_share_is_of_the_given_rows():
    native, exported = iris_with_limits(8.5)
    certificate = certify(native, exported, frame_of(native, spread_out(20, 2)))
    reference = figures(certificate)["reference"]
    assert reference.excluded == 2
    assert reference.rows - reference.made_up == 18
    assert reference.made_up > 150
    assert not certificate.parity.passed
    assert "2 of 20 given rows were excluded" in advice(certificate)


def test_rows_that_the_trained_model_refuses_are_counted():
    x, y = datasets.load_iris(return_X_y=True)
    fields = tuple(Field(f"x{i}", "float64", required=i > 0) for i in range(4))
    model = make_pipeline(FunctionTransformer(), LogisticRegression(max_iter=500)).fit(x, y)
    native = NativeModel("sklearn", model, Signature(fields, tensor=True))
    exported = export(native, Model(name="m"), 1)
    from msgspec.structs import replace

    inputs = (replace(exported.contract.inputs[0], required=False), *exported.contract.inputs[1:])
    exported = Exported(exported.model, replace(exported.contract, inputs=inputs))
    rows = spread_out(300, 0)
    rows[:30, 0] = np.nan
    certificate = certify(native, exported, frame_of(native, rows))
    kinds = figures(certificate)
    assert (kinds["reference"].rows, kinds["reference"].excluded) == (270, 30)
    assert kinds["edges"].excluded > 0
    assert not certificate.parity.passed


def test_a_kind_of_rows_that_is_missing_is_no_pass():
    figure = [Comparison(kind, 10, 0.0, 0, 0, 0) for kind in ("reference", "thresholds", "edges")]
    assert Parity(tuple(figure), LIMITS).passed
    for missing in range(3):
        assert not Parity(tuple(figure[:missing] + figure[missing + 1 :]), LIMITS).passed
    assert not Parity((), LIMITS).passed


class OutOfMemory(NativeModel):
    """A model whose predictions do not fit into memory."""

    def predict(self, rows):
        raise MemoryError

    def scores(self, frame):
        raise MemoryError


def test_memory_that_runs_out_is_no_row_that_the_model_refuses():
    native = OutOfMemory("sklearn", None, Signature((Field("x0", "float64"),), tensor=True))
    with pytest.raises(MemoryError):
        answers(native.predict, [[1.0]])
    with pytest.raises(MemoryError):
        scores_of(native, pd.DataFrame({"x0": [1.0]}))


class Refusing(ModelSession):
    """A graph that refuses rows with a first number above a limit."""

    limit = 5.8

    def predict(self, rows):
        if any(row[0] > self.limit for row in rows):
            raise RuntimeError("the graph refuses this row")
        return super().predict(rows)


@pytest.mark.parametrize("limit", [5.8, -float("inf")])
def test_a_graph_that_refuses_rows_fails_with_the_rows_and_without_a_crash(limit):
    native, exported = iris_with_limits(8.5)
    session = Refusing(exported.model, exported.contract)
    session.limit = limit
    certificate = verify(native, session, frame_of(native, spread_out(300, 0)), LIMITS)
    assert not certificate.parity.passed
    assert certificate.parity.worst[0].actual is None
    assert all(row["x0"] <= limit for row in certificate.golden.rows)
    assert bool(certificate.golden.rows) == (limit > 0)
    assert len(certificate.golden.rows) == len(certificate.golden.batch)


def test_a_pass_on_made_up_rows_alone_says_that_it_proves_less() -> None:
    kinds: tuple[Any, ...] = ("reference", "thresholds", "edges")
    made_up = tuple(Comparison(kind, 10, 0.0, 0, 0, 0, made_up=10) for kind in kinds)
    given = tuple(Comparison(kind, 10, 0.0, 0, 0, 0) for kind in kinds)

    def said(comparisons: tuple[Comparison, ...]) -> str:
        return advice(
            Certificate(
                model="iris",
                version=1,
                variant="fp32",
                onnx_sha256="a",
                contract_sha256="b",
                libraries={},
                parity=Parity(comparisons, Limits()),
                golden=Golden((), (), ()),
            )
        )

    assert "input_example" in said(made_up)
    assert "input_example" not in said(given)
