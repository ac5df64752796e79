"""From a model version in MLflow to ONNX: `load_native`, then `export`."""

from orchestration.export.errors import ExportError, UnservableModel
from orchestration.export.export import Exported, export
from orchestration.export.load import load_native
from orchestration.export.native import NativeModel

__all__ = [
    "ExportError",
    "Exported",
    "NativeModel",
    "UnservableModel",
    "export",
    "load_native",
]
