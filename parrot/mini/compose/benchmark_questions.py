"""Benchmark questions in blocks that a blank image answers exactly at chance.

A block has one text, options in the same order, and several images, and each option is right equally often: the
distractors of one image are the right options of the others. Whatever the text suggests is right for one of the images
only. (Yes/no has two texts and two images.)
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import get_args

from parrot.evaluate.matching import Matcher, infer
from parrot.mini.compose.colours import COLOURS
from parrot.mini.compose.material import Material
from parrot.mini.compose.questions import DIRECTIONS, FIXED_OPTIONS, Key, Question, is_reserved, make_key
from parrot.mini.compose.scenes import Layout, Scene

Block = list[Question]

BLOCK_ROWS = {"same_different": 2}  # all other kinds: 4
# Of so many admissible candidates the one that repeats the least is taken.
_CANDIDATES = 12
_TRIES = 4000
_PAIRS: tuple[Layout, ...] = ("horizontal", "vertical")
# The direction asked about by block: hard and easy blocks, which alternate, ask about each.
_DIRECTIONS = ("left", "right", "top", "bottom", "right", "left", "bottom", "top")


class BlockMaker:
    """Draws blocks over all concepts of one emoji set; `rejected` counts, by kind, what the matcher refused."""

    def __init__(self, material: Material, emoji_set: str, rng: random.Random):
        self.material = material
        self.emoji_set = emoji_set
        self.rejected: Counter[str] = Counter()
        self._rng = rng
        self._drawn = [concept for concept in material.concepts.ids if concept in material.emoji_sets[emoji_set]]
        self._used: Counter[tuple[str, Key | str]] = Counter()
        self._makers: dict[str, Callable[[bool, int], Block | None]] = {
            "naming": lambda hard, number: self._naming("naming", hard=False),
            "fine_naming": lambda hard, number: self._naming("fine_naming", hard=True),
            "category": lambda hard, number: self._category(),
            "colour": lambda hard, number: self._colour(),
            "counting": lambda hard, number: self._counting(),
            "position": self._position,
            "same_different": self._same_different,
            "yes_no": lambda hard, number: self._yes_no(hard),
        }

    def blocks(self, kind: str, rows: int, easy_first: bool = False) -> list[Block]:
        """Blocks of `kind` with `rows` questions in all, hard and easy in turn where the kind knows difficulty."""
        size = BLOCK_ROWS.get(kind, 4)
        assert rows % size == 0
        return [self._best(kind, number % 2 == easy_first, number) for number in range(rows // size)]

    def _best(self, kind: str, hard: bool, number: int) -> Block:
        found: list[Block] = []
        for _ in range(_TRIES):
            block = self._makers[kind](hard, number)
            if block is None:
                continue
            if not self._matched(block[0]):
                self.rejected[kind] += 1
                continue
            found.append(block)
            if len(found) == _CANDIDATES:
                break
        if not found:
            raise ValueError(f"no reserved question of kind {kind} can be asked about {self.emoji_set}'s drawings")
        best = min(found, key=lambda block: sum(self._used[what] for what in self._marks(block)))
        self._used.update(self._marks(best))
        return best

    @staticmethod
    def _marks(block: Block) -> Iterable[tuple[str, Key | str]]:
        """Yield what a block should not repeat: its options together, its concepts, its right answers."""
        yield block[0].kind, block[0].key
        for question in block:
            yield question.kind, question.about
            yield question.kind, question.options[question.answer]

    def _matched(self, question: Question) -> bool:
        """Tell whether both versions of the matcher map each option's text to its own letter in every language."""
        texts = [self.material.texts(question.subject, option) for option in question.options]
        return all(
            infer(text, choices, matcher) == letter
            for choices in (dict(zip("ABCD", offered, strict=False)) for offered in zip(*texts, strict=True))
            for letter, text in choices.items()
            for matcher in get_args(Matcher)
        )

    # --- one method a kind: a random block, or None where the draw is not admissible ---------------------------------

    def _concepts(self, alike: bool) -> list[str]:
        """Four random concepts of one category, or of four."""
        groups: dict[str, list[str]] = defaultdict(list)
        for concept in self._drawn:
            groups[self.material.category(concept)].append(concept)
        if alike:
            large = [members for members in groups.values() if len(members) >= 4]
            return self._rng.sample(self._rng.choice(large), 4)
        return [self._rng.choice(members) for members in self._rng.sample(list(groups.values()), 4)]

    def _choice(self, kind: str, options: Iterable[str], abouts: Iterable[str], **more: str) -> Block | None:
        """One single-concept image for each option."""
        options = tuple(options)
        subject = "naming" if kind == "fine_naming" else kind
        if not is_reserved(make_key(subject, "", options)):
            return None
        colours = options if kind == "colour" else ("",) * 4
        return [
            Question(
                kind, subject, self.emoji_set, Scene("single", (about,)), options, place, about, colour=colour, **more
            )
            for place, (about, colour) in enumerate(zip(abouts, colours, strict=True))
        ]

    def _naming(self, kind: str, hard: bool) -> Block | None:
        concepts = self._concepts(alike=hard)
        return self._choice(kind, concepts, concepts, difficulty="hard" if hard else "easy")

    def _category(self) -> Block | None:
        concepts = self._concepts(alike=False)
        return self._choice("category", map(self.material.category, concepts), concepts)

    def _colour(self) -> Block | None:
        colours = self._rng.sample(COLOURS, 4)
        abouts = []
        for colour in colours:
            others = set(colours) - {colour}
            suitable = [concept for concept, absent in self._coloured[colour] if others <= absent]
            if not suitable:
                return None
            abouts.append(self._rng.choice(suitable))
        return self._choice("colour", colours, abouts)

    @cached_property
    def _coloured(self) -> dict[str, list[tuple[str, frozenset[str]]]]:
        """By main colour, the concepts with the colours that their drawings lack."""
        emoji_set = self.material.emoji_sets[self.emoji_set]
        return {
            colour: [(c, emoji_set.absent_colours(c)) for c in self._drawn if emoji_set.colour(c) == colour]
            for colour in COLOURS
        }

    def _counting(self) -> Block | None:
        concept, options = self._named("counting"), FIXED_OPTIONS["counting"]
        return [
            Question(
                "counting", "counting", self.emoji_set, Scene("count", (concept,) * n), options, n - 1, concept, concept
            )
            for n in range(1, 5)
        ]

    def _position(self, hard: bool, number: int) -> Block | None:
        direction = _DIRECTIONS[number % len(_DIRECTIONS)]
        options = tuple(self._concepts(alike=hard))
        if not is_reserved(make_key(direction, "", options)):
            return None
        layout = _PAIRS[DIRECTIONS.index(direction) // 2]
        first = DIRECTIONS.index(direction) % 2 == 0
        difficulty = "hard" if hard else "easy"
        block = []
        for place, about in enumerate(options):
            pair = (about, options[place ^ 1])
            scene = Scene(layout, pair if first else pair[::-1])
            block.append(
                Question("position", direction, self.emoji_set, scene, options, place, about, difficulty=difficulty)
            )
        return block

    def _same_different(self, hard: bool, number: int) -> Block | None:
        concept = self._named("same_different")
        others = [
            other
            for other in self._drawn
            if other != concept and (self.material.category(other) == self.material.category(concept)) == hard
        ]
        if not others:
            return None
        pair = self._rng.sample((concept, self._rng.choice(others)), 2)
        layout, options = _PAIRS[number // 2 % 2], tuple(self._rng.sample(FIXED_OPTIONS["same_different"], 2))
        difficulty = "hard" if hard else "easy"
        return [
            Question(
                "same_different", "same_different", self.emoji_set, Scene(layout, tuple(shown)), options,
                options.index(right), concept, concept, difficulty=difficulty,
            )
            for right, shown in (("same", (concept, concept)), ("different", pair))
        ]  # fmt: skip

    def _yes_no(self, hard: bool) -> Block | None:
        first, second = self._named("yes_no"), self._named("yes_no")
        alike = self.material.category(first) == self.material.category(second)
        if alike != hard or not self.material.tell_apart("naming", (first, second)):
            return None
        options = tuple(self._rng.sample(FIXED_OPTIONS["yes_no"], 2))
        difficulty = "hard" if hard else "easy"
        return [
            Question(
                "yes_no", "yes_no", self.emoji_set, Scene("single", (shown,)), options,
                options.index("yes" if shown == asked else "no"), shown, asked, difficulty=difficulty,
            )
            for shown, other in ((first, second), (second, first))
            for asked in (shown, other)
        ]  # fmt: skip

    def _named(self, kind: str) -> str:
        """Draw a concept that only the benchmarks' questions of this kind name."""
        return self._rng.choice(self._nameable[kind])

    @cached_property
    def _nameable(self) -> dict[str, list[str]]:
        return {
            kind: [concept for concept in self._drawn if is_reserved(make_key(kind, concept, options))]
            for kind, options in FIXED_OPTIONS.items()
        }
