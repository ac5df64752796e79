"""Model folders as MLflow writes them."""

import json
import os
import re
import sys
import warnings

import lightgbm
import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost
import yaml
from mlflow.models import infer_signature
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from bentos.model_server.session import ModelSession
from orchestration.export import UnservableModel, export, load_native
from serving_config.schema import Model

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning:mlflow", "ignore::FutureWarning:mlflow"
)

X, Y = load_iris(return_X_y=True, as_frame=True)
TREES = ["sklearn.tree._tree.Tree"]


def save(folder, flavor, model, data=X, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's hints about integers and examples
        flavor.save_model(
            model,
            folder,
            signature=options.pop("signature", infer_signature(data, np.zeros(1))),
            input_example=options.pop("input_example", data[:3]),
            pip_requirements=["scikit-learn"],
            **options,
        )
    return folder


def served(native):
    exported = export(native, Model(name="m"), 1)
    return exported, ModelSession(exported.model, exported.contract)


def edit(folder, change):
    path = folder / "MLmodel"
    document = yaml.safe_load(path.read_text())
    change(document)
    path.write_text(yaml.safe_dump(document))
    return folder


def test_a_pipeline_with_columns_is_loaded_with_its_example(tmp_path):
    model = make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=0)).fit(X, Y)
    native = load_native(save(tmp_path / "m", mlflow.sklearn, model, skops_trusted_types=TREES))
    exported, session = served(native)
    assert [field.name for field in exported.contract.inputs] == list(X.columns)
    assert exported.contract.example == X.iloc[0].to_dict()
    assert session.predict(X.to_numpy().tolist()).labels == model.predict(X).tolist()


def test_an_array_gives_numbered_columns(tmp_path):
    model = LogisticRegression(max_iter=500).fit(X.to_numpy(), Y)
    native = load_native(save(tmp_path / "m", mlflow.sklearn, model, X.to_numpy()))
    exported, _ = served(native)
    assert [field.name for field in exported.contract.inputs] == ["x0", "x1", "x2", "x3"]
    assert exported.contract.example["x0"] == X.iloc[0, 0]


def test_an_array_for_a_model_that_knows_its_columns_gets_their_names(tmp_path):
    model = LogisticRegression(max_iter=500).fit(X, Y)
    native = load_native(
        save(tmp_path / "m", mlflow.sklearn, model, X.to_numpy(), input_example=None)
    )
    exported, session = served(native)
    assert [field.name for field in exported.contract.inputs] == list(X.columns)
    assert session.predict([[5.1, 3.5, 1.4, 0.2]]).labels == [0]


def test_a_text_pipeline_is_loaded_as_scikit_learn_not_as_pyfunc(tmp_path):
    texts = ["good film", "bad film", "a good plot", "the worst"] * 5
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0] * 5)
    native = load_native(
        save(tmp_path / "m", mlflow.sklearn, model, pd.DataFrame({"review": texts}))
    )
    exported, session = served(native)
    assert [field.name for field in exported.contract.inputs] == ["review"]
    rows = [["good"], ["bad"], ["plot worst"]]
    expected = model.predict_proba([text for (text,) in rows])
    np.testing.assert_allclose(session.predict(rows).probabilities, expected, atol=1e-15)
    np.testing.assert_allclose(native.predict(rows).probabilities, expected, atol=0)


BOOSTERS = {
    "xgboost estimator": lambda x, y: (
        mlflow.xgboost,
        xgboost.XGBClassifier(n_estimators=5).fit(x, y),
    ),
    "xgboost booster": lambda x, y: (
        mlflow.xgboost,
        xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(x, y), 5),
    ),
    "xgboost booster of many": lambda x, y: (
        mlflow.xgboost,
        xgboost.train({"objective": "multi:softprob", "num_class": 2}, xgboost.DMatrix(x, y), 5),
    ),
    "lightgbm estimator": lambda x, y: (
        mlflow.lightgbm,
        lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(x, y),
    ),
    "lightgbm booster": lambda x, y: (
        mlflow.lightgbm,
        lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(x, y), 5),
    ),
    "a booster in a pipeline": lambda x, y: (
        mlflow.sklearn,
        make_pipeline(StandardScaler(), xgboost.XGBClassifier(n_estimators=5)).fit(x, y),
    ),
}


