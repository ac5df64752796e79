"""What happens to a text before ONNX sees it is what scikit-learn did when it was trained."""

from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import strip_accents_ascii

from bentos.model_server.contract import TextPreprocessing
from bentos.model_server.session import marks, preprocess

STRIP = TextPreprocessing(strip_accents=True)
LOWER_THEN_STRIP = TextPreprocessing(lowercase=True, strip_accents=True)


def test_every_character_loses_its_accents_as_in_scikit_learn() -> None:
    for start in range(0, 0x110000, 256):
        block = [chr(c) for c in range(start, start + 256) if not 0xD800 <= c < 0xE000]
        text = "x".join(block)
        assert preprocess(text, STRIP) == strip_accents_ascii(text)


@settings(deadline=None)
@given(
    st.text(
        st.one_of(
            st.sampled_from("aE\u0131\u0130\u00e9\ufb01\u00bd "),
            st.sampled_from(sorted(map(chr, marks()))),
        )
    )
)
def test_marks_in_any_order_change_nothing_else(text: str) -> None:
    assert preprocess(text, STRIP) == strip_accents_ascii(text)
    assert preprocess(text, LOWER_THEN_STRIP) == strip_accents_ascii(text.lower())
