"""Training and held-out conversations in LLaVA's format, with their images."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parrot.config.catalog import Language
from parrot.constants import PAPER_LANGUAGES
from parrot.io.files import write_json
from parrot.mini.compose.concepts import TRAIN_EMOJI_SETS, VALIDATION_EMOJI_SET
from parrot.mini.compose.material import Material
from parrot.mini.compose.questions import FIXED_OPTIONS, KINDS, Question, word
from parrot.mini.compose.scenes import Scene, encode
from parrot.mini.compose.training_questions import Drawer

# Seen about three times in stage 1's 200 steps of 48.
CAPTIONS = 3000
# English is 84 % of the paper's stage-2 data. A third is as English-heavy as a model of two million parameters, which
# has no other source of a language's words for images, can be while it still learns the other five: on validation
# images 1,200 samples a language left naming at chance.
SAMPLES: dict[Language, int] = {"en": 5000, "zh": 2200, "pt": 2200, "ar": 2200, "tr": 2200, "ru": 2200}
# Instructions by kind. What takes most samples to learn is asked most; what the language model does not answer in words
# either, it is asked least.
SHARES = {
    "naming": 7,
    "fine_naming": 4,
    "category": 5,
    "colour": 4,
    "counting": 2,
    "position": 3,
    "same_different": 1,
    "yes_no": 1,
}
# One sample in so many replaces the image by its words, so that every name occurs in text in every language.
TEXT_ONLY_EVERY = 20
VALIDATION_SAMPLES = 100

_CAPTION_SCENES = ("naming", "naming", "naming", "counting", "position", "same_different")
# Both kinds ask the same about a single concept, so an image serves both.
_SAME_IMAGES = {"fine_naming": "naming"}

Sample = dict[str, Any]


@dataclass(frozen=True)
class Shot:
    """A written image: file name, and what it shows as which emoji set draws it."""

    name: str
    emoji_set: str
    scene: Scene


class Album:
    """A folder of images, numbered as they are added."""

    def __init__(self, folder: Path, material: Material):
        self._folder = folder
        self._emoji_sets = material.emoji_sets
        self._count = 0
        folder.mkdir(parents=True)

    def add(self, emoji_set: str, scene: Scene, rng: random.Random) -> Shot:
        """Draw, write and number an image."""
        shot = Shot(f"{self._count:05d}.png", emoji_set, scene)
        (self._folder / shot.name).write_bytes(encode(self._emoji_sets[emoji_set].draw(scene, rng)))
        self._count += 1
        return shot


def write_captions(material: Material, folder: Path) -> int:
    """Stage 1: English captions of the training emoji sets' images (`folder`/captions.json, images/); how many."""
    rng = random.Random("captions")
    drawer, album = Drawer(material, TRAIN_EMOJI_SETS), Album(folder / "images", material)
    samples = []
    for number in range(CAPTIONS):
        shot = album.add(*drawer.scene(_CAPTION_SCENES[number % len(_CAPTION_SCENES)], rng), rng)
        request = rng.choice(material.phrases.describe("en"))
        caption = rng.choice(material.phrases.captions(shot.scene, "en"))
        samples.append(_sample(f"caption_{number:05d}", shot.name, f"<image>\n{request}", caption))
    write_json(folder / "captions.json", samples)
    return len(samples)


def write_instructions(material: Material, folder: Path, instruction: Mapping[Language, str]) -> dict[Language, int]:
    """Stage 2: `folder`/sft_{language}.json and images/; the number of samples by language.

    Non-English samples ask anew about a part of the English images, never one with a concept that is unseen in
    language. Such concepts are no options there either, or the model would learn that they are never right.
    """
    rng = random.Random("instructions")
    album = Album(folder / "images", material)
    everything = Drawer(material, TRAIN_EMOJI_SETS)
    hidden = material.concepts.unseen_in_language()
    seen = Drawer(material, TRAIN_EMOJI_SETS, [concept for concept in material.concepts.ids if concept not in hidden])
    shots: dict[str, list[Shot]] = {}
    counts: dict[Language, int] = {}
    for language in PAPER_LANGUAGES:
        text_only = SAMPLES[language] // TEXT_ONLY_EVERY
        samples = []
        for kind, wanted in _quotas(SAMPLES[language] - text_only):
            if language == "en":
                asked = _new_images(kind, wanted, everything, album, shots, rng)
            else:
                asked = _known_images(kind, wanted, seen, shots, rng)
            samples += [_ask(question, shot.name, language, material, instruction, rng) for question, shot in asked]
        for kind, wanted in _quotas(text_only):
            samples += [
                _ask(question, None, language, material, instruction, rng)
                for question in _draws(kind, wanted, everything, rng)
            ]
        rng.shuffle(samples)
        numbered = [{"id": f"sft_{language}_{number:05d}", **sample} for number, sample in enumerate(samples)]
        write_json(folder / f"sft_{language}.json", numbered)
        counts[language] = len(numbered)
    return counts


