"""Log a PyTorch classifier of a table as MLflow's pytorch flavour, without pickle.

The preprocessing in front of it is logged beside it, as skops.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from orchestration.examples.registration import Trained
from orchestration.examples.sklearn_flavor import REQUIREMENTS, pinned
from orchestration.export.pytorch import PREPROCESSING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TorchClassifier:
    """module: in evaluation mode, answers with one column, the probability of the second label.
    preprocessing: fitted, makes the module's matrix of a table."""

    module: Any
    preprocessing: Any
    classes_: npt.NDArray[np.str_]

    def predict(self, features: "pd.DataFrame") -> npt.NDArray[np.str_]:
        """The more probable label."""
        best: npt.NDArray[np.str_] = self.classes_[self.predict_proba(features).argmax(axis=1)]
        return best

    def predict_proba(self, features: "pd.DataFrame") -> npt.NDArray[np.float32]:
        """(rows, 2)."""
        import torch

        with torch.inference_mode():
            second = self.module(torch.from_numpy(self.matrix(features))).numpy()
        return np.concatenate([1 - second, second], axis=1)

    def matrix(self, features: "pd.DataFrame") -> npt.NDArray[np.float32]:
        """What the module takes."""
        return np.asarray(self.preprocessing.transform(features), dtype=np.float32)


def save_pytorch(trained: Trained, model: Any, folder: Path) -> None:
    """As pt2, with a free batch dimension. model: MLflow's description of it, to be completed."""
    import mlflow.pytorch
    import skops.io
    from mlflow.models import infer_signature

    classifier: TorchClassifier = trained.estimator
    matrix = classifier.matrix(trained.example)
    with TemporaryDirectory() as scratch:
        preprocessing = Path(scratch) / PREPROCESSING
        skops.io.dump(classifier.preprocessing, preprocessing)
        mlflow.pytorch.save_model(
            classifier.module,
            str(folder),
            mlflow_model=model,
            serialization_format="pt2",
            signature=infer_signature(matrix, classifier.predict_proba(trained.example)[:, 1:]),
            input_example=matrix,
            extra_files=[str(preprocessing)],
            metadata={
                "slipway": {"kind": "classification", "labels": classifier.classes_.tolist()}
            },
            pip_requirements=pinned((*REQUIREMENTS, "torch")),
        )
    _describe_table(trained, model, folder)


def _describe_table(trained: Trained, model: Any, folder: Path) -> None:
    """MLflow insists on the matrix while it saves a pt2; a request has the table's columns."""
    split = json.loads(trained.example.to_json(orient="split"))
    (folder / "input_example.json").write_text(
        json.dumps({name: split[name] for name in ("columns", "data")})
    )
    model.saved_input_example_info = {
        "artifact_path": "input_example.json",
        "type": "dataframe",
        "pandas_orient": "split",
    }
    model.signature = trained.signature
    model.save(str(folder / "MLmodel"))
