"""What stands in Redis: read back exactly, or not at all."""

import math

from hypothesis import given
from hypothesis import strategies as st

from bentos.model_server.contract import Outputs
from bentos.model_server.redis_cache import Values
from tests.bentos.model_server.models import SPECIES

CLASSES = Outputs("classification", "label", "probabilities", SPECIES)
KEY = b"k" * 16


@given(st.sampled_from(SPECIES), st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_an_answer_reads_back_as_it_was(label: str, probabilities: list[float]) -> None:
    values = Values(CLASSES)
    assert values.decode(KEY, values.encode(KEY, (label, probabilities))) == (label, probabilities)
    assert values.decode(b"x" * 16, values.encode(KEY, (label, probabilities))) is None


@given(st.floats())
def test_a_regressions_value_reads_back_unless_it_is_no_number(number: float) -> None:
    values = Values(Outputs("regression", "value"))
    answer = (number, None) if math.isfinite(number) else None
    assert values.decode(KEY, values.encode(KEY, (number, None))) == answer
    assert values.decode(KEY, values.encode(KEY, (number, []))) is None


@given(st.binary(max_size=40))
def test_junk_is_never_an_answer(data: bytes) -> None:
    assert Values(CLASSES).decode(KEY, data) is None