def write_validation(material: Material, folder: Path, instruction: Mapping[Language, str]) -> int:
    """Held-out instructions on the validation emoji set, the same in every language (val_{language}.json); how many."""
    rng = random.Random("validation")
    drawer, album = Drawer(material, (VALIDATION_EMOJI_SET,)), Album(folder / "images", material)
    questions = [q for kind, wanted in _quotas(VALIDATION_SAMPLES) for q in _draws(kind, wanted, drawer, rng)]
    shots = [album.add(question.emoji_set, question.scene, rng) for question in questions]
    for language in PAPER_LANGUAGES:
        asked = [
            _ask(question, shot.name, language, material, instruction, random.Random(f"wording {number}"))
            for number, (question, shot) in enumerate(zip(questions, shots, strict=True))
        ]
        numbered = [{"id": f"val_{language}_{number:05d}", **sample} for number, sample in enumerate(asked)]
        write_json(folder / f"val_{language}.json", numbered)
    return len(questions)


def _quotas(total: int) -> Iterator[tuple[str, int]]:
    """`total` split over the kinds by their `SHARES`."""
    whole, below = sum(SHARES.values()), 0
    for kind in KINDS:
        above = below + SHARES[kind]
        yield kind, total * above // whole - total * below // whole
        below = above


def _draws(kind: str, wanted: int, drawer: Drawer, rng: random.Random) -> Iterator[Question]:
    """Drawn questions; of options that are always the same ones each is right equally often."""
    fixed = FIXED_OPTIONS.get(kind)
    for number in range(wanted):
        question = drawer.draw(kind, rng)
        while fixed and question.options[question.answer] != fixed[number % len(fixed)]:
            question = drawer.draw(kind, rng)
        yield question


def _new_images(
    kind: str, wanted: int, drawer: Drawer, album: Album, shots: dict[str, list[Shot]], rng: random.Random
) -> Iterator[tuple[Question, Shot]]:
    """Questions about images drawn for them, which are remembered in `shots`."""
    if kind in _SAME_IMAGES:
        yield from _known_images(kind, wanted, drawer, shots, rng)
        return
    shots[kind] = []
    for question in _draws(kind, wanted, drawer, rng):
        shot = album.add(question.emoji_set, question.scene, rng)
        shots[kind].append(shot)
        yield question, shot


def _known_images(
    kind: str, wanted: int, drawer: Drawer, shots: Mapping[str, list[Shot]], rng: random.Random
) -> Iterator[tuple[Question, Shot]]:
    """Draw new questions about images of `shots`, each image again only when all have one."""
    known = shots[_SAME_IMAGES.get(kind, kind)]
    while wanted:
        before = wanted
        for shot in rng.sample(known, len(known)):
            question = drawer.ask(kind, shot.emoji_set, shot.scene, rng)
            if question and wanted:
                wanted -= 1
                yield question, shot
        assert wanted < before, f"no image suits a question of kind {kind}"


def _ask(
    question: Question,
    image: str | None,
    language: Language,
    material: Material,
    instruction: Mapping[Language, str],
    rng: random.Random,
) -> Sample:
    worded = word(question, language, material.phrases, rng.randrange(6))
    prompt = worded.prompt(instruction[language])
    human = f"{worded.image_text}\n{prompt}" if image is None else f"<image>\n{prompt}"
    return _sample(None, image, human, worded.answer)


def _sample(identifier: str | None, image: str | None, human: str, gpt: str) -> Sample:
    sample: Sample = {} if identifier is None else {"id": identifier}
    if image is not None:
        sample["image"] = image
    return sample | {"conversations": [{"from": "human", "value": human}, {"from": "gpt", "value": gpt}]}
