"""What a batch job answers is what the server answers, row by row."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bentos.model_server.answers import label_key
from bentos.model_server.codec import Codec
from bentos.model_server.contract import Input
from bentos.model_server.problems import Problem
from orchestration.batch.documents import Part
from orchestration.batch.errors import BatchError
from orchestration.batch.scorer import Scorer
from orchestration.batch.tally import Tally
from tests.bentos.model_server.models import (
    IRIS,
    SPECIES,
    Parts,
    _convert,
    iris,
    iris_tree,
    mixed,
    petal_width,
    spam,
)
from tests.orchestration.batch.optional import labelled, looked_up_in_ten, optional
from tests.orchestration.batch.plans import SCORED_AT, plan_for, score

UNHURRIED = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
MODELS = [(parts, Codec(parts.contract, 10)) for parts in (mixed(), optional())]
EDGES = (0, 1, -1, 2**31 - 1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63))
INTEGERS = st.sampled_from(EDGES) | st.integers(-(2**63), 2**63 - 1)
REALS = st.floats() | st.sampled_from([3.4028235677973366e38, -3.5e38, 2.0**31, 2.0**63, -0.0, 3.5])
FLOAT32 = st.floats(width=32)
# An Arrow type and its values, by what the contract's columns may come as.
NUMBERS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.float64(), REALS),
    (pa.float32(), FLOAT32),
    (pa.int64(), INTEGERS),
    (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.decimal128(38, 2), st.decimals(-(10**25), 10**25, places=2)),
    (pa.dictionary(pa.int32(), pa.int64()), INTEGERS),
]
BOOLS = [(pa.bool_(), st.booleans())]
TEXTS = [
    (kind, st.text('abé"\\\n\x00😀 1.', max_size=6))
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string()))
]
KINDS = {"bool": BOOLS, "string": TEXTS}
ORDINARY = {"bool": st.just(True), "string": st.sampled_from(["pro", "Bäsic", "basic"])}


@st.composite
def tables(draw: st.DrawFn, inputs: tuple[Input, ...]) -> pa.RecordBatch:
    """Of any types that the columns may have; often of values that the contract takes."""
    rows = draw(st.integers(1, 5))
    arrays = {}
    for name, dtype in ((field.name, field.dtype) for field in inputs):
        kind, values = draw(st.sampled_from(KINDS.get(dtype, NUMBERS)))
        values |= ORDINARY.get(dtype, st.sampled_from([0, 1, 2, 3]))
        cells = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
        arrays[name] = pa.array(cells, kind.value_type if is_dictionary(kind) else kind)
        if is_dictionary(kind):
            arrays[name] = arrays[name].dictionary_encode()
    return pa.RecordBatch.from_pydict(arrays)


def is_dictionary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_dictionary(kind))


def as_json(value: Any, dtype: str) -> Any:
    """A cell as a client would send it: whole numbers as integers where they are expected."""
    if isinstance(value, bool | str | int | None):
        return value
    if value != value:
        return None
    if dtype.startswith("int") and value not in (math.inf, -math.inf) and value == int(value):
        return int(value)
    return float(value)


def answer(parts: Parts, codec: Codec, row: dict[str, Any]) -> Any:
    """Of the model server; None where it refuses the row."""
    document = {f.name: as_json(row[f.name], f.dtype) for f in codec.fields}
    try:
        decoded = codec.decode_one(json.dumps({"features": document}).encode())
    except Problem:
        return None
    return parts.session().predict([decoded]).labels[0]


@UNHURRIED
@given(st.data())
@pytest.mark.parametrize(("parts", "codec"), MODELS, ids=["mixed", "optional"])
def test_a_row_is_refused_exactly_if_the_server_refuses_it(
    parts: Parts, codec: Codec, data: st.DataObject
) -> None:
    require_the_same(parts, codec, data.draw(tables(parts.contract.inputs)))


def require_the_same(parts: Parts, codec: Codec, batch: pa.RecordBatch) -> None:
    """What the scorer answers and refuses, and what the codec and the session do."""
    scored = score(parts, batch)
    expected = [answer(parts, codec, row) for row in batch.to_pylist()]
    rejected = [] if scored.rejects is None else scored.rejects["source_row"].to_pylist()
    # The sum of what is large may overflow, which no request is answered with either.
    refused = [100 + i for i, v in enumerate(expected) if v is None or not math.isfinite(v)]
    assert rejected == refused
    finite = [v for v in expected if v is not None and math.isfinite(v)]
    assert scored.output["prediction"].to_pylist() == finite


# A float32 beyond a float64's limit that rounds to it; a category's neighbour in float64; an
# integer whose float32 is another one if it is not rounded to float64 first.
@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("income", pa.array([0.3, -0.1, 0.29, None], pa.float32())),
        ("income", pa.array([Decimal(1), Decimal("0.3"), None], pa.decimal128(3, 1))),
        ("visits", pa.array([2**53, 2**53 + 1, 2**60 + 2**36 + 1])),
        ("visits", pa.array([2**53, 2**53 + 1, 2**64 - 1], pa.uint64())),
        ("visits", pa.array([2.0**53, 1.0, 1e19])),
        ("visits", pa.array([Decimal(2**60 + 2**36 + 1), Decimal("1.5"), Decimal(10) ** 30])),
    ],
)
def test_numbers_are_rounded_where_the_server_rounds_them(name: str, cells: pa.Array) -> None:
    parts, codec = MODELS[1]
    rows = len(cells)
    others = {f.name: pa.nulls(rows, pa.float64()) for f in codec.fields[:4]}
    others |= {"member": pa.nulls(rows, pa.bool_()), "note": pa.nulls(rows, pa.string())}
    table = others | {"plan": pa.repeat(pa.scalar("pro"), rows), name: cells}
    require_the_same(parts, codec, pa.RecordBatch.from_pydict(table))


def rows_of(parts: Parts) -> dict[str, list[Any]]:
    rows = parts.certificate.golden.rows
    return {name: [row[name] for row in rows] for name in rows[0]}


@pytest.mark.parametrize("make", [iris, iris_tree, mixed, petal_width, spam])
def test_the_answers_are_those_of_the_session(make: Any) -> None:
    parts = make()
    table = rows_of(parts)
    output = score(parts, table).output
    rows = list(zip(*(table[field.name] for field in parts.contract.inputs), strict=True))
    expected = parts.session().predict(rows)
    assert output["prediction"].to_pylist() == expected.labels
    for i, label in enumerate(parts.contract.outputs.labels):
        assert expected.probabilities is not None
        column = output[f"probability_{label}"]
        assert column.type == pa.float64()
        assert column.to_pylist() == expected.probabilities[:, i].tolist()


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ((True, False), pa.bool_()),
        ((0.5, 1.0, 1e22), pa.float64()),
        ((3, -(2**62)), pa.int64()),
        (("no", "ja", "ünd"), pa.string()),
    ],
)
def test_labels_are_what_the_server_answers_and_are_counted_by_its_names(
    labels: tuple[Any, ...], kind: pa.DataType
) -> None:
    parts = labelled(*labels)
    places = list(range(len(labels)))
    scored = score(parts, {"place": places})
    found = scored.output["prediction"]
    answered = parts.session().predict([(place,) for place in places]).labels
    assert found.type == kind
    assert found.to_pylist() == answered == list(labels)
    tally = Tally(is_regression=False)
    tally.add(len(places), scored)
    receipt = tally.receipt(Part(0, 0, 0, 1), None, None, 1.0)
    assert receipt.labels == dict.fromkeys(map(label_key, answered), 1)


def test_keys_come_first_as_they_were_and_then_the_answer_and_the_model() -> None:
    kinds = {
        "day": pa.timestamp("ns", "Europe/Berlin"),
        "ids": pa.list_(pa.field("element", pa.int64())),
        "plan": pa.dictionary(pa.int8(), pa.string()),
    }
    keys = {"day": pa.array([1], kinds["day"]), "ids": pa.array([[7]], kinds["ids"])}
    keys["plan"] = pa.array(["pro"]).dictionary_encode().cast(kinds["plan"])
    row = {name: [1.5] for name in reversed(IRIS)}
    parts = iris()
    output = score(parts, pa.RecordBatch.from_pydict(row | keys)).output
    assert output.schema.names == [
        *("day", "ids", "plan", "prediction", "probability_setosa", "probability_versicolor"),
        *("probability_virginica", "model_version", "onnx_sha256", "scored_at"),
    ]
    assert [output.schema.field(name).type for name in kinds] == list(kinds.values())
    found = output.to_pylist()[0]
    assert (found["ids"], found["plan"], found["model_version"]) == ([7], "pro", "3")
    assert found["onnx_sha256"] == parts.contract.onnx_sha256
    assert found["scored_at"].isoformat() == SCORED_AT


def test_a_reject_has_all_columns_and_every_reason() -> None:
    table = {name: [1.0, 1.0, 1.0] for name in IRIS} | {"id": [7, 8, 9]}
    table |= {"petal_width": [1.0, None, 2.0], "sepal_width": [1.0, math.inf, 1e39]}
    scored = score(iris(), table, keys=())
    assert scored.rejects is not None
    assert scored.rejects["id"].to_pylist() == [8, 9]
    limits = "expected a number from -3.4028235e+38 to 3.4028235e+38"
    assert scored.rejects["reason"].to_pylist() == [
        f"sepal_width: {limits}, got a number beyond float64; petal_width: {limits}, got null",
        f"sepal_width: {limits}, got 1e+39",
    ]
    assert scored.rejects["source_file"].to_pylist() == ["in.parquet"] * 2
    assert scored.rejects["source_row"].to_pylist() == [101, 102]
    assert scored.reasons == {f"sepal_width: {limits}": 2, f"petal_width: {limits}": 1}
    assert len(scored.output) == 1


def test_rejects_that_were_mended_may_come_again_as_they_are() -> None:
    table = {"email_content": ["x", None], "reason": ["old", "old"], "source_row": ["1", "2"]}
    rejects = score(spam(), table).rejects
    assert rejects is not None
    assert rejects.schema.names == ["email_content", "reason", "source_file", "source_row"]
    assert rejects["source_row"].to_pylist() == [101]


def test_a_batch_without_a_good_row_is_all_rejects() -> None:
    for parts in (iris(), spam(), petal_width()):
        table = {name: pa.array([None, None]) for name in rows_of(parts)}
        scored = score(parts, table)
        assert len(scored.output) == 0
        assert scored.rejects is not None
        assert len(scored.rejects) == 2


def test_an_answer_that_is_not_finite_is_a_reject() -> None:
    scored = score(petal_width(), {name: [1.0, 3e38, 2.0] for name in IRIS[:3]})
    assert scored.rejects is not None
    assert scored.rejects["source_row"].to_pylist() == [101]
    assert "not a finite number" in scored.rejects["reason"][0].as_py()


def test_a_row_that_the_model_cannot_compute_harms_no_other() -> None:
    scored = score(looked_up_in_ten(), {"place": [3, 10, 4, 99, None, 5], "id": [*"abcdef"]})
    assert scored.rejects is not None
    assert scored.rejects["source_row"].to_pylist() == [101, 103, 104]
    assert "the model cannot compute these values: " in scored.rejects["reason"][0].as_py()
    assert scored.output["id"].to_pylist() == ["a", "c", "f"]
    assert np.allclose(scored.output["prediction"].to_numpy(), [0.3, 0.4, 0.5])
    assert scored.reasons["the model cannot compute these values"] == 2


def test_an_input_that_may_be_missing_may_have_no_column() -> None:
    assert score(optional(), {"plan": ["BASIC", "basic"]}).output["prediction"].to_pylist() == [
        -4999.5
    ]


def test_the_scorer_is_for_the_plan_s_contract_only() -> None:
    parts = iris()
    plan = plan_for(parts.contract, pa.schema([(name, pa.float64()) for name in IRIS]))
    with pytest.raises(BatchError, match="iris version 4"):
        Scorer(plan, iris(version=4).contract, parts.onnx)
    with pytest.raises(BatchError, match="exchanged"):
        Scorer(plan, iris(turned=True).contract, parts.onnx)


def test_the_neighbours_of_a_row_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (257, 4))
    for parts in (iris(), iris_tree(), petal_width(), *trained()):
        names = [field.name for field in parts.contract.inputs]
        alone, turned, together = (
            _values(parts, names, order) for order in (_singles(x), [x[::-1]], [x])
        )
        assert np.allclose(alone, together, rtol=1e-5, atol=1e-6)
        assert np.allclose(turned[::-1], together, rtol=1e-5, atol=1e-6)


def trained() -> Iterator[Parts]:
    """Boosted trees and a network."""
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.neural_network import MLPClassifier

    like = iris()
    rng = np.random.default_rng(1)
    x, y = rng.normal(3, 2, (200, 4)).astype(np.float32), rng.choice(SPECIES, 200)
    for model in (GradientBoostingClassifier(n_estimators=20), MLPClassifier((64, 32), tol=0.1)):
        onnx = _convert(model.fit(x, y), FloatTensorType([None, 4]))
        digest = hashlib.sha256(onnx).hexdigest()
        contract = msgspec.structs.replace(like.contract, onnx_sha256=digest)
        yield Parts(onnx, contract, like.certificate)


def _singles(x: Any) -> Sequence[Any]:
    return [x[i : i + 1] for i in range(len(x))]


def _values(parts: Parts, names: list[str], batches: Sequence[Any]) -> Any:
    plan = plan_for(parts.contract, pa.schema([(name, pa.float64()) for name in names]))
    scorer = Scorer(plan, parts.contract, parts.onnx)
    numbers = parts.contract.outputs.labels or ("",)
    column = f"probability_{numbers[0]}" if parts.contract.outputs.labels else "prediction"
    scored = [
        scorer.score(pa.RecordBatch.from_pydict({n: b[:, i] for i, n in enumerate(names)}), "f", 0)
        for b in batches
    ]
    return np.concatenate([s.output[column].to_numpy() for s in scored])
