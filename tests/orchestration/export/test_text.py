# ruff: noqa: S106  token_pattern is no password
"""Texts in many scripts, under the locale C that slim images have."""

import os
import random
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline

from bentos.model_server.contract import TextPreprocessing
from bentos.model_server.session import ModelSession
from orchestration.export import NativeModel, UnservableModel, export
from orchestration.export.signature import Field, Signature
from serving_config.schema import Model

LETTERS = (
    "abcdefgh ABC éàüßñ İ\u0131\u017fK ①½² 中文字 привет кот 🎉👍 ́̈ _-.,!?'\t\n 0123 ﬁ\x00\u200b"
)
WORDS = ["good", "bad", "movie", "Été", "straße", "plot", "кот", "中文", "the", "a", "x1", "İstan"]
ASCII = {"strip_accents": "ascii", "token_pattern": "[a-z0-9_]+"}


def documents(count, seed=0):
    rng = random.Random(seed)  # noqa: S311  test data
    letters = ["".join(rng.choices(LETTERS, k=rng.randint(0, 30))) for _ in range(count)]
    words = [" ".join(rng.choices(WORDS, k=rng.randint(0, 8))) for _ in range(count)]
    return [a + rng.choice(["", " "]) + b for a, b in zip(letters, words, strict=True)]


TRAINING = [" ".join(d.split()[-6:]) for d in documents(300, seed=1)]
LABELS = [i % 3 for i in range(300)]


def native_of(*steps):
    model = make_pipeline(*steps).fit(TRAINING, LABELS)
    return NativeModel("sklearn", model, Signature((Field("text", "string"),), tensor=True))


VECTORIZERS = {
    "default": TfidfVectorizer(),
    "ascii": TfidfVectorizer(**ASCII),
    "default pattern, ascii": TfidfVectorizer(strip_accents="ascii"),
    "sublinear": TfidfVectorizer(sublinear_tf=True, norm="l1"),
    "n-grams": TfidfVectorizer(ngram_range=(1, 3), max_features=300, **ASCII),
    "bigrams only": CountVectorizer(ngram_range=(2, 2)),
    "binary, upper case kept": CountVectorizer(binary=True, lowercase=False),
    "stop words": TfidfVectorizer(stop_words=["the", "a"], norm=None),
    "one letter": CountVectorizer(token_pattern=r"(?u)\b\w+\b"),
    "at least three": CountVectorizer(token_pattern=r"\w{3,}"),
    "union": FeatureUnion([("a", CountVectorizer()), ("b", TfidfVectorizer())]),
    "counts, then weights": make_pipeline(CountVectorizer(), TfidfTransformer()),
}


@pytest.mark.parametrize("vectorizer", VECTORIZERS.values(), ids=VECTORIZERS)
def test_two_thousand_texts_in_many_scripts_are_exact(vectorizer, disagreement):
    native = native_of(vectorizer, LogisticRegression())
    rows = [[text] for text in ["", " ", "x" * 50_000, *documents(2000)]]
    difference, flips = disagreement(native, rows)
    assert flips == 0
    assert difference < 1e-14


def test_a_forest_on_term_weights_is_exact(disagreement):
    native = native_of(TfidfVectorizer(), RandomForestClassifier(10, random_state=0))
    assert disagreement(native, [[t] for t in documents(1000)]) == (pytest.approx(0, abs=1e-15), 0)


def test_a_text_column_beside_numbers(as_native, disagreement):
    frame = pd.DataFrame({"n": np.arange(300.0), "text": TRAINING})
    model = make_pipeline(
        ColumnTransformer([("t", TfidfVectorizer(), "text")], remainder="passthrough"),
        RandomForestClassifier(10, random_state=0),
    ).fit(frame, LABELS)
    native = as_native(model, [Field("n", "float64"), Field("text", "string")])
    rows = [[float(i), text] for i, text in enumerate(documents(500))]
    assert disagreement(native, rows) == (pytest.approx(0, abs=1e-15), 0)


SETTINGS = native_of(TfidfVectorizer(), LogisticRegression())
EXPORTED = export(SETTINGS, Model(name="m"), 1)
SESSION = ModelSession(EXPORTED.model, EXPORTED.contract)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_any_unicode_text_is_exact_with_the_default_vectorizer(texts):
    rows = [[text] for text in texts]
    expected, actual = SETTINGS.predict(rows), SESSION.predict(rows)
    np.testing.assert_allclose(expected.probabilities, actual.probabilities, atol=1e-14)


def test_the_contract_says_what_python_does_before_the_graph():
    contract = export(native_of(TfidfVectorizer(**ASCII), LogisticRegression()), Model(name="m"), 1)
    (field,) = contract.contract.inputs
    assert field.text == TextPreprocessing(lowercase=True, strip_accents=True)


@pytest.mark.parametrize(
    ("vectorizer", "setting", "fix"),
    [
        (TfidfVectorizer(analyzer="char"), "analyzer='char'", "analyzer='word'"),
        (TfidfVectorizer(analyzer="char_wb"), "analyzer='char_wb'", "analyzer='word'"),
        (TfidfVectorizer(strip_accents="unicode"), "strip_accents='unicode'", "'ascii'"),
        (TfidfVectorizer(stop_words=["the"], ngram_range=(1, 2)), "stop_words", "stop_words=None"),
        (TfidfVectorizer(token_pattern=r"\w+-\w+|\w+"), "token_pattern", "'[a-z0-9_]+'"),
        (TfidfVectorizer(tokenizer=str.split, token_pattern=None), "tokenizer", "token_pattern"),
    ],
    ids=str,
)
def test_settings_that_onnx_cannot_follow_are_refused_with_the_fix(vectorizer, setting, fix):
    with pytest.raises(UnservableModel) as refused:
        export(native_of(vectorizer, LogisticRegression()), Model(name="m"), 1)
    assert setting in str(refused.value)
    assert fix in str(refused.value)


CHILD = """
import sys, onnxruntime, numpy
session = onnxruntime.InferenceSession(sys.argv[1])
texts = numpy.array([["good plot"], ["\\u00c9t\\u00e9 \\u4e2d\\u6587"], [""]], dtype=object)
sys.stdout.write(repr(session.run(["probabilities"], {"strings": texts})[0].tolist()))
"""


def test_the_graph_does_not_depend_on_the_locale(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(EXPORTED.model)
    outputs = {
        subprocess.run(
            [sys.executable, "-c", CHILD, str(path)],
            env={**os.environ, "LC_ALL": locale, "LANG": locale, "PYTHONUTF8": "1"},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for locale in ("C", "C.UTF-8")
    }
    assert len(outputs) == 1
