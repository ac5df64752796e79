"""The verdict on a quantized variant follows from its figures."""

import math
from functools import cache

import pytest
from msgspec.structs import replace

from bentos.model_server.certificate import (
    Certificate,
    CertificateError,
    Comparison,
    Golden,
    Limits,
    Parity,
    decode_certificate,
)
from bentos.model_server.quantization import Quantization, QuantizationLimits
from tests.bentos.model_server.models import iris

GOOD = Quantization(
    method="dynamic",
    base_sha256="0" * 64,
    quantized={"MatMulInteger": 2},
    rows=1000,
    calibration_rows=500,
    truth="labels",
    label_flips=10,
    auc=0.895,
    base_auc=0.9,
    relative_error=0.0,
    batch_difference=0.0,
    errors={"static": 0.002, "dynamic": 0.001},
    size_bytes=900,
    base_size_bytes=1000,
    rows_per_second=1100.0,
    base_rows_per_second=1000.0,
    limits=QuantizationLimits(max_auc_loss=0.0051),
)
WRONG = {
    "nothing quantized": ({"quantized": {}}, "Nothing was quantized"),
    "no rows": ({"rows": 0, "label_flips": 0}, "No row was compared"),
    "not smaller": ({"size_bytes": 901}, "not smaller: 901 bytes are 0.90"),
    "not faster": ({"rows_per_second": 1099.0}, "not faster: 1.10 times"),
    "no speed": ({"base_rows_per_second": 0.0}, "not faster: 0.00 times"),
    "flips": ({"label_flips": 11}, r"11 of 1,000 rows another label \(1.1%\), at most 1.0%"),
    "auc": ({"auc": 0.89}, "loses 0.0100 of the area"),
    "area not measured": ({"auc": None, "base_auc": None}, "could not be measured: all rows"),
    "half of the area": ({"auc": None}, "could not be measured"),
    "area of no number": ({"auc": math.nan}, "of the area under the ROC curve"),
    "relative error": ({"relative_error": 0.03}, "3.00% of their standard deviation"),
    "neighbours": ({"batch_difference": 2e-5}, "changes by 2.0e-05 with the rows beside it"),
    "no number": ({"batch_difference": math.nan}, "with the rows beside it"),
}


@cache
def contract_of(variant):
    return replace(iris().contract, variant=variant)


def certificate(quantization, variant="int8"):
    contract = contract_of(variant)
    kinds = ("reference", "thresholds", "edges")
    far = tuple(Comparison(kind, 10, 0.5, 9, 3, 0) for kind in kinds)
    return Certificate(
        model="iris",
        version=1,
        variant=variant,
        onnx_sha256=contract.onnx_sha256,
        contract_sha256=contract.digest(),
        libraries={},
        parity=Parity(far, Limits()),
        golden=Golden((), (), ()),
        quantization=quantization,
    )


def test_a_variant_at_its_limits_is_one():
    assert GOOD.refusals == ()
    assert GOOD.passed
    assert certificate(GOOD).parity_passed


@pytest.mark.parametrize(("figures", "reason"), WRONG.values(), ids=WRONG)
def test_each_figure_beyond_its_limit_is_a_reason_of_its_own(figures, reason):
    wrong = replace(GOOD, **figures)
    assert len(wrong.refusals) == 1
    contract = contract_of("int8")
    with pytest.raises(CertificateError, match=reason):
        certificate(wrong).require_parity(contract, contract.onnx_sha256)


def test_a_regression_has_no_area_to_lose():
    assert replace(GOOD, truth="none", auc=None, base_auc=None).passed


def test_a_variant_without_its_proof_never_passes_and_an_original_needs_none():
    assert not certificate(None).parity_passed
    assert not certificate(GOOD, variant="fp32").parity_passed


def test_an_error_names_the_variant():
    contract = contract_of("int8")
    with pytest.raises(CertificateError, match="iris version 1-int8 is for ONNX digest"):
        certificate(GOOD).require_parity(contract, "0" * 64)
    with pytest.raises(CertificateError, match="iris version 1-int8 is not the one that"):
        certificate(GOOD).require_parity(replace(contract, run_id="r"), contract.onnx_sha256)
    with pytest.raises(CertificateError, match="iris version 1-int8 has no passing smoke test"):
        certificate(GOOD).require(contract, contract.onnx_sha256, "0" * 64)


def test_the_proof_is_read_back_as_it_was_written():
    written = certificate(GOOD)
    assert decode_certificate(written.encode()) == written
