"""An int8 variant of an exported graph: `quantize` makes it, `prove` says what it is worth."""

from orchestration.quantization.prove import prove
from orchestration.quantization.quantize import Quantized, UnquantizableModel, quantize

__all__ = ["Quantized", "UnquantizableModel", "prove", "quantize"]
