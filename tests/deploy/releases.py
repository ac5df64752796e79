"""Releases and ledger entries made by hand: no Bento, no model, the real types."""

import hashlib
from functools import cache
from typing import Any

from bentos.model_server.bundle import Bundle, Limits
from bentos.model_server.certificate import (
    Answer,
    Certificate,
    Comparison,
    Golden,
    HttpParity,
    Parity,
)
from bentos.model_server.certificate import Limits as ParityLimits
from bentos.model_server.contract import Contract, GraphInput, Input, Outputs
from deploy.events import Change, Live, State
from deploy.release import Release
from tests.bentos.model_server.variants import quantization


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def contract(model: str = "iris", version: int = 1, variant: str = "fp32") -> Contract:
    return Contract(
        model=model,
        version=version,
        variant=variant,
        onnx_sha256=sha256(f"onnx of {model} {version} {variant}"),
        inputs=(Input("width", "float64"), Input("note", "string", required=False)),
        graph_inputs=(GraphInput("input", "float32", ("width",)),),
        outputs=Outputs("classification", "label", "probabilities", ("no", "yes")),
        example={"width": 1.5, "note": "x"},
    )


def http(*, mismatches: int = 0, bento: str = "") -> HttpParity:
    return HttpParity("http://127.0.0.1/models/iris", bento, 2, mismatches, 2, 0, 5, 5, 1.0, 2.0)


KINDS: tuple[Any, ...] = ("reference", "thresholds", "edges")


def certificate(of: Contract, *, flips: int = 0, smoke: HttpParity | None = None) -> Certificate:
    answers = (Answer("no", (0.75, 0.25)), Answer("yes", (0.1, 0.9)))
    return Certificate(
        model=of.model,
        version=of.version,
        variant=of.variant,
        onnx_sha256=of.onnx_sha256,
        contract_sha256=of.digest(),
        libraries={"onnxruntime": "1"},
        parity=Parity(tuple(Comparison(k, 10, 0.0, 0, flips, 0) for k in KINDS), ParityLimits()),
        golden=Golden(({"width": 1.0}, {"width": 2.0}), answers, answers),
        quantization=quantization() if of.variant != "fp32" else None,
        http=smoke,
    )


def release(
    version: int = 1,
    *,
    model: str = "iris",
    variant: str = "fp32",
    build: str = "",
    proof: Certificate | None = None,
) -> Release:
    """A proved release, over HTTP too. build: another text is another Bento of the version."""
    made = contract(model, version, variant)
    digest = sha256(f"bento of {model} {version} {variant} {build}")
    proof = proof or certificate(made, smoke=http(bento=digest))
    bundle = Bundle(made, proof, Limits(), made.onnx_sha256, digest)
    return Release(f"{model}:{version}-{variant}-{digest[:12]}", bundle, proof)


@cache
def live(
    version: int = 1, weight: int = 100, *, model: str = "iris", variant: str = "fp32"
) -> Live:
    return release(version, model=model, variant=variant).live(weight)


def change(base: State, *lives: Live, subject: Live | None = None) -> Change:
    return Change(
        base=base,
        action="deploy",
        subject=subject or lives[0],
        live=lives,
        actor="ann",
        dagster_run="run-1",
        evidence={"bento": "iris:1", "figures": [1, 2.5, None]},
    )
