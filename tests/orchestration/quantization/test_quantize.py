"""An int8 graph answers nearly as the original, each row for itself, and only where it can pay."""

import hashlib

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from bentos.model_server.contract import Contract, GraphInput, Input, Outputs
from bentos.model_server.session import ModelSession
from orchestration.export import Exported, ExportError, NativeModel, export
from orchestration.export.signature import Field, Signature
from orchestration.quantization import UnquantizableModel, quantize
from orchestration.quantization.calibrate import answers
from orchestration.quantization.layers import find_layers
from orchestration.quantization.quantize import choose, read
from orchestration.quantization.rewrite import quantized_weights
from serving_config.schema import Model
from serving_config.variants import Quantization

SETTINGS = Quantization(calibration_rows=100)


def variant_of(trained):
    return quantize(trained.exported, trained.frame, SETTINGS)


def session_of(exported):
    return ModelSession(exported.model, exported.contract)


def rows_of(trained, count=200):
    return trained.frame.to_numpy()[:count].tolist()


def test_a_classifier_in_int8_is_a_quarter_of_the_size_and_gives_nearly_the_same_answers(
    classifier,
):
    variant, rows = variant_of(classifier), rows_of(classifier)
    expected, actual = classifier.session.predict(rows), session_of(variant).predict(rows)
    assert len(variant.model) < 0.3 * len(classifier.exported.model)
    assert variant.operators == {"MatMulInteger": 1}
    assert np.abs(expected.probabilities - actual.probabilities).mean() < 0.01
    flips = sum(a != b for a, b in zip(expected.labels, actual.labels, strict=True))
    assert flips <= 0.02 * len(rows)


def test_its_contract_is_the_original_s_but_for_variant_and_digest(classifier):
    variant, contract = variant_of(classifier), classifier.exported.contract
    assert variant.contract.variant == "int8"
    assert variant.contract.onnx_sha256 == hashlib.sha256(variant.model).hexdigest()
    assert variant.base_sha256 == contract.onnx_sha256
    for name in ("inputs", "outputs", "graph_inputs", "example", "version"):
        assert getattr(variant.contract, name) == getattr(contract, name)


def test_the_same_model_gives_the_same_bytes_and_they_say_how_they_were_made(regressor):
    variant = variant_of(regressor)
    assert variant_of(regressor).model == variant.model
    assert read(variant.model, regressor.exported) == variant
    assert variant.calibration_rows == 100


def test_a_graph_that_was_made_from_another_is_not_taken(classifier, regressor):
    with pytest.raises(ExportError, match="was not made from the ONNX graph"):
        read(variant_of(classifier).model, regressor.exported)


def test_a_float64_network_is_quantized_and_keeps_its_float64_output(regressor):
    variant, rows = variant_of(regressor), rows_of(regressor)
    expected = np.array(regressor.session.predict(rows).labels)
    actual = np.array(session_of(variant).predict(rows).labels)
    assert variant.operators == {"MatMulInteger": 2}
    assert np.sqrt(np.mean((expected - actual) ** 2)) < 0.02 * expected.std()
    outputs = onnx.load_model_from_string(variant.model).graph.output
    assert outputs[0].type.tensor_type.elem_type == TensorProto.DOUBLE


@pytest.mark.parametrize("size", [0.0, 1e-300, 1e30, 1e300])
def test_rows_of_any_size_get_a_finite_answer(regressor, size):
    row = [size] * len(regressor.frame.columns)
    assert np.isfinite(session_of(variant_of(regressor)).predict([row]).labels).all()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=12, max_size=12), st.integers(1, 40))
def test_a_row_s_answer_does_not_depend_on_its_neighbours(made, neighbour, place):
    for session, rows in made:
        together = session.predict([*rows[:place], neighbour, *rows[place:]])
        alone = [session.predict([row]) for row in rows]
        others = [i for i in range(len(rows) + 1) if i != place]
        expected = np.concatenate([_numbers(answer) for answer in alone])
        assert np.abs(_numbers(together)[others] - expected).max() < 1e-5


@pytest.fixture(scope="module")
def made(classifier, regressor):
    """Sessions of variants, with some rows."""
    return [(session_of(variant_of(t)), rows_of(t, 41)) for t in (classifier, regressor)]


