"""Models that were logged as ONNX."""

from dataclasses import replace

import mlflow
import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.ensemble import AdaBoostClassifier, StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier

from bentos.model_server.session import ModelSession
from orchestration.export import NativeModel, UnservableModel, export, load_native
from orchestration.export.signature import Field, Signature
from serving_config.schema import Model

F, I, S = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING  # noqa: E741
WEIGHTS = numpy_helper.from_array(np.array([[1, -1, 0], [0.5, 0, 2]], dtype=np.float32), "weights")
FIELDS = (Field("a", "float32"), Field("b", "float32"))
ROWS = [[1.0, 2.0], [-1.0, 0.5], [0.0, 0.0], [3.0, -4.0]]


def graph(nodes, inputs, outputs, initializers=(WEIGHTS,)):
    built = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*i) for i in inputs],
        [helper.make_tensor_value_info(*o) for o in outputs],
        list(initializers),
    )
    return helper.make_model(built, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


SOFTMAX = graph(
    [
        helper.make_node("MatMul", ["x", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["p"], axis=1),
    ],
    [("x", F, ["batch", 2])],
    [("p", F, ["batch", 3])],
)


def native_of(model, fields=FIELDS):
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return NativeModel("onnx", data, Signature(fields, tensor=True))


def served(native):
    exported = export(native, Model(name="m"), 1)
    return exported, ModelSession(exported.model, exported.contract)


def test_a_graph_of_probabilities_gets_the_label_of_the_highest():
    native = native_of(SOFTMAX)
    exported, session = served(native)
    answer = session.predict(ROWS)
    assert answer.labels == native.predict(ROWS).labels
    assert answer.labels == answer.probabilities.argmax(axis=1).tolist()
    assert exported.contract.outputs.labels == (0, 1, 2)
    np.testing.assert_array_equal(answer.probabilities, native.predict(ROWS).probabilities)


def test_a_graph_with_labels_and_probabilities_is_served_byte_for_byte():
    model = onnx.ModelProto.FromString(SOFTMAX.SerializeToString())
    model.graph.node.append(helper.make_node("ArgMax", ["p"], ["label"], axis=1, keepdims=0))
    model.graph.output.insert(0, helper.make_tensor_value_info("label", I, ["batch"]))
    exported, session = served(native_of(model))
    assert exported.model == model.SerializeToString()
    assert exported.contract.outputs.prediction == "label"
    assert exported.contract.outputs.probabilities == "p"
    assert len(session.predict(ROWS)) == 4


def test_one_value_a_row_is_a_regression():
    weights = numpy_helper.from_array(np.array([[2.0], [1.0]], dtype=np.float32), "weights")
    model = graph(
        [helper.make_node("MatMul", ["x", "weights"], ["y"])],
        [("x", F, [None, 2])],
        [("y", F, [None, 1])],
        [weights],
    )
    exported, session = served(native_of(model))
    assert exported.contract.outputs.kind == "regression"
    assert session.predict(ROWS).labels == [4.0, -1.5, 0.0, 2.0]


def test_one_input_for_each_column_is_matched_by_name():
    model = graph(
        [helper.make_node("Sub", ["a", "b"], ["y"])],
        [("b", F, [None, 1]), ("a", F, [None])],
        [("y", F, None)],
        [],
    )
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", F, [None]))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("b", F, [None]))
    exported, session = served(native_of(model))
    assert [i.shape for i in exported.contract.graph_inputs] == ["vector", "vector"]
    assert session.predict(ROWS).labels == [-1.0, -1.5, 0.0, 7.0]


def test_the_classes_that_the_graph_states_are_the_labels():
    from skl2onnx import to_onnx

    x = np.array(ROWS * 5, dtype=np.float32)
    fitted = LogisticRegression().fit(x, ["no", "yes", "no", "maybe"] * 5)
    model = to_onnx(fitted, x[:1], options={"zipmap": False}, target_opset=18)
    exported, session = served(native_of(model))
    assert exported.contract.outputs.labels == ("maybe", "no", "yes")
    assert session.predict(ROWS).labels == fitted.predict(x[:4]).tolist()


def to_graph(model, y):
    """A fitted scikit-learn model as skl2onnx exports it, and its rows."""
    from skl2onnx import to_onnx

    x, _ = load_iris(return_X_y=True)
    x = x.astype(np.float32)
    return to_onnx(model.fit(x, y), x[:1], options={"zipmap": False}, target_opset=18), x


IRIS = load_iris(return_X_y=True)[1]
IRIS_FIELDS = tuple(Field(f"x{i}", "float32") for i in range(4))


@pytest.mark.parametrize(
    "model",
    [
        GaussianNB(),
        MLPClassifier((4,), max_iter=200, solver="lbfgs", random_state=0),
        KNeighborsClassifier(),
        AdaBoostClassifier(n_estimators=3),
        # the inner classifiers state 0, 1, 2; only the last one makes the answer
        StackingClassifier([("a", LogisticRegression(max_iter=500)), ("b", GaussianNB())]),
        OneVsRestClassifier(LogisticRegression()),
    ],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.parametrize(
    ("y", "labels"),
    [
        (IRIS + 1, (1, 2, 3)),
        (
            np.array(["setosa", "versicolor", "virginica"])[IRIS],
            ("setosa", "versicolor", "virginica"),
        ),
    ],
    ids=["integers", "strings"],
)
def test_the_labels_are_those_that_the_answer_is_gathered_from(model, y, labels):
    graph, x = to_graph(model, y)
    exported, session = served(native_of(graph, IRIS_FIELDS))
    assert exported.contract.outputs.labels == labels
    answer = session.predict(x.tolist())
    named = [labels[i] for i in answer.probabilities.argmax(axis=1)]
    assert np.mean([a == b for a, b in zip(named, answer.labels, strict=True)]) > 0.99


def test_a_label_of_an_unclear_shape_is_not_replaced_by_positions():
    graph, _ = to_graph(QuadraticDiscriminantAnalysis(), IRIS + 1)  # its label is (1, rows)
    with pytest.raises(UnservableModel, match="neither a label with probabilities"):
        export(native_of(graph, IRIS_FIELDS), Model(name="m"), 1)


def test_probabilities_of_an_unstated_width_are_named_by_the_classes_or_refused():
    model = onnx.ModelProto.FromString(SOFTMAX.SerializeToString())
    table = numpy_helper.from_array(np.array([7, 8, 9], dtype=np.int64), "table")
    model.graph.node.append(helper.make_node("ArgMax", ["p"], ["place"], axis=1, keepdims=0))
    model.graph.node.append(helper.make_node("Constant", [], ["constant"], value=table))
    model.graph.node.append(helper.make_node("Gather", ["constant", "place"], ["label"]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("p", F, ["batch", "classes"]))
    model.graph.output.insert(0, helper.make_tensor_value_info("label", I, ["batch"]))
    exported, session = served(native_of(model))
    assert exported.contract.outputs.labels == (7, 8, 9)
    assert session.predict(ROWS).labels == native_of(model).predict(ROWS).labels
    model.graph.node[-1].CopyFrom(helper.make_node("Identity", ["place"], ["label"]))
    with pytest.raises(UnservableModel, match="0 classes and probabilities of any number"):
        export(native_of(model), Model(name="m"), 1)


def labelled_otherwise():
    """The answer is a class plus 5, computed so that the graph does not tell its classes."""
    model = onnx.ModelProto.FromString(SOFTMAX.SerializeToString())
    model.graph.initializer.append(numpy_helper.from_array(np.array(5, dtype=np.int64), "five"))
    model.graph.node.append(helper.make_node("ArgMax", ["p"], ["place"], axis=1, keepdims=0))
    model.graph.node.append(helper.make_node("Add", ["place", "five"], ["label"]))
    model.graph.output.insert(0, helper.make_tensor_value_info("label", I, ["batch"]))
    return model


def test_labels_that_the_example_contradicts_are_refused_with_the_fix():
    native = native_of(labelled_otherwise())
    example = pd.DataFrame(ROWS, columns=["a", "b"])
    with pytest.raises(UnservableModel, match=r"answers 7 .*named 2: .*Gather.*classlabels"):
        export(replace(native, example=example), Model(name="m"), 1)
    assert served(native)[0].contract.outputs.labels == (0, 1, 2)  # conversion_parity will fail


def test_another_number_of_classes_than_of_probabilities_is_refused():
    model = onnx.ModelProto.FromString(SOFTMAX.SerializeToString())
    table = numpy_helper.from_array(np.array([7, 8], dtype=np.int64), "table")
    model.graph.initializer.append(table)
    model.graph.node.append(helper.make_node("ArgMax", ["p"], ["place"], axis=1, keepdims=0))
    model.graph.node.append(helper.make_node("Gather", ["table", "place"], ["label"]))
    model.graph.output.insert(0, helper.make_tensor_value_info("label", I, ["batch"]))
    with pytest.raises(UnservableModel, match=r"2 classes.*3 columns"):
        export(native_of(model), Model(name="m"), 1)


def zipmap():
    from skl2onnx import to_onnx

    x = np.array(ROWS * 5, dtype=np.float32)
    return to_onnx(LogisticRegression().fit(x, [0, 1, 0, 1] * 5), x[:1], target_opset=18)


def fixed_batch():
    model = onnx.ModelProto.FromString(SOFTMAX.SerializeToString())
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    return model


def image():
    return graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", F, [None, 3, 8, 8])],
        [("y", F, [None, 3, 8, 8])],
        [],
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (zipmap, r"ZipMap.*options=\{'zipmap': False\}"),
        (fixed_batch, "fixed to 8 rows.*dynamic_shapes"),
        (image, "is not served; export it with inputs of shape"),
        (lambda: b"\x00garbage", "no valid ONNX model"),
        (lambda: SOFTMAX.SerializeToString()[:-40], "no valid ONNX model"),
    ],
    ids=["zipmap", "fixed batch", "image", "garbage", "cut off"],
)
def test_what_cannot_be_served_is_refused_with_the_fix(model, message):
    with pytest.raises(UnservableModel, match=message):
        export(native_of(model()), Model(name="m"), 1)


def test_another_number_of_columns_is_refused():
    with pytest.raises(UnservableModel, match="takes 2 columns, the signature gives 3"):
        export(native_of(SOFTMAX, (*FIELDS, Field("c", "float32"))), Model(name="m"), 1)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_the_onnx_flavor_is_loaded_from_its_folder(tmp_path):
    x = np.array(ROWS, dtype=np.float32)
    mlflow.onnx.save_model(
        SOFTMAX,
        tmp_path / "m",
        pip_requirements=["onnx"],
        input_example=x[:2],
        signature=mlflow.models.infer_signature(x, np.zeros((1, 3), dtype=np.float32)),
    )
    native = load_native(tmp_path / "m")
    exported, session = served(native)
    assert [f.name for f in exported.contract.inputs] == ["x0", "x1"]
    assert exported.contract.inputs[0].dtype == "float32"
    assert session.predict(ROWS).labels == native.predict(ROWS).labels
