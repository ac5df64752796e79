"""The trained model as its framework runs it: the reference for everything exported from it."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from bentos.model_server.session import Predictions, Row
from orchestration.export.errors import UnservableModel
from orchestration.export.signature import Signature

if TYPE_CHECKING:
    import pandas as pd

    from orchestration.export.onnx_native import LoggedGraph

Kind = Literal["classification", "regression"]
Flavor = Literal["sklearn", "xgboost", "lightgbm", "onnx"]

_PANDAS = {
    "float32": "float32", "float64": "float64", "int32": "int32", "int64": "int64",
    "bool": "bool", "string": "object",
}  # fmt: skip


@dataclass(frozen=True)
class NativeModel:
    """A loaded model version.

    model: an estimator, a Booster, or the bytes of an ONNX file.
    example: the rows logged with it, columns named as the signature's fields; None if none.
    """

    flavor: Flavor
    model: Any
    signature: Signature
    example: "pd.DataFrame | None" = None

    @cached_property
    def logged(self) -> "LoggedGraph":
        """The graph of a model of the onnx flavor."""
        from orchestration.export.onnx_native import LoggedGraph

        return LoggedGraph(self.model, self.signature.fields)

    @cached_property
    def kind(self) -> Kind:
        """Classification or regression; UnservableModel for a clusterer and the like."""
        if self.flavor == "onnx":
            return self.logged.outputs.kind
        if type(self.model).__name__ == "Booster":
            return "classification" if self.labels else "regression"
        from sklearn.base import is_classifier, is_regressor

        if is_classifier(self.model):
            return "classification"
        if is_regressor(self.model):
            return "regression"
        raise UnservableModel(
            f"{type(self.model).__name__} is neither a classifier nor a regressor; "
            "log a model whose last step is one"
        )

    @cached_property
    def labels(self) -> tuple[Any, ...]:
        """The classes in the order of the probability columns; empty for a regression."""
        if self.flavor == "onnx":
            return self.logged.outputs.labels
        if type(self.model).__name__ == "Booster":
            return tuple(range(_booster_classes(self.flavor, self.model)))
        if self.kind == "regression":
            return ()
        classes = np.asarray(self.model.classes_)
        if classes.ndim != 1 or classes.dtype.kind not in "biufUSO":
            raise UnservableModel(
                "models with several outputs are not served; train one for each output"
            )
        return tuple(classes.tolist())

    def predict(self, rows: Sequence[Row]) -> Predictions:
        """Score rows given in the order of the signature's fields, missing values as None."""
        return self.predict_frame(self.frame(rows))

    def frame(self, rows: Sequence[Row]) -> "pd.DataFrame":
        """The rows as a DataFrame of the signature's dtypes; a missing value becomes NaN."""
        import pandas as pd

        columns = {}
        for i, field in enumerate(self.signature.fields):
            values = [row[i] for row in rows]
            dtype = _PANDAS[field.dtype]
            if any(value is None for value in values):
                values = [np.nan if value is None else value for value in values]
                dtype = dtype if field.dtype in ("float32", "float64", "string") else "float64"
            columns[field.name] = np.asarray(values, dtype=dtype)
        return pd.DataFrame(columns)

    def predict_frame(self, frame: "pd.DataFrame") -> Predictions:
        """Score a DataFrame of the signature's columns and dtypes.

        Raises whatever the framework raises for rows it does not accept.
        """
        if self.flavor == "onnx":
            return self.logged.predict(frame)
        if type(self.model).__name__ == "Booster":
            return _booster_predict(self, frame)
        data = self._as_trained(frame)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # overflow and unknown categories are asked for
            labels = np.asarray(self.model.predict(data))
            probabilities = None
            if self.kind == "classification" and hasattr(self.model, "predict_proba"):
                probabilities = np.asarray(self.model.predict_proba(data))
        if labels.ndim > 1:
            labels = labels.reshape(len(labels), -1)[:, 0]
        return Predictions(labels.tolist(), probabilities)

    def scores(self, frame: "pd.DataFrame") -> npt.NDArray[np.float64]:
        """(rows, k): probabilities, else decision values, else the regression's value.

        One column of decision values is for two classes, above 0 the second.
        """
        if self.flavor != "onnx" and type(self.model).__name__ != "Booster":
            for method in ("predict_proba", "decision_function"):
                if self.kind == "classification" and hasattr(self.model, method):
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")  # as in predict_frame
                        values = getattr(self.model, method)(self._as_trained(frame))
                    return np.asarray(values, dtype=np.float64).reshape(len(frame), -1)
        answer = self.predict_frame(frame)
        if answer.probabilities is not None:
            return np.asarray(answer.probabilities, dtype=np.float64)
        if self.kind == "regression":
            return np.asarray(answer.labels, dtype=np.float64).reshape(-1, 1)
        places = {label: i for i, label in enumerate(dict.fromkeys(answer.labels))}
        known = {label: i for i, label in enumerate(self.labels)} or places
        return np.array([[float(known[label])] for label in answer.labels])

    def _as_trained(self, frame: "pd.DataFrame") -> Any:
        """A DataFrame where the model knows column names, texts for a vectorizer, else an array."""
        names = getattr(self.model, "feature_names_in_", None)
        if names is not None:
            return frame[list(names)]
        if takes_texts(self.model):
            return frame.iloc[:, 0]
        texts = any(field.dtype == "string" for field in self.signature.fields)
        return frame if texts and not self.signature.tensor else frame.to_numpy()

    @property
    def libraries(self) -> dict[str, str]:
        """Versions of what trained and what runs the model."""
        import importlib.metadata as metadata

        packages = {"sklearn": "scikit-learn", "xgboost": "xgboost-cpu"}
        names = {
            "scikit-learn",
            "numpy",
            "onnx",
            "onnxruntime",
            packages.get(self.flavor, self.flavor),
        }
        found = {}
        for name in sorted(names):
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        return found