def _numbers(predictions):
    if predictions.probabilities is not None:
        return predictions.probabilities
    return np.array(predictions.labels, dtype=np.float64)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_no_pair_of_products_overflows_16_bits(fitted, activation):
    """What CPUs without VNNI add two products in; rows beyond the calibrated ones too."""
    network = MLPClassifier((64, 64, 64), activation=activation, max_iter=2, random_state=0)
    trained = fitted(network)
    for session, weights in _taken(trained):
        rows = trained.frame.to_numpy() * 1e4
        taken = session.run(None, {"numbers": rows})[0]
        assert 2 * int(taken.max()) * int(np.abs(weights.astype(int)).max()) <= 32767


def _taken(trained):
    """Of both kinds of scales and each layer: a session that answers what MatMulInteger takes."""
    from orchestration.quantization.calibrate import peaks
    from orchestration.quantization.narrow import narrow
    from orchestration.quantization.rewrite import rewrite

    model = onnx.load_model_from_string(trained.exported.model)
    narrow(model.graph)
    layers = find_layers(model.graph)
    assert len(layers) == 2
    rows = rows_of(trained, 50)
    for limits in (peaks(model, layers, trained.exported.contract, rows), None):
        changed = rewrite(model, layers, limits)
        known = {t.name: numpy_helper.to_array(t) for t in changed.graph.initializer}
        for node in [n for n in changed.graph.node if n.op_type == "MatMulInteger"]:
            del changed.graph.output[:]
            name = node.input[0]
            changed.graph.output.append(
                helper.make_tensor_value_info(name, TensorProto.UINT8, None)
            )
            session = onnxruntime.InferenceSession(changed.SerializeToString())
            yield session, known[node.input[1]]


@pytest.mark.parametrize(
    ("errors", "method"),
    [
        ({"dynamic": 2e-5, "static": 1.7e-5}, "static"),
        ({"dynamic": 2e-5, "static": 1.9e-5}, "dynamic"),
        ({"dynamic": 2e-5}, "dynamic"),
    ],
)
def test_fixed_scales_have_to_be_clearly_more_accurate(errors, method):
    assert choose(errors) == method


def test_rows_of_very_different_size_have_scales_of_their_own(fitted):
    x = np.random.default_rng(0).normal(size=(300, 8))
    sizes = 10.0 ** np.random.default_rng(1).integers(-3, 3, size=(300, 1))
    unlike = MLPClassifier((64, 64), max_iter=2, random_state=0)
    chosen = variant_of(fitted(unlike, x * sizes, (x[:, 0] > 0).astype(int)))
    assert chosen.method == "dynamic"
    assert chosen.errors["dynamic"] < chosen.errors["static"]


UNFIT = {
    "trees": (RandomForestClassifier(5, random_state=0), "trees compare"),
    "a linear model": (LogisticRegression(), "none of its layers has at least 64 inputs"),
    "a small network": (MLPClassifier((16,), max_iter=1, random_state=0), "none of its layers"),
}


@pytest.mark.parametrize(("estimator", "reason"), UNFIT.values(), ids=UNFIT)
def test_a_model_with_nothing_to_quantize_is_refused_before_a_row_is_asked(
    fitted, estimator, reason
):
    rows = object()  # whoever touches it fails
    with pytest.raises(UnquantizableModel, match=reason):
        quantize(fitted(estimator).exported, rows, SETTINGS)


def test_a_text_model_is_refused():
    texts = [f"{word} {other}" for word in ("win", "meet") for other in ("now", "later")]
    vectorizer = TfidfVectorizer(strip_accents="ascii")
    model = make_pipeline(vectorizer, LogisticRegression()).fit(texts, [1, 1, 0, 0])
    native = NativeModel("sklearn", model, Signature((Field("text", "string"),), tensor=False))
    with pytest.raises(UnquantizableModel, match="its time goes into texts"):
        quantize(export(native, Model(name="m"), 1), None, SETTINGS)


