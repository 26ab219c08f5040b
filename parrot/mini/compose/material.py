"""Everything shipped that the data are composed from: concepts, wordings and drawings."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

from parrot.config.catalog import Language
from parrot.constants import PAPER_LANGUAGES
from parrot.io.files import read_json
from parrot.mini.compose.concepts import CATEGORIES, NUM_CONCEPTS, Concepts, load_concepts
from parrot.mini.compose.scenes import EmojiSets, Scene


class Material:
    """The shipped concepts, wordings and emoji sets."""

    def __init__(self, concepts: Concepts, phrases: Phrases, emoji_sets: EmojiSets):
        self.concepts = concepts
        self.phrases = phrases
        self.emoji_sets = emoji_sets
        self.categories = concepts.by_category()
        self.texts = cache(self._texts)

    def category(self, concept: str) -> str:
        """Return a concept's category."""
        return self.concepts[concept].category

    def tell_apart(self, subject: str, options: Iterable[str]) -> bool:
        """Tell whether no option's text is part of another's in any language; the matcher accepts exactly one."""
        texts = [self.texts(subject, option) for option in options]
        return not any(_clash(*pair) for pair in combinations(texts, 2))

    def _texts(self, subject: str, option: str) -> tuple[str, ...]:
        """Return an option's text in each language."""
        return tuple(self.phrases.option(subject, option, language) for language in PAPER_LANGUAGES)


@cache
def _clash(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    pairs = [(one.lower(), other.lower()) for one, other in zip(first, second, strict=True)]
    return any(one in other or other in one for one, other in pairs)


def load_material(
    resources: Path, count: int = NUM_CONCEPTS, categories: Collection[str] | None = CATEGORIES
) -> Material:
    """Read `resources` (workflow/resources/mini), of which the first `count` concepts in `categories` (None: any).

    Raises:
        UserError: something is missing.
    """
    concepts = load_concepts(resources, count, categories)
    return Material(concepts, load_phrases(resources, concepts), EmojiSets(resources))


# Subjects whose options are words of phrases.json.
WORDED = frozenset({"colour", "same_different", "yes_no"})


@dataclass(frozen=True)
class Phrases:
    """The shipped wordings (phrases.json) together with the concepts that they name."""

    raw: dict[str, Any]
    concepts: Concepts

    def questions(self, subject: str, language: Language) -> list[str]:
        """Return the wordings of a question; the first is the benchmarks', training uses all."""
        return self.raw["question"][subject][language]

    def describe(self, language: Language) -> list[str]:
        """Return requests for a caption."""
        return self.raw["describe"][language]

    def captions(self, scene: Scene, language: Language) -> list[str]:
        """All captions of a scene."""
        return [wording.format(scene=self.scene(scene, language)) for wording in self.raw["caption"][language]]

    def scene(self, scene: Scene, language: Language, colour: str = "") -> str:
        """Put a scene in words, without grammar: ``cat, cat``, ``left | right``, ``top / bottom``, ``apple: red``."""
        words = self.raw["scene"]
        between = words[scene.layout] if scene.layout in ("horizontal", "vertical") else words["list"][language]
        text = between.join(self.concepts.name(concept, language) for concept in scene.concepts)
        return text + words["colour"][language] + self.option("colour", colour, language) if colour else text

    def option(self, subject: str, option: str, language: Language) -> str:
        """Return an option's text in a question about `subject`: a number, yes, no, colour, category or concept."""
        if subject == "counting":
            return option
        if subject == "category":
            return self.concepts.categories[option][language]
        if subject in WORDED:
            return self.raw["option"][option][language]
        return self.concepts.name(option, language)


def load_phrases(resources: Path, concepts: Concepts) -> Phrases:
    """Read `resources`/phrases.json.

    Raises:
        UserError: it is missing or malformed.
    """
    return Phrases(read_json(resources / "phrases.json"), concepts)