@pytest.mark.parametrize("build", BOOSTERS.values(), ids=BOOSTERS)
def test_boosters_of_either_interface_are_served(build, tmp_path):
    x, y = load_breast_cancer(return_X_y=True, as_frame=True)
    x.columns = [c.replace(" ", "_") for c in x.columns]
    flavor, model = build(x, y)
    options = {}
    if flavor is mlflow.sklearn:
        options["skops_trusted_types"] = ["xgboost.core.Booster", "xgboost.sklearn.XGBClassifier"]
    native = load_native(save(tmp_path / "m", flavor, model, x, **options))
    _, session = served(native)
    rows = x.to_numpy().tolist()
    expected, actual = native.predict(rows), session.predict(rows)
    assert expected.labels == actual.labels
    assert set(expected.labels) == {0, 1}
    np.testing.assert_allclose(expected.probabilities, actual.probabilities, atol=3e-7)


def test_lightgbm_spells_columns_with_spaces_otherwise(tmp_path):
    model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(X, Y)
    native = load_native(save(tmp_path / "m", mlflow.lightgbm, model))
    exported, session = served(native)
    assert [field.name for field in exported.contract.inputs] == list(X.columns)
    assert session.predict(X.to_numpy().tolist()).labels == model.predict(X).tolist()


@pytest.mark.parametrize("serialization", ["pickle", "cloudpickle"])
def test_pickles_are_refused_unread(serialization, tmp_path):
    folder = save(
        tmp_path / "m",
        mlflow.sklearn,
        LogisticRegression(max_iter=500).fit(X, Y),
        serialization_format=serialization,
    )
    (folder / "model.pkl").write_bytes(b"cos\nsystem\n(S'touch /tmp/harm'\ntR.")
    with pytest.raises(UnservableModel, match=f"stored as {serialization}.*format='skops'"):
        load_native(folder)
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


def test_a_type_that_is_not_trusted_is_named_and_may_be_trusted(tmp_path):
    model = make_pipeline(FunctionTransformer(np.linalg.norm), LogisticRegression())
    untrusted = ["numpy.linalg.norm"]
    folder = save(
        tmp_path / "m", mlflow.sklearn, model, input_example=None, skops_trusted_types=untrusted
    )
    with pytest.raises(UnservableModel, match=r"numpy\.linalg\.norm.*trusted_types"):
        load_native(folder)
    assert load_native(folder, tuple(untrusted)).flavor == "sklearn"


def test_a_missing_signature_says_how_to_add_one(tmp_path):
    folder = save(tmp_path / "m", mlflow.sklearn, LogisticRegression(max_iter=500).fit(X, Y))
    edit(folder, lambda m: m.pop("signature"))
    with pytest.raises(UnservableModel, match=r"infer_signature.*log_model.*name=.*signature="):
        load_native(folder)


def test_another_flavor_is_named_with_those_supported(tmp_path):
    folder = save(tmp_path / "m", mlflow.sklearn, LogisticRegression(max_iter=500).fit(X, Y))
    edit(folder, lambda m: m.update(flavors={"python_function": {}, "prophet": {}}))
    with pytest.raises(UnservableModel, match=r"\['prophet'\]; supported are sklearn, xgboost"):
        load_native(folder)


def test_an_image_tensor_is_refused(tmp_path):
    folder = save(tmp_path / "m", mlflow.sklearn, LogisticRegression(max_iter=500).fit(X, Y))
    spec = [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3, 8, 8]}}]
    edit(folder, lambda m: m["signature"].update(inputs=json.dumps(spec)))
    with pytest.raises(UnservableModel, match=r"shape \(-1, 3, 8, 8\).*DataFrame"):
        load_native(folder)


