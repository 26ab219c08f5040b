"""Questions for training and held-out loss, drawn at random; never one of the benchmarks' own.

Distractors, the wrong options, are other concepts: of the same category where the question is hard (`Drawer._choice`).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

from parrot.mini.compose.material import Material
from parrot.mini.compose.questions import FIXED_OPTIONS, Question, is_reserved, make_key
from parrot.mini.compose.scenes import Layout, Scene

_TRIES = 50
_DIRECTIONS: dict[Layout, tuple[str, str]] = {"horizontal": ("left", "right"), "vertical": ("top", "bottom")}
_PAIRS: tuple[Layout, ...] = ("horizontal", "vertical")


class Drawer:
    """Draws scenes and questions over some concepts as some emoji sets draw them; right answers are drawn evenly."""

    def __init__(self, material: Material, emoji_sets: Sequence[str], concepts: Sequence[str] | None = None):
        self.material = material
        self.emoji_sets = tuple(emoji_sets)
        self.concepts = tuple(concepts if concepts is not None else material.concepts.ids)
        self._allowed = frozenset(self.concepts)
        self._asks: dict[str, Callable[[str, Scene, random.Random], Question | None]] = {
            "naming": self._naming,
            "fine_naming": self._fine_naming,
            "category": self._category,
            "colour": self._colour,
            "counting": self._counting,
            "position": self._position,
            "same_different": self._same_different,
            "yes_no": self._yes_no,
        }

    def draw(self, kind: str, rng: random.Random) -> Question:
        """Draw a question of `kind` that is not reserved for the benchmarks."""
        for _ in range(_TRIES):
            emoji_set, scene = self.scene(kind, rng, askable=True)
            if question := self.ask(kind, emoji_set, scene, rng):
                return question
        raise ValueError(f"no question of kind {kind} can be asked about these concepts")

    def ask(self, kind: str, emoji_set: str, scene: Scene, rng: random.Random) -> Question | None:
        """Draw a question of `kind` about a scene that suits it; None where there is none."""
        return self._asks[kind](emoji_set, scene, rng) if self._allowed.issuperset(scene.concepts) else None

    def scene(self, kind: str, rng: random.Random, askable: bool = False) -> tuple[str, Scene]:
        """Draw an emoji set and a scene for questions of `kind`; `askable`: one that is not reserved exists about them.

        What is only captioned need not be askable: the benchmarks own questions, not images.
        """
        concepts: Sequence[str] = self._askable.get(kind, self.concepts) if askable else self.concepts
        if kind == "colour":
            by_colour = self._coloured
            emoji_set, concept = rng.choice(by_colour[rng.choice(sorted(by_colour))])
            return emoji_set, Scene("single", (concept,))
        if kind == "category":
            concepts = self._categories[rng.choice(sorted(self._categories))]
        concept = rng.choice(concepts)
        if kind == "counting":
            return self._drawn(Scene("count", (concept,) * rng.randint(1, 4)), rng)
        if kind == "same_different" and rng.random() < 0.5:
            return self._drawn(Scene(rng.choice(_PAIRS), (concept, concept)), rng)
        if kind in ("position", "same_different"):
            return self._drawn(self._pair(concept, rng), rng)
        return self._drawn(Scene("single", (concept,)), rng)

    def _drawn(self, scene: Scene, rng: random.Random) -> tuple[str, Scene]:
        able = [h for h in self.emoji_sets if all(concept in self.material.emoji_sets[h] for concept in scene.concepts)]
        return rng.choice(able), scene

    def _pair(self, concept: str, rng: random.Random) -> Scene:
        """`concept` beside another one, which every second time is of the same category."""
        pair = [concept, self._other(concept, rng.random() < 0.5, rng)]
        rng.shuffle(pair)
        return Scene(rng.choice(_PAIRS), tuple(pair))

    def _other(self, concept: str, alike: bool, rng: random.Random) -> str:
        pool = self._alike(concept) if alike else self._unlike(concept)
        return rng.choice(pool or self._unlike(concept))

    def _alike(self, concept: str) -> list[str]:
        return [other for other in self._categories[self.material.category(concept)] if other != concept]

    def _unlike(self, concept: str) -> list[str]:
        category = self.material.category(concept)
        return [other for other in self.concepts if self.material.category(other) != category]

    @cached_property
    def _categories(self) -> dict[str, list[str]]:
        members = {c: [m for m in ids if m in self._allowed] for c, ids in self.material.categories.items()}
        return {category: ids for category, ids in members.items() if ids}

    @cached_property
    def _coloured(self) -> dict[str, list[tuple[str, str]]]:
        found = defaultdict(list)
        for name in self.emoji_sets:
            emoji_set = self.material.emoji_sets[name]
            for concept in self.concepts:
                if concept in emoji_set and (colour := emoji_set.colour(concept)):
                    found[colour].append((name, concept))
        return dict(found)

    @cached_property
    def _askable(self) -> dict[str, list[str]]:
        """The concepts that a question of a kind with fixed options may name."""
        return {
            kind: [c for c in self.concepts if not is_reserved(make_key(kind, c, options))]
            for kind, options in FIXED_OPTIONS.items()
        }

    # --- one method a kind ------------------------------------------------------------------------------------------

    def _naming(self, emoji_set: str, scene: Scene, rng: random.Random) -> Question | None:
        concept = scene.concepts[0]
        return self._choice(
            Question("naming", "naming", emoji_set, scene, (concept,), 0, concept), self._unlike(concept), rng
        )

    def _fine_naming(self, emoji_set: str, scene: Scene, rng: random.Random) -> Question | None:
        concept = scene.concepts[0]
        bare = Question("fine_naming", "naming", emoji_set, scene, (concept,), 0, concept)
        return self._choice(bare, self._alike(concept), rng)

    def _category(self, emoji_set: str, scene: Scene, rng: random.Random) -> Question | None:
        right = self.material.category(scene.concepts[0])
        bare = Question("category", "category", emoji_set, scene, (right,), 0, scene.concepts[0])
        return self._choice(bare, [category for category in self._categories if category != right], rng)

    def _colour(self, emoji_set: str, scene: Scene, rng: random.Random) -> Question | None:
        concept = scene.concepts[0]
        drawings = self.material.emoji_sets[emoji_set]
        right = drawings.colour(concept)
        if right is None:
            return None
        others = sorted(drawings.absent_colours(concept) - {right})
        return self._choice(
            Question("colour", "colour", emoji_set, scene, (right,), 0, concept, colour=right), others, rng
        )

    def _position(self, emoji_set: str, scene: Scene, rng: random.Random) -> Question | None:
        side = rng.randrange(2)
        about, alike = scene.concepts[side], len(set(map(self.material.category, scene.concepts))) == 1
        others = [c for c in (self._alike(about) if alike else self._unlike(about)) if c not in scene.concepts]
        bare = Question("position", _DIRECTIONS[scene.layout][side], emoji_set, scene, scene.concepts, side, about)
        return self._choice(bare, others, rng)

    def _counting(self, emoji_set: str, scene: Scene, rng: random.Random) -> Question | None:
        concept = scene.concepts[0]
        if concept not in self._askable["counting"]:
            return None
        return self._fixed("counting", emoji_set, scene, str(len(scene.concepts)), concept, rng)

    def _same_different(self, emoji_set: str, scene: Scene, rng: random.Random) -> Question | None:
        named = [concept for concept in sorted(set(scene.concepts)) if concept in self._askable["same_different"]]
        right = "same" if len(set(scene.concepts)) == 1 else "different"
        return self._fixed("same_different", emoji_set, scene, right, rng.choice(named), rng) if named else None

    def _yes_no(self, emoji_set: str, scene: Scene, rng: random.Random) -> Question | None:
        shown, askable = scene.concepts[0], self._askable["yes_no"]
        if shown not in askable:  # else no would be right more often than yes
            return None
        if rng.random() < 0.5:
            return self._fixed("yes_no", emoji_set, scene, "yes", shown, rng)
        able = [c for c in askable if c != shown and self.material.tell_apart("naming", (shown, c))]
        alike = [c for c in able if self.material.category(c) == self.material.category(shown)]
        return self._fixed(
            "yes_no", emoji_set, scene, "no", rng.choice(alike if alike and rng.random() < 0.5 else able), rng
        )

    # --- distractors ------------------------------------------------------------------------------------------------

    def _choice(self, bare: Question, others: Sequence[str], rng: random.Random) -> Question | None:
        """Add distractors from `others` to `bare`, up to four options, and shuffle.

        None where every such question is reserved or has options that cannot be told apart.
        """
        missing = 4 - len(bare.options)
        for _ in range(_TRIES if len(others) >= missing else 0):
            options = [*bare.options, *rng.sample(others, missing)]
            if self.material.tell_apart(bare.subject, options) and not is_reserved(make_key(bare.subject, "", options)):
                rng.shuffle(options)
                right = options.index(bare.options[bare.answer])
                return replace(bare, options=tuple(options), answer=right)
        return None

    @staticmethod
    def _fixed(kind: str, emoji_set: str, scene: Scene, right: str, concept: str, rng: random.Random) -> Question:
        options = FIXED_OPTIONS[kind]
        if kind != "counting":
            options = tuple(rng.sample(options, len(options)))
        return Question(kind, kind, emoji_set, scene, options, options.index(right), scene.concepts[0], concept=concept)
