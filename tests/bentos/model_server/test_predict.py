import json
import struct
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bentos.model_server import models
from tests.bentos.model_server.clients import GOOD, App, assert_problem, serving


def test_a_prediction_names_label_probabilities_model_and_request(iris_app: App) -> None:
    response = iris_app.post("/predict", {"features": GOOD})
    assert response.status_code == 200
    answer = response.json()
    assert answer["prediction"] == "setosa"
    assert list(answer["probabilities"]) == list(models.SPECIES)
    assert answer["model"] == {"name": "iris", "version": "3", "variant": "fp32"}
    assert answer["request_id"] == response.headers["x-request-id"]
    assert response.headers["x-model-version"] == "3"


def test_features_at_the_top_are_the_same_request(iris_app: App, spam_app: App) -> None:
    wrapped, bare = iris_app.predict(**GOOD), iris_app.post("/predict", dict(GOOD))
    assert wrapped.json()["probabilities"] == bare.json()["probabilities"]
    answer = spam_app.post("/predict", {"email_content": "win cash now"}).json()
    assert answer["prediction"] == 1
    assert set(answer["probabilities"]) == {"0", "1"}


def test_another_variant_is_in_the_version_header(spam_app: App) -> None:
    response = spam_app.client.get("/health")
    assert response.headers["x-model-version"] == "2-int8"


def test_a_regression_has_no_probabilities(petal_app: App) -> None:
    row = petal_app.parts.contract.example
    answer = petal_app.predict(**row).json()
    assert "probabilities" not in answer
    assert answer["prediction"] == petal_app.parts.certificate.golden.single[0].prediction


MEASURE = st.floats(min_value=-1e6, max_value=1e6, width=32)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(st.tuples(MEASURE, MEASURE, MEASURE, MEASURE), min_size=1, max_size=4))
def test_answers_are_the_sessions_own_bit_for_bit(
    iris_app: App, rows: list[tuple[float, ...]]
) -> None:
    session = iris_app.parts.session()
    expected = session.predict(rows)
    answer = iris_app.post("/predict/batch", {"instances": [list(row) for row in rows]}).json()
    assert answer["predictions"] == expected.labels
    assert expected.probabilities is not None
    got = [[p[label] for label in models.SPECIES] for p in answer["probabilities"]]
    assert np.array(got, dtype=np.float32).tobytes() == expected.probabilities.tobytes()
    one = iris_app.predict(**dict(zip(models.IRIS, rows[0], strict=True))).json()
    single = session.predict(rows[:1]).probabilities
    assert single is not None
    bits = struct.pack("3f", *(one["probabilities"][label] for label in models.SPECIES))
    assert bits == single.tobytes()


def test_objects_and_arrays_give_the_same_batch(iris_app: App) -> None:
    objects = iris_app.post("/predict/batch", {"instances": [GOOD, GOOD]}).json()
    arrays = iris_app.post("/predict/batch", {"instances": [list(GOOD.values())] * 2}).json()
    assert objects["probabilities"] == arrays["probabilities"]
    assert len(objects["predictions"]) == 2


def test_a_refused_field_is_named_in_the_problem(iris_app: App) -> None:
    problem = assert_problem(iris_app.predict(**GOOD | {"petal_width": "0.2"}), 422, "petal_width")
    message = 'expected a number from -3.4028235e+38 to 3.4028235e+38, got the text "0.2"'
    assert problem["errors"] == [{"field": "petal_width", "message": message}]


def test_a_refused_row_of_a_batch_is_named_in_the_problem(iris_app: App) -> None:
    rows = [GOOD, GOOD | {"petal_width": None}]
    problem = assert_problem(iris_app.post("/predict/batch", {"instances": rows}), 422, "row 1")
    assert problem["errors"][0]["row"] == 1


def test_nan_is_refused_in_any_spelling(iris_app: App) -> None:
    for spelling in ("NaN", "Infinity", "-Infinity", "1e999", '"NaN"', '"inf"'):
        body = json.dumps({"features": GOOD}).replace("0.2", spelling)
        assert_problem(iris_app.post("/predict", body), 422, "petal_width")
    for spelling in ("nan", "inf", "+1"):
        body = json.dumps({"features": GOOD}).replace("0.2", spelling)
        assert_problem(iris_app.post("/predict", body), 400, "not JSON")


def test_an_answer_that_is_no_number_is_refused_rather_than_null(petal_app: App) -> None:
    huge = dict.fromkeys(models.IRIS[:3], 3e38)
    assert_problem(petal_app.predict(**huge), 422, "not a finite number")
    rows = [petal_app.parts.contract.example, huge]
    assert_problem(petal_app.post("/predict/batch", {"instances": rows}), 422, "row 1")


TEXT = st.text('ab é"\\\n\x00😀{}[]:,', max_size=40)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=TEXT)
def test_any_text_gets_a_prediction_or_as_a_body_a_problem(spam_app: App, text: str) -> None:
    assert spam_app.predict(email_content=text).status_code == 200
    for body in (text, json.dumps(text), json.dumps({"features": text})):
        assert spam_app.post("/predict", body).status_code in (400, 422)


def test_a_double_graph_answers_with_doubles_bit_for_bit(tmp_path: Path) -> None:
    parts = models.iris("float64", variant="f64")
    golden = parts.certificate.golden
    with serving(parts, tmp_path) as app:
        batch = app.post("/predict/batch", {"instances": list(golden.rows)})
    assert batch.headers["x-model-version"] == "3-f64"
    got = [tuple(p.values()) for p in batch.json()["probabilities"]]
    assert got == [answer.probabilities for answer in golden.batch]


def test_too_many_rows_are_refused(iris_app: App) -> None:
    response = iris_app.post("/predict/batch", {"instances": [list(GOOD.values())] * 6})
    assert_problem(response, 413, "6 rows; this server takes at most 5")
