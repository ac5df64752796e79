"""A pyfunc model as MLflow's "models from code": a data frame of named columns in."""

from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext
from onnx_model import OnnxModel


class Classifier(PythonModel):
    """Columns f0 to f29."""

    def load_context(self, context: PythonModelContext) -> None:
        """Called once."""
        self.model = OnnxModel()

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: Any = None
    ) -> list[list[float]]:
        """The probabilities of each row."""
        return self.model.score(model_input)[1]


mlflow.models.set_model(Classifier())
