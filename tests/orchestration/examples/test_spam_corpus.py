"""The invented e-mails: the same every time, many languages, nothing leaks."""

import re
from itertools import combinations

import pytest

from orchestration.examples.spam_corpus import FOLDER, Corpus, Email, generate, phrases

LANGUAGES = {path.stem for path in FOLDER.glob("*.yaml")}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return generate()


def _words(email: Email) -> str:
    """The text without what slots and habits vary: digits, case, punctuation, emoji."""
    return " ".join(re.findall(r"[^\W\d]+", email.text.casefold()))


def test_the_same_seed_gives_the_same_emails_and_another_seed_others(corpus: Corpus) -> None:
    assert generate() == corpus
    other = generate(seed=2)
    assert not {email.text for email in other.train} & {email.text for email in corpus.held_out}


def test_the_corpus_has_the_size_asked_for(corpus: Corpus) -> None:
    assert (len(corpus.train), len(corpus.held_out)) == (3000, 1000)
    assert len(generate(size=41).train) == 31


def test_every_language_and_label_is_on_both_sides(corpus: Corpus) -> None:
    expected = {(language, label) for language in LANGUAGES for label in ("ham", "spam")}
    assert len(LANGUAGES) >= 8
    for side in (corpus.train, corpus.held_out):
        assert {(email.language, email.label) for email in side} == expected
        assert 0.4 < sum(email.label == "spam" for email in side) / len(side) < 0.5


def test_no_text_occurs_twice_and_few_are_alike(corpus: Corpus) -> None:
    emails = (*corpus.train, *corpus.held_out)
    assert len({email.text for email in emails}) == len(emails)
    assert len({_words(email) for email in emails}) > 0.97 * len(emails)


def test_no_sentence_template_is_on_both_sides(corpus: Corpus) -> None:
    used = [
        {t for email in side for t in email.templates} for side in (corpus.train, corpus.held_out)
    ]
    assert not used[0] & used[1]
    assert used[0] | used[1] == {
        sentence
        for side in phrases()
        for language in side
        for sentences in language.sentences.values()
        for sentence in sentences
    }


def test_sentences_are_told_apart_by_more_than_their_slots() -> None:
    for side in phrases():
        for language in side:
            plain = [
                set(re.findall(r"[^\W\d]+", re.sub(r"\{\w+\}", "", sentence.casefold())))
                for sentences in language.sentences.values()
                for sentence in sentences
            ]
            for one, other in combinations(plain, 2):
                assert len(one & other) / len(one | other) < 0.6


def test_every_slot_is_filled(corpus: Corpus) -> None:
    assert not [email.text for email in corpus.train if "{" in email.text or "}" in email.text]


def test_the_texts_have_accents_capitals_digits_links_and_emoji(corpus: Corpus) -> None:
    patterns = (
        "[àâçéèêñöüßãõłşğı]",
        "[A-ZÄÖÜÉ]{6,} [A-ZÄÖÜÉ]{4,}",
        r"\d{4}",
        "https?://",
        "🎁|🔥|💰",
    )
    for pattern in patterns:
        assert sum(bool(re.search(pattern, email.text)) for email in corpus.train) > 100, pattern


def test_ham_and_spam_share_money_urgency_and_links(corpus: Corpus) -> None:
    for pattern in (r"[€$£]|EUR|USD|CHF", "(?i)urgent|now|jetzt|immediat|subito|dring", "http|www"):
        for label in ("ham", "spam"):
            emails = [email for email in corpus.train if email.label == label]
            assert any(re.search(pattern, email.text) for email in emails), (pattern, label)
