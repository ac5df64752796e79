"""The trained model as its framework runs it: the reference for everything exported from it."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal
from zlib import crc32

import numpy as np
import numpy.typing as npt

from bentos.model_server.session import Predictions, Row
from orchestration.export.errors import UnservableModel
from orchestration.export.native_boosters import (
    booster_classes,
    booster_predict,
    trained_columns,
)
from orchestration.export.signature import Signature

if TYPE_CHECKING:
    import pandas as pd

    from orchestration.export.onnx_native import LoggedGraph

Kind = Literal["classification", "regression"]
Flavor = Literal["sklearn", "xgboost", "lightgbm", "onnx", "pytorch"]

_PANDAS = {
    "float32": "float32",
    "float64": "float64",
    "int32": "int32",
    "int64": "int64",
    "bool": "bool",
    "string": "object",
}


@dataclass(frozen=True)
class NativeModel:
    """A loaded model version.

    model: an estimator, a Booster, a TorchModel, or the bytes of an ONNX file.
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
        if self.flavor == "pytorch":
            kind: Kind = self.model.meaning.kind
            return kind
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
            return tuple(range(booster_classes(self.flavor, self.model)))
        if self.kind == "regression":
            return ()
        if isinstance(self.model.classes_, list) or np.ndim(self.model.classes_) != 1:
            raise UnservableModel(
                "models with several outputs are not served; train one for each output"
            )
        return tuple(np.asarray(self.model.classes_).tolist())

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The signature's fields in the order in which the model was trained on them.

        A field that the model does not know stays out. UnservableModel where one is missing.
        """
        names = [field.name for field in self.signature.fields]
        trained = trained_columns(self.flavor, self.model)
        if trained is None:
            return tuple(names)
        known = {name.replace(" ", "_"): name for name in names}  # as LightGBM spells them
        if missing := [n for n in trained if n.replace(" ", "_") not in known]:
            raise UnservableModel(
                f"the model was trained on columns that its signature lacks: {missing}; log it "
                "again with the signature of the training data"
            )
        return tuple(n if n in names else known[n.replace(" ", "_")] for n in trained)

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
            return booster_predict(self.flavor, self.model, self.labels, frame[list(self.columns)])
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

    def decisions(self, frame: "pd.DataFrame") -> npt.NDArray[np.float64] | None:
        """(rows, k): probabilities, else decision values; None where the model gives neither.

        One column of decision values is for two classes, above 0 the second.
        """
        if self.kind == "regression":
            return None
        if self.flavor == "onnx" or type(self.model).__name__ == "Booster":
            probabilities = self.predict_frame(frame).probabilities
            return None if probabilities is None else np.asarray(probabilities, dtype=np.float64)
        for method in ("predict_proba", "decision_function"):
            if hasattr(self.model, method):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # as in predict_frame
                    values = getattr(self.model, method)(self._as_trained(frame))
                return np.asarray(values, dtype=np.float64).reshape(len(frame), -1)
        return None

    def scores(self, frame: "pd.DataFrame") -> npt.NDArray[np.float64]:
        """(rows, k): the decisions, else the regression's value.

        A model that only gives labels has one column that tells them apart and says nothing of
        how close they are.
        """
        decisions = self.decisions(frame)
        if decisions is not None:
            return decisions
        labels = self.predict_frame(frame).labels
        if self.kind == "regression":
            return np.asarray(labels, dtype=np.float64).reshape(-1, 1)
        places = {label: i for i, label in enumerate(self.labels)}
        # a graph need not tell its classes: the same number for the same label, in any call
        return np.array([[float(places.get(v, crc32(repr(v).encode())))] for v in labels])

    def _as_trained(self, frame: "pd.DataFrame") -> Any:
        """A DataFrame where the model knows column names, texts for a vectorizer, else an array."""
        if trained_columns(self.flavor, self.model) is not None:
            return frame[list(self.columns)]
        if takes_texts(self.model):
            return frame.iloc[:, 0]
        texts = any(field.dtype == "string" for field in self.signature.fields)
        return frame if texts and not self.signature.tensor else frame.to_numpy()

    @property
    def libraries(self) -> dict[str, str]:
        """Versions of what trained and what runs the model."""
        import importlib.metadata as metadata

        names = {"numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx"}
        steps = [step for _, step in getattr(self.model, "steps", [])]
        modules = {type(step).__module__.split(".")[0] for step in [self.model, *steps]}
        names |= {"xgboost-cpu", "xgboost"} if "xgboost" in modules else set()
        names |= {"lightgbm"} & modules
        names |= {"onnxscript", "torch"} if self.flavor == "pytorch" else set()
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
        "CountVectorizer",
        "TfidfVectorizer",
        "HashingVectorizer",
    )
