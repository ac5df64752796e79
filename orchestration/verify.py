"""Does the graph answer as the trained model does? The answer is a certificate."""

from collections.abc import Iterator, Sequence, Set
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bentos.model_server.certificate import Certificate, Comparison, Limits, Parity
from bentos.model_server.quantization import QuantizationLimits
from bentos.model_server.session import ModelSession
from orchestration.export.export import Exported
from orchestration.export.native import NativeModel
from orchestration.export.onnx_native import LABELS_FIX
from orchestration.quantization.advice import quantization_advice
from orchestration.quantization.prove import prove
from orchestration.quantization.quantize import read
from orchestration.verification.compare import WORST, Compared, Kind, compare
from orchestration.verification.edges import edge_rows
from orchestration.verification.golden import golden
from orchestration.verification.rows import build_space
from orchestration.verification.thresholds import threshold_rows
from serving_config.schema import Model

if TYPE_CHECKING:
    import pandas as pd

SEED = 20260101


def verify(
    native: NativeModel,
    session: ModelSession,
    reference: "pd.DataFrame | None",
    limits: Limits,
    *,
    seed: int = SEED,
) -> Certificate:
    """Compare on reference rows, rows beside thresholds, and edge rows.

    reference: rows with the contract's columns, such as the training data that the run logged;
        without them, the input example; without that, rows drawn from the contract. Given rows
        that the contract or the trained model refuses are counted; over 5 % of them fail.
    The graph is only asked through `session`, the class that serves it. The same arguments give
    the same certificate.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    # thousands of small predictions: OpenMP's threads would spin on a busy machine
    with threadpool_limits(limits=1):
        return _verify(native, session, reference, limits, seed)


def _verify(
    native: NativeModel,
    session: ModelSession,
    reference: "pd.DataFrame | None",
    limits: Limits,
    seed: int,
) -> Certificate:
    contract = session.contract
    space = build_space(contract, native.example if reference is None else reference, seed)
    kinds: list[Compared] = [
        compare(
            "reference", space.given, native, session.predict, space, limits, made_up=space.drawn
        ),
        compare(
            "thresholds",
            threshold_rows(native, space, seed),
            native,
            session.predict,
            space,
            limits,
        ),
        compare("edges", edge_rows(space), native, session.predict, space, limits),
    ]
    worst = sorted((w for k in kinds for w in k.worst), key=lambda w: -w.difference)[:WORST]
    return Certificate(
        model=contract.model,
        version=contract.version,
        variant=contract.variant,
        onnx_sha256=contract.onnx_sha256,
        contract_sha256=contract.digest(),
        libraries=native.libraries,
        parity=Parity(tuple(k.comparison for k in kinds), limits, tuple(worst)),
        golden=golden(session, [k.rows for k in kinds]),
    )


def verify_variant(
    native: NativeModel,
    variant: Exported,
    base: Exported,
    reference: "pd.DataFrame | None",
    held_out: "pd.DataFrame | None",
    settings: Model,
    *,
    seed: int = SEED,
) -> Certificate:
    """The same for an int8 variant of `base`: what differs is in `parity`, the verdict is that of
    `quantization`, with limits of its own.

    held_out: see `prove`. The figures of speed are measured, so no two certificates are the same.
    Raises ExportError where the variant was not made from `base`.
    """
    from threadpoolctl import threadpool_limits

    quantized = read(variant.model, base)
    session = ModelSession(variant.model, variant.contract)
    limits = QuantizationLimits(**settings.quantization.model_dump(exclude={"calibration_rows"}))
    with threadpool_limits(limits=1):
        parity = Limits(**settings.verification.model_dump())
        certificate = _verify(native, session, reference, parity, seed)
        proof = prove(native, quantized, base, reference, held_out, limits, seed=seed)
    return replace(certificate, quantization=proof)


def advice(certificate: Certificate) -> str:
    """What a reader should do about the certificate, in a few sentences."""
    parity = certificate.parity
    if certificate.quantization is not None:
        return quantization_advice(certificate.quantization, parity)
    if parity.passed:
        rows = sum(c.rows for c in parity.comparisons)
        apart = max(c.max_abs_diff for c in parity.comparisons)
        left_out = "".join(
            f" {_left_out(c)}." for c in parity.comparisons if c.kind == "reference" and c.excluded
        )
        if any(c.kind == "reference" and c.given == 0 for c in parity.comparisons):
            left_out += (
                " The reference rows were made up from the signature, which proves less: log the "
                "version with an input_example of real rows."
            )
        return (
            f"The graph answers as the trained model on {rows} rows (at most {apart:.1e} apart)."
            + left_out
        )
    failed = [
        c for c in parity.comparisons if not c.rows or c.lacks_given_rows or not parity.agrees(c)
    ]
    figures = "; ".join(
        f"{c.kind}: {c.label_flips} label flips and {c.over_tolerance} over the tolerance in "
        f"{c.rows} rows" + (f", {_left_out(c)}" if c.lacks_given_rows else "")
        for c in failed
    )
    return " ".join([f"{figures}.", *_causes(parity, failed)])


def _left_out(reference: Comparison) -> str:
    return f"{reference.excluded} of {reference.given} given rows were excluded"


def _causes(parity: Parity, failed: Sequence[Comparison]) -> Iterator[str]:
    if any(c.lacks_given_rows for c in failed):
        yield (
            "Given reference rows were not compared: most likely they lie outside minimum, "
            "maximum, categories or max_length under inputs in the model's YAML, so widen these; "
            "else the trained model itself refuses them, so clean the reference rows."
        )
    elif any(c.rows == 0 for c in failed):
        yield (
            "The trained model accepted none of the rows tried: log the version with an "
            "input_example of real rows, or give ranges and categories under inputs in its YAML."
        )
    differing = {c.kind for c in failed if not parity.agrees(c)}
    if any(w.difference == 0 and w.expected == w.actual for w in parity.worst):
        yield (
            "The label is not the class with the highest probability, so the probabilities may "
            f"carry wrong names: {LABELS_FIX}. Where the label is meant to follow another rule, "
            "log the graph without its probabilities."
        )
    elif differing:
        yield _difference(differing)


def _difference(kinds: Set[Kind]) -> str:
    if "reference" in kinds:
        return (
            "Ordinary rows differ, so a step is converted wrongly or computed in float32: replace "
            "the pipeline's steps one by one to find it, or log the model as ONNX yourself."
        )
    if "thresholds" in kinds:
        return (
            "Only rows beside a threshold differ: a value is rounded before it is compared, as a "
            "float32 scaler in front of trees does. Compute preprocessing in float64, or allow the "
            "share that is harmless with max_share_over_tolerance in the model's YAML."
        )
    return (
        "Only edge rows differ (zeros, extremes, missing values, unseen categories): forbid what "
        "production never sends with minimum, maximum, categories or max_length under inputs in "
        "the model's YAML, or train with such values."
    )
