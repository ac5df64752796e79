"""What stands in the certificate of an int8 variant."""

from bentos.model_server.quantization import Quantization, QuantizationLimits


def quantization(*, flips: int = 0) -> Quantization:
    """Of an int8 variant that loses nothing else, and gains what it must."""
    return Quantization(
        method="static",
        base_sha256="b" * 64,
        quantized={"MatMul": 2},
        rows=100,
        calibration_rows=50,
        truth="labels",
        label_flips=flips,
        auc=0.9,
        base_auc=0.9,
        relative_error=0.0,
        batch_difference=0.0,
        errors={"static": 0.001, "dynamic": 0.002},
        size_bytes=270,
        base_size_bytes=1000,
        rows_per_second=2000.0,
        base_rows_per_second=1000.0,
        limits=QuantizationLimits(),
    )
