"""Everything shipped that the data are composed from: concepts, wordings and drawings."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache
from itertools import combinations
from pathlib import Path

from parrot.constants import PAPER_LANGUAGES
from parrot.mini.compose.concepts import CATEGORIES, NUM_CONCEPTS, Concepts, load_concepts
from parrot.mini.compose.phrases import Phrases, load_phrases
from parrot.mini.compose.pictures import Houses


class Material:
    """The shipped concepts, wordings and houses of artists."""

    def __init__(self, concepts: Concepts, phrases: Phrases, houses: Houses):
        self.concepts = concepts
        self.phrases = phrases
        self.houses = houses
        self.categories = concepts.by_category()
        self.texts = cache(self._texts)

    def category(self, concept: str) -> str:
        return self.concepts[concept].category

    def tell_apart(self, subject: str, options: Iterable[str]) -> bool:
        """Whether no option's text is part of another's in any language: the matcher accepts exactly one as answer."""
        texts = [self.texts(subject, option) for option in options]
        return not any(_clash(*pair) for pair in combinations(texts, 2))

    def _texts(self, subject: str, option: str) -> tuple[str, ...]:
        """An option's text in each language."""
        return tuple(self.phrases.option(subject, option, language) for language in PAPER_LANGUAGES)


@cache
def _clash(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    pairs = [(one.lower(), other.lower()) for one, other in zip(first, second, strict=True)]
    return any(one in other or other in one for one, other in pairs)


def load_material(
    resources: Path, count: int = NUM_CONCEPTS, categories: Collection[str] | None = CATEGORIES
) -> Material:
    """Read `resources` (workflow/resources/mini), of which the first `count` concepts in `categories` (None: any).

    Raises ConfigError where something is missing.
    """
    concepts = load_concepts(resources, count, categories)
    return Material(concepts, load_phrases(resources, concepts), Houses(resources))
