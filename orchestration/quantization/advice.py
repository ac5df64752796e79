"""A variant's verdict in words."""

from collections.abc import Iterator

from bentos.model_server.certificate import Parity
from bentos.model_server.quantization import Quantization


def quantization_advice(proof: Quantization, parity: Parity) -> str:
    """What a reader should do about the variant, in a few sentences."""
    if proof.refusals:
        return " ".join([*proof.refusals, *_fixes(proof)])
    if not parity.is_complete:
        return (
            "The variant keeps its limits, but not all kinds of rows could be compared: see what "
            "conversion_parity of the original says about the reference rows."
        )
    loss = f"{proof.label_flips:,} label flips in {proof.rows:,} rows"
    if proof.auc is not None:
        loss += f", {max(0.0, proof.auc_loss):.4f} of the area under the ROC curve"
    if not (proof.label_flips or proof.auc is not None):
        loss = f"{proof.relative_error:.2%} relative error on {proof.rows:,} rows"
    return (
        f"Quantized with {proof.method} scales: {proof.size_ratio:.2f} of the original's size, "
        f"{proof.speedup:.2f} times its rows per second at batch 32, for {loss}."
        + "".join(_made_up(parity))
    )


def _made_up(parity: Parity) -> Iterator[str]:
    for found in parity.comparisons:
        if found.kind == "reference" and found.made_up > found.rows // 2:
            yield (
                f" {found.made_up:,} of the {found.rows:,} rows were made up around those given, "
                "which proves less: let the training run log reference/reference.parquet."
            )


def _fixes(proof: Quantization) -> Iterator[str]:
    limits = proof.limits
    if proof.speedup < limits.min_speedup or proof.size_ratio > limits.max_size_ratio:
        yield (
            "Too little of the model is wide layers for int8 to pay: serve it as it was trained, "
            "and leave int8 out of `variants` in the model's YAML."
        )
    elif (
        proof.label_flip_share > limits.max_label_flip_share
        or proof.auc_loss > limits.max_auc_loss
        or proof.relative_error > limits.max_relative_error
    ):
        yield (
            "Scale the inputs to similar ranges before the network and train it again, or allow "
            "the loss under `quantization` in the model's YAML."
        )