@pytest.mark.parametrize("content", [b"", b"no zip at all"])
def test_a_broken_file_is_one_clear_sentence(content, tmp_path):
    folder = save(tmp_path / "m", mlflow.sklearn, LogisticRegression(max_iter=500).fit(X, Y))
    (folder / "model.skops").write_bytes(content)
    with pytest.raises(UnservableModel, match=r"model\.skops cannot be read"):
        load_native(folder)


def test_a_missing_booster_package_names_the_extra(tmp_path, monkeypatch):
    folder = save(tmp_path / "m", mlflow.xgboost, xgboost.XGBClassifier(n_estimators=2).fit(X, Y))
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(UnservableModel, match=r"pip install -e '\.\[boost\]'"):
        load_native(folder)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UnservableModel, match="is no MLflow model"):
        load_native(tmp_path)


def test_hist_gradient_boosting_on_categories_is_loaded(tmp_path):
    frame = pd.DataFrame({"n": np.arange(100.0), "c": np.arange(100.0) % 4})
    model = HistGradientBoostingClassifier(max_iter=3, categorical_features=["c"])
    model.fit(frame, (frame["c"] > 1).astype(int))
    trusted = [
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "functools.partial",
        "sklearn.utils.validation.check_array",
        "numpy.dtype",
    ]
    native = load_native(
        save(tmp_path / "m", mlflow.sklearn, model, frame, skops_trusted_types=trusted)
    )
    _, session = served(native)
    rows = frame.to_numpy().tolist()
    assert session.predict(rows).labels == model.predict(frame).tolist()


def moved_out(folder, relative, absolute):
    """A file of the model, put beside its folder; the path to it that `MLmodel` is to have."""
    target = folder.parent / "elsewhere" / relative
    target.parent.mkdir()
    (folder / relative).rename(target)
    return str(target) if absolute else f"../elsewhere/{relative}"


def onnx_identity(folder):
    from onnx import TensorProto, helper

    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, 1]) for n in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g", *[[p] for p in ports]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return save(folder, mlflow.onnx, model, input_example=None)


OUTSIDE = {
    "sklearn": (
        lambda folder: save(folder, mlflow.sklearn, LogisticRegression(max_iter=500).fit(X, Y)),
        "pickled_model",
    ),
    "xgboost": (
        lambda folder: save(
            folder, mlflow.xgboost, xgboost.XGBClassifier(n_estimators=2).fit(X, Y)
        ),
        "data",
    ),
    "lightgbm": (
        lambda folder: save(
            folder,
            mlflow.lightgbm,
            lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(X, Y > 0), 2),
        ),
        "data",
    ),
    "onnx": (onnx_identity, "data"),
}


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("flavor", OUTSIDE)
def test_a_model_file_outside_of_the_folder_is_refused(flavor, absolute, tmp_path):
    build, key = OUTSIDE[flavor]
    folder = build(tmp_path / "m")
    conf = yaml.safe_load((folder / "MLmodel").read_text())["flavors"][flavor]
    path = moved_out(folder, conf[key], absolute)
    edit(folder, lambda m: m["flavors"][flavor].update({key: path}))
    with pytest.raises(UnservableModel, match=rf"{re.escape(path)}.*outside"):
        load_native(folder)


@pytest.mark.parametrize("absolute", [False, True])
def test_an_example_outside_of_the_folder_is_refused(absolute, tmp_path):
    folder = save(tmp_path / "m", mlflow.sklearn, LogisticRegression(max_iter=500).fit(X, Y))
    path = moved_out(folder, "input_example.json", absolute)
    edit(folder, lambda m: m["saved_input_example_info"].update(artifact_path=path))
    with pytest.raises(UnservableModel, match=rf"{re.escape(path)}.*outside"):
        load_native(folder)


def test_a_link_that_leaves_the_folder_is_refused(tmp_path):
    folder = save(tmp_path / "m", mlflow.sklearn, LogisticRegression(max_iter=500).fit(X, Y))
    path = moved_out(folder, "model.skops", absolute=True)
    (folder / "model.skops").symlink_to(path)
    with pytest.raises(UnservableModel, match=r"model\.skops.*outside"):
        load_native(folder)
