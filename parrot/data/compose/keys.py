"""Which questions are the benchmarks' own: a question's identity without language, wording and order.

Whoever writes training text, in whatever language, drops the questions whose key `is_reserved`; the benchmarks ask only
those. A key is decided by itself alone, so generators need not know of one another.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from parrot.config import Language
from parrot.data.compose.colours import COLOURS
from parrot.data.compose.phrases import Phrases

DIRECTIONS = ("left", "right", "top", "bottom")
NUMBERS = ("1", "2", "3", "4")
FIXED_OPTIONS: dict[str, tuple[str, ...]] = {
    "counting": NUMBERS,
    "same_different": ("same", "different"),
    "yes_no": ("yes", "no"),
}
SUBJECTS = ("naming", "category", "colour", *DIRECTIONS, *FIXED_OPTIONS)

# One key in so many is the benchmarks'.
_RESERVED_EVERY = 4
_OPTION = re.compile(r"[A-D]\. ")


@dataclass(frozen=True)
class Key:
    """What is asked (a direction counts as ``position``), about which named concept if any, among which options."""

    subject: str
    concept: str
    options: frozenset[str]


def make_key(subject: str, concept: str, options: Iterable[str]) -> Key:
    """The key of a question with this subject, named concept ("" for none) and options in any order."""
    return Key("position" if subject in DIRECTIONS else subject, concept, frozenset(options))


@cache
def is_reserved(key: Key) -> bool:
    """Whether only the benchmarks may ask this question."""
    text = "\n".join((key.subject, key.concept, *sorted(key.options)))
    return hashlib.sha256(text.encode()).digest()[0] % _RESERVED_EVERY == 0


class PromptReader:
    """Reads the keys back from the written prompts of one language."""

    def __init__(self, phrases: Phrases, language: Language):
        self._wordings = [
            (subject, re.compile(re.escape(wording).replace(r"\{name\}", "(.+)")))
            for subject in SUBJECTS
            for wording in phrases.questions(subject, language)
        ]
        self._concepts = {phrases.concepts.name(concept, language): concept for concept in phrases.concepts.ids}
        self._options = {
            subject: {phrases.option(subject, option, language): option for option in options}
            for subject, options in {
                "category": tuple(phrases.concepts.categories),
                "colour": COLOURS,
                **FIXED_OPTIONS,
            }.items()
        }

    def key(self, prompt: str) -> Key | None:
        """The key of a prompt (question line, then lines ``A. ...``); None when it holds no question with options.

        Raises ValueError for a question or an option that is not of the shipped wordings.
        """
        lines = prompt.split("\n")
        offered = [index for index, line in enumerate(lines) if _OPTION.match(line)]
        if not offered:
            return None
        question = lines[offered[0] - 1]
        for subject, wording in self._wordings:
            if match := wording.fullmatch(question):
                ids = self._options.get(subject, self._concepts)
                try:
                    concept = self._concepts[match[1]] if match.groups() else ""
                    return make_key(subject, concept, (ids[lines[index][len("A. ") :]] for index in offered))
                except KeyError as error:
                    raise ValueError(f"unknown name in {prompt!r}: {error}") from None
        raise ValueError(f"unknown wording: {question!r}")