def first_step(model: Any) -> Any:
    """The first step of nested pipelines and searches, or the model itself."""
    while True:
        if hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        elif hasattr(model, "steps"):
            model = model.steps[0][1]
        elif hasattr(model, "transformer_list"):
            model = model.transformer_list[0][1]
        else:
            return model


def takes_texts(model: Any) -> bool:
    """The model takes a sequence of texts rather than a table."""
    return type(first_step(model)).__name__ in (
        "CountVectorizer", "TfidfVectorizer", "HashingVectorizer",
    )  # fmt: skip


def _booster_classes(flavor: str, booster: Any) -> int:
    """How many classes a Booster tells apart, 0 for a regression."""
    if flavor == "xgboost":
        from orchestration.export.boosters import xgb_objective

        objective = xgb_objective(booster)
        if objective.startswith("multi:"):
            import json

            config = json.loads(booster.save_config())
            return int(config["learner"]["learner_model_param"]["num_class"])
        return 2 if objective == "binary:logistic" else 0
    model = booster.dump_model()
    objective = model["objective"].split(" ")[0]
    if objective in ("multiclass", "multiclassova"):
        return int(model["num_class"])
    return 2 if objective == "binary" else 0


def _booster_predict(native: NativeModel, frame: "pd.DataFrame") -> Predictions:
    booster = native.model
    values = frame.to_numpy(dtype=np.float64)
    if native.flavor == "xgboost":
        import xgboost

        names = booster.feature_names
        result = booster.predict(xgboost.DMatrix(values, feature_names=names))
        if native.labels and result.ndim == 1 and len(native.labels) > 2:
            return Predictions([int(v) for v in result], None)  # multi:softmax gives labels
    else:
        result = np.asarray(booster.predict(values))
    if not native.labels:
        return Predictions(result.tolist(), None)
    probabilities = np.column_stack([1 - result, result]) if result.ndim == 1 else result
    return Predictions(probabilities.argmax(axis=1).tolist(), probabilities)
