"""CountVectorizer and TfidfVectorizer.

What scikit-learn does before tokenizing (lower case, accents) happens in Python, on both sides
the same: ONNX's own string functions depend on the locale. The tokenizer is an exact rewriting
of `token_pattern`, because `\\w` means something else to ONNX Runtime's RE2 than to Python.
"""

import re
from functools import lru_cache
from typing import Any

import numpy as np

from bentos.model_server.contract import TextPreprocessing
from orchestration.export.categorical import column
from orchestration.export.data import Data, Table
from orchestration.export.errors import UnservableModel
from orchestration.export.graph import Graph, Tensor
from orchestration.export.numeric import normalize
from orchestration.export.registry import transforms

_PATTERN = re.compile(
    r"(?:\(\?u\))?(?:\\b)?"
    r"(?P<class>\\w|\[[A-Za-z0-9_\-]+\])(?P<repeated>(?:(?P=class))*)"
    r"(?P<quantifier>\+|\{\d+,\})(?:\\b)?"
)


@transforms("CountVectorizer")
def count_vectorizer(step: Any, data: Data, graph: Graph) -> Tensor:
    """Counts of terms, (rows, vocabulary)."""
    counts = _counts(step, data, graph)
    if step.binary:
        counts = graph.cast(
            Tensor(graph.apply("Greater", counts, 0).name, "bool", counts.width), "float64"
        )
    return counts


@transforms("TfidfVectorizer")
def tfidf_vectorizer(step: Any, data: Data, graph: Graph) -> Tensor:
    """Counts, weighted and normalised as TfidfTransformer does, in float64."""
    return tfidf_transformer(step._tfidf, count_vectorizer(step, data, graph), graph)


@transforms("TfidfTransformer")
def tfidf_transformer(step: Any, data: Data, graph: Graph) -> Tensor:
    """TfidfTransformer.transform: 1 + log(tf) if sublinear, times idf, over the norm."""
    if not isinstance(data, Tensor):
        raise UnservableModel("TfidfTransformer needs the counts of a CountVectorizer before it")
    x = data
    if step.sublinear_tf:
        zero = graph.apply("Equal", x, 0.0).name
        logged = graph.apply("Add", graph.unary("Log", x), 1.0)
        x = Tensor(graph.node("Where", [zero, x.name, logged.name]), x.dtype, x.width)
    if step.use_idf:
        x = graph.apply("Mul", x, np.asarray(step.idf_).reshape(1, -1))
    return x if step.norm is None else normalize(x, step.norm, graph)


def _counts(step: Any, data: Data, graph: Graph) -> Tensor:
    _refuse_inexact(step)
    if data.width != 1:
        raise UnservableModel(f"{type(step).__name__} takes one text column, not {data.width}")
    if isinstance(data, Table):
        _require(step, data)
    texts = column(data, 0, graph)
    if texts.dtype != "string":
        raise UnservableModel(f"{type(step).__name__} gets numbers instead of texts")
    vocabulary = step.vocabulary_
    flat = graph.node("Reshape", [texts.name, graph.constant([-1], "int64")])
    tokens = graph.node(
        "Tokenizer",
        [flat],
        domain="com.microsoft",
        mark=0,
        mincharnum=1,
        pad_value="\x00",
        tokenexp=_token_expression(step),
    )
    counts = graph.node("TfIdfVectorizer", [tokens], **_pool(vocabulary, step.ngram_range))
    return graph.cast(Tensor(counts, "float32", len(vocabulary)), "float64")


def _pool(vocabulary: dict[str, int], ngram_range: tuple[int, int]) -> dict[str, Any]:
    """TfIdfVectorizer's attributes: the n-grams by length, each with its output column."""
    terms = sorted((len(term.split(" ")), index, term) for term, index in vocabulary.items())
    longest = ngram_range[1]
    counts: list[int] = []
    strings: list[str] = []
    indexes: list[int] = []
    for n in range(1, longest + 1):
        counts.append(len(strings))
        for length, index, term in terms:
            if length == n:
                strings.extend(term.split(" "))
                indexes.append(int(index))
    return {
        "mode": "TF",
        "min_gram_length": ngram_range[0],
        "max_gram_length": longest,
        "max_skip_count": 0,
        "ngram_counts": counts,
        "ngram_indexes": indexes,
        "pool_strings": strings,
    }


def _require(step: Any, table: Table) -> None:
    name = table.columns[0][0]
    steps = TextPreprocessing(
        lowercase=bool(step.lowercase), strip_accents=step.strip_accents == "ascii"
    )
    if table.requirements.text.setdefault(name, steps) != steps:
        raise UnservableModel(
            f"two vectorizers read column {name!r} with different lowercase or strip_accents; "
            "give them the same"
        )


def _refuse_inexact(step: Any) -> None:
    """Settings that ONNX cannot follow exactly."""
    name = type(step).__name__
    checks = (
        (step.analyzer != "word", f"analyzer={step.analyzer!r}", "analyzer='word'"),
        (step.tokenizer is not None, "a tokenizer function", "token_pattern='[a-z0-9_]+'"),
        (
            step.preprocessor is not None,
            "a preprocessor function",
            "lowercase=True and strip_accents='ascii'",
        ),
        (
            step.strip_accents not in (None, "ascii"),
            f"strip_accents={step.strip_accents!r}",
            "strip_accents='ascii'",
        ),
        (
            step.stop_words is not None and step.ngram_range[1] > 1,
            "stop_words together with n-grams",
            "stop_words=None or ngram_range=(1, 1)",
        ),
    )
    for inexact, setting, fix in checks:
        if inexact:
            raise UnservableModel(
                f"{name} with {setting} cannot become ONNX exactly; train with {fix}"
            )


def _token_expression(step: Any) -> str:
    """token_pattern for RE2: runs of one class of characters, at least so many."""
    match = _PATTERN.fullmatch(step.token_pattern)
    if match is None:
        raise UnservableModel(
            f"{type(step).__name__} with token_pattern={step.token_pattern!r} cannot become ONNX "
            "exactly; train with a run of one class such as '[a-z0-9_]+' or r'(?u)\\b\\w\\w+\\b'"
        )
    characters = match["class"]
    if characters == r"\w":
        ascii_only = step.strip_accents == "ascii"
        characters = "[0-9A-Z_a-z]" if ascii_only else _word_class()
    elif r"\b" in step.token_pattern:
        raise UnservableModel(
            f"token_pattern={step.token_pattern!r}: \\b next to a class of its own cannot become "
            "ONNX exactly; leave out the \\b"
        )
    repeated = len(match["repeated"]) // len(match["class"])
    least = 1 if match["quantifier"] == "+" else int(match["quantifier"][1:-2])
    return characters * (repeated + least - 1) + characters + "+"


@lru_cache(maxsize=1)
def _word_class() -> str:
    r"""Python's `\w` over all of Unicode as a class of ranges for RE2."""
    word = re.compile(r"\w")
    ranges: list[list[int]] = []
    for code in range(0x110000):
        if not 0xD800 <= code <= 0xDFFF and word.match(chr(code)):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "[" + "".join(rf"\x{{{a:X}}}-\x{{{b:X}}}" for a, b in ranges) + "]"
