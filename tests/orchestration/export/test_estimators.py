"""Every estimator behind a scaler, on the data it was trained on."""

import warnings

import lightgbm
import numpy as np
import pytest
import xgboost
from sklearn import datasets
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import (
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

SEEDED: dict[str, int] = {"random_state": 0}
FOREST = RandomForestClassifier(20, **SEEDED)
TREES = [
    DecisionTreeClassifier(**SEEDED),
    FOREST,
    ExtraTreesClassifier(20, **SEEDED),
    GradientBoostingClassifier(n_estimators=10, **SEEDED),
    GradientBoostingClassifier(n_estimators=10, init="zero", **SEEDED),
    HistGradientBoostingClassifier(max_iter=10, **SEEDED),
    lightgbm.LGBMClassifier(n_estimators=10, verbose=-1),
    AdaBoostClassifier(n_estimators=5, **SEEDED),
    BaggingClassifier(n_estimators=5, max_features=0.5, **SEEDED),
]
CLASSIFIERS = [
    *TREES,
    LogisticRegression(),
    LinearDiscriminantAnalysis(),
    LinearSVC(**SEEDED),
    RidgeClassifier(),
    MLPClassifier((16,), max_iter=20, **SEEDED),
    VotingClassifier([("a", LogisticRegression()), ("b", FOREST)], voting="soft"),
    StackingClassifier([("a", LogisticRegression()), ("b", FOREST)], cv=2),
    GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
    KNeighborsClassifier(),
    GaussianNB(),
]
BINARY = [
    SGDClassifier(loss="log_loss", **SEEDED),
    CalibratedClassifierCV(LinearSVC(**SEEDED), cv=2),
    CalibratedClassifierCV(FOREST, cv=2),
    GradientBoostingClassifier(n_estimators=10, loss="exponential", **SEEDED),
    xgboost.XGBRFClassifier(n_estimators=10),
    xgboost.XGBClassifier(n_estimators=10, booster="dart", rate_drop=0.5),
    lightgbm.LGBMClassifier(
        n_estimators=10, verbose=-1, boosting_type="rf", subsample=0.5, subsample_freq=1
    ),
]
REGRESSORS = [
    RandomForestRegressor(20, **SEEDED),
    DecisionTreeRegressor(**SEEDED),
    GradientBoostingRegressor(n_estimators=20, **SEEDED),
    HistGradientBoostingRegressor(max_iter=20, **SEEDED),
    HistGradientBoostingRegressor(max_iter=20, loss="poisson", **SEEDED),
    Ridge(),
    PoissonRegressor(),
    MLPRegressor(hidden_layer_sizes=(16,), max_iter=20, **SEEDED),
    lightgbm.LGBMRegressor(n_estimators=20, verbose=-1),
    lightgbm.LGBMRegressor(n_estimators=20, verbose=-1, objective="tweedie"),
    BaggingRegressor(n_estimators=5, **SEEDED),
    VotingRegressor([("a", Ridge()), ("b", DecisionTreeRegressor(max_depth=3, **SEEDED))]),
    StackingRegressor([("a", Ridge()), ("b", DecisionTreeRegressor(max_depth=3, **SEEDED))], cv=2),
    TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
    TransformedTargetRegressor(Ridge(), transformer=StandardScaler()),
]


def name(value):
    return type(value).__name__


def fitted(model, x, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too few iterations are enough here
        return make_pipeline(StandardScaler(), clone(model)).fit(x, y)


@pytest.mark.parametrize("load", [datasets.load_breast_cancer, datasets.load_iris])
@pytest.mark.parametrize("model", CLASSIFIERS, ids=name)
def test_a_classifier_behind_a_scaler_is_exact_in_float64(model, load, as_native, disagreement):
    x, y = load(return_X_y=True)
    difference, flips = disagreement(as_native(fitted(model, x, y), x.shape[1]), x.tolist())
    assert flips == 0
    assert difference < 1e-13


@pytest.mark.parametrize("model", BINARY, ids=name)
def test_a_classifier_of_two_classes_is_exact(model, as_native, disagreement):
    x, y = datasets.load_breast_cancer(return_X_y=True)
    difference, flips = disagreement(as_native(fitted(model, x, y), x.shape[1]), x.tolist())
    assert flips == 0
    assert difference < (3e-7 if name(model).startswith("XGB") else 1e-13)


@pytest.mark.parametrize("model", REGRESSORS, ids=name)
def test_a_regressor_behind_a_scaler_is_exact_in_float64(model, as_native, disagreement):
    x, y = datasets.load_diabetes(return_X_y=True)
    difference, _ = disagreement(as_native(fitted(model, x, y), x.shape[1]), x.tolist())
    assert difference < 1e-13


@pytest.mark.parametrize("load", [datasets.load_breast_cancer, datasets.load_wine])
def test_xgboost_is_exact_up_to_its_own_float32_sums(load, as_native, disagreement):
    x, y = load(return_X_y=True)
    native = as_native(fitted(xgboost.XGBClassifier(n_estimators=30), x, y), x.shape[1])
    difference, flips = disagreement(native, x.tolist())
    assert flips == 0
    assert difference < 3e-7


@pytest.mark.parametrize(
    "objective", ["reg:squarederror", "count:poisson", "reg:gamma", "reg:absoluteerror"]
)
def test_xgboost_regressions_keep_their_link(objective, as_native, disagreement):
    x, y = datasets.load_diabetes(return_X_y=True)
    native = as_native(fitted(xgboost.XGBRegressor(n_estimators=20, objective=objective), x, y), 10)
    assert disagreement(native, x.tolist())[0] < 1e-6


def test_xgboost_stops_at_its_best_round_and_knows_its_missing_value(as_native, disagreement):
    x, y = datasets.load_breast_cancer(return_X_y=True)
    model = xgboost.XGBClassifier(
        n_estimators=60, early_stopping_rounds=2, missing=-1.0, learning_rate=1.0
    )
    model.fit(x[:300], y[:300], eval_set=[(x[300:], y[300:])], verbose=False)
    assert model.best_iteration < 59
    rows = np.where(np.random.default_rng(0).random(x.shape) < 0.2, -1.0, x)
    difference, flips = disagreement(as_native(model, 30), rows.tolist())
    assert (flips, difference < 3e-7) == (0, True)


def test_a_support_vector_machine_is_within_the_tolerance(as_native, disagreement):
    x, y = datasets.load_iris(return_X_y=True)
    difference, flips = disagreement(as_native(fitted(SVC(), x, y), 4), x.tolist())
    assert (flips, difference) == (0, 0.0)


def test_a_large_network_is_float32_and_survives_extremes(as_native, disagreement):
    x, y = datasets.load_breast_cancer(return_X_y=True)
    model = fitted(MLPClassifier((400, 300), max_iter=3, **SEEDED), x, y)
    extremes = [[v] * 30 for v in (1e38, -1e38, 1e15, 0.0)]
    difference, flips = disagreement(as_native(model, 30), [*x.tolist(), *extremes])
    assert flips == 0
    assert difference < 1e-6


@pytest.mark.parametrize(
    "labels",
    [["no", "yes"], [10, 7], [False, True], [1.0, 2.0], ["b", "a", "c"]],
    ids=["strings", "integers", "booleans", "floats", "three"],
)
@pytest.mark.parametrize("model", [LogisticRegression(), GaussianNB()], ids=name)
def test_labels_keep_their_type_and_order(model, labels, as_native, disagreement):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(120, 3)), rng.choice(labels, 120)
    native = as_native(model.fit(x, y), 3)
    assert disagreement(native, x.tolist())[1] == 0
    assert native.labels == tuple(sorted(labels))
    assert type(native.labels[0]) is type(labels[0])
