"""Preprocessing in front of a forest, whose thresholds show the smallest difference."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from bentos.model_server.session import ModelSession
from orchestration.export import UnservableModel, export
from orchestration.export.signature import Field
from serving_config.schema import Model

RNG = np.random.default_rng(7)
ROWS = 300
CITIES = ["Paris", "Zürich", "東京", "Łódź"]
TABLE = pd.DataFrame(
    {
        "age": np.where(RNG.random(ROWS) < 0.1, np.nan, RNG.normal(40, 10, ROWS)),
        "count": RNG.integers(0, 9, ROWS),
        "score": RNG.normal(size=ROWS).astype(np.float32),
        "member": RNG.random(ROWS) < 0.5,
        "city": RNG.choice(CITIES, ROWS, p=[0.5, 0.3, 0.19, 0.01]),
    }
)
FIELDS = [
    Field("age", "float64", required=False),
    Field("count", "int64"),
    Field("score", "float32"),
    Field("member", "bool"),
    Field("city", "string"),
]
LABELS = RNG.choice(["no", "yes", "maybe"], ROWS)


def rows_of(frame):
    return [
        [None if pd.isna(v) else v.item() if hasattr(v, "item") else v for v in row]
        for row in frame.itertuples(index=False)
    ]


ODD = [
    [None, 3, 0.1, True, "Nowhere"],
    [1e30, 0, -0.1, False, ""],
    [0.1, 99, 16777217.0, True, "nan"],
    [-5e-324, -1, 0.30000000000000004, False, "paris"],
]


@pytest.mark.parametrize(
    "step",
    [
        StandardScaler(),
        StandardScaler(with_mean=False),
        StandardScaler(with_std=False),
        MinMaxScaler(),
        MinMaxScaler(feature_range=(-1, 2), clip=True),
        MaxAbsScaler(),
        RobustScaler(),
        Normalizer("l1"),
        Normalizer("max"),
        Binarizer(threshold=0.2),
        PCA(3, whiten=True),
        SelectKBest(k=2),
        KBinsDiscretizer(4, quantile_method="averaged_inverted_cdf"),
        KBinsDiscretizer(4, encode="ordinal", quantile_method="averaged_inverted_cdf"),
        PolynomialFeatures(2),
        FunctionTransformer(np.absolute),
        FunctionTransformer(),
        FeatureUnion([("a", StandardScaler()), ("b", MinMaxScaler())]),
        make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), MinMaxScaler()),
        "passthrough",
    ],
    ids=str,
)
def test_numeric_steps_are_exact(step, as_native, disagreement):
    x = RNG.normal(size=(200, 4)) * [1, 1e-3, 1e2, 10]
    model = make_pipeline(step, RandomForestClassifier(10, random_state=0))
    model.fit(x, RNG.integers(0, 3, 200))
    difference, flips = disagreement(as_native(model, 4), x.tolist())
    assert (flips, difference) == (0, pytest.approx(0, abs=1e-15))


@pytest.mark.parametrize(
    "function", [np.log1p, np.expm1, np.log, np.exp, np.sqrt, np.log2, np.log10], ids=str
)
def test_functions_are_within_a_few_ulp_of_numpy(function, as_native):
    x = np.concatenate([10.0 ** RNG.uniform(-18, 2, 500), -(10.0 ** RNG.uniform(-18, -1, 500))])
    x = x if function in (np.log1p, np.expm1, np.exp) else np.abs(x)
    step = FunctionTransformer(function)
    model = make_pipeline(step, LinearRegression(fit_intercept=False)).fit([[1.0]], [1.0])
    model[-1].coef_ = np.array([1.0])
    native = as_native(model, 1)
    exported = export(native, Model(name="m"), 1)
    rows = [[v] for v in x.tolist()]
    expected = np.array(native.predict(rows).labels)
    actual = np.array(ModelSession(exported.model, exported.contract).predict(rows).labels)
    np.testing.assert_allclose(actual, expected, rtol=2e-15)


def test_a_step_that_skl2onnx_converts_stays_within_the_tolerance(as_native, disagreement):
    x = RNG.normal(size=(200, 4))
    model = make_pipeline(QuantileTransformer(n_quantiles=50), LogisticRegression())
    model.fit(x, RNG.integers(0, 2, 200))
    assert disagreement(as_native(model, 4), x.tolist())[0] < 1e-5


@pytest.mark.parametrize("method", ["yeo-johnson", "box-cox"])
def test_power_transformers_are_within_a_few_ulp(method, as_native, disagreement):
    x = RNG.normal(size=(300, 3)) * [1, 10, 0.1]
    x = x if method == "yeo-johnson" else np.abs(x) + 1e-3
    model = make_pipeline(PowerTransformer(method), LogisticRegression())
    model.fit(x, RNG.integers(0, 2, 300))
    model[0].lambdas_[0] = 0.0
    model[0].lambdas_[1] = 2.0
    assert disagreement(as_native(model, 3), (x * 1.1).tolist())[0] < 1e-14


def test_a_single_scaled_number_is_not_folded_into_float32(as_native, disagreement):
    x = RNG.normal(100, 3, size=(200, 1))
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, RNG.integers(0, 2, 200))
    assert disagreement(as_native(model, 1), x.tolist())[0] < 1e-15


@pytest.mark.parametrize("scaler", [StandardScaler(), RobustScaler(), MinMaxScaler()], ids=str)
def test_float32_columns_are_computed_in_float32_as_in_training(scaler, as_native, disagreement):
    frame = pd.DataFrame(RNG.normal(size=(300, 2)).astype(np.float32), columns=["a", "b"])
    model = make_pipeline(scaler, HistGradientBoostingClassifier(max_iter=8, random_state=0))
    model.fit(frame, RNG.integers(0, 2, 300))
    native = as_native(model, [Field("a", "float32"), Field("b", "float32")])
    assert disagreement(native, RNG.normal(size=(2000, 2)).tolist())[0] < 1e-15


def columns(*encoders):
    return ColumnTransformer(
        [
            (
                "number",
                make_pipeline(SimpleImputer(strategy="median"), StandardScaler()),
                make_column_selector(dtype_include=np.number),
            ),
            *((f"c{i}", encoder, ["city"]) for i, encoder in enumerate(encoders)),
        ],
        remainder="passthrough",
    )


@pytest.mark.parametrize(
    "encoder",
    [
        OneHotEncoder(handle_unknown="ignore"),
        OneHotEncoder(handle_unknown="ignore", drop="first", sparse_output=False),
        OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=10),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        TargetEncoder(),
    ],
    ids=lambda e: f"{type(e).__name__}-{getattr(e, 'handle_unknown', '')}",
)
def test_mixed_columns_hold_for_missing_values_and_unseen_categories(
    encoder, as_native, disagreement
):
    model = make_pipeline(columns(encoder), RandomForestClassifier(10, random_state=0))
    native = as_native(model.fit(TABLE, LABELS), FIELDS)
    difference, flips = disagreement(native, rows_of(TABLE) + ODD)
    assert flips == 0
    assert difference < 1e-15


def test_categories_of_numbers_and_missing_texts(as_native, disagreement):
    table = TABLE.assign(city=TABLE["city"].mask(RNG.random(ROWS) < 0.1, np.nan))
    model = make_pipeline(
        ColumnTransformer(
            [
                ("n", OneHotEncoder(handle_unknown="ignore"), ["count", "member", "age"]),
                (
                    "i",
                    make_pipeline(
                        SimpleImputer(strategy="most_frequent"),
                        OneHotEncoder(handle_unknown="ignore"),
                    ),
                    ["city"],
                ),
                ("m", OneHotEncoder(handle_unknown="ignore"), ["city"]),
            ]
        ),
        LogisticRegression(),
    ).fit(table, LABELS)
    fields = [*FIELDS[:4], Field("city", "string", required=False)]
    difference, flips = disagreement(as_native(model, fields), rows_of(table) + ODD[:2])
    assert (flips, difference < 1e-15) == (0, True)


@pytest.mark.parametrize("categorical", [[1], None], ids=["categories", "numbers"])
def test_hist_gradient_boosting_handles_missing_values_and_categories(
    categorical, as_native, disagreement
):
    x = np.column_stack([TABLE["age"], TABLE["count"]])
    model = HistGradientBoostingClassifier(
        max_iter=8, categorical_features=categorical, random_state=0
    ).fit(x, LABELS)
    rows = [[None if np.isnan(v) else v for v in row] for row in x.tolist()]
    odd = [[None, None], [1.0, 77.0], [None, 3.0], [2.0, None], [3.0, -1.0]]
    fields = [Field("age", "float64", False), Field("count", "float64", False)]
    difference, flips = disagreement(as_native(model, fields), rows + odd)
    assert (flips, difference < 1e-15) == (0, True)


def test_an_encoder_that_knows_no_unknown_gives_the_contract_its_categories(as_native):
    model = make_pipeline(
        ColumnTransformer([("c", OneHotEncoder(), ["city"])]), LogisticRegression()
    ).fit(TABLE, LABELS)
    contract = export(as_native(model, FIELDS), Model(name="m"), 1).contract
    by_name = {field.name: field for field in contract.inputs}
    assert by_name["city"].categories == tuple(sorted(CITIES))
    assert by_name["age"].categories is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.none() | st.floats(allow_nan=False, width=64, min_value=-1e30, max_value=1e30),
            st.integers(-(2**31), 2**31),
            st.floats(allow_nan=False, width=32, min_value=-(2.0**100), max_value=2.0**100),
            st.booleans(),
            st.text(max_size=8) | st.sampled_from(CITIES),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_any_row_is_answered_as_the_trained_model_answers(rows):
    native, session = _served()
    assert native.predict(rows).labels == session.predict(rows).labels
    np.testing.assert_allclose(
        native.predict(rows).probabilities, session.predict(rows).probabilities, atol=1e-15
    )


_CACHE = {}


def _served():
    if not _CACHE:
        from orchestration.export import NativeModel
        from orchestration.export.signature import Signature

        model = make_pipeline(
            columns(OneHotEncoder(handle_unknown="ignore")),
            RandomForestClassifier(10, random_state=0),
        )
        native = NativeModel(
            "sklearn", model.fit(TABLE, LABELS), Signature(tuple(FIELDS), tensor=False)
        )
        exported = export(native, Model(name="m"), 1)
        _CACHE["served"] = native, ModelSession(exported.model, exported.contract)
    return _CACHE["served"]


def test_a_function_of_ones_own_is_refused_with_what_to_use_instead(as_native):
    model = make_pipeline(FunctionTransformer(_doubled), LogisticRegression())
    model.fit(TABLE[["count"]], LABELS)
    with pytest.raises(UnservableModel, match=r"_doubled cannot become ONNX; use one of"):
        export(as_native(model, [Field("count", "int64")]), Model(name="m"), 1)


def _doubled(x):
    return x * 2


def test_a_text_column_that_nothing_encodes_is_named(as_native):
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Odd(ClassifierMixin, BaseEstimator):
        def fit(self, x, y):
            self.classes_ = np.unique(y)
            self.feature_names_in_ = np.array(["city"])
            return self

    with pytest.raises(UnservableModel, match=r"text column\(s\) \['city'\]"):
        export(as_native(Odd().fit(TABLE, LABELS), FIELDS), Model(name="m"), 1)
