"""Questions about scenes, independent of language, and their wordings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from parrot.config.catalog import Language
from parrot.mini.compose.material import Phrases
from parrot.mini.compose.scenes import Scene

KINDS = ("naming", "fine_naming", "category", "colour", "counting", "position", "same_different", "yes_no")


@dataclass(frozen=True)
class Question:
    """A question about a scene as an emoji set draws it.

    `options` are ids in the order offered and `answer` is the right one's place. `subject` says what is asked (a kind,
    or a direction for ``position``), `concept` which concept the question names ("" for none), `about` the concept
    that it is about, `colour` the main colour where that is asked, `difficulty` easy, hard or "".
    """

    kind: str
    subject: str
    emoji_set: str
    scene: Scene
    options: tuple[str, ...]
    answer: int
    about: str
    concept: str = ""
    colour: str = ""
    difficulty: str = ""

    @property
    def key(self) -> Key:
        """Identity without language, wording and order."""
        return make_key(self.subject, self.concept, self.options)


@dataclass(frozen=True)
class Wording:
    """A question in one language: `options` in the order offered, the right option's text, and the scene in words."""

    question: str
    options: tuple[str, ...]
    answer: str
    image_text: str

    def prompt(self, instruction: str) -> str:
        """Question, lettered options and closing sentence, as a benchmark's prompt is built."""
        lettered = (f"{letter}. {text}" for letter, text in zip("ABCD", self.options, strict=False))
        return "\n".join((self.question, *lettered, instruction))


def word(question: Question, language: Language, phrases: Phrases, wording: int = 0) -> Wording:
    """`question` in `language`; `wording` counts through its wordings, of which 0 is the benchmarks'."""
    wordings = phrases.questions(question.subject, language)
    text = wordings[wording % len(wordings)]
    if question.concept:
        text = text.format(name=phrases.concepts.name(question.concept, language))
    options = tuple(phrases.option(question.subject, option, language) for option in question.options)
    return Wording(text, options, options[question.answer], phrases.scene(question.scene, language, question.colour))


DIRECTIONS = ("left", "right", "top", "bottom")
NUMBERS = ("1", "2", "3", "4")
FIXED_OPTIONS: dict[str, tuple[str, ...]] = {
    "counting": NUMBERS,
    "same_different": ("same", "different"),
    "yes_no": ("yes", "no"),
}

# One key in so many is the benchmarks'.
_RESERVED_EVERY = 4


@dataclass(frozen=True)
class Key:
    """What is asked (a direction counts as ``position``), about which named concept if any, among which options."""

    subject: str
    concept: str
    options: frozenset[str]


def make_key(subject: str, concept: str, options: Iterable[str]) -> Key:
    """Return the key of a question with this subject, named concept ("" for none) and options in any order."""
    return Key("position" if subject in DIRECTIONS else subject, concept, frozenset(options))


@cache
def is_reserved(key: Key) -> bool:
    """Tell whether only the benchmarks may ask this question."""
    text = "\n".join((key.subject, key.concept, *sorted(key.options)))
    return hashlib.sha256(text.encode()).digest()[0] % _RESERVED_EVERY == 0
