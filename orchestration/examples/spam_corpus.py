"""Invented e-mails in several languages: the training data of the spam example.

Each e-mail is put together from sentence templates in `spam_phrases/<language>.yaml`, filled with
names, amounts, dates and links. Templates are divided into a training and a held-out side before
any text is made, so a held-out score says how the model does on sentences it has never seen.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from orchestration.examples.spam_slots import NAMES, fill, url

FOLDER = Path(__file__).parent / "spam_phrases"
LABELS: tuple["Label", "Label"] = ("ham", "spam")
HELD_OUT_SHARE = 0.25
SPAM_SHARE = 0.45
# Which templates are held out never changes, so the scores of two versions can be compared.
SPLIT_SEED = 5

Label = Literal["ham", "spam"]

SPAM_EMOJI = ("🎁", "🔥", "💰", "🏆", "⚠️", "💊", "🎰", "👉")
HAM_EMOJI = ("🙂", "👍", "🎉", "😅", "☕", "🎂")
LEET = str.maketrans("aeiosAEIOS", "43105" * 2)


@dataclass(frozen=True)
class Email:
    """One e-mail and the sentence templates it was made from."""

    text: str
    label: Label
    language: str
    templates: tuple[str, ...]


@dataclass(frozen=True)
class Corpus:
    """No text and no sentence template of one side occurs on the other."""

    train: tuple[Email, ...]
    held_out: tuple[Email, ...]


@dataclass(frozen=True)
class Phrases:
    """One language, one side of the split."""

    language: str
    greetings: tuple[str, ...]
    closings: tuple[str, ...]
    sentences: dict[Label, tuple[str, ...]]


def generate(size: int = 4000, seed: int = 1) -> Corpus:
    """`size` different e-mails; the same arguments give the same e-mails on every machine."""
    rng = random.Random(seed)  # noqa: S311 - invented e-mails, nothing secret
    held_out = round(size * HELD_OUT_SHARE)
    seen: set[str] = set()
    train_phrases, held_out_phrases = phrases()
    return Corpus(
        train=_emails(train_phrases, size - held_out, seen, rng),
        held_out=_emails(held_out_phrases, held_out, seen, rng),
    )


def phrases() -> tuple[list[Phrases], list[Phrases]]:
    """The languages' phrases for the training and for the held-out side."""
    rng = random.Random(SPLIT_SEED)  # noqa: S311
    sides: tuple[list[Phrases], list[Phrases]] = ([], [])
    for path in sorted(FOLDER.glob("*.yaml")):
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        divided = {label: _divide(data[label], rng) for label in LABELS}
        for side, collected in enumerate(sides):
            collected.append(
                Phrases(
                    language=path.stem,
                    greetings=tuple(data["greetings"]),
                    closings=tuple(data["closings"]),
                    sentences={label: divided[label][side] for label in LABELS},
                )
            )
    return sides


def _divide(templates: list[str], rng: random.Random) -> tuple[tuple[str, ...], tuple[str, ...]]:
    shuffled = rng.sample(templates, len(templates))
    held_out = round(len(templates) * HELD_OUT_SHARE)
    return tuple(shuffled[held_out:]), tuple(shuffled[:held_out])


def _emails(
    languages: list[Phrases], count: int, seen: set[str], rng: random.Random
) -> tuple[Email, ...]:
    emails: list[Email] = []
    while len(emails) < count:
        label: Label = "spam" if rng.random() < SPAM_SHARE else "ham"
        email = _email(rng.choice(languages), label, rng)
        if email.text not in seen:
            seen.add(email.text)
            emails.append(email)
    return tuple(emails)


def _email(language: Phrases, label: Label, rng: random.Random) -> Email:
    templates = _chosen_templates(language, label, rng)
    sentences = [fill(template, rng) for template in templates]
    body = _spam_habits(sentences, rng) if label == "spam" else _ham_habits(sentences, rng)
    lines = [body]
    if rng.random() < 0.7:
        lines.insert(0, fill(rng.choice(language.greetings), rng) + rng.choice((",", "!", "")))
    if rng.random() < 0.6:
        lines += [rng.choice(language.closings), rng.choice(NAMES)]
    return Email(rng.choice(("\n", "\n\n", " ")).join(lines), label, language.language, templates)


def _chosen_templates(language: Phrases, label: Label, rng: random.Random) -> tuple[str, ...]:
    """Mostly the label's own; some spam hides behind an ordinary sentence, some ham quotes spam."""
    own = rng.sample(language.sentences[label], rng.choice((1, 1, 2, 2, 3)))
    if label == "spam" and rng.random() < 0.2:
        return (rng.choice(language.sentences["ham"]), *own)
    if label == "ham" and rng.random() < 0.03:
        return (*own, rng.choice(language.sentences["spam"]))
    return tuple(own)


def _spam_habits(sentences: list[str], rng: random.Random) -> str:
    """Capitals, l33t, exclamation marks, emoji, a bare link; a quarter of spam is just polite."""
    if rng.random() < 0.25:
        return " ".join(sentences)
    habits: tuple[Callable[[str], str], ...] = (
        str.upper,
        lambda text: _some_words(text, 0.2, lambda word: word.translate(LEET), rng),
        lambda text: text.rstrip(".") + "!" * rng.randint(1, 4),
        lambda text: f"{rng.choice(SPAM_EMOJI)} {text}",
        lambda text: f"{text} {url(rng)}",
        lambda text: _some_words(text, 0.08, lambda word: _typo(word, rng), rng),
    )
    return " ".join(rng.choice(habits)(sentence) for sentence in sentences)


def _ham_habits(sentences: list[str], rng: random.Random) -> str:
    """A typo, an emoji, a shouted word: what people in a hurry write."""
    habits: tuple[Callable[[str], str], ...] = (
        lambda text: _some_words(text, 0.05, str.upper, rng),
        lambda text: _some_words(text, 0.08, lambda word: _typo(word, rng), rng),
        lambda text: text.rstrip(".") + "!",
        lambda text: f"{text} {rng.choice(HAM_EMOJI)}",
        str.lower,
    )
    return " ".join(
        rng.choice(habits)(sentence) if rng.random() < 0.4 else sentence for sentence in sentences
    )


def _some_words(text: str, share: float, change: Callable[[str], str], rng: random.Random) -> str:
    return " ".join(change(word) if rng.random() < share else word for word in text.split(" "))


def _typo(word: str, rng: random.Random) -> str:
    """Two neighbouring letters swapped, or one dropped."""
    if len(word) < 4:
        return word
    at = rng.randrange(len(word) - 1)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return rng.choice((swapped, word[:at] + word[at + 1 :]))
