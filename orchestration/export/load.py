"""Load a model version from a local MLflow model folder, never through pickle."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from orchestration.export.errors import UnservableModel
from orchestration.export.native import Flavor, NativeModel
from orchestration.export.native_boosters import trained_columns
from orchestration.export.signature import Signature, read_example, read_signature, within
from orchestration.export.skops_files import SKOPS_FIX, import_booster, load_skops

SUPPORTED: tuple[Flavor, ...] = ("sklearn", "xgboost", "lightgbm", "onnx", "pytorch")


def load_native(folder: Path, trusted_types: tuple[str, ...] = ()) -> NativeModel:
    """Read the folder that holds `MLmodel`.

    trusted_types: what its skops file may contain beyond TRUSTED_TYPES.
    Raises UnservableModel, with what to do about it.
    """
    # MLflow itself unpickles by default; nothing in this process may.
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    mlmodel = _read_mlmodel(folder)
    flavors = mlmodel.get("flavors") or {}
    for flavor in SUPPORTED:
        if flavor in flavors:
            model = _LOADERS[flavor](folder, flavors[flavor], trusted_types)
            signature = _signature(mlmodel, flavor, model)
            example = read_example(folder, mlmodel, signature.fields)
            if flavor == "pytorch" and model.preprocessing and not _is_table(mlmodel):
                example = None  # of the matrix behind the preprocessing
            return NativeModel(flavor, model, signature, example)
    found = sorted(set(flavors) - {"python_function"}) or sorted(flavors)
    raise UnservableModel(
        f"the model's flavors are {found}; supported are {', '.join(SUPPORTED)}: log it with one "
        "of mlflow.sklearn, mlflow.xgboost, mlflow.lightgbm, mlflow.onnx or mlflow.pytorch"
    )


def _read_mlmodel(folder: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load((folder / "MLmodel").read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UnservableModel(f"{folder} is no MLflow model: {error}") from error
    if not isinstance(document, dict):
        raise UnservableModel(f"{folder / 'MLmodel'} is empty; log the model again")
    return document


def _is_table(mlmodel: Mapping[str, Any]) -> bool:
    """Whether the input example has named columns."""
    return (mlmodel.get("saved_input_example_info") or {}).get("type") == "dataframe"


def _signature(mlmodel: Mapping[str, Any], flavor: Flavor, model: Any) -> Signature:
    names = None if isinstance(model, bytes) else trained_columns(flavor, model)
    signature = read_signature(mlmodel, names)
    if names is not None and signature.tensor:
        # trained on named columns: the array's columns are those
        return Signature(signature.fields, tensor=False)
    return signature


def _load_sklearn(folder: Path, conf: Mapping[str, Any], trusted: tuple[str, ...]) -> Any:
    serialization = conf.get("serialization_format", "pickle")
    if serialization != "skops":
        raise UnservableModel(
            f"the model is stored as {serialization}, which runs code when it is loaded; "
            + SKOPS_FIX
        )
    return load_skops(within(folder, str(conf.get("pickled_model", "model.skops"))), trusted)


def _load_xgboost(folder: Path, conf: Mapping[str, Any], trusted: tuple[str, ...]) -> Any:
    xgboost = import_booster("xgboost")
    classes = {
        f"xgboost.{module}.{name}": getattr(xgboost, name)
        for module, names in (
            ("core", ("Booster",)),
            ("sklearn", ("XGBClassifier", "XGBRegressor", "XGBRFClassifier", "XGBRFRegressor")),
        )
        for name in names
    }
    wanted = str(conf.get("model_class", "xgboost.core.Booster"))
    if wanted not in classes:
        raise UnservableModel(
            f"xgboost's {wanted} is not served; log one of {', '.join(sorted(classes))}"
        )
    model = classes[wanted]()
    path = within(folder, str(conf.get("data", "model.xgb")))
    try:
        model.load_model(path)
    except Exception as error:  # xgboost raises its own error for a missing or broken file
        message = str(error).strip().splitlines()[0]
        raise UnservableModel(f"XGBoost cannot read the model: {message}; log it again") from error
    return model


def _load_lightgbm(folder: Path, conf: Mapping[str, Any], trusted: tuple[str, ...]) -> Any:
    lightgbm = import_booster("lightgbm")
    path = within(folder, str(conf.get("data", "model.lgb")))
    if str(conf.get("model_class", "lightgbm.basic.Booster")) != "lightgbm.basic.Booster":
        if conf.get("serialization_format") == "skops":
            return load_skops(path, trusted)
        raise UnservableModel(
            "the LightGBM estimator is stored as pickle, which runs code when it is loaded; log "
            "it again with mlflow.lightgbm.log_model(..., serialization_format='skops')"
        )
    try:
        return lightgbm.Booster(model_file=str(path))
    except Exception as error:  # LightGBM raises its own error for a missing or broken file
        raise UnservableModel(f"LightGBM cannot read the model: {error}; log it again") from error


def _load_pytorch(folder: Path, conf: Mapping[str, Any], trusted: tuple[str, ...]) -> Any:
    from orchestration.export.pytorch import load_torch

    return load_torch(folder, _read_mlmodel(folder), trusted)


def _load_onnx(folder: Path, conf: Mapping[str, Any], trusted: tuple[str, ...]) -> bytes:
    try:
        return within(folder, str(conf.get("data", "model.onnx"))).read_bytes()
    except OSError as error:
        raise UnservableModel(f"the ONNX file cannot be read ({error}); log it again") from error


_LOADERS = {
    "sklearn": _load_sklearn,
    "xgboost": _load_xgboost,
    "lightgbm": _load_lightgbm,
    "onnx": _load_onnx,
    "pytorch": _load_pytorch,
}
