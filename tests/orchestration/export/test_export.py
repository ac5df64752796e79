"""Bytes that never change, and contracts that say what is true."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bentos.model_server.session import ModelSession
from orchestration.export import ExportError, NativeModel, UnservableModel, export
from orchestration.export.signature import Field, Signature
from serving_config.schema import Column, Model

X, Y = load_iris(return_X_y=True)

CHILD = """
import hashlib, random, sys, warnings
import numpy as np, pandas as pd, xgboost
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PowerTransformer, StandardScaler
from orchestration.export import NativeModel, export
from orchestration.export.signature import Field, Signature
from serving_config.schema import Model

warnings.simplefilter("ignore")
frame = pd.DataFrame({
    "n": np.arange(60.0), "c": ["a", "b", "c"] * 20, "t": ["good film", "bad plot", "x yz"] * 20,
})
mixed = ColumnTransformer([
    ("t", TfidfVectorizer(ngram_range=(1, 2)), "t"),
    ("c", OneHotEncoder(handle_unknown="ignore"), ["c"]), ("n", StandardScaler(), ["n"]),
])
x, y = load_iris(return_X_y=True)
table = (Field("n", "float64"), Field("c", "string"), Field("t", "string"))
numbers = tuple(Field(f"x{i}", "float64") for i in range(4))
for model, fields, tensor in (
    (make_pipeline(mixed, RandomForestClassifier(5, random_state=0)).fit(
        frame, [0, 1] * 30), table, False),
    (make_pipeline(StandardScaler(), xgboost.XGBClassifier(n_estimators=5)).fit(x, y),
        numbers, True),
    (make_pipeline(PowerTransformer(), GaussianNB()).fit(x, y), numbers, True),
):
    exported = export(NativeModel("sklearn", model, Signature(fields, tensor)), Model(name="m"), 1)
    print(hashlib.sha256(exported.model + exported.contract.encode()).hexdigest())
"""


def test_the_same_model_gives_the_same_bytes_in_every_process():
    root = Path(__file__).parents[3]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD],
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
        )
        for seed in ("0", "1")
    ]
    outputs = {child.communicate()[0] for child in children}
    assert all(child.returncode == 0 for child in children)
    assert len(outputs) == 1
    assert len(outputs.pop().split()) == 3


def fitted(*steps):
    return make_pipeline(*steps, LogisticRegression(max_iter=500)).fit(X, Y)


def test_the_graph_is_valid_and_imports_each_opset_once(as_native):
    exported = export(as_native(fitted(StandardScaler()), 4), Model(name="m"), 1)
    model = onnx.load_model_from_string(exported.model)
    onnx.checker.check_model(model, full_check=True)
    domains = [o.domain for o in model.opset_import]
    assert domains == sorted(set(domains))
    assert max(o.version for o in model.opset_import if not o.domain) < 26


def test_the_contract_joins_the_signature_and_the_yaml(as_native):
    config = Model(
        name="iris", inputs={"x1": Column(minimum=0, maximum=10), "x2": Column(maximum=-1.0)}
    )
    exported = export(as_native(fitted(), 4), config, 7, run_id="r", model_id="m-1")
    contract = exported.contract
    assert (contract.model, contract.version, contract.run_id) == ("iris", 7, "r")
    assert (contract.inputs[1].minimum, contract.inputs[1].maximum) == (0, 10)
    assert contract.example["x1"] == 5
    assert contract.example["x2"] == -1.0
    assert contract.outputs.labels == (0, 1, 2)
    ModelSession(exported.model, contract).predict([list(contract.example.values())])


def test_an_unknown_name_in_the_yaml_is_an_error_that_names_the_known(as_native):
    config = Model(name="m", inputs={"petal": Column(minimum=0)})
    with pytest.raises(UnservableModel, match=r"\['petal'\].*it takes \['x0', 'x1', 'x2', 'x3'\]"):
        export(as_native(fitted(), 4), config, 1)


def test_the_example_is_the_first_logged_row_that_is_allowed():
    frame = pd.DataFrame(X[:5], columns=list("abcd"))
    signature = Signature(tuple(Field(c, "float64") for c in "abcd"), tensor=True)
    native = NativeModel("sklearn", fitted(), signature, frame)
    config = Model(name="m", inputs={"a": Column(maximum=4.9)})
    assert export(native, config, 1).contract.example == dict(zip("abcd", X[1], strict=True))


def test_an_optional_field_that_the_model_cannot_do_without_is_required(as_native):
    fields = [Field(f"x{i}", "float64", required=False) for i in range(4)]
    contract = export(as_native(fitted(), fields), Model(name="m"), 1).contract
    assert all(field.required for field in contract.inputs)


def test_columns_come_in_the_order_of_training_and_extra_ones_stay_out(as_native):
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, Y)
    fields = [Field(c, "float64") for c in "dcbae"]
    native = as_native(model, fields)
    exported = export(native, Model(name="m"), 1)
    assert exported.contract.graph_inputs[0].columns == ("a", "b", "c", "d")
    row = [X[0, 3], X[0, 2], X[0, 1], X[0, 0], 99.0]
    session = ModelSession(exported.model, exported.contract)
    np.testing.assert_allclose(
        session.predict([row]).probabilities, model.predict_proba(frame[:1]), atol=1e-15
    )


class Doubled(TransformerMixin, BaseEstimator):
    def fit(self, x, y=None):
        self.fitted_ = True
        return self

    def transform(self, x):
        return np.asarray(x) * 2


class Constant(ClassifierMixin, BaseEstimator):
    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, x):
        return np.zeros(len(x))


def test_a_step_of_ones_own_is_refused_in_one_sentence(as_native):
    for model, name in (
        (fitted(Doubled()), "Doubled"),
        (make_pipeline(StandardScaler(), Constant()).fit(X, Y), "Constant"),
    ):
        with pytest.raises(ExportError, match=rf"{name} cannot become ONNX") as refused:
            export(as_native(model, 4), Model(name="m"), 1)
        assert "\n" not in str(refused.value)
        assert "mlflow.onnx.log_model" in str(refused.value)


def test_what_is_no_classifier_and_no_regressor_is_refused(as_native):
    with pytest.raises(UnservableModel, match="neither a classifier nor a regressor"):
        export(as_native(KMeans(2, n_init=1).fit(X), 4), Model(name="m"), 1)


def test_several_outputs_are_refused(as_native):
    model = MultiOutputClassifier(LogisticRegression(max_iter=500)).fit(X, np.column_stack([Y, Y]))
    with pytest.raises(ExportError, match="several outputs"):
        export(as_native(model, 4), Model(name="m"), 1)


def test_a_signature_of_another_width_is_refused(as_native):
    with pytest.raises(UnservableModel, match="trained on 4 columns, its signature has 3"):
        export(as_native(fitted(), 3), Model(name="m"), 1)
