"""The wordings of captions, questions and options in six languages.

Every sentence is grammar-safe: a name stands after a colon and is never inflected, so that any name fits any sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parrot.config.catalog import Language
from parrot.io.files import read_json
from parrot.mini.compose.concepts import Concepts
from parrot.mini.compose.pictures import Scene

# Subjects whose options are words of phrases.json.
WORDED = frozenset({"colour", "same_different", "yes_no"})


@dataclass(frozen=True)
class Phrases:
    """The shipped wordings (phrases.json) together with the concepts that they name."""

    raw: dict[str, Any]
    concepts: Concepts

    def questions(self, subject: str, language: Language) -> list[str]:
        """The wordings of a question; the first is the benchmarks', training uses all."""
        return self.raw["question"][subject][language]

    def describe(self, language: Language) -> list[str]:
        """Requests for a caption."""
        return self.raw["describe"][language]

    def captions(self, scene: Scene, language: Language) -> list[str]:
        """All captions of a scene."""
        return [wording.format(scene=self.scene(scene, language)) for wording in self.raw["caption"][language]]

    def scene(self, scene: Scene, language: Language, colour: str = "") -> str:
        """A scene in words, without grammar: ``cat, cat``, ``left | right``, ``top / bottom``, ``apple: red``."""
        words = self.raw["scene"]
        between = words[scene.layout] if scene.layout in ("horizontal", "vertical") else words["list"][language]
        text = between.join(self.concepts.name(concept, language) for concept in scene.concepts)
        return text + words["colour"][language] + self.option("colour", colour, language) if colour else text

    def option(self, subject: str, option: str, language: Language) -> str:
        """The text of an option of a question about `subject`: a number, yes or no, a colour, a category, a concept."""
        if subject == "counting":
            return option
        if subject == "category":
            return self.concepts.categories[option][language]
        if subject in WORDED:
            return self.raw["option"][option][language]
        return self.concepts.name(option, language)


def load_phrases(resources: Path, concepts: Concepts) -> Phrases:
    """Read `resources`/phrases.json; ConfigError when it is missing or malformed."""
    return Phrases(read_json(resources / "phrases.json"), concepts)
