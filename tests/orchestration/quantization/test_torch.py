"""PyTorch modules in int8: layers as PyTorch exports them, in float32 and float64."""

import numpy as np
import pandas as pd
import pytest

from bentos.model_server.quantization import QuantizationLimits
from bentos.model_server.session import ModelSession
from orchestration.export import NativeModel, export
from orchestration.export.native_pytorch import Meaning, TorchModel
from orchestration.export.signature import Field, Signature
from orchestration.quantization import prove, quantize
from serving_config.schema import Model
from serving_config.variants import Quantization

torch = pytest.importorskip("torch")
nn = torch.nn
WIDTH = 12


class Residual(nn.Module):
    """What modern networks are made of: normalization, other activations than Relu, a bypass."""

    def __init__(self, dtype):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(WIDTH, 128)
        self.inner = nn.Sequential(
            nn.LayerNorm(128), nn.Linear(128, 128), nn.SiLU(), nn.Dropout(0.5), nn.Linear(128, 128)
        )
        self.last = nn.Linear(128, 3)
        self.to(dtype)

    def forward(self, x):
        x = torch.nn.functional.silu(self.first(x))
        return torch.softmax(self.last(x + self.inner(x)), dim=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_module_is_quantized_in_its_inner_layers_and_proved(dtype):
    shapes = ({0: torch.export.Dim.AUTO},)
    example = torch.zeros(2, WIDTH, dtype=dtype)
    program = torch.export.export(Residual(dtype).eval(), (example,), dynamic_shapes=shapes)
    model = TorchModel(program, Meaning("classification", ("a", "b", "c")))
    fields = tuple(Field(f"x{i}", "float64") for i in range(WIDTH))
    native = NativeModel("pytorch", model, Signature(fields, tensor=True))
    base = export(native, Model(name="m"), 1)
    rows = np.random.default_rng(0).normal(size=(400, WIDTH))
    frame = pd.DataFrame(rows, columns=[field.name for field in fields])
    quantized = quantize(base, frame, Quantization(calibration_rows=100))
    assert quantized.operators == {"MatMulInteger": 2}
    assert len(quantized.model) < 0.4 * len(base.model)
    proof = prove(native, quantized, base, frame, None, QuantizationLimits())
    assert proof.rows == 400
    assert proof.label_flips <= 8
    assert proof.batch_difference < 1e-5
    row = rows[0].tolist()
    expected = native.predict([row]).probabilities
    actual = ModelSession(quantized.model, quantized.contract).predict([row]).probabilities
    assert np.abs(expected - actual).max() < 0.01
