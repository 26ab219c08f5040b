"""What a composed question asks, read back from its written prompt."""

from __future__ import annotations

import re

from parrot.config.catalog import Language
from parrot.mini.compose.colours import COLOURS
from parrot.mini.compose.material import Phrases
from parrot.mini.compose.questions import DIRECTIONS, FIXED_OPTIONS, Key, make_key

SUBJECTS = ("naming", "category", "colour", *DIRECTIONS, *FIXED_OPTIONS)
_OPTION = re.compile(r"[A-D]\. ")


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
