"""The concepts of the mini scale, who draws them, and who may see which of them."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from parrot.config.catalog import Language
from parrot.constants import PAPER_LANGUAGES
from parrot.errors import UserError
from parrot.io.files import read_json

# Chosen on validation scores: after 300 steps of stage 2 the five other languages' four-option questions were answered
# right in 50 % with these 50 concepts and in 37 % with 80 of 16 categories and two thirds of the samples a language.
NUM_CONCEPTS = 50
CATEGORIES = (
    "mammal",
    "bird",
    "flower_or_tree",
    "fruit",
    "meal",
    "vehicle",
    "building",
    "sky",
    "sport",
    "clothing",
)

# Emoji sets. The share-alike drawings (openmoji) stay out of training, so that the shipped weights carry no such
# question; fluent and fluent-flat are one emoji set twice and therefore stay on one side.
TRAIN_EMOJI_SETS = ("noto", "noto-v1", "fluent", "fluent-flat", "fxemoji")
VALIDATION_EMOJI_SET = "emojione"
NEAR_EMOJI_SET = "twemoji"
FAR_EMOJI_SET = "openmoji"
EMOJI_SETS = (*TRAIN_EMOJI_SETS, VALIDATION_EMOJI_SET, NEAR_EMOJI_SET, FAR_EMOJI_SET)

# One concept in so many never has an image in non-English training.
UNSEEN_EVERY = 5


@dataclass(frozen=True)
class Concept:
    """Something that can be drawn, with its CLDR name in every language."""

    id: str
    category: str
    names: dict[Language, str]


@dataclass(frozen=True)
class Concepts:
    """The concepts in use, in the shipped order, and the names of their categories."""

    all: tuple[Concept, ...]
    categories: dict[str, dict[Language, str]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_id", {concept.id: concept for concept in self.all})

    def __getitem__(self, concept: str) -> Concept:
        return self._by_id[concept]  # type: ignore[attr-defined]

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the concepts, in order."""
        return tuple(concept.id for concept in self.all)

    def name(self, concept: str, language: Language) -> str:
        """Return a concept's name in a language."""
        return self[concept].names[language]

    def by_category(self) -> dict[str, list[str]]:
        """Concept ids by category, in the shipped order."""
        members: dict[str, list[str]] = defaultdict(list)
        for concept in self.all:
            members[concept.category].append(concept.id)
        return dict(members)

    def unseen_in_language(self) -> frozenset[str]:
        """Return the seeded fifth, even over the categories, that non-English training never shows an image of."""
        rng = random.Random("unseen in language")
        ordered: list[str] = []
        for members in self.by_category().values():
            ordered += rng.sample(members, len(members))
        return frozenset(ordered[UNSEEN_EVERY // 2 :: UNSEEN_EVERY])


def load_concepts(
    resources: Path, count: int = NUM_CONCEPTS, categories: Collection[str] | None = CATEGORIES
) -> Concepts:
    """Read the first `count` concepts of `resources`/concepts.json in `categories` (None: any), with their categories.

    Raises:
        UserError: there are fewer, a name is missing, or two concepts share a name in a language.
    """
    path = resources / "concepts.json"
    entries = [entry for entry in read_json(path) if categories is None or entry["category"] in categories]
    if len(entries) < count:
        raise UserError(f"{path}: expected at least {count} concepts, found {len(entries)}")
    chosen = tuple(Concept(entry["id"], entry["category"], entry["names"]) for entry in entries[:count])
    for language in PAPER_LANGUAGES:
        _check_names(path, chosen, language)
    used = {concept.category for concept in chosen}
    named = read_json(resources / "categories.json")
    return Concepts(chosen, {category: names for category, names in named.items() if category in used})


def _check_names(path: Path, concepts: tuple[Concept, ...], language: Language) -> None:
    owner: dict[str, str] = {}
    for concept in concepts:
        name = concept.names.get(language, "").lower()
        if not name:
            raise UserError(f"{path}: {concept.id}: names.{language}: expected a name")
        if name in owner:
            raise UserError(f"{path}: {concept.id}: names.{language}: {name!r} is also the name of {owner[name]}")
        owner[name] = concept.id
