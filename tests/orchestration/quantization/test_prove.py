"""The proof of a variant: what it loses and gains, and the verdict in words."""

import dataclasses
import itertools

import numpy as np
import onnx
import pytest
from msgspec.structs import replace
from onnx import numpy_helper
from sklearn.neural_network import MLPClassifier

from bentos.model_server.certificate import decode_certificate
from bentos.model_server.quantization import QuantizationLimits
from orchestration.export import Exported
from orchestration.quantization import prove, quantize
from orchestration.quantization.quantize import read
from orchestration.verify import advice, verify_variant
from serving_config.schema import Model
from serving_config.variants import Quantization

SETTINGS = Quantization(calibration_rows=100)
LIMITS = QuantizationLimits()


def proof_of(trained, *, variant=None, held_out=None, limits=LIMITS):
    """All rounds take the same time."""
    variant = variant or quantize(trained.exported, trained.frame, SETTINGS)
    ticks = itertools.count()
    return prove(
        trained.native,
        variant,
        trained.exported,
        trained.frame,
        held_out,
        limits,
        clock=lambda: float(next(ticks)),
    )


def faster(proof):
    """As if it had been measured so."""
    return replace(proof, rows_per_second=2.0, base_rows_per_second=1.0)


def changed(trained, change):
    """The variant with other constants where `change` of one gives some."""
    variant = quantize(trained.exported, trained.frame, SETTINGS)
    model = onnx.load_model_from_string(variant.model)
    for tensor in model.graph.initializer:
        if (values := change(tensor)) is not None:
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return read(model.SerializeToString(), trained.exported)


def spoilt(trained):
    """The variant with noise for weights."""

    def noise(tensor):
        if tensor.data_type != onnx.TensorProto.INT8:
            return None
        return np.random.default_rng(0).integers(-127, 127, tuple(tensor.dims), np.int8)

    return changed(trained, noise)


def answering_nan(trained):
    """The variant with scales that are no numbers."""

    def nothing(tensor):
        scales = tensor.name.endswith("/int8/scales")
        return np.full(tuple(tensor.dims), np.nan, np.float32) if scales else None

    return changed(trained, nothing)


def test_a_variant_that_is_no_faster_is_refused_with_the_reason(classifier):
    proof = proof_of(classifier)
    assert proof.rows_per_second == proof.base_rows_per_second
    assert [reason for reason in proof.refusals if "not faster: 1.00 times" in reason]


def test_a_classifier_s_loss_is_measured_against_the_labels_that_are_known(classifier):
    held_out = classifier.frame.assign(label=classifier.truth)
    proof = faster(proof_of(classifier, held_out=held_out))
    assert proof.passed, proof.refusals
    assert (proof.truth, proof.rows, proof.calibration_rows) == ("labels", 600, 100)
    assert 0.9 < proof.base_auc < 1
    assert abs(proof.auc_loss) < 0.005
    assert proof.batch_difference < 1e-5
    assert proof.size_ratio < 0.3


def test_without_labels_the_trained_model_s_own_are_the_truth(classifier):
    proof = proof_of(classifier)
    assert proof.truth == "model"
    assert proof.base_auc == 1
    assert proof.auc > 0.99


def test_a_regression_is_judged_by_its_error(regressor):
    proof = faster(proof_of(regressor))
    assert proof.passed, proof.refusals
    assert 0 < proof.relative_error < 0.02
    assert (proof.auc, proof.label_flips) == (None, 0)


def test_a_graph_with_wrong_weights_is_refused_for_its_answers(classifier, regressor):
    held_out = classifier.frame.assign(label=classifier.truth)
    wrong = faster(proof_of(classifier, variant=spoilt(classifier), held_out=held_out))
    assert len(wrong.refusals) == 2
    assert "another label" in wrong.refusals[0]
    assert "area under the ROC curve" in wrong.refusals[1]
    wrong = faster(proof_of(regressor, variant=spoilt(regressor)))
    assert [r for r in wrong.refusals if "standard deviation" in r] == list(wrong.refusals)


def test_an_answer_that_is_no_number_is_a_wrong_one(classifier, regressor):
    proof = proof_of(classifier, variant=answering_nan(classifier))
    assert proof.label_flips == proof.rows == 600
    assert [r for r in faster(proof).refusals if "another label" in r]
    wrong = faster(proof_of(regressor, variant=answering_nan(regressor)))
    assert [r for r in wrong.refusals if "standard deviation" in r]


def test_rows_of_one_label_prove_nothing_about_the_area(classifier):
    """A model of something rare gives nearly all rows one label, in whichever order."""
    given = classifier.native.predict(classifier.frame.to_numpy().tolist()).labels
    no = [label == "no" for label in given]
    one = dataclasses.replace(classifier, frame=classifier.frame[no])
    held_out = classifier.frame.assign(label="no")
    (reason,) = faster(proof_of(one, held_out=held_out)).refusals
    assert "holdout/holdout.parquet" in reason
    proof = proof_of(classifier, held_out=held_out)
    assert (proof.truth, proof.base_auc) == ("model", 1)
    both = classifier.frame.assign(label=classifier.truth)
    assert faster(proof_of(one, held_out=both)).truth == "labels"
    assert faster(proof_of(one, held_out=both)).passed


def test_several_classes_are_held_against_the_rest_one_by_one(fitted):
    x = np.random.default_rng(0).normal(size=(300, 12))
    network = MLPClassifier((64, 64), max_iter=40, random_state=0)
    trained = fitted(network, x, np.array(["a", "b", "c"])[np.digitize(x[:, 0], (-0.5, 0.5))])
    held_out = trained.frame.assign(label=trained.truth)
    good = faster(proof_of(trained, held_out=held_out))
    assert good.auc_loss < 0.005 < 0.2 < good.base_auc - 0.5
    wrong = faster(proof_of(trained, variant=spoilt(trained), held_out=held_out))
    assert wrong.auc_loss > 0.1
    assert not wrong.passed


@pytest.fixture(scope="module")
def certificate(regressor):
    variant = quantize(regressor.exported, regressor.frame, SETTINGS)
    as_files = Exported(variant.model, variant.contract)
    return verify_variant(
        regressor.native,
        as_files,
        regressor.exported,
        regressor.frame,
        None,
        Model(name="m", quantization=SETTINGS),
    )


def test_the_certificate_of_a_variant_holds_all_kinds_of_rows_and_the_proof(certificate):
    assert certificate.variant == "int8"
    assert certificate.parity.is_complete
    assert not certificate.parity.passed
    assert certificate.golden.rows
    assert certificate.quantization.rows_per_second > 0
    assert decode_certificate(certificate.encode()) == certificate


def test_the_verdict_is_that_of_its_own_limits(certificate):
    good = replace(certificate, quantization=faster(certificate.quantization))
    assert good.parity_passed
    assert "2.00 times its rows per second" in advice(good)
    assert "made up" not in advice(good)
    few = tuple(replace(c, made_up=c.rows - 5) for c in good.parity.comparisons)
    shown = advice(replace(good, parity=replace(good.parity, comparisons=few)))
    assert "595 of the 600 rows were made up around those given" in shown
    slow = replace(good.quantization, rows_per_second=1.0)
    refused = replace(certificate, quantization=slow)
    assert not refused.parity_passed
    assert "It is not faster" in advice(refused)
    assert "leave int8 out of `variants`" in advice(refused)
