"""Save mlflow_model.py as an MLflow model with its signature, into BENCH_SAVE_TO."""

import os
from pathlib import Path

import mlflow
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

columns = Schema([ColSpec("double", f"f{i}") for i in range(30)])
mlflow.pyfunc.save_model(
    os.environ["BENCH_SAVE_TO"],
    python_model=str(Path(__file__).parent / "mlflow_model.py"),
    signature=ModelSignature(inputs=columns),
    pip_requirements=["mlflow", "onnxruntime"],
)