def network(opset, transposed=False, alpha=1.0, beta=1.0, dtype=np.float32, listed=False):
    """Two Gemm as frameworks write them, with an opset imported twice. listed: constants among the
    inputs, as before IR version 4."""
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.normal(size=(64, 80)),
        "b": rng.normal(size=80),
        "v": rng.normal(size=(80, 1)),
    }
    if transposed:
        arrays["w"] = np.ascontiguousarray(arrays["w"].T)
    nodes = [
        helper.make_node(
            "Gemm", ["x", "w", "b"], ["h"], transB=int(transposed), alpha=alpha, beta=beta
        ),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["y"]),
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    constants = [helper.make_tensor_value_info(n, kind, a.shape) for n, a in arrays.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, [None, 64]), *(constants if listed else [])],
        [helper.make_tensor_value_info("y", kind, [None, 1])],
        [numpy_helper.from_array(a.astype(dtype), name) for name, a in arrays.items()],
    )
    imports = [helper.make_opsetid("", opset)] * 2
    data = helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
    names = tuple(f"x{i}" for i in range(64))
    contract = Contract(
        model="m",
        version=1,
        onnx_sha256=hashlib.sha256(data).hexdigest(),
        inputs=tuple(Input(name, "float64", required=False) for name in names),
        graph_inputs=(GraphInput("x", np.dtype(dtype).name, names),),
        outputs=Outputs("regression", "y"),
        example=dict.fromkeys(names, 1.0),
    )
    return Exported(data, contract)


def table(count=200, seed=1):
    """Rows for it."""
    values = np.random.default_rng(seed).normal(size=(count, 64))
    return pd.DataFrame(values, columns=[f"x{i}" for i in range(64)])


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("transposed", "alpha", "beta"), [(False, 1.0, 1.0), (True, 0.5, 3.0)])
def test_a_logged_graph_is_quantized_whatever_its_opset_and_its_kind_of_gemm(
    opset, dtype, transposed, alpha, beta
):
    exported = network(opset, transposed, alpha, beta, dtype)
    variant = quantize(exported, table(seed=0), SETTINGS)
    rows = table(50).to_numpy().tolist()
    expected = np.array(answers(session_of(exported), rows).labels)
    actual = np.array(answers(session_of(variant), rows).labels)
    assert np.sqrt(np.mean((expected - actual) ** 2)) < 0.03 * expected.std()
    assert [o.domain for o in onnx.load_model_from_string(variant.model).opset_import] == [""]


def test_constants_among_the_inputs_leave_with_their_layer():
    variant = quantize(network(17, listed=True), table(), SETTINGS)
    assert len(session_of(variant).predict([[1.0] * 64]).labels) == 1


def test_scales_are_not_fixed_from_made_up_rows():
    for rows in (None, table(0), table().assign(x0=np.inf)):
        with pytest.raises(UnquantizableModel, match=r"log the version with an input_example"):
            quantize(network(17), rows, SETTINGS)


def test_a_layer_that_the_rows_leave_at_zero_has_no_fixed_scale():
    base = network(17)
    model = onnx.load_model_from_string(base.model)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(100), "threshold"))
    beyond = [
        helper.make_node("Sub", ["x", "threshold"], ["more"]),
        helper.make_node("Relu", ["more"], ["beyond"]),
    ]
    model.graph.node[0].input[0] = "beyond"
    nodes = [*beyond, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    data = model.SerializeToString()
    digest = hashlib.sha256(data).hexdigest()
    base = Exported(data, replace(base.contract, onnx_sha256=digest))
    variant = quantize(base, table(), SETTINGS)
    assert variant.method == "dynamic"
    rows = (200 + table(20)).to_numpy().tolist()
    expected, actual = (session_of(graph).predict(rows).labels for graph in (base, variant))
    assert actual == pytest.approx(expected, rel=0.05)


def test_rows_that_the_original_has_no_number_for_do_not_count():
    """A network passes a missing value on."""
    gaps = table()
    gaps.iloc[::40, 3] = np.nan
    variant = quantize(network(17), gaps, SETTINGS)
    assert all(np.isfinite(list(variant.errors.values())))
    assert variant.calibration_rows < SETTINGS.calibration_rows
    with pytest.raises(UnquantizableModel, match="input_example"):
        quantize(network(17), gaps.iloc[::40], SETTINGS)


def test_an_old_opset_is_refused():
    with pytest.raises(UnquantizableModel, match="opset 11: log it with 13"):
        quantize(network(11), None, SETTINGS)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_weights_are_rounded_to_the_nearest_level_of_their_column(seed, positive):
    from orchestration.quantization.layers import Layer

    rng = np.random.default_rng(seed)
    weights = (rng.normal(size=(64, 5)) * 10.0 ** rng.integers(-6, 6, 5)).astype(np.float32)
    weights[:, 0] = 0
    whole, scales = quantized_weights(Layer("y", "x", weights, None, positive))
    assert np.abs(whole.astype(int)).max() == (127 if positive else 63)
    assert (np.abs(whole * scales.astype(np.float64) - weights) <= 0.5001 * scales).all()
