"""XGBoost's and LightGBM's Boosters as they answer themselves, and the columns they know."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from bentos.model_server.session import Predictions

if TYPE_CHECKING:
    import pandas as pd


def trained_columns(flavor: str, model: Any) -> list[str] | None:
    """The names of the columns a model was trained on, in order; None if it knows none."""
    if type(model).__name__ == "Booster":
        names = model.feature_names if flavor == "xgboost" else model.feature_name()
        generated = names is None or all(n == f"Column_{i}" for i, n in enumerate(names))
        return None if generated else [str(n) for n in names]
    names = getattr(model, "feature_names_in_", None)
    if names is None or all(n == f"Column_{i}" for i, n in enumerate(names)):
        return None  # LightGBM names the columns of an array
    return [str(n) for n in names]


def booster_classes(flavor: str, booster: Any) -> int:
    """How many classes a Booster tells apart, 0 for a regression."""
    if flavor == "xgboost":
        from orchestration.export.boosters import xgb_objective

        objective = xgb_objective(booster)
        if objective.startswith("multi:"):
            config = json.loads(booster.save_config())
            return int(config["learner"]["learner_model_param"]["num_class"])
        return 2 if objective == "binary:logistic" else 0
    model = booster.dump_model()
    objective = model["objective"].split(" ")[0]
    if objective in ("multiclass", "multiclassova"):
        return int(model["num_class"])
    return 2 if objective == "binary" else 0


def booster_predict(
    flavor: str, booster: Any, labels: tuple[Any, ...], frame: "pd.DataFrame"
) -> Predictions:
    """Score a DataFrame of the columns in the order of training."""
    values = frame.to_numpy(dtype=np.float64)
    if flavor == "xgboost":
        import xgboost

        names = booster.feature_names
        result = booster.predict(xgboost.DMatrix(values, feature_names=names))
        if labels and result.ndim == 1 and len(labels) > 2:
            return Predictions([int(v) for v in result], None)  # multi:softmax gives labels
    else:
        result = np.asarray(booster.predict(values))
    if not labels:
        return Predictions(result.tolist(), None)
    probabilities = np.column_stack([1 - result, result]) if result.ndim == 1 else result
    return Predictions(probabilities.argmax(axis=1).tolist(), probabilities)
