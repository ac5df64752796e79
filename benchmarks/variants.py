"""int8 variants: `python -m benchmarks.variants` quantizes the MLP 1024-1024-512 of scikit-learn
and of PyTorch, and writes sizes, rows a second and what is lost into docs/benchmarks.md."""

import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import report
from benchmarks.models import FIELDS, TITLES, convert, estimators
from benchmarks.report import say
from bentos.model_server.quantization import Quantization, QuantizationLimits
from bentos.model_server.session import ModelSession
from orchestration.export import Exported, NativeModel, export
from orchestration.export.signature import Field, Signature
from orchestration.quantization import prove, quantize
from orchestration.quantization.measure import rows_per_second
from serving_config import variants
from serving_config.schema import Model

HEADING = "int8 variants"
_ROWS, _FITTED = 4000, 3000
_BATCHES = (1, 32, 256)
_MOST_SIZE, _LEAST_SPEEDUP = 0.28, 2.0
_EPOCHS = 5


@dataclass(frozen=True)
class Measured:
    """rates: by batch, rows a second of the graph as trained and of the int8 one.
    float32_bytes: of an export that is in float32 from end to end, whatever ours is in."""

    title: str
    proof: Quantization
    float32_bytes: int
    rates: dict[int, tuple[float, float]]


def _data() -> tuple[Any, Any]:
    from sklearn.datasets import make_classification

    x, y = make_classification(_ROWS, len(FIELDS), n_informative=15, random_state=0)
    return x.astype(np.float32), y


def _signature() -> Signature:
    return Signature(tuple(Field(name, "float32") for name in FIELDS), tensor=True)


def _sklearn(x: Any, y: Any) -> tuple[NativeModel, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it stops before it has converged
        estimator = estimators()["mlp"]().fit(x, y)
    return NativeModel("sklearn", estimator, _signature()), len(convert(estimator))


def _torch(x: Any, y: Any) -> tuple[NativeModel, int]:
    """The same layers, with as much training as makes its answers mean something."""
    import torch
    from torch import nn

    from orchestration.export.native_pytorch import Meaning, TorchModel

    torch.manual_seed(0)
    widths = (len(FIELDS), 1024, 1024, 512)
    hidden = [(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)]
    module = nn.Sequential(*(m for pair in hidden for m in pair), nn.Linear(512, 1), nn.Sigmoid())
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    inputs, truth = torch.from_numpy(x), torch.from_numpy(y.astype(np.float32)).reshape(-1, 1)
    for _ in range(_EPOCHS):
        for rows in torch.randperm(len(inputs)).split(200):
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy(module(inputs[rows]), truth[rows]).backward()
            optimizer.step()
    shapes = ({0: torch.export.Dim.AUTO},)
    program = torch.export.export(module.eval(), (inputs[:2],), dynamic_shapes=shapes)
    weights = sum(p.numel() for p in module.parameters())
    model = TorchModel(program, Meaning("classification", (0, 1)))
    return NativeModel("pytorch", model, _signature()), 4 * weights


def _measured(title: str, native: NativeModel, float32_bytes: int, x: Any, y: Any) -> Measured:
    frame = pd.DataFrame(x, columns=list(FIELDS))
    base = export(native, Model(name="mlp"), 1)
    reference = frame[:_FITTED]
    started = time.monotonic()
    quantized = quantize(base, reference, variants.Quantization())
    say(f"{title}: quantized in {time.monotonic() - started:.1f} s, {quantized.method} scales")
    held_out = frame[_FITTED:].assign(label=y[_FITTED:])
    proof = prove(native, quantized, base, reference, held_out, QuantizationLimits())
    rates = dict(_rates(base, quantized, x))
    return Measured(title, proof, float32_bytes, rates)


def _rates(base: Exported, quantized: Exported, x: Any) -> Iterator[tuple[int, Any]]:
    sessions = [ModelSession(graph.model, graph.contract) for graph in (base, quantized)]
    rows = x[: max(_BATCHES)].astype(float).tolist()
    for batch in _BATCHES:
        yield batch, tuple(rows_per_second(sessions, rows, batch))


def instructions() -> str:
    """Those for int8 that this CPU names."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        flags = set()
    known = ("amx_int8", "avx512_vnni", "avx_vnni", "asimddp", "i8mm")
    return ", ".join(name for name in known if name in flags) or "no int8 instructions known"


def shown(results: list[Measured]) -> list[str]:
    """The section's lines."""
    targets, rates, losses = [], [], []
    for result in results:
        proof, title = result.proof, result.title
        ratio = proof.size_bytes / result.float32_bytes
        speedup = result.rates[32][1] / result.rates[32][0]
        targets += [
            _target(f"size to float32, {title}", ratio, f"≤ {_MOST_SIZE}", ratio <= _MOST_SIZE),
            _target(
                f"rows/s at batch 32, {title}",
                speedup,
                f"≥ {_LEAST_SPEEDUP}",
                speedup >= _LEAST_SPEEDUP,
            ),
        ]
        rates += [
            (title, str(batch), f"{before:,.0f}", f"{after:,.0f}", f"{after / before:.2f} x")
            for batch, (before, after) in result.rates.items()
        ]
        losses.append(
            (
                title,
                f"{proof.base_size_bytes:,}",
                f"{proof.size_bytes:,}",
                f"{result.float32_bytes:,}",
                proof.method,
                f"{proof.label_flips} of {proof.rows:,}",
                f"{proof.base_auc or 0:.4f} → {proof.auc or 0:.4f}",
                f"{proof.batch_difference:.0e}",
            )
        )
    sizes = ("bytes as trained", "bytes in int8", "weights in float32 alone")
    lost = ("scales", "label flips", "ROC AUC, held-out rows", "alone against in a batch")
    return [
        f"`python -m benchmarks.variants` on {report.hardware()}; CPU: {instructions()}; load "
        f"average {os.getloadavg()[0]:.1f}. One thread and its CPU time, the graph alone (arrays "
        "in, arrays out), medians of alternating rounds.",
        "",
        *report.table(("what", "measured", "target", "met"), targets),
        "",
        *report.table(("network", "batch", "rows/s as trained", "rows/s in int8", ""), rates),
        "",
        *report.table(("network", *sizes, *lost), losses),
    ]


def _target(what: str, measured: float, target: str, met: bool) -> tuple[str, str, str, str]:
    return what, f"{measured:.3f} x", f"{target} x", "yes" if met else "**no**"


def main() -> None:
    """The process's entry."""
    x, y = _data()
    results = []
    for name, make in (("scikit-learn", _sklearn), ("PyTorch", _torch)):
        if make is _torch and find_spec("torch") is None:
            say("no PyTorch: the extra torch is not installed")
            continue
        say(f"training with {name}")
        native, float32_bytes = make(x[:_FITTED], y[:_FITTED])
        title = f"{TITLES['mlp']}, {name}"
        results.append(_measured(title, native, float32_bytes, x, y))
    report.write(HEADING, shown(results))


if __name__ == "__main__":
    main()
