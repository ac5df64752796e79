import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bentos.model_server.problems import Problem
from tests.bentos.model_server.test_codec import CODEC, EXAMPLE

# Letters, and what makes trouble in JSON and UTF-8; a lone surrogate cannot even be encoded.
TEXT = st.text('abé"\\\n\x00\ud800😀 1.', max_size=8)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
VALUES = ANY | st.sampled_from([0, 1, 2, 150, 2**31, 2**63, -(2**63), 1e39, 0.5, "pro", "basic"])


@UNHURRIED
@given(values=st.fixed_dictionaries({}, optional=dict.fromkeys([*EXAMPLE, "other"], VALUES)))
def test_what_msgspec_accepts_is_exactly_what_has_no_complaint(values: dict[str, Any]) -> None:
    document = EXAMPLE | values
    complaints = [
        field.name for field in CODEC.fields if field.complaint(document[field.name]) is not None
    ] + [name for name in document if name not in EXAMPLE]
    body = json.dumps({"features": document}).encode()
    if not complaints:
        assert CODEC.decode_one(body) == tuple(document.values())
        return
    with pytest.raises(Problem) as caught:
        CODEC.decode_one(body)
    assert {error.field for error in caught.value.errors} == set(complaints)


@UNHURRIED
@given(value=ANY, batch=st.booleans())
def test_any_json_is_a_row_or_a_problem(value: Any, batch: bool) -> None:
    decode = CODEC.decode_batch if batch else CODEC.decode_one
    for document in (value, {"features": value}, {"instances": value}, {"instances": [value]}):
        problem = None
        try:
            decode(json.dumps(document).encode())
        except Problem as caught:
            problem = caught
        if problem is not None:
            assert problem.status in (400, 413, 422)
            assert msgspec.json.decode(problem.encode("id", "/predict"))["status"] == problem.status


@UNHURRIED
@given(body=st.binary(max_size=40))
def test_any_bytes_are_a_row_or_a_problem(body: bytes) -> None:
    with pytest.raises(Problem):
        CODEC.decode_one(body)
