import math
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from feast import FeatureStore
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.historical import training_set
from feature_repo.on_demand import email_text_statistics, text_statistics
from tests.feature_repo.histories import NOW, hours_ago, senders, write

TEXTS = st.lists(st.none() | st.text(max_size=50), min_size=1, max_size=5)


def of(text: str | None) -> dict[str, object]:
    return {name: values[0] for name, values in text_statistics({"email_content": [text]}).items()}


def test_a_text_is_counted() -> None:
    assert of("WIN 10 now!! See https://www.a.example or www.b.example") == {
        "text_length": 55,
        "word_count": 7,
        "capitals_share": 4 / 55,
        "digits_share": 2 / 55,
        "link_count": 2,
        "exclamation_count": 2,
    }


def test_an_empty_text_has_zeros_and_none_has_nothing() -> None:
    assert set(of("").values()) == {0}
    assert set(of(None).values()) == {None}


@pytest.mark.parametrize(
    ("text", "length", "capitals"),
    [("ÄÖÜ", 3, 1), ("🎉🎉", 2, 0), ("日本語", 3, 0), ("ΑΒΓαβγ", 6, 0.5), ("a\u0301", 2, 0)],
)
def test_characters_are_those_of_unicode(text: str, length: int, capitals: float) -> None:
    assert (of(text)["text_length"], of(text)["capitals_share"]) == (length, capitals)


@given(TEXTS)
def test_each_text_has_its_own_statistics_whatever_stands_beside_it(
    texts: list[str | None],
) -> None:
    together = text_statistics({"email_content": texts})
    for place, text in enumerate(texts):
        assert {name: values[place] for name, values in together.items()} == of(text)


@given(st.text(max_size=200))
def test_shares_are_shares_and_counts_have_bounds(text: str) -> None:
    found = text_statistics({"email_content": [text]})
    for name in ("capitals_share", "digits_share"):
        assert 0 <= found[name][0] <= 1
        assert not math.isnan(found[name][0])
    assert found["text_length"] == [len(text)]
    for name in ("word_count", "link_count", "exclamation_count"):
        assert 0 <= found[name][0] <= len(text)


@given(TEXTS)
def test_what_the_registry_keeps_of_the_function_computes_the_same(texts: list[str | None]) -> None:
    kept = type(email_text_statistics).from_proto(email_text_statistics.to_proto())
    inputs = {"email_content": texts}
    found = kept.feature_transformation.udf(inputs)
    assert kept.feature_transformation.udf is not text_statistics
    assert found == text_statistics(inputs)


def test_training_and_serving_have_the_same_statistics(home: Path, store: FeatureStore) -> None:
    texts = ["Hello WORLD!", "", None, "ÄÖ 12 http://a.example", "\u0000\n"]
    write(home, "sender_activity", senders(["a"], hours_ago(2)))
    frame = pd.DataFrame({"sender": "a", "event_timestamp": NOW, "email_content": texts})
    offline = training_set(store, "spam_detector", frame)
    served = store.get_online_features(
        features=store.get_feature_service("spam_detector"),
        entity_rows=[{"sender": "a", "email_content": text} for text in texts],
    ).to_dict()
    for name in text_statistics({"email_content": []}):
        assert pa.array(offline[name], from_pandas=True).to_pylist() == served[name]
