"""Models that were logged as ONNX."""

import mlflow
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

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
    from sklearn.linear_model import LogisticRegression

    x = np.array(ROWS * 5, dtype=np.float32)
    fitted = LogisticRegression().fit(x, ["no", "yes", "no", "maybe"] * 5)
    model = to_onnx(fitted, x[:1], options={"zipmap": False}, target_opset=18)
    exported, session = served(native_of(model))
    assert exported.contract.outputs.labels == ("maybe", "no", "yes")
    assert session.predict(ROWS).labels == fitted.predict(x[:4]).tolist()


def zipmap():
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

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
